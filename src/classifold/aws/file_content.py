"""A local file's bytes, and the certainty that it did not change while they were read."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

from classifold.aws.upload_lists import explain_file
from classifold.aws.upload_record import Due, LocalFile
from classifold.errors import ClassifoldError, Fault

_BLOCK_BYTES = 1 << 22


class UnsentError(ClassifoldError):
    """One file cannot be sent; the others can."""


def look_at(due: Due) -> LocalFile:
    """Return a file as it is now.

    Raises:
        UnsentError: It vanished.
    """
    try:
        state = Path(due.path).stat()
    except OSError as error:
        raise UnsentError(explain_file(due.path, error)) from error
    return LocalFile(due.key, due.path, state.st_size, state.st_mtime_ns, state.st_ino, is_index=False)


def read_part(file: LocalFile, *, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset` on.

    Raises:
        UnsentError: It vanished, cannot be read, or is not as it was when it was looked at.
    """
    try:
        with open(file.path, "rb", buffering=0) as source:  # noqa: PTH123 - a Path a file is slow
            source.seek(offset)
            data = source.read(size)
            # One read gives all of an ordinary file on a local disk, not always elsewhere.
            while len(data) < size and (more := source.read(size - len(data))):
                data += more
            state = os.fstat(source.fileno())
    except OSError as error:
        raise UnsentError(explain_file(file.path, error)) from error
    if (state.st_size, state.st_mtime_ns) != (file.size, file.mtime_ns) or len(data) != size:
        hint = "let nothing change the pictures meanwhile, then run `classifold split` and upload again"
        raise UnsentError(Fault(file.path, "it changed while it was sent", hint=hint))
    return data


def compute_crc32(file: LocalFile) -> int:
    """Return the CRC-32 of a whole file, read block by block.

    Raises:
        UnsentError: As in `read_part`.
    """
    crc32 = 0
    for offset in range(0, file.size, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, file.size - offset)
        crc32 = zlib.crc32(read_part(file, offset=offset, size=size), crc32)
    return crc32


def has_md5(data: bytes, etag: str) -> bool:
    """Tell whether an ETag is the content's MD5, as it is of objects in one piece under AWS's own key."""
    return etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
