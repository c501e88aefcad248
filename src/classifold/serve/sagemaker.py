"""SageMaker's two addresses: `GET /ping`, and `POST /invocations` for endpoints and batch transform.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifold.printable import format_json
from classifold.serve.accept import choose_type
from classifold.serve.answers import JsonResponse, write_csv
from classifold.serve.health import answer_ready
from classifold.serve.predictions import predict_sent
from classifold.serve.service import find_service, read_number

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
# SageMaker sets it for the container of a transform job.
_BATCH_VARIABLE = "SAGEMAKER_BATCH"
_TYPES = {JSON: JSON, JSON_LINES: JSON_LINES, "application/x-ndjson": JSON_LINES, CSV: CSV}


async def invoke(request: Request) -> Response:
    """Answer for the picture of a request, or for several, in the type that Accept names.

    Batch transform writes each answer into a file of its own beside the picture's name, so that one picture
    gives one object, one line, or one row without a header.
    """
    service = find_service(request)
    kind = choose_type(request.headers.get("accept", ""), _TYPES)
    top_k = read_number(request, "top_k", service.options.top_k)
    pictures = await service.read_pictures(request)
    model = service.model
    # One error would fail the whole job.
    is_batch = os.environ.get(_BATCH_VARIABLE) == "true"
    rows = await predict_sent(request, model, pictures, top_k=top_k, answers_unreadable=is_batch)
    return _write(rows, kind, top_k=min(top_k, len(model.predictor.class_names)))


def _write(rows: Sequence[dict[str, Any]], kind: str, *, top_k: int) -> Response:
    is_several = len(rows) > 1
    if kind == JSON_LINES:
        return Response("".join(format_json(row) + "\n" for row in rows), media_type=JSON_LINES)
    if kind == CSV:
        text = write_csv(rows, top_k=top_k, with_header=is_several)
        # In a name that is not Unicode each such byte has become a question mark before.
        return Response(text.encode("utf-8"), headers={"Content-Type": f"{CSV}; charset=utf-8"})
    return JsonResponse({"predictions": list(rows)} if is_several else rows[0])


ROUTES = [
    Route("/ping", answer_ready),
    Route("/invocations", invoke, methods=["POST"]),
]
