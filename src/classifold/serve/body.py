"""Reads the body of a request within bounds: bytes, time, and the memory of all requests together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Message

from classifold.serve.errors import ClientGoneError, HttpError, refuse_for_load

# A slower line than this cannot send a picture at all; each byte that arrives earns time at this rate.
_LEAST_BYTES_PER_S = 16_000
_MOST_TIMES = 10
# A body that has been arriving for longer may be ended where the memory is needed for others.
_PATIENCE_S = 3.0


class ByteBudget:
    """The memory for what all requests in progress sent, at most `limit` bytes; for the event loop alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.arriving: set[Share] = set()

    def open_share(self, *, weight: int = 1) -> Share:
        """Return a request's share, which grows as its body arrives and is given back by `close`.

        Args:
            weight: Bytes of memory that a byte of the body takes.
        """
        return Share(self, weight)

    def end_slowest(self) -> None:
        """Let the slowest of the bodies that have been arriving for a while time out, for others' sake."""
        slow = [one for one in self.arriving if one.held and one.seconds > _PATIENCE_S and one.deadline]
        if slow:
            slowest = min(slow, key=lambda one: one.held / one.weight / one.seconds)
            if slowest.deadline is not None:
                slowest.deadline.reschedule(0)
            self.arriving.discard(slowest)


@dataclass(slots=True, eq=False)
class Share:
    """A request's share of the memory.

    Attributes:
        budget: The memory of all.
        weight: Bytes of memory that a byte of the body takes.
        held: Its own memory, in bytes.
        since: When its body began to arrive, by the monotonic clock.
        deadline: The clock of the piece that is awaited, where one is.
    """

    budget: ByteBudget
    weight: int
    held: int = 0
    since: float = field(default_factory=time.monotonic)
    deadline: asyncio.Timeout | None = None

    @property
    def seconds(self) -> float:
        """How long its body has been arriving."""
        return time.monotonic() - self.since

    def grow_to(self, size: int) -> None:
        """Take the memory that is missing for `size` bytes of the body.

        Raises:
            HttpError: 429; the other requests hold too much. A request that is alone always has room.
        """
        more = size * self.weight - self.held
        if more <= 0:
            return
        others = self.budget.used - self.held
        if others > 0 and self.budget.used + more > self.budget.limit:
            self.budget.end_slowest()
            raise refuse_for_load("the requests in progress fill the memory set aside for them")
        self.budget.used += more
        self.held += more

    def close(self) -> None:
        """Give everything back."""
        self.budget.arriving.discard(self)
        self.budget.used -= self.held
        self.held = 0


def find_length(request: Request, *, limit: int) -> int | None:
    """Return the size of the body that the request announces; None where it does not say.

    Raises:
        HttpError: 413, it is larger than the limit; 415, it is compressed.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise HttpError(415, f"a body compressed with {encoding[:50]} is not read", hint="send it as it is")
    text = request.headers.get("content-length", "")
    if not text.isdecimal():  # the HTTP parser has refused what is not a number
        return None
    if int(text) > limit:
        raise _refuse_size(limit)
    return int(text)


def _refuse_size(limit: int) -> HttpError:
    return HttpError(
        413, f"the request is larger than {limit / 1e6:g} MB", hint="send smaller or fewer files"
    )


async def read_pieces(
    request: Request, share: Share, *, limit: int, timeout_s: float
) -> AsyncIterator[bytes]:
    """Yield the body piece by piece.

    The memory is taken for what has arrived, not for what is announced, which costs a client nothing.

    Args:
        request: The request.
        share: Its share of the memory for bodies.
        limit: Most bytes.
        timeout_s: Time that the body may take, in seconds, and one more for each 16 kB that have arrived, but
            at most ten times as long.

    Raises:
        HttpError: 408, 413 or 429.
        ClientGoneError: The client closed the connection first.
    """
    find_length(request, limit=limit)
    received, began = 0, time.monotonic()
    share.budget.arriving.add(share)
    try:
        while True:
            allowed = min(timeout_s + received / _LEAST_BYTES_PER_S, timeout_s * _MOST_TIMES)
            message = await _receive(request, share, began + allowed - time.monotonic())
            piece: bytes = message.get("body", b"")
            received += len(piece)
            if received > limit:
                raise _refuse_size(limit)
            share.grow_to(received)
            if piece:
                yield piece
            if not message.get("more_body", False):
                return
    finally:
        share.budget.arriving.discard(share)


async def _receive(request: Request, share: Share, seconds: float) -> Message:
    """Return the next piece of a body.

    Raises:
        HttpError: 408, it did not arrive in time.
        ClientGoneError: The client closed the connection first.
    """
    try:
        # A deadline for each piece, which a client that sends byte by byte cannot push away.
        async with asyncio.timeout(max(seconds, 0)) as share.deadline:
            message = await request.receive()
    except TimeoutError:
        what = "the body arrived too slowly"
        raise HttpError(408, what, hint="send it faster", headers={"Connection": "close"}) from None
    finally:
        share.deadline = None
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message
