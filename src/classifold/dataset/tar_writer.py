"""Writes a plain tar file of pictures; the same pictures give the same bytes on every machine.

The format is POSIX.1-2001 (pax), with names of any length and script, without owner and time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from classifold.pictures.formats import HEAD_BYTES, identify_format, name_content
from classifold.pictures.limits import PictureError, open_ordinary

BLOCK = tarfile.BLOCKSIZE
# Two empty blocks end an archive, and zeros fill it up to whole records.
END_BYTES = 2 * BLOCK
RECORD = tarfile.RECORDSIZE
_CHUNK = 2**20


class TarSpan(NamedTuple):
    """A file's content in the archive: offset of its first byte, size in bytes, CRC-32."""

    offset: int
    size: int
    crc32: int


class SourceError(Exception):
    """A file cannot be packed; the message says why.

    Attributes:
        hint: The cure, if it is not to repair the file; else "".
    """

    hint = ""


class TarWriter:
    """Writes a tar file; as a context manager it closes the file at the end, and does not finish it.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_CHUNK)
        self._digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add_bytes(self, name: str, content: bytes) -> TarSpan:
        """Append content under a name and return its span."""
        self._write(build_header(name, len(content)))
        span = TarSpan(self.size, len(content), zlib.crc32(content))
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return span

    def add(
        self, name: str, source: Path | str, *, size: int | None = None, only_picture: bool = False
    ) -> TarSpan:
        """Append a file under a name and return its span.

        Args:
            name: Name of the file in the archive.
            source: Path of the file.
            size: Expected size in bytes; a file of another size is refused.
            only_picture: Refuse a file whose content is not a picture.

        Raises:
            SourceError: The file is refused, cannot be read, or changes while it is read.
            OSError: The archive cannot be written.
        """
        with _reading():
            number = open_ordinary(source)
        try:
            if only_picture:
                with _reading():
                    check_content(os.pread(number, HEAD_BYTES, 0))
            return self._copy(name, number, size)
        finally:
            os.close(number)

    def _copy(self, name: str, source: int, wanted: int | None) -> TarSpan:
        with _reading():
            size = os.fstat(source).st_size
        if wanted is not None and size != wanted:
            raise SourceError(f"it has {size} bytes, and had {wanted} when packing began")
        self._write(build_header(name, size))
        offset, crc, missing = self.size, 0, size
        while missing:
            with _reading():
                content = os.read(source, min(missing, _CHUNK))
            if not content:
                raise SourceError("it was changed while it was read")
            crc = zlib.crc32(content, crc)
            self._write(content)
            missing -= len(content)
        self._write(bytes(-size % BLOCK))
        return TarSpan(offset, size, crc)

    def finish(self) -> str:
        """Write the archive's end and return the SHA-256 of the whole, in hexadecimal."""
        self._write(bytes(archive_size(self.size) - self.size))
        self._file.flush()
        return self._digest.hexdigest()

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self.size += len(content)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise SourceError(error.reason) from error
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error


def check_content(head: bytes) -> None:
    """Refuse what is not a picture, so that shards never carry another file of this machine away.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, or all of a shorter one.

    Raises:
        SourceError: It is not a picture; the message says what it holds.
    """
    if identify_format(head) is None:
        raise SourceError(f"the file holds {name_content(head)}")


def is_link(path: str) -> bool:
    """Tell whether a file is a symbolic link. It may lead anywhere, so only a picture is accepted there."""
    return os.path.islink(path)  # noqa: PTH114 - a Path for each file is slow


def build_header(name: str, size: int) -> bytes:
    """Return the header of a file in the archive: readable by all, without an owner, dated 1970."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def member_size(name: str, size: int) -> int:
    """Return the bytes that a file takes in the archive, with header and padding."""
    header = BLOCK if len(name) <= tarfile.LENGTH_NAME and name.isascii() and size < 8**11 else None
    return (header or len(build_header(name, size))) + size + -size % BLOCK


def archive_size(content: int) -> int:
    """Return the size of an archive whose members take `content` bytes."""
    return content + END_BYTES + -(content + END_BYTES) % RECORD
