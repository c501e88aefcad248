"""Requests that are refused: an HTTP status, the reason and, where anything helps, what to do."""

from __future__ import annotations

from collections.abc import Mapping


class HttpError(Exception):
    """A request that is not answered as it was asked.

    Attributes:
        status: The HTTP status, 4xx or 503.
        error: Why, in a sentence.
        hint: What to do; empty if nothing helps.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, error: str, *, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint
        self.headers = dict(headers or {})


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


def refuse_unreadable(which: str, reason: str) -> HttpError:
    """Return the error of a request whose picture cannot be read.

    Args:
        which: Which picture, or pictures, with its verb: "the picture is".
        reason: Why.
    """
    hint = "use classifold predict, which answers for the frames of a video" if "a video" in reason else ""
    return HttpError(422, f"{which} unreadable: {reason}", hint=hint)


def refuse_for_load(what: str, *, status: int = 429, after_s: int = 1) -> HttpError:
    """Return the error of a request that the server has no room for.

    Args:
        what: What is full.
        status: 429, or 503 where the server as a whole is busy or stopping.
        after_s: When to try again, in seconds.
    """
    hint = f"try again in {after_s} s, or send fewer pictures per request"
    return HttpError(status, what, hint=hint, headers={"Retry-After": str(after_s)})
