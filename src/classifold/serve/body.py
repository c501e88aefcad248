"""Reads the body of a request within bounds: bytes, time, and the memory of all requests together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from classifold.serve.errors import ClientGoneError, HttpError, refuse_for_load

# A slower line than this cannot send a picture at all; each byte that arrives earns time at this rate.
_LEAST_BYTES_PER_S = 16_000


class ByteBudget:
    """Limits the memory of all request bodies in progress to `limit` bytes.

    Not thread-safe: use it from the event loop only.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0

    def open_share(self, *, weight: int = 1) -> Share:
        """Return a request's share, which grows as its body arrives and is given back by `close`.

        Args:
            weight: Bytes of memory that a byte of the body takes.
        """
        return Share(self, weight)


@dataclass(slots=True, eq=False)
class Share:
    """A request's share of the memory; `held` in bytes."""

    budget: ByteBudget
    weight: int
    held: int = 0

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
            raise refuse_for_load("the requests in progress fill the memory set aside for them")
        self.budget.used += more
        self.held += more

    def close(self) -> None:
        """Give everything back."""
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

    Args:
        request: The request.
        share: Its share of the memory for bodies.
        limit: Most bytes.
        timeout_s: Time that the body may take, in seconds, and one more for each 16 kB that have arrived.

    Raises:
        HttpError: 408, 413 or 429.
        ClientGoneError: The client closed the connection first.
    """
    share.grow_to(find_length(request, limit=limit) or 0)
    received, began = 0, time.monotonic()
    while True:
        left = began + timeout_s + received / _LEAST_BYTES_PER_S - time.monotonic()
        try:
            # A deadline for each piece, which a client that sends byte by byte cannot push away.
            async with asyncio.timeout(max(left, 0)):
                message = await request.receive()
        except TimeoutError:
            what = f"the body did not arrive within {timeout_s:g} s"
            raise HttpError(408, what, hint="send it faster", headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        received += len(piece)
        if received > limit:
            raise _refuse_size(limit)
        share.grow_to(received)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return
