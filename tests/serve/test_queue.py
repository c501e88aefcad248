"""The queue: in turn, bounded, and never stuck behind work that nobody waits for."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from classifold.predict.predictor import Answer
from classifold.serve.errors import HttpError
from classifold.serve.model import ServedModel, load_model
from classifold.serve.options import ServeOptions
from classifold.serve.queue import Queue
from made_card import model_card
from made_models import COLOURS, colour_model
from made_servers import draw


@pytest.fixture
def make_queue() -> Iterator[Callable[..., Queue]]:
    made: list[Queue] = []

    def make(**options: Any) -> Queue:
        made.append(Queue(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def model(served_run: Path) -> ServedModel:
    return load_model(ServeOptions(run=served_run, max_pixels=100_000_000))


async def block(queue: Queue) -> tuple[asyncio.Task[Any], threading.Event]:
    """Occupy one thread of a queue until the event is set."""
    event, begun = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        assert event.wait(20)
        return "held"

    task = asyncio.ensure_future(queue.run(hold))
    assert await asyncio.to_thread(begun.wait, 20)
    return task, event


async def settle(queue: Queue, *, waiting: int) -> None:
    until = time.monotonic() + 10
    while queue.num_waiting != waiting:
        assert time.monotonic() < until
        await asyncio.sleep(0.005)


def test_pictures_and_pixels_are_answered_and_what_is_no_picture_has_its_reason(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    pixels = np.full((16, 16, 3), (0, 0, 255), np.uint8)
    answers = asyncio.run(make_queue().answer(model, [draw("red"), b"none", pixels, pixels / np.float32(1)]))
    assert isinstance(answers[1], str)
    best = [one.probabilities.argmax() for one in answers if isinstance(one, Answer)]
    assert best == [0, 2, 2]


def test_a_full_queue_refuses_and_says_when_to_come_again(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    queue = make_queue(num_threads=1, limit=2)

    async def fill() -> None:
        held, event = await block(queue)
        waiting = asyncio.ensure_future(queue.answer(model, [draw(), draw()]))
        await settle(queue, waiting=2)
        with pytest.raises(HttpError, match="queue is full") as caught:
            await queue.answer(model, [draw()])
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
        event.set()
        assert len(await waiting) == 2
        assert await held == "held"

    asyncio.run(fill())


def test_what_nobody_waits_for_any_more_is_not_done(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    seen: list[int] = []
    queue = make_queue(num_threads=1, observe=lambda size, _read, _model: seen.append(size))

    async def give_up() -> None:
        held, event = await block(queue)
        waiting = asyncio.ensure_future(queue.answer(model, [draw()] * 50))
        await settle(queue, waiting=50)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        event.set()
        await held
        await queue.answer(model, [draw()])

    asyncio.run(give_up())
    assert seen == [1]


def test_an_error_of_other_work_reaches_who_asked_and_no_one_else(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    queue = make_queue(num_threads=1)

    def fail() -> None:
        raise KeyError("a bug")

    async def ask() -> None:
        with pytest.raises(KeyError):
            await queue.run(fail)
        assert len(await queue.answer(model, [draw()])) == 1

    asyncio.run(ask())


def test_under_load_pictures_are_batched_and_each_has_its_own_answer(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    sizes: list[int] = []
    queue = make_queue(num_threads=1, limit=1000, observe=lambda size, _read, _model: sizes.append(size))
    pictures = [draw(colour) for colour in ("red", "lime", "blue")] * 40
    answers = asyncio.run(queue.answer(model, pictures))
    assert [one.probabilities.argmax() for one in answers if isinstance(one, Answer)] == [0, 1, 2] * 40
    queue.close()
    queue._threads[0].join(5)
    assert max(sizes) > 1
    assert sum(sizes) == 120


def test_a_model_that_takes_one_picture_at_a_time_is_served_all_the_same(
    make_queue: Callable[..., Queue], tmp_path: Path
) -> None:
    made = colour_model(model_card(COLOURS))
    made.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(made, tmp_path / "model.onnx")
    model = load_model(ServeOptions(run=tmp_path / "model.onnx"))
    answers = asyncio.run(make_queue(num_threads=1, limit=1000).answer(model, [draw("lime")] * 60))
    assert [one.probabilities.argmax() for one in answers if isinstance(one, Answer)] == [1] * 60


def save_large(side: int = 5100) -> bytes:
    """Return a small file of a picture that is large once it is decoded."""
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def test_requests_take_turns_and_none_waits_for_all_pictures_of_another(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    queue = make_queue(num_threads=1, limit=1000)
    ended: list[str] = []

    async def ask(name: str, count: int) -> None:
        await queue.answer(model, [draw()] * count)
        ended.append(name)

    async def compete() -> None:
        held, event = await block(queue)
        tasks = [asyncio.ensure_future(ask(name, count)) for name, count in (("many", 200), ("one", 1))]
        await settle(queue, waiting=201)
        event.set()
        await asyncio.gather(held, *tasks)

    asyncio.run(compete())
    assert ended == ["one", "many"]


def test_small_pictures_pass_large_ones_of_which_one_is_read_at_a_time(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    queue, large = make_queue(num_threads=2), save_large()
    ended: list[str] = []

    async def ask(name: str, pictures: list[bytes]) -> list[Any]:
        answers = await queue.answer(model, pictures)
        ended.append(name)
        return answers

    async def compete() -> list[list[Any]]:
        bombs = asyncio.ensure_future(ask("large", [large, draw("lime"), large, large, large]))
        until = time.monotonic() + 20
        while not queue._is_large_busy:
            assert time.monotonic() < until
            await asyncio.sleep(0.001)
        small = [asyncio.ensure_future(ask("small", [draw()])) for _ in range(5)]
        return await asyncio.gather(bombs, *small)

    answers = asyncio.run(compete())
    assert ended == ["small"] * 5 + ["large"]
    assert [one.probabilities.argmax() for one in answers[0]][1] == 1
    assert (queue.num_waiting, queue._is_large_busy) == (0, False)


def test_large_pictures_that_nobody_waits_for_any_more_are_not_read(
    make_queue: Callable[..., Queue], model: ServedModel
) -> None:
    seen: list[int] = []
    queue, large = make_queue(num_threads=1, observe=lambda size, *_: seen.append(size)), save_large()

    async def give_up() -> None:
        waiting = asyncio.ensure_future(queue.answer(model, [large] * 20))
        until = time.monotonic() + 20
        while not queue._is_large_busy:
            assert time.monotonic() < until
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(await queue.answer(model, [large])) == 1

    asyncio.run(give_up())
    queue.close()
    queue._threads[0].join(5)
    assert seen == [1, 1]
    assert queue.num_waiting == 0


def test_threads_end_with_the_queue(make_queue: Callable[..., Queue]) -> None:
    queue = make_queue(num_threads=3)
    queue.close()
    for thread in queue._threads:
        thread.join(5)
        assert not thread.is_alive()
