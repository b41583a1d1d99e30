"""Build the API's application: routes, documents, error handlers and middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from churn_utils.serving.error_responses import add_error_handlers
from churn_utils.serving.inference_routes import add_inference_routes
from churn_utils.serving.log_lines import LineWriter
from churn_utils.serving.metrics import VERSION, ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware
from churn_utils.serving.mlflow_routes import add_mlflow_routes
from churn_utils.serving.openapi import ABOUT, add_documents
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.routes import add_prediction_routes
from churn_utils.serving.settings import ServingSettings
from churn_utils.serving.shutdown import Drain
from churn_utils.serving.state_routes import add_state_routes

STANDARD_OUTPUT = 1  # its file descriptor
# ours is on /metrics
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Build the application, with the settings of the environment unless given.

    Nothing is opened before it starts.

    Raises:
        UsageError: the environment holds a value that it cannot work with.
    """
    settings = settings or ServingSettings()
    metrics = ServingMetrics()
    predictor = Predictor(settings, metrics)
    access_log = LineWriter(STANDARD_OUTPUT) if settings.access_log else None
    drain = Drain()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await predictor.start()
        if access_log is not None:
            access_log.start()
            metrics.lines_dropped.set_function(lambda: access_log.dropped)
        yield
        await predictor.stop()
        if access_log is not None:
            access_log.close()

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
    app.state.predictor = predictor
    app.state.metrics = metrics
    app.state.drain = drain
    add_error_handlers(app)
    add_prediction_routes(app, predictor)
    add_state_routes(app, predictor, metrics, drain)
    add_mlflow_routes(app, predictor, drain)
    add_inference_routes(app, predictor, drain)
    add_documents(app, settings)
    app.add_middleware(
        ApiMiddleware,
        settings=settings,
        metrics=metrics,
        access_log=access_log,
        drain=drain,
    )
    return app
