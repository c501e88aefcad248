"""Whether the server lives and is ready, what it serves, and its metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import classifold
from classifold.serve.answers import JsonResponse, describe_model
from classifold.serve.errors import HttpError
from classifold.serve.service import find_service


async def answer_live(request: Request) -> Response:  # noqa: ARG001 - Starlette's
    """Say that the process answers."""
    return JsonResponse({"status": "live"})


async def answer_ready(request: Request) -> Response:
    """Say whether new requests should come here."""
    check_ready(request)
    return JsonResponse({"status": "ready"})


def check_ready(request: Request) -> None:
    """Check that new requests should come here.

    Raises:
        HttpError: 503, the server is stopping.
    """
    if not find_service(request).is_ready:
        raise HttpError(503, "the server is stopping", headers={"Retry-After": "1"})


async def answer_metadata(request: Request) -> Response:
    """Say which model is served, its classes, its rule, and the limits of a request."""
    service = find_service(request)
    model, options = service.model, service.options
    predictor = model.predictor
    return JsonResponse(
        {
            "classifold": classifold.__version__,
            "model": {
                **describe_model(model),
                "backbone": predictor.card.backbone,
                "class_names": list(predictor.class_names),
                "image_size": predictor.image_size,
            },
            "rule": {
                "min_confidence": predictor.rule.min_confidence,
                "max_distance": predictor.rule.max_distance,
            },
            "limits": {
                "max_bytes": options.max_bytes,
                "max_pictures": options.max_pictures,
                "max_pixels": predictor.max_pixels,
                "timeout_seconds": options.timeout,
                "queue": options.queue,
            },
            "top_k": min(options.top_k, len(predictor.class_names)),
        }
    )


async def answer_metrics(request: Request) -> Response:
    """Return the counters in Prometheus's text format."""
    content, kind = find_service(request).metrics.render()
    return Response(content, headers={"Content-Type": kind})


ROUTES = [
    Route("/health/live", answer_live),
    Route("/health/ready", answer_ready),
    Route("/metadata", answer_metadata),
    Route("/metrics", answer_metrics),
]
