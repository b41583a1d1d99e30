"""The API: its routes, and the command that starts it (``make serve``)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import orjson
from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.routing import Route

from churn_utils.errors import ChurnError, NotReadyError, UsageError
from churn_utils.serving import schemas as models
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import Guard, add_error_handlers, flush_access_log, problem
from churn_utils.serving.openapi import ABOUT, add_documents, document, document_body
from churn_utils.serving.predictor import Engine
from churn_utils.serving.settings import ServingSettings, describe_settings, read_serving_settings
from churn_utils.serving.startup import prepare

VERSION = "1.0.0"
SWITCH_SECONDS = 0.0005  # how long an answer waits for the thread that writes the log; Python's own 5 ms show in p99
NO_TELEMETRY = {
    "tracing": False,
    "metrics": False,
    "logs": False,
}  # the framework's own; ours is on /metrics
HOME_HELP = "folder of tables, models and online features (default: data, beside the package)"
log = logging.getLogger(__name__)
Parsed = TypeVar("Parsed", bound=BaseModel)
PredictionId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        examples=[models.EXAMPLE_PREDICTION["prediction_id"]],
    ),
]


def _parse(request: Request, model: type[Parsed]) -> Parsed:
    """Parse and validate a body in one step; as a parameter of the route it would cost three times as much.

    Raises:
        RequestValidationError: the body is no JSON, or not as documented.
    """
    try:
        return model.model_validate_json(request.scope["state"]["body"])
    except ValidationError as error:
        raise RequestValidationError(
            [
                {**e, "loc": ("body", *e["loc"])}
                for e in error.errors(include_url=False, include_input=False)
            ]
        ) from error


class _Plain:
    """A route's function as an ASGI application, without the framework's handling of parameters and exit stacks."""

    def __init__(self, path: str, route: Callable[[Request], Awaitable[Response]]) -> None:
        self.path, self._route = path, route

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        scope["route"] = self  # as the framework's own routes do: the histogram is by its path
        response = await self._route(Request(scope, receive))
        await response(scope, receive, send)


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts.

    Raises:
        UsageError: the environment holds a value that it cannot work with.
    """
    settings = settings or read_serving_settings()
    metrics = ServingMetrics()
    engine = Engine(settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        flushing = asyncio.create_task(flush_access_log())
        yield
        await engine.stop()
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)

    app = FastAPI(
        title="Telco churn",
        version=VERSION,
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,
    )
    app.state.engine = engine
    add_error_handlers(app)
    _add_prediction_routes(app, engine)
    _add_state_routes(app, engine)
    _add_metrics_route(app, metrics)
    add_documents(app, settings)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    return app


def _json(content: dict) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _add_prediction_routes(app: FastAPI, engine: Engine) -> None:
    limits = document(401, 413, 422, 429, 503)

    @app.post(
        "/v1/predictions",
        response_model=models.PredictionResponse,
        tags=["predictions"],
        responses={**limits, **document(404)},
        summary="Answer for customers by id",
        openapi_extra=document_body(models.PredictionRequest),
    )
    async def predict(request: Request) -> Response:
        """Answer for customers by id, from their online features (`features_as_of`)."""
        asked = _parse(request, models.PredictionRequest)
        answers, unknown = await engine.predict(
            asked.customer_ids, request.scope["state"]["request_id"]
        )
        if not answers:
            errors = [
                {"field": "customer_ids", "message": f"{name} has no features"}
                for name in unknown[:20]
            ]
            return problem(request.scope, 404, "None of the customers has features.", errors)
        return _json({"predictions": answers, "unknown_customers": unknown})

    @app.post(
        "/v1/scores",
        response_model=models.ScoreResponse,
        tags=["predictions"],
        responses=limits,
        summary="Answer for customers given whole",
        openapi_extra=document_body(models.ScoreRequest),
    )
    async def score(request: Request) -> Response:
        """Answer for customers given whole; nothing is looked up."""
        asked = _parse(request, models.ScoreRequest)
        customers = [dict(customer) for customer in asked.customers]
        return _json({"predictions": engine.score(customers, request.scope["state"]["request_id"])})

    for path, route in (("/v1/scores", score), ("/v1/predictions", predict)):
        # FastAPI's routes document these two; plain ones, found first, answer: it saves a quarter of a request's cost
        app.router.routes.insert(0, Route(path, _Plain(path, route), methods=["POST"]))

    @app.get(
        "/v1/predictions/{prediction_id}",
        response_model=models.Receipt,
        tags=["predictions"],
        responses=document(401, 404, 413, 422, 429, 503),
        summary="Read an answer's receipt",
    )
    async def read_receipt(request: Request, prediction_id: PredictionId) -> Response:
        """Read an answer's receipt: what was known, what answered, and the probability computed anew."""
        found = await asyncio.to_thread(engine.find_receipt, prediction_id)
        if found is None:
            return problem(request.scope, 404, f"There is no prediction {prediction_id}.")
        return _json(found)


