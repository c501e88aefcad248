"""The description of the server's interface, as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import classifold
from classifold.serve.answers import JsonResponse
from classifold.serve.explanation import MOST_NEIGHBOURS
from classifold.serve.openapi_schemas import SCHEMAS
from classifold.trust.explained import NUM_NEIGHBOURS

_JSON = "application/json"
_ERRORS = {
    400: "The request is malformed.",
    401: "The server requires an API key.",
    403: "Requests from pages of other sites are refused.",
    404: "There is no model of this name.",
    406: "None of the types in the Accept header is available.",
    408: "The body did not arrive in time.",
    413: "The request is too large, or has too many pictures.",
    415: "The body is of a type, or compressed in a way, that is not read.",
    421: "The Host header names a host that is not allowed.",
    422: "No picture in the request can be read.",
    429: "The queue is full; Retry-After says when to try again.",
    431: "The header is too large.",
    503: "The server is stopping, has too many connections or no memory, or the answer took too long.",
}
# Any request may get these, whatever it is for.
_FOR_ALL = (421, 431, 503)
_FOR_PICTURES = (400, 401, 403, 408, 413, 415, 422, 429)


def build_openapi() -> dict[str, Any]:
    """Return the description of every route."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Classifold",
            "version": classifold.__version__,
            "description": "Classifies pictures with a trained model.",
        },
        "paths": _PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _refer(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _describe(text: str, schema: str = "", *, kind: str = _JSON) -> dict[str, Any]:
    """Return one answer; with no schema it is text of this type."""
    return {
        "description": text,
        "headers": {"X-Request-Id": {"description": "Id of the request.", "schema": {"type": "string"}}},
        "content": {kind: {"schema": _refer(schema) if schema else {"type": "string"}}},
    }


def _operation(
    summary: str,
    good: dict[str, Any],
    *,
    errors: tuple[int, ...] = (),
    is_open: bool = False,
    body: dict[str, Any] | None = None,
    parameters: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """Return one operation.

    Args:
        summary: What it does.
        good: The answer with status 200.
        errors: The statuses of its errors, besides those of `_FOR_ALL`.
        is_open: Whether it never requires the API key.
        body: The body that it takes.
        parameters: Its parameters.
    """
    statuses = sorted({*errors, *_FOR_ALL})
    answers = {"200": good, **{str(one): _describe(_ERRORS[one], "Error") for one in statuses}}
    # An empty object says that a server without a key requires none.
    security: list[dict[str, list[str]]] = [] if is_open else [{}, {"bearer": []}, {"header": []}]
    found: dict[str, Any] = {"summary": summary, "responses": answers, "security": security}
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    if parameters:
        found["parameters"] = list(parameters)
    return found


def _parameter(name: str, place: str, text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "description": text, "schema": schema}


def _binary(text: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": text}}


_PICTURES: dict[str, Any] = {
    "image/*": _binary("The picture file, as it is."),
    "application/octet-stream": _binary("The picture file, as it is."),
    "application/x-image": _binary("The picture file, as it is."),
    "application/x-www-form-urlencoded": _binary(
        "The picture file, as it is: the type that curl sends if none is given."
    ),
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "description": "Every file is a picture, in the order of the form.",
            "additionalProperties": {"type": "string", "format": "binary"},
        }
    },
    _JSON: {"schema": _refer("JsonPictures")},
}
_TOP_K = _parameter(
    "top_k",
    "query",
    "Classes per picture; at most all are given.",
    {"type": "integer", "minimum": 1, "maximum": 999_999_999},
)
_NEIGHBOURS = _parameter(
    "neighbours",
    "query",
    "Nearest training pictures to name, where the model has a reference set.",
    {"type": "integer", "minimum": 1, "maximum": MOST_NEIGHBOURS, "default": NUM_NEIGHBOURS},
)
_NAME = _parameter("name", "path", "Name of the model.", {"type": "string"})
_VERSION = _parameter("version", "path", "Its version, which is 1.", {"type": "string"})
_HEADER_LENGTH = _parameter(
    "Inference-Header-Content-Length",
    "header",
    "Bytes of JSON in the body; binary data follows.",
    {"type": "integer", "minimum": 0},
)


def _health(summary: str, text: str, *, schema: str = "Status") -> dict[str, Any]:
    return {"get": _operation(summary, _describe(text, schema), is_open=True)}


def _list_model_paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, parameters in (
        ("/v2/models/{name}", (_NAME,)),
        ("/v2/models/{name}/versions/{version}", (_NAME, _VERSION)),
    ):
        model = _operation(
            "The model's inputs and outputs (V2)",
            _describe("The model's inputs and outputs.", "V2Model"),
            errors=(401, 404),
            parameters=parameters,
        )
        paths[path] = {"get": model}
        ready = _operation(
            "Whether the model is ready (V2)",
            _describe("The model is ready.", "V2Ready"),
            errors=(401, 404),
            parameters=parameters,
        )
        paths[f"{path}/ready"] = {"get": ready}
        answers = _describe("The outputs.", "V2Answer")
        answers["content"]["application/octet-stream"] = _binary("JSON, then the binary data of the outputs.")
        infer = _operation(
            "Classify pictures or pixels (V2)",
            answers,
            errors=(*_FOR_PICTURES, 404),
            body={
                _JSON: {"schema": _refer("V2Request")},
                "application/octet-stream": _binary(
                    "The JSON of a V2Request, then the binary data of its inputs."
                ),
            },
            parameters=(*parameters, _HEADER_LENGTH),
        )
        paths[f"{path}/infer"] = {"post": infer}
    return paths


def _build_invocations() -> dict[str, Any]:
    good = _describe("The prediction, or the predictions of several pictures.", "Invocation")
    good["content"]["application/jsonlines"] = {"schema": {"type": "string"}}
    good["content"]["text/csv"] = {"schema": {"type": "string"}}
    return _operation(
        "Classify pictures (SageMaker)",
        good,
        errors=(*_FOR_PICTURES, 406),
        body=_PICTURES,
        parameters=(_TOP_K,),
    )


_PATHS: dict[str, Any] = {
    "/predict": {
        "post": _operation(
            "Classify one picture or several",
            _describe("A prediction for each picture.", "Predictions"),
            errors=_FOR_PICTURES,
            body=_PICTURES,
            parameters=(_TOP_K,),
        )
    },
    "/explain": {
        "post": _operation(
            "Explain the answer for one picture",
            _describe("The prediction, its heat map and the nearest training pictures.", "Explained"),
            errors=_FOR_PICTURES,
            body=_PICTURES,
            parameters=(_NEIGHBOURS, _TOP_K),
        )
    },
    "/health/live": _health("Liveness check", "The process answers."),
    "/health/ready": _health("Readiness check", "The server accepts requests."),
    "/metadata": {
        "get": _operation(
            "Metadata", _describe("The model, its rule and the limits.", "Metadata"), errors=(401,)
        )
    },
    "/metrics": {
        "get": _operation(
            "Metrics", _describe("Counters in Prometheus's text format.", kind="text/plain"), errors=(401,)
        )
    },
    "/openapi.json": {
        "get": _operation("OpenAPI description", _describe("This description, as JSON.", "Any"), is_open=True)
    },
    "/docs": {
        "get": _operation(
            "Documentation", _describe("This description, as a page.", kind="text/html"), is_open=True
        )
    },
    "/ping": _health("Readiness check (SageMaker)", "The server accepts requests."),
    "/invocations": {"post": _build_invocations()},
    "/v2": {
        "get": _operation(
            "Server metadata (V2)", _describe("The server's name and extensions.", "V2Server"), errors=(401,)
        )
    },
    "/v2/health/live": _health("Liveness check (V2)", "The process answers.", schema="V2Live"),
    "/v2/health/ready": _health(
        "Readiness check (V2)", "The server accepts requests.", schema="V2ServerReady"
    ),
    **_list_model_paths(),
}


async def answer_openapi(request: Request) -> Response:  # noqa: ARG001 - Starlette's
    """Return the description as JSON."""
    return JsonResponse(build_openapi())


ROUTES = [Route("/openapi.json", answer_openapi)]
