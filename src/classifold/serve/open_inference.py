"""The open inference protocol V2, for the clients of KServe and Triton.

A request has one input: `picture`, encoded pictures as BYTES, or `pixels`, RGB values 0..255 of shape
(N, S, S, 3) as FP32 or UINT8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import classifold
from classifold.predict.predictor import Answer
from classifold.predict.ranking import rank_probabilities
from classifold.serve.answers import JsonResponse
from classifold.serve.errors import HttpError, refuse_unreadable
from classifold.serve.health import check_ready
from classifold.serve.model import ServedModel
from classifold.serve.pictures import check_count
from classifold.serve.queue import Pixels
from classifold.serve.service import find_service
from classifold.serve.tensors import (
    BYTES,
    HEADER_LENGTH,
    InferRequest,
    Tensor,
    parse_infer_request,
    write_tensors,
)

PICTURE, PIXELS = "picture", "pixels"
_VERSION = "1"
_Build = Callable[[list[Answer], ServedModel], tuple[tuple[int, ...], list[bytes] | NDArray[Any]]]


async def describe_server(request: Request) -> Response:  # noqa: ARG001 - Starlette's
    """Say what the server is, and which extensions of the protocol it has."""
    return JsonResponse(
        {
            "name": "classifold",
            "version": classifold.__version__,
            "extensions": ["binary_tensor_data", "classification"],
        }
    )


async def answer_v2_live(request: Request) -> Response:  # noqa: ARG001 - Starlette's
    """Say that the process answers, in the word that KServe's client looks for."""
    return JsonResponse({"live": True})


async def answer_v2_ready(request: Request) -> Response:
    """Say that new requests should come here, in the word that KServe's client looks for."""
    check_ready(request)
    return JsonResponse({"ready": True})


async def describe_served(request: Request) -> Response:
    """Say which inputs and outputs the model has."""
    model = _find_model(request)
    size, width = model.predictor.image_size, len(model.predictor.class_names)
    shapes = {"probabilities": [-1, width]}
    return JsonResponse(
        {
            "name": model.name,
            "versions": [_VERSION],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": PICTURE, "datatype": BYTES, "shape": [-1]},
                {"name": PIXELS, "datatype": "FP32", "shape": [-1, size, size, 3]},
            ],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}
                for name, (datatype, _) in _list_outputs(model).items()
            ],
        }
    )


async def answer_model_ready(request: Request) -> Response:
    """Say whether the model answers."""
    model = _find_model(request)
    check_ready(request)
    return JsonResponse({"name": model.name, "ready": True})


async def infer(request: Request) -> Response:
    """Answer for the pictures or pixels of a request."""
    service, model = find_service(request), _find_model(request)
    asked = await service.read_into(
        request,
        _InferReader(request.headers.get(HEADER_LENGTH), max_count=service.options.max_pictures),
    )
    pictures = _find_pictures(asked, model, max_pictures=service.options.max_pictures)
    chosen = _choose_outputs(asked, model)
    request.scope["state"]["num_pictures"] = len(pictures)
    answers = []
    for index, answer in enumerate(await service.answer(request, model, pictures)):
        if isinstance(answer, str):
            raise refuse_unreadable(f"picture {index} is", answer)
        answers.append(answer)
    tensors = [_build_output(name, parameters, answers, model) for name, parameters in chosen.items()]
    binary = [one.get("binary_data", asked.is_binary) is True for one in chosen.values()]
    head = {"model_name": model.name, "model_version": _VERSION, **({"id": asked.id} if asked.id else {})}
    body, json_size = write_tensors(head, tensors, binary=binary)
    if json_size is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_size)})


class _InferReader:
    """Reads the whole body of a request of the protocol."""

    def __init__(self, header_length: str | None, *, max_count: int) -> None:
        # A number in JSON may be two bytes, and in a list of Python it is 32.
        self.weight = 16 if header_length is None else 3
        self._header_length, self._max_count = header_length, max_count
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def finish(self) -> InferRequest:
        body = b"".join(self._pieces)
        return parse_infer_request(body, header_length=self._header_length, max_count=self._max_count)


def _find_model(request: Request) -> ServedModel:
    """Return the model that the address names.

    Raises:
        HttpError: 404, another one.
    """
    model = find_service(request).model
    name, version = request.path_params["name"], request.path_params.get("version", _VERSION)
    # The run's own name, too, which says exactly what is asked for.
    if name not in (model.name, model.run) or version != _VERSION:
        raise HttpError(404, "there is no model of this name and version", hint=f"there is {model.name}, 1")
    return model


