"""Reads pictures from other machines ahead of the threads that classify them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Final

from classifold.pictures.given import Given
from classifold.pictures.limits import PictureError
from classifold.predict.sources import Source

# Pictures on their way at once. They mostly wait for the network, so they are more than the cores.
_THREADS: Final = 16
# A larger picture is not held in memory for others, but read when its turn comes.
_MOST_BYTES: Final = 32 * 2**20

# Seconds after which who waits looks whether it still should.
_PATIENCE: Final = 0.2


class LargerError(Exception):
    """A picture has more bytes than may be read ahead."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A picture on another machine.

    Attributes:
        name: What answers call it.
        fetch: Returns its bytes, at most as many as the argument says; with None, as many as a picture can
            have. Raises LargerError where it has more than the argument says, PictureError where it cannot be
            read.
        num_bytes: Its size, where that is known before it is read.
    """

    name: str
    fetch: Callable[[int | None], bytes]
    num_bytes: int = 0


def read_ahead(
    found: Iterable[Source | Remote], *, stopped: threading.Event | None = None
) -> Generator[Source, None, None]:
    """Yield sources in order, and read those on other machines in threads meanwhile.

    At most 16 pictures of at most 32 MiB are on their way or wait in memory. Pictures on this machine are
    only passed on, and do not wait if none of another machine is before them.

    Args:
        found: Taken one by one, up to 16 ahead of the consumer.
        stopped: Set when nobody needs the pictures any more; who waits for one is let go.
    """
    stopped = stopped or threading.Event()
    waiting: deque[Source] = deque()
    pool: ThreadPoolExecutor | None = None
    try:
        for one in found:
            if isinstance(one, Source):
                if not waiting:
                    yield one
                    continue
                waiting.append(one)
            elif one.num_bytes > _MOST_BYTES:
                waiting.append(_read_later(one))
            else:
                pool = pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
                waiting.append(_Ahead(one, pool.submit(one.fetch, _MOST_BYTES), stopped).to_source())
            if len(waiting) >= _THREADS:
                yield waiting.popleft()
        if pool is not None:
            pool.shutdown(wait=False)
        while waiting:
            yield waiting.popleft()
    except BaseException:
        # Ended early: what is not on its way yet is not asked for.
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        raise


def _read_later(remote: Remote) -> Source:
    return Source(remote.name, None, lambda: remote.fetch(None))


class _Ahead:
    """A picture that is being read; its bytes are let go of once they were taken."""

    def __init__(self, remote: Remote, future: Future[bytes], stopped: threading.Event) -> None:
        self._remote, self._future, self._stopped = remote, future, stopped

    def to_source(self) -> Source:
        return Source(self._remote.name, None, self._take)

    def _take(self) -> Given:
        future, self._future = self._future, Future()
        while not self._stopped.is_set():
            try:
                return future.result(_PATIENCE)
            except FutureTimeoutError:
                continue
            except LargerError:
                return self._remote.fetch(None)
        raise PictureError("interrupted")
