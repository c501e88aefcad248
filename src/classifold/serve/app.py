"""The server as an ASGI application: its routes, and what every request passes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from classifold.serve import (
    docs_page,
    explain,
    health,
    open_inference,
    openapi,
    page,
    predictions,
    sagemaker,
)
from classifold.serve.access_log import AccessLog
from classifold.serve.errors import HttpError
from classifold.serve.gate import Gate, answer_error
from classifold.serve.options import ServeOptions
from classifold.serve.service import Service


def list_routes() -> list[BaseRoute]:
    """Return every route of the server."""
    return [
        *predictions.ROUTES,
        *explain.ROUTES,
        *health.ROUTES,
        *sagemaker.ROUTES,
        *open_inference.ROUTES,
        *openapi.ROUTES,
        *docs_page.ROUTES,
        *page.build_routes(),
    ]


def build_app(options: ServeOptions, *, log: AccessLog | None = None) -> Starlette:
    """Return the application, with its model loaded.

    `app.state.service` is its `Service`, `app.state.explanations` its `Explanations`.

    Args:
        options: The options of the server.
        log: Where requests are logged; None: on standard error.

    Raises:
        ClassifoldError: The model cannot be loaded, or the folder of training pictures is not there.
    """
    explanations = explain.Explanations(options.data)
    service = Service(options)

    @contextlib.asynccontextmanager
    async def live(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            explanations.close()
            service.close()

    app = Starlette(
        routes=list_routes(),
        middleware=[Middleware(Gate, service=service, log=log or AccessLog(options.log_format))],
        exception_handlers={HttpError: answer_error, HTTPException: answer_error},
        lifespan=live,
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.explanations = service, explanations
    return app
