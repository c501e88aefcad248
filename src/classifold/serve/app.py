"""The server as an ASGI application: its routes, and what every request passes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from classifold.serve import health, predictions, sagemaker
from classifold.serve.access_log import AccessLog
from classifold.serve.errors import HttpError
from classifold.serve.gate import Gate, answer_error
from classifold.serve.options import ServeOptions
from classifold.serve.service import Service


def list_routes() -> list[BaseRoute]:
    """Return every route of the server."""
    return [*predictions.ROUTES, *health.ROUTES, *sagemaker.ROUTES]


def build_app(options: ServeOptions, *, log: AccessLog | None = None) -> Starlette:
    """Return the application, with its model loaded.

    `app.state.service` is its `Service`.

    Args:
        options: The options of the server.
        log: Where requests are logged; None: on standard error.

    Raises:
        ClassifoldError: The model cannot be loaded.
    """
    service = Service(options)

    @contextlib.asynccontextmanager
    async def live(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.close()

    app = Starlette(
        routes=list_routes(),
        middleware=[Middleware(Gate, service=service, log=log or AccessLog(options.log_format))],
        exception_handlers={HttpError: answer_error, HTTPException: answer_error},
        lifespan=live,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app