def _add_state_routes(app: FastAPI, engine: Engine) -> None:
    @app.get(
        "/v1/model",
        response_model=models.ModelInfo,
        tags=["state"],
        responses=document(401, 413, 429, 503),
        summary="Tell which version answers",
    )
    async def model(request: Request) -> Response:
        """Tell which version answers, on whose approval, and which trial runs."""
        lineup = engine.lineup
        if lineup is None:
            raise NotReadyError(engine.why_not_ready())
        champion, trial = lineup.champion, lineup.trial
        return _json(
            {
                "model_version": champion.version,
                "approved_by": lineup.approved_by,
                "threshold": champion.threshold,
                "offer_cost_usd": champion.offer_cost_usd,
                "churner_value_usd": champion.churner_value_usd,
                "trained_as_of": champion.trained_as_of,
                "family": champion.family,
                "trial": trial
                and {
                    "version": trial.version,
                    "mode": trial.mode,
                    "share": trial.share,
                    "started": trial.started,
                },
                "refused_version": engine.refused,
                "features_published": engine.newest,
            }
        )

    @app.get(
        "/healthz",
        response_model=models.Health,
        tags=["state"],
        responses=document(413),
        summary="Tell that the process lives",
    )
    async def health() -> Response:
        """Tell that the process lives."""
        return _json({"status": "alive", "detail": ""})

    @app.get(
        "/readyz",
        response_model=models.Health,
        tags=["state"],
        responses=document(413, 503),
        summary="Tell whether requests can be answered",
    )
    async def ready(request: Request) -> Response:
        """Tell whether requests can be answered; a version that was refused is named while another answers."""
        reason = engine.why_not_ready()
        if reason:
            raise NotReadyError(reason)
        refused = "" if engine.refused is None else f"version {engine.refused} was refused"
        return _json({"status": "ready", "detail": refused})

    for path, route in (
        ("/healthz", health),
        ("/readyz", ready),
    ):  # load balancers ask for the head alone
        app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)


def _add_metrics_route(app: FastAPI, metrics: ServingMetrics) -> None:
    page = {
        "description": "Prometheus metrics",
        "content": {
            CONTENT_TYPE_LATEST.split(";")[0]: {
                "schema": {"type": "string"},
                "example": "churn_unknown_customers_total 0.0\n",
            }
        },
    }

    @app.get(
        "/metrics",
        response_class=Response,
        tags=["state"],
        responses={200: page, **document(413)},
        summary="Show the metrics for Prometheus",
    )
    async def show_metrics() -> Response:
        """Show the metrics for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def main(arguments: list[str] | None = None) -> int:
    """Start the API; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m churn_utils.serving.app",
        description="Serve the champion over HTTP; Ctrl-C ends it.",
        epilog=f"environment variables:\n  {'CHURN_HOME':<22} {HOME_HELP}\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default %(default)s: this machine)",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port to listen on (default %(default)s)"
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when standard input does, so that no server outlives the program that started it",
    )
    options = parser.parse_args(arguments)
    import uvicorn

    from churn_utils.serving.protocol import GatheringProtocol

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = read_serving_settings()
    except ChurnError as error:
        return _fail(error, 2)
    try:
        sockets = prepare(settings, options.host, options.port)
    except ChurnError as error:
        return _fail(error, 2 if isinstance(error, UsageError) else 1)
    sys.setswitchinterval(SWITCH_SECONDS)
    if options.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    log.info("serving on http://%s:%d; Ctrl-C ends it", options.host, sockets[0].getsockname()[1])
    config = uvicorn.Config(
        create_app(settings),
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=10,
        log_config=None,
        http=GatheringProtocol,
        ws="none",
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets)
    return 0


def _fail(error: ChurnError, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
