"""A picture's content, as it is copied into a folder of its class and compared with what is there."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from classifold.pictures.formats import PICTURE_ENDINGS, identify_format
from classifold.pictures.given import Given
from classifold.predict.sorted_names import make_file_name
from classifold.predict.sources import Source

_AT_ONCE: Final = 1 << 20
# Endings of formats that are not named like their ending.
_ENDINGS: Final = {"jpeg": ".jpg", "tiff": ".tif", "heif": ".heic", "jpeg2000": ".jp2"}


class UnreadError(Exception):
    """A picture's file, which was just classified, cannot be read any more; carries the reason."""


@dataclass(frozen=True)
class Content:
    """The content of one picture: a file on this machine, or bytes.

    Attributes:
        name: The file name that a copy gets where it is free.
        path: The picture's file; None if it is in memory.
        data: The encoded picture; None if it is a file.
    """

    name: str
    path: Path | None
    data: bytes | None

    def write(self, target: Path) -> None:
        """Write it to a new file, with the times and the mode of its own file.

        Raises:
            UnreadError: The picture's file cannot be read.
            OSError: The new file cannot be written.
        """
        with target.open("xb") as out:
            for piece in self._iter_pieces():
                out.write(piece)
        if self.path is not None:
            # Not every disk keeps a mode or attributes; a copy without them is still the picture.
            with contextlib.suppress(OSError):
                shutil.copystat(self.path, target)

    def digest(self) -> str:
        """Return the content's SHA-256 in hexadecimal; errors as `write`."""
        found = hashlib.sha256()
        for piece in self._iter_pieces():
            found.update(piece)
        return found.hexdigest()

    def check(self) -> None:
        """Raise UnreadError if its file is no longer there."""
        if self.path is not None:
            with _reading():
                self.path.stat()

    def is_in(self, other: Path) -> bool:
        """Return whether a file, or the file that a link leads to, has the same content."""
        if not other.is_file():
            return False
        if self.data is not None:
            return other.stat().st_size == len(self.data) and other.read_bytes() == self.data
        self.check()
        return self.path is not None and (
            self.path.samefile(other) or filecmp.cmp(self.path, other, shallow=False)
        )

    def _iter_pieces(self) -> Iterator[bytes]:
        if self.path is None:
            yield self.data or b""
            return
        with _reading():
            file = self.path.open("rb")
        with file:
            while True:
                with _reading():
                    piece = file.read(_AT_ONCE)
                if not piece:
                    return
                yield piece


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadError(f"the file cannot be read: {error.strerror or error}") from error


def take_content(source: Source, given: Given) -> Content:
    """Return what is copied for a picture.

    Args:
        source: Where the picture comes from.
        given: The picture as its source gave it: pixels, such as those of a video's frame, become a PNG.
    """
    if source.path is not None:
        return Content(source.path.name, source.path, None)
    if isinstance(given, str | os.PathLike):
        path = Path(os.fsdecode(given))
        return Content(make_file_name(source.name, path.suffix), path, None)
    if isinstance(given, bytes | bytearray | memoryview):
        data = bytes(given)
        return Content(make_file_name(source.name, _find_ending(source.name, data)), None, data)
    image = Image.fromarray(np.squeeze(given)) if isinstance(given, np.ndarray) else given
    file = io.BytesIO()
    image.save(file, "PNG")
    return Content(make_file_name(source.name, ".png"), None, file.getvalue())


def _find_ending(name: str, data: bytes) -> str:
    """Return the ending that belongs to a picture's format; "" if its name has the ending of a picture."""
    if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS:  # noqa: PTH122 - the name may be an address
        return ""
    kind = identify_format(data) or ""
    return _ENDINGS.get(kind, f".{kind}" if kind else "")