def _find_pictures(asked: InferRequest, model: ServedModel, *, max_pictures: int) -> list[bytes | Pixels]:
    if len(asked.inputs) > 1:
        raise HttpError(400, f"expected one input, {PICTURE} or {PIXELS}, got {len(asked.inputs)}")
    tensor = asked.inputs[0]
    if tensor.name == PICTURE and not isinstance(tensor.values, np.ndarray):
        pictures: list[bytes | Pixels] = list(tensor.values)
    elif tensor.name == PIXELS and tensor.datatype in ("FP32", "UINT8"):
        pictures = list(_shape_pixels(tensor, model))
    else:
        raise HttpError(400, f"expected {PICTURE} as {BYTES}, or {PIXELS} as FP32 or UINT8")
    check_count(len(pictures), max_pictures)
    return pictures


def _shape_pixels(tensor: Tensor, model: ServedModel) -> Pixels:
    size = model.predictor.image_size
    if len(tensor.shape) != 4 or tensor.shape[1:] != (size, size, 3):
        raise HttpError(400, f"{PIXELS}: expected shape (N, {size}, {size}, 3), got {tensor.shape}")
    pixels = np.asarray(tensor.values).reshape(tensor.shape)
    if not ((pixels >= 0) & (pixels <= 255)).all():  # False for what is not a number, too
        raise HttpError(400, f"{PIXELS}: expected values 0..255")
    return pixels


def _choose_outputs(asked: InferRequest, model: ServedModel) -> Mapping[str, Mapping[str, Any]]:
    outputs = _list_outputs(model)
    if asked.outputs is None:
        return {name: {} for name in outputs}
    for name in asked.outputs:
        if name not in outputs:
            raise HttpError(400, f"there is no output {name[:100]!r}", hint=f"there is {', '.join(outputs)}")
    return asked.outputs


def _build_output(
    name: str, parameters: Mapping[str, Any], answers: list[Answer], model: ServedModel
) -> Tensor:
    top = parameters.get("classification", 0)
    if type(top) is not int or top < 0 or (top and name != "probabilities"):
        raise HttpError(
            400, f"{name}: classification takes a number of classes, for the output probabilities"
        )
    if top:
        return _build_classification(answers, model, min(top, len(model.predictor.class_names)))
    datatype, build = _list_outputs(model)[name]
    shape, values = build(answers, model)
    return Tensor(name, datatype, shape, values)


def _build_classification(answers: list[Answer], model: ServedModel, top: int) -> Tensor:
    """Return the best classes as texts `probability:index:name`.

    Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
    """
    names = model.predictor.class_names
    numbers = {name: number for number, name in enumerate(names)}
    texts = [
        f"{share:.6g}:{numbers[name]}:{name}".encode()
        for answer in answers
        for name, share in rank_probabilities(answer.probabilities, names, top_k=top)
    ]
    return Tensor("probabilities", BYTES, (len(answers), top), texts)


def _list_outputs(model: ServedModel) -> dict[str, tuple[str, _Build]]:
    """Return each output's type, and what builds it."""
    outputs: dict[str, tuple[str, _Build]] = {
        "probabilities": ("FP32", _build_probabilities),
        "class_name": (BYTES, _build_names),
        "unknown": ("BOOL", _build_unknown),
    }
    if model.predictor.card.distance:
        outputs["distance"] = ("FP32", _build_distances)
    return outputs


def _build_probabilities(answers: list[Answer], model: ServedModel) -> tuple[tuple[int, ...], NDArray[Any]]:
    values = np.concatenate([answer.probabilities for answer in answers])
    return (len(answers), len(model.predictor.class_names)), values


def _build_names(answers: list[Answer], model: ServedModel) -> tuple[tuple[int, ...], list[bytes]]:
    names = model.predictor.class_names
    texts = [rank_probabilities(one.probabilities, names, top_k=1)[0][0] for one in answers]
    return (len(answers),), [text.encode("utf-8", "replace") for text in texts]


def _build_unknown(answers: list[Answer], _model: ServedModel) -> tuple[tuple[int, ...], NDArray[Any]]:
    return (len(answers),), np.array([answer.unknown for answer in answers], np.bool_)


def _build_distances(answers: list[Answer], _model: ServedModel) -> tuple[tuple[int, ...], NDArray[Any]]:
    values = [np.nan if answer.distance is None else answer.distance for answer in answers]
    return (len(answers),), np.array(values, np.float32)


_MODELS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
ROUTES = [
    Route("/v2", describe_server),
    Route("/v2/health/live", answer_v2_live),
    Route("/v2/health/ready", answer_v2_ready),
    *(Route(model, describe_served) for model in _MODELS),
    *(Route(f"{model}/ready", answer_model_ready) for model in _MODELS),
    *(Route(f"{model}/infer", infer, methods=["POST"]) for model in _MODELS),
]
