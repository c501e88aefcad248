"""`POST /predict`: the classes of one picture or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifold.serve.answers import JsonResponse, describe_answer, describe_model
from classifold.serve.errors import refuse_unreadable
from classifold.serve.model import ServedModel
from classifold.serve.pictures import SentPicture
from classifold.serve.service import find_service, read_number


async def predict(request: Request) -> Response:
    """Answer for the pictures of a request."""
    service, state = find_service(request), request.scope["state"]
    top_k = read_number(request, "top_k", service.options.top_k)
    pictures = await service.read_pictures(request)
    model = service.model
    rows = await predict_sent(request, model, pictures, top_k=top_k)
    answer = {"request_id": state["request_id"], "model": describe_model(model), "predictions": rows}
    return JsonResponse(answer)


async def predict_sent(
    request: Request,
    model: ServedModel,
    pictures: Sequence[SentPicture],
    *,
    top_k: int,
    answers_unreadable: bool = False,
) -> list[dict[str, Any]]:
    """Return the predictions of the pictures in a request, as the server writes them.

    Args:
        request: The request.
        model: The model.
        pictures: The pictures.
        top_k: Number of classes per picture.
        answers_unreadable: Whether unreadable pictures are answered with the reason, even if all are.

    Raises:
        HttpError: 422, no picture can be read; 429 or 503, there is no room or no time.
        ClientGoneError: The client is gone.
    """
    request.scope["state"]["num_pictures"] = len(pictures)
    answers = await find_service(request).answer(request, model, [picture.data for picture in pictures])
    reasons = [answer for answer in answers if isinstance(answer, str)]
    if len(reasons) == len(answers) and not answers_unreadable:
        count = "the picture is" if len(answers) == 1 else f"all {len(answers)} pictures are"
        error = refuse_unreadable(count, reasons[0])
        error.hint = error.hint or _find_hint(request, pictures)
        raise error
    class_names = model.predictor.class_names
    return [
        describe_answer(picture.name, answer, class_names=class_names, top_k=top_k)
        for picture, answer in zip(pictures, answers, strict=True)
    ]


def _find_hint(request: Request, pictures: Sequence[SentPicture]) -> str:
    """Return what helps where curl was told `-d @FILE`: it takes every end of a line out of the file."""
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if not is_form or any(byte in pictures[0].data for byte in (b"\n", b"\r", b"\0")):
        return ""
    return "curl's -d and --data change a file; send it with --data-binary @FILE"


ROUTES = [Route("/predict", predict, methods=["POST"])]
