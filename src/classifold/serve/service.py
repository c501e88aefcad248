"""What all requests share (options, model, queue, limits), and how the body of a request becomes answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from classifold.machine import memory_bytes
from classifold.predict.predictor import Answer
from classifold.serve.body import ByteBudget, read_pieces
from classifold.serve.errors import ClientGoneError, HttpError, refuse_for_load
from classifold.serve.metrics import Metrics
from classifold.serve.model import ModelSlot, ServedModel
from classifold.serve.options import ServeOptions
from classifold.serve.pictures import BodyReader, SentPicture, open_body
from classifold.serve.queue import Pixels, Queue

T = TypeVar("T")
_MOST_MEMORY = 1_000_000_000
# Decoding base64 or a form of this size would keep the event loop from other requests.
_LARGE_BODY = 200_000


class Service:
    """A model that is served, with its queue and its limits.

    Args:
        options: The options of the server.

    Attributes:
        options: The same.
        models: Holds the model; `models.current` is the one to answer with.
        queue: The pictures that wait, and the threads.
        budget: The bytes of the requests in progress.
        metrics: What is counted.
        is_draining: Whether the server is about to stop.
        num_requests: Requests in progress.

    Raises:
        ClassifoldError: The model cannot be loaded.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self.models = ModelSlot(options)
        self.queue = Queue(
            num_threads=options.threads, limit=options.queue, observe=self.metrics.observe_batch
        )
        self.budget = ByteBudget(max(options.max_bytes, min(_MOST_MEMORY, memory_bytes() // 4)))
        self.is_draining, self.num_requests = False, 0
        self.metrics.watch_queue(lambda: self.queue.num_waiting)

    @property
    def model(self) -> ServedModel:
        """The model for a request that begins now."""
        return self.models.current

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return not self.is_draining

    def close(self) -> None:
        """Let the threads end."""
        self.queue.close()

    async def read_pictures(self, request: Request, *, content_type: str | None = None) -> list[SentPicture]:
        """Return the pictures in the body of a request.

        Args:
            request: The request.
            content_type: Type of the body; None for that of the header.

        Raises:
            HttpError: The body is malformed, too large, too slow, or there is no room for it now.
            ClientGoneError: The client is gone.
        """
        header = request.headers.get("content-type", "")
        reader = open_body(header if content_type is None else content_type, max_pictures=self._max_pictures)
        return await self.read_into(request, reader)

    @property
    def _max_pictures(self) -> int:
        return self.options.max_pictures

    async def read_into(self, request: Request, reader: BodyReader[T]) -> T:
        """Read a body into `reader`, and return what is in it; see `read_pictures`."""
        self.queue.check_room()  # before the body is read, which may take long
        # Until the answer is sent, since the pictures wait in the queue; the gate closes it.
        share = request.scope["state"]["share"] = self.budget.open_share(weight=reader.weight)
        options = self.options
        async for piece in read_pieces(request, share, limit=options.max_bytes, timeout_s=options.timeout):
            reader.add(piece)
        if share.held > _LARGE_BODY:
            return await asyncio.to_thread(reader.finish)
        return reader.finish()

    async def answer(
        self, request: Request, model: ServedModel, pictures: Sequence[bytes | Pixels]
    ) -> list[Answer | str]:
        """Return the model's answer for each picture, or why it cannot be read.

        Args:
            request: The request, whose client may go away meanwhile.
            model: The model.
            pictures: Each a picture file's bytes, or pixels of shape (S, S, 3).

        Raises:
            HttpError: 429, the queue is full; 503, it took too long.
            ClientGoneError: The client is gone; what had not begun is dropped.
        """
        answers = await self.wait_for(request, self.queue.answer(model, pictures))
        self.metrics.count_answers(answers)
        return answers

    async def run(self, request: Request, work: Callable[[], T]) -> T:
        """Return the result of other work on a picture, done in its turn by one of the queue's threads.

        Raises:
            HttpError: 429, the queue is full; 503, it took too long.
            ClientGoneError: The client is gone.
            Exception: What the work raises.
        """
        result: T = await self.wait_for(request, self.queue.run(work))
        return result

    async def wait_for(self, request: Request, work: Awaitable[T]) -> T:
        """Wait for something within the time limit, and as long as the client waits; see `run`."""
        task = asyncio.ensure_future(work)
        # The body has been read, so that the next message is the end of the connection.
        gone = asyncio.ensure_future(_wait_for_end(request))
        try:
            waiting: set[asyncio.Future[Any]] = {task, gone}
            await asyncio.wait(waiting, timeout=self.options.timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise ClientGoneError
            raise refuse_for_load(f"the answer took longer than {self.options.timeout:g} s", status=503)
        finally:
            task.cancel()
            gone.cancel()


async def _wait_for_end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def find_service(request: Request) -> Service:
    """Return the service that a request belongs to."""
    service: Service = request.app.state.service
    return service


def read_number(request: Request, name: str, default: int) -> int:
    """Return a number from the query of a request.

    Args:
        request: The request.
        name: Name of the parameter.
        default: Its value where the query does not say.

    Raises:
        HttpError: 400, it is not a whole number from 1.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise HttpError(400, f"{name}: expected a whole number from 1, got {text[:50]!r}")
    return int(text)
