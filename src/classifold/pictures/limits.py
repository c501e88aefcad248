"""Limits that keep any file from taking more memory than is allowed for one picture."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

# An uncompressed picture of three 16-bit channels has 6 bytes per pixel; metadata come on top.
_BYTES_A_PIXEL = 6
_ROOM_FOR_METADATA = 64 * 2**20
_LARGE_PIXELS = 25_000_000
_large_pictures: contextlib.AbstractContextManager[object] = threading.Lock()
_announce: Callable[[int], None] | None = None
_thread = threading.local()


class PictureError(Exception):
    """One picture cannot be read.

    Attributes:
        reason: Message for the user: why it cannot be read, and what to do if anything helps.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LargePictureError(BaseException):
    """A large picture that this thread has put off; no `Exception`, which readers take for damage."""


@contextlib.contextmanager
def putting_off_large_pictures() -> Iterator[None]:
    """Let this thread raise `LargePictureError` in place of decoding a large picture."""
    _thread.puts_off = True
    try:
        yield
    finally:
        _thread.puts_off = False


def share_turns(turn: contextlib.AbstractContextManager[object], *, announce: Callable[[int], None]) -> None:
    """Let this process take turns with others that read pictures, and say how large each picture is.

    Args:
        turn: Entered while a large picture is decoded; only one process is in it at a time.
        announce: Called with the number of pixels before a picture is decoded.
    """
    global _large_pictures, _announce
    _large_pictures, _announce = turn, announce


def check_size(width: int, height: int, *, max_pixels: int) -> None:
    """Refuse a picture that would take too much memory, before it is decoded.

    Raises:
        PictureError: It has more than `max_pixels` pixels, or none.
    """
    if width <= 0 or height <= 0:
        raise PictureError(f"the picture says it has {width} x {height} pixels")
    if width * height > max_pixels:
        reason = (
            f"{width} x {height} pixels is more than MAX_PIXELS = {max_pixels}; shrink it or raise MAX_PIXELS"
        )
        raise PictureError(reason)
    if _announce is not None:
        _announce(width * height)


@contextlib.contextmanager
def taking_turns(width: int, height: int) -> Iterator[None]:
    """Let threads decode small pictures in parallel and large ones one at a time, which bounds the memory.

    Raises:
        LargePictureError: It is large, and this thread puts such pictures off.
    """
    is_large = width * height > _LARGE_PIXELS
    if is_large and getattr(_thread, "puts_off", False):
        raise LargePictureError
    with _large_pictures if is_large else contextlib.nullcontext():
        yield


def check_bytes(size: int, *, max_pixels: int) -> None:
    """Refuse an encoded picture of `size` bytes if that is more than a picture of `max_pixels` can have.

    Raises:
        PictureError: It is too large.
    """
    if size > max_pixels * _BYTES_A_PIXEL + _ROOM_FOR_METADATA:
        raise PictureError(
            f"{size / 1e6:.0f} MB is more than a picture of MAX_PIXELS = {max_pixels} can have"
        )


def open_ordinary(path: Path | str) -> int:
    """Return a descriptor of a file, open for reading; pipes and devices are refused without waiting.

    Raises:
        PictureError: It is not an ordinary file.
        OSError: It cannot be opened.
    """
    # Opening a device can have effects, so the file type is checked first, and again after opening.
    _check_ordinary(os.stat(path).st_mode)  # noqa: PTH116 - a Path for each file is slow
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_ordinary(os.fstat(number).st_mode)
    except BaseException:
        os.close(number)
        raise
    return number


def _check_ordinary(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise PictureError("not an ordinary file")


def read_bytes(path: Path | str, *, max_pixels: int) -> bytes:
    """Return a file's bytes; a file that is too large for a picture of `max_pixels` is not read.

    Raises:
        PictureError: It is not an ordinary file, cannot be read, or is too large.
    """
    with _opened(path) as number:
        size = os.fstat(number).st_size
        check_bytes(size, max_pixels=max_pixels)
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(size)


def read_head(path: Path | str, size: int) -> bytes:
    """Return the first bytes of a file, at most `size`.

    Raises:
        PictureError: It is not an ordinary file, or cannot be read.
    """
    with _opened(path) as number:
        return os.read(number, size)


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[int]:
    number = -1
    try:
        number = open_ordinary(path)
        yield number
    except OSError as error:
        raise PictureError(f"the file cannot be opened: {error.strerror or error}") from None
    except ValueError as error:  # a zero byte in the name
        raise PictureError(f"the file cannot be opened: {error}") from None
    finally:
        if number >= 0:
            os.close(number)
