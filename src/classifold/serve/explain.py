"""`POST /explain`: why a picture was given its class; a few at a time, as each takes seconds of a core."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from classifold.errors import DataError, Fault, RunError
from classifold.machine import count_cores
from classifold.pictures.limits import PictureError
from classifold.predict.predictor import Answer
from classifold.serve.answers import JsonResponse, describe_answer, describe_model
from classifold.serve.errors import HttpError, refuse_unreadable
from classifold.serve.explanation import MOST_NEIGHBOURS, AnswerExplainer
from classifold.serve.model import ServedModel
from classifold.serve.queue import Queue
from classifold.serve.service import find_service, read_number
from classifold.trust.explained import NUM_NEIGHBOURS

# Explanations that wait for a thread; each takes seconds of a core, so further ones are refused.
MOST_WAITING: Final = 8


class Explanations:
    """Explains pictures in threads of its own, so that predictions never wait for an explanation.

    Args:
        data_dir: Folder of the training pictures that answers may show; None: answers only name them.

    Raises:
        DataError: `data_dir` is not a folder.
    """

    def __init__(self, data_dir: Path | None) -> None:
        if data_dir is not None and not data_dir.is_dir():
            hint = "give the folder that holds the training pictures, or leave --data out"
            raise DataError(Fault(str(data_dir), "no such folder", hint))
        self._data_dir = data_dir
        # A quarter of the cores: the rest is for those who ask for nothing but a class.
        self._queue = Queue(num_threads=max(1, count_cores() // 4), limit=MOST_WAITING)
        self._of_model: tuple[ServedModel, AnswerExplainer] | None = None

    def check_room(self) -> None:
        """Refuse a request that there is no room for.

        Raises:
            HttpError: 429.
        """
        self._queue.check_room()

    async def explain(
        self, model: ServedModel, content: bytes, *, num_neighbours: int
    ) -> tuple[Answer, dict[str, Any]]:
        """Return the answer for one picture and its explanation; if this is cancelled, what waits is dropped.

        Raises:
            HttpError: 429.
            PictureError: It cannot be read as a picture.
            RunError: The model's reference set is damaged, or belongs to another model.
        """
        explainer = self._find_explainer(model)
        result: tuple[Answer, dict[str, Any]] = await self._queue.run(
            lambda: explainer.explain(content, num_neighbours=num_neighbours)
        )
        return result

    def _find_explainer(self, model: ServedModel) -> AnswerExplainer:
        """Return the explainer of the model; that of a model which is no longer served is let go."""
        if self._of_model is None or self._of_model[0] is not model:
            self._of_model = model, AnswerExplainer(model.predictor, data_dir=self._data_dir)
        return self._of_model[1]

    def close(self) -> None:
        """Let the threads end once they have done what they began; what waits is dropped."""
        self._queue.close()


async def explain(request: Request) -> Response:
    """Answer for one picture, with what explains the answer."""
    service, state = find_service(request), request.scope["state"]
    explanations: Explanations = request.app.state.explanations
    num_neighbours = read_number(request, "neighbours", NUM_NEIGHBOURS)
    if num_neighbours > MOST_NEIGHBOURS:
        raise HttpError(400, f"neighbours: expected at most {MOST_NEIGHBOURS}, got {num_neighbours}")
    top_k = read_number(request, "top_k", service.options.top_k)
    explanations.check_room()  # before the body is read, which may take long
    pictures = await service.read_pictures(request)
    if len(pictures) > 1:
        hint = "ask for each picture in a request of its own"
        raise HttpError(400, f"expected one picture, got {len(pictures)}", hint=hint)
    state["num_pictures"] = 1
    model, picture = service.model, pictures[0]
    work = explanations.explain(model, picture.data, num_neighbours=num_neighbours)
    try:
        answer, explanation = await service.wait_for(request, work)
    except PictureError as error:
        raise refuse_unreadable("the picture is", error.reason) from None
    except RunError as error:
        what = "this model's answers cannot be explained, as its reference set is damaged or of another model"
        raise HttpError(503, what, hint=error.faults[0].hint) from None
    class_names = model.predictor.class_names
    row = describe_answer(picture.name, answer, class_names=class_names, top_k=top_k)
    about = {"request_id": state["request_id"], "model": describe_model(model)}
    return JsonResponse({**about, "predictions": [row], "explanation": explanation})


ROUTES = [Route("/explain", explain, methods=["POST"])]
