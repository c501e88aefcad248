"""The schemas of the server's requests and answers, as OpenAPI names them."""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1.000001}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_BASE64: dict[str, Any] = {"type": "string", "contentEncoding": "base64", "minLength": 1}
_DATA_URL: dict[str, Any] = {"type": "string", "pattern": "^data:image/jpeg;base64,[A-Za-z0-9+/]+=*$"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _list_of(schema: dict[str, Any], *, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": least}


def _object(optional: tuple[str, ...] = (), /, **properties: dict[str, Any]) -> dict[str, Any]:
    """Return an object with exactly these properties, all required but the optional ones."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _refer(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


_MODEL = _object(name=_TEXT, run=_TEXT, sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"})
_TENSOR_DATA = {"type": "array", "items": True}

SCHEMAS: dict[str, Any] = {
    "Any": {"type": "object"},
    # Errors of the connection itself (classifold.serve.connection) have no request, and so no id.
    "Error": _object(("hint", "request_id"), error=_TEXT, hint=_TEXT, request_id=_TEXT),
    "Status": _object(status={"enum": ["live", "ready"]}),
    "Prediction": _object(
        name=_or_null(_TEXT),
        predicted_class=_or_null(_TEXT),
        confidence=_or_null(_SHARE),
        classes=_list_of(_object(class_name=_TEXT, confidence=_SHARE)),
        unknown=_or_null({"type": "boolean"}),
        distance=_or_null({"type": "number"}),
        error=_or_null(_TEXT),
    ),
    "Predictions": _object(
        request_id=_TEXT, model=_MODEL, predictions=_list_of(_refer("Prediction"), least=1)
    ),
    "Explained": _object(
        request_id=_TEXT,
        model=_MODEL,
        predictions={**_list_of(_refer("Prediction"), least=1), "maxItems": 1},
        explanation=_object(
            class_name=_TEXT,
            picture=_DATA_URL,
            overlay=_or_null(_DATA_URL),
            is_faithful={"type": "boolean"},
            note=_TEXT,
            neighbours=_list_of(
                _object(
                    class_name=_TEXT,
                    name=_TEXT,
                    distance={"type": "number", "minimum": 0},
                    thumbnail=_or_null(_DATA_URL),
                )
            ),
        ),
    ),
    "Invocation": {
        "anyOf": [
            _refer("Prediction"),
            _object(predictions=_list_of(_refer("Prediction"), least=2)),
        ]
    },
    "JsonPictures": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"picture": _BASE64, "name": _TEXT},
                "required": ["picture"],
            },
            {
                "type": "object",
                "properties": {
                    "pictures": _list_of(
                        {
                            "anyOf": [
                                _BASE64,
                                {
                                    "type": "object",
                                    "properties": {"name": _TEXT, "data": _BASE64},
                                    "required": ["data"],
                                },
                            ]
                        },
                        least=1,
                    )
                },
                "required": ["pictures"],
            },
            {
                "type": "object",
                "properties": {
                    "instances": _list_of(
                        {"type": "object", "properties": {"b64": _BASE64}, "required": ["b64"]}, least=1
                    )
                },
                "required": ["instances"],
            },
        ]
    },
    "Metadata": _object(
        classifold=_TEXT,
        model=_object(
            name=_TEXT,
            run=_TEXT,
            sha256=_TEXT,
            backbone=_TEXT,
            class_names=_list_of(_TEXT, least=1),
            image_size={"type": "integer", "minimum": 1},
        ),
        rule=_object(min_confidence=_SHARE, max_distance=_or_null({"type": "number"})),
        limits=_object(
            max_bytes=_COUNT,
            max_pictures=_COUNT,
            max_pixels=_COUNT,
            timeout_seconds={"type": "number"},
            queue=_COUNT,
        ),
        top_k={"type": "integer", "minimum": 1},
    ),
    "V2Live": _object(live={"const": True}),
    "V2ServerReady": _object(ready={"const": True}),
    "V2Server": _object(name=_TEXT, version=_TEXT, extensions=_list_of(_TEXT)),
    "V2Ready": _object(name=_TEXT, ready={"type": "boolean"}),
    "V2Tensor": _object(name=_TEXT, datatype=_TEXT, shape=_list_of({"type": "integer"}, least=1)),
    "V2Model": _object(
        name=_TEXT,
        versions=_list_of(_TEXT),
        platform=_TEXT,
        inputs=_list_of(_refer("V2Tensor")),
        outputs=_list_of(_refer("V2Tensor")),
    ),
    "V2Request": {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "parameters": {"type": "object"},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"enum": ["picture", "pixels"]},
                        "datatype": {"enum": ["BYTES", "FP32", "UINT8"]},
                        "shape": _list_of(_COUNT, least=1),
                        "parameters": {"type": "object"},
                        "data": _TENSOR_DATA,
                    },
                    "required": ["name", "datatype", "shape"],
                },
            },
            "outputs": _list_of(
                {
                    "type": "object",
                    "properties": {"name": _TEXT, "parameters": {"type": "object"}},
                    "required": ["name"],
                }
            ),
        },
        "required": ["inputs"],
    },
    "V2Answer": _object(
        ("id",),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list_of(
            _object(
                name=_TEXT,
                datatype=_TEXT,
                shape=_list_of({"type": "integer"}, least=1),
                data=_TENSOR_DATA,
            )
        ),
    ),
}
