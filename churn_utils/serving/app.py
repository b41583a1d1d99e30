"""Build the API's application: routes, documents, error handlers and middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware, add_error_handlers, flush_access_log
from churn_utils.serving.openapi import ABOUT, add_documents
from churn_utils.serving.prediction_routes import add_prediction_routes
from churn_utils.serving.predictor import Engine
from churn_utils.serving.settings import ServingSettings, read_serving_settings
from churn_utils.serving.state_routes import add_state_routes

VERSION = "1.0.0"
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False}  # ours is on /metrics


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts.

    Args:
        settings: those of the environment when not given.

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
    add_prediction_routes(app, engine)
    add_state_routes(app, engine, metrics)
    add_documents(app, settings)
    app.add_middleware(ApiMiddleware, settings=settings, metrics=metrics)
    return app
