"""The pictures that wait, and the threads that read them and run the model, one thread per core."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.machine import count_cores
from classifold.pictures.limits import LargePictureError, PictureError, putting_off_large_pictures
from classifold.predict.predictor import Answer
from classifold.serve.batch_size import SIZES, BatchSize
from classifold.serve.errors import refuse_for_load
from classifold.serve.model import ServedModel

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Job:
    """Something that waits for a thread.

    Attributes:
        loop: The event loop that waits for the result.
        future: Where the result goes.
        model: The model for a picture.
        picture: A picture file's bytes, or pixels of shape (S, S, 3); None where there is other work.
        work: Other work; its result is the job's.
        is_dropped: Whether nobody waits for the result any more.
        is_large: Whether it is a picture that was put off, as it takes much memory.
        line: The jobs of the same request.
    """

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    model: ServedModel | None = None
    picture: bytes | Pixels | None = None
    work: Callable[[], Any] | None = None
    is_dropped: bool = False
    is_large: bool = False
    line: _Line | None = None


@dataclass(slots=True, eq=False)
class _Line:
    """The jobs of one request, in their order.

    Attributes:
        jobs: Those that no thread has begun.
        large: Large pictures that were put off.
        is_queued: Whether it is among the lines that take turns.
    """

    jobs: deque[_Job]
    large: deque[_Job] = field(default_factory=deque)
    is_queued: bool = True

    def drop(self) -> int:
        """Remove the first jobs if nobody waits for them any more; return how many."""
        num_dropped = 0
        for jobs in (self.jobs, self.large):
            while jobs and jobs[0].is_dropped:
                jobs.popleft()
                num_dropped += 1
        return num_dropped

    def take(self, *, with_large: bool, model: ServedModel | None) -> _Job | None:
        """Return the next job, of this model if one is given; None where there is none that may be begun."""
        if with_large and self.large:
            return self.large.popleft()
        if self.jobs and (model is None or self.jobs[0].model is model):
            return self.jobs.popleft()
        return None


class Queue:
    """Answers pictures: one of each request in turn, so that nobody waits for all of another request.

    Large pictures are read by one thread at a time, and the other threads go on with what is small.

    Args:
        num_threads: Number of threads; None: one for each core.
        limit: Most jobs that wait; further ones are refused.
        observe: Called with the number of pictures of each batch, and the seconds that reading and the model
            took.
    """

    def __init__(
        self,
        *,
        num_threads: int | None = None,
        limit: int = 256,
        observe: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self.limit, self._observe = limit, observe
        self._lines: deque[_Line] = deque()
        self._num_waiting = 0
        self._is_large_busy = False
        self._condition = threading.Condition()
        self._is_closed = False
        self._batch_size = BatchSize()
        self.num_running = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True)
            for number in range(num_threads or count_cores())
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Number of jobs that no thread has begun."""
        return self._num_waiting

    @property
    def batch_size(self) -> int:
        """Number of pictures per call of the model, as learned so far."""
        return self._batch_size.best

    def check_room(self, count: int = 1) -> None:
        """Refuse a request that there is no room for.

        Args:
            count: Number of its pictures; more than the limit are accepted where nothing else waits.

        Raises:
            HttpError: 429, with when to try again.
        """
        waiting = self.num_waiting
        if waiting and waiting + count > self.limit:
            raise refuse_for_load(f"the queue is full: {waiting} pictures wait")

    async def answer(self, model: ServedModel, pictures: Sequence[bytes | Pixels]) -> list[Answer | str]:
        """Return the answer for each picture, or why it cannot be read.

        If this is cancelled, pictures that no thread has begun are dropped.

        Args:
            model: The model.
            pictures: Each a picture file's bytes, or pixels of shape (S, S, 3), RGB 0..255.

        Raises:
            HttpError: 429, the queue is full.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(loop, loop.create_future(), model, picture) for picture in pictures]
        return await self._wait_for(jobs)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return the result of other work, done by one of the same threads in its turn.

        Raises:
            HttpError: 429, the queue is full.
            Exception: What the work raises.
        """
        loop = asyncio.get_running_loop()
        return (await self._wait_for([_Job(loop, loop.create_future(), work=work)]))[0]

    async def _wait_for(self, jobs: list[_Job]) -> list[Any]:
        self.check_room(len(jobs))
        line = _Line(deque(jobs))
        for job in jobs:
            job.line = line
        with self._condition:
            self._lines.append(line)
            self._num_waiting += len(jobs)
            self._condition.notify(len(jobs))
        try:
            return await asyncio.gather(*(job.future for job in jobs))
        finally:
            for job in jobs:
                job.is_dropped = True

    def close(self) -> None:
        """Let the threads end once they have done what they began; what waits is dropped."""
        with self._condition:
            self._is_closed = True
            self._lines.clear()
            self._num_waiting = 0
            self._condition.notify_all()

    # In the threads

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            jobs, is_busy = taken
            try:
                self._do(jobs, is_busy=is_busy)
            finally:
                with self._condition:
                    self.num_running -= len(jobs)

    def _take(self) -> tuple[list[_Job], bool] | None:
        """Return the next jobs, a batch of pictures for one model, and whether many wait; None at the end."""
        with self._condition:
            while True:
                if self._is_closed:
                    return None
                waiting = self._num_waiting
                if (first := self._next()) is not None:
                    break
                self._condition.wait()
            jobs = [first]
            if first.is_large:
                self._is_large_busy = True
            elif first.model is not None:
                size = self._batch_size.choose(waiting)
                while len(jobs) < size and (job := self._next(first.model)) is not None:
                    jobs.append(job)
            self.num_running += len(jobs)
            return jobs, waiting >= SIZES[-1]

    def _next(self, model: ServedModel | None = None) -> _Job | None:
        """Return the job whose turn it is, and put its request behind the others; None if all have to wait.

        Args:
            model: The model of a batch, which the job is for; None: the first job of a batch.
        """
        for _ in range(len(self._lines)):
            line = self._lines.popleft()
            self._num_waiting -= line.drop()
            line.is_queued = bool(line.jobs or line.large)
            if not line.is_queued:
                continue
            self._lines.append(line)
            job = line.take(with_large=model is None and not self._is_large_busy, model=model)
            if job is not None:
                self._num_waiting -= 1
                return job
        return None

    def _put_off(self, job: _Job) -> None:
        """Let a large picture wait until no other one is read."""
        job.is_large = True
        line = job.line or _Line(deque(), is_queued=False)
        with self._condition:
            line.large.append(job)
            self._num_waiting += 1
            if not line.is_queued:
                line.is_queued = True
                self._lines.appendleft(line)
            self._condition.notify()

    def _end_large(self) -> None:
        with self._condition:
            self._is_large_busy = False
            self._condition.notify()

    def _do(self, jobs: list[_Job], *, is_busy: bool) -> None:
        first = jobs[0]
        if first.work is not None:
            _settle(first, *_attempt(first.work))
            return
        began = time.monotonic()
        is_large = first.is_large  # before it is found out
        try:
            read = self._read_all(jobs)
        finally:
            if is_large:
                self._end_large()
        if not read and first.is_large and not is_large:  # all were put off
            return
        decoded = time.monotonic()
        if not self._predict_all(read) and len(read) > 1:
            # Some models take one picture at a time only.
            self._batch_size.keep_to_one()
            for one in read:
                self._predict_all([one])
        ended = time.monotonic()
        self._batch_size.add(len(read), ended - decoded, is_busy=is_busy)
        if self._observe is not None:
            self._observe(len(read), decoded - began, ended - decoded)

    def _read_all(self, jobs: list[_Job]) -> list[tuple[_Job, Pixels]]:
        """Return the jobs whose pictures were read; the others are settled, or put off."""
        read: list[tuple[_Job, Pixels]] = []
        for job in jobs:
            try:
                pixels, error = _attempt(functools.partial(_read, job))
            except LargePictureError:
                self._put_off(job)
                continue
            if isinstance(error, PictureError):
                _settle(job, error.reason, None)
            elif error is not None:
                _settle(job, None, error)
            else:
                read.append((job, pixels))
        return read

    def _predict_all(self, read: list[tuple[_Job, Pixels]]) -> bool:
        """Answer pictures in one call of the model; return False where that failed and can be tried again."""
        if not read:
            return True
        answers, error = _attempt(lambda: _predict(read[0][0].model, [pixels for _, pixels in read]))
        if error is not None and len(read) > 1:
            return False
        for index, (job, _) in enumerate(read):
            _settle(job, None if answers is None else answers[index], error)
        return True


def _read(job: _Job) -> Pixels:
    if isinstance(job.picture, bytes) and job.model is not None:
        with contextlib.nullcontext() if job.is_large else putting_off_large_pictures():
            return job.model.predictor.read_picture(job.picture)
    return job.picture  # type: ignore[return-value]


def _predict(model: Any, pixels: list[Pixels]) -> list[Answer]:
    outputs = model.predictor.run_pixels(np.stack(pixels), is_one_call=True)
    unknown = model.predictor.find_unknown(outputs)
    distances = outputs.distances
    return [
        Answer(
            outputs.probabilities[index],
            unknown=bool(unknown[index]),
            distance=None if distances is None else float(distances[index]),
        )
        for index in range(len(pixels))
    ]


def _attempt(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _settle(job: _Job, result: Any, error: BaseException | None) -> None:
    def settle() -> None:
        if job.future.done():  # it was cancelled
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the event loop has ended
        job.loop.call_soon_threadsafe(settle)
