"""Reads a .tar.gz from elsewhere: only files and folders, with limits on memory, time and size."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

# Limit of everything that is unpacked; a model of a few GB in six formats is far below it.
MAX_BYTES = 50 * 10**9
# Unpacked size by packed size. A run folder is about as large as its archive, and text and tables some 20
# times; only an archive that was made to fill a disk is 100 times as large throughout.
MAX_RATIO = 100
RATIO_ALLOWANCE = 256 * 10**6  # bytes that are unpacked whatever the ratio
# Limit of headers, files and folders together; a run folder has about thirty.
MAX_ENTRIES = 2_000
# Limit of a header that describes a member, since it is read whole into memory.
MAX_HEADER_BYTES = 1 << 16
MAX_NAME_BYTES, MAX_PART_BYTES, MAX_DEPTH = 1024, 255, 32
# A gzip file may be several ones joined; empty ones cost time and give no bytes.
MAX_GZIP_MEMBERS = 100

_CHUNK, _INPUT = 1 << 20, 1 << 16  # bytes of content and of the archive that are read at a time
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say: with the header and the checksum of gzip
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
# Headers that describe the next member. Long link names (GNU's K) describe links, which are refused.
_DESCRIPTIONS = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_GLOBAL = (tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class ArchiveError(Exception):
    """An archive that is not unpacked.

    Attributes:
        what: Why it is not unpacked, for instance "it ends in the middle".
        got: The value that was found, already printable; empty if there is none.
        is_damaged: It was probably cut or changed on its way, and was not created like this.
    """

    def __init__(self, what: str, *, got: str = "", is_damaged: bool = False) -> None:
        super().__init__(what)
        self.what, self.got, self.is_damaged = what, got, is_damaged


def _damage(what: str) -> ArchiveError:
    return ArchiveError(f"it cannot be unpacked: {what}", is_damaged=True)


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a folder of an archive.

    Attributes:
        path: Path relative to the target folder; it never leads out of that folder.
        size: Size in bytes; 0 for a folder.
        is_dir: True for a folder.
    """

    path: PurePosixPath
    size: int
    is_dir: bool


class ArchiveReader:
    """Iterates over the members of a .tar.gz in their order, each checked before it is yielded.

    Sparse files, global headers, headers of headers, links, devices and paths that lead out are refused.
    Memory does not depend on the archive, and time only on its size and `max_bytes`.

    Args:
        file: The archive, at its beginning.
        max_bytes: Limit of the unpacked bytes, headers included.
    """

    def __init__(self, file: BinaryIO, *, max_bytes: int) -> None:
        self._content = _Inflated(file, max_bytes)
        self._left = 0  # bytes of the current member that were not read, with their padding
        self._entries = 0
        self._is_dir: dict[PurePosixPath, bool] = {}

    def __iter__(self) -> Iterator[Member]:
        """Yield each member.

        Raises:
            ArchiveError: A member is refused, or the archive is damaged.
        """
        while (member := self._read_member()) is not None:
            self._left = _padded(member.size)
            if member.path.parts:  # not the folder itself, which some archives name as "./"
                yield member
            while self._left:
                self._left -= len(self._take(min(self._left, _CHUNK)))
        self._content.drain()  # up to gzip's checksum, which shows damage

    def read(self, member: Member) -> Iterator[bytes]:
        """Yield the content of the member that was yielded last, in pieces.

        Raises:
            ArchiveError: The archive is damaged or too large.
        """
        left = member.size
        while left:
            piece = self._take(min(left, _CHUNK))
            left -= len(piece)
            self._left -= len(piece)
            yield piece

    def _take(self, size: int) -> bytes:
        """Return `size` bytes."""
        piece = self._content.read(size)
        if len(piece) < size:
            raise _damage("it ends in the middle")
        return piece

    def _read_member(self) -> Member | None:
        """Return the next file or folder, as the headers before it describe it; None at the end."""
        said: dict[str, str] = {}
        seen: list[bytes] = []
        header = self._read_header()
        while header is not None and header.type in _DESCRIPTIONS:
            if header.type in seen:
                raise ArchiveError("it holds a header for another header")
            seen.append(header.type)
            said |= self._read_description(header)
            header = self._read_header()
        if header is None and seen:
            raise _damage("it ends in the middle")
        return None if header is None else self._check(header, said)

    def _read_header(self) -> tarfile.TarInfo | None:
        """Return the next header; None at the archive's end."""
        block = self._content.read(tarfile.BLOCKSIZE)
        if not block and not self._entries:
            raise _damage("it is empty")
        if not block or block == bytes(tarfile.BLOCKSIZE):
            return None
        if len(block) < tarfile.BLOCKSIZE:
            raise _damage("it ends in the middle")
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise ArchiveError(f"it holds more than {MAX_ENTRIES:,} entries")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _damage(str(error)) from error
        if header.size < 0:
            raise ArchiveError("it holds a file of negative size", got=f"{header.size:,}")
        return header

    def _read_description(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Return what a header says of the next member: `path` and `size`, each if it is given."""
        if header.size > MAX_HEADER_BYTES:
            raise ArchiveError(f"a name in it has {header.size:,} bytes")
        content = self._take(_padded(header.size))[: header.size]
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
        said = dict(_iter_records(content))
        if any(key.startswith("GNU.sparse") for key in said):
            raise ArchiveError("it holds a sparse file")
        return said

    def _check(self, header: tarfile.TarInfo, said: dict[str, str]) -> Member:
        """Return the member if it is a file or a folder and its path is free; else raise ArchiveError."""
        name = said.get("path", header.name)
        size = _parse_size(said["size"]) if "size" in said else header.size
        path, is_dir = PurePosixPath(name), header.type == tarfile.DIRTYPE
        reason = _find_kind_fault(header.type) or _find_name_fault(name, path)
        if not reason and is_dir and size:
            reason = "it holds a folder that has bytes of its own"
        if not reason and not (is_dir or path.parts):
            reason = "it holds a file without a name"
        if not reason and size > self._content.left:
            reason = f"it holds more than {self._content.limit / 1e6:,.0f} MB"
        reason = reason or self._take_place(path, is_dir=is_dir)
        if reason:
            raise ArchiveError(reason, got=repr(name[:MAX_NAME_BYTES]))
        return Member(path, size, is_dir)

    def _take_place(self, path: PurePosixPath, *, is_dir: bool) -> str:
        """Note that a path is taken; return why it must not be, "" if it may be."""
        for folder in path.parents:
            if not self._is_dir.setdefault(folder, True):
                return "it holds a file and a folder of the same name"
        before = self._is_dir.get(path)
        if before is not None and before != is_dir:
            return "it holds a file and a folder of the same name"
        if before is not None and not is_dir:
            return "it holds the same file twice"
        self._is_dir[path] = is_dir
        if len(self._is_dir) > MAX_ENTRIES:
            return f"it holds more than {MAX_ENTRIES:,} files and folders"
        return ""


def _padded(size: int) -> int:
    """Return how many bytes a content of `size` bytes takes in a tar file, padding included."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _find_kind_fault(kind: bytes) -> str:
    if kind in _FILES or kind == tarfile.DIRTYPE:
        return ""
    if kind in _LINKS:
        return "it holds a link or a device"
    if kind == tarfile.GNUTYPE_SPARSE:
        return "it holds a sparse file"
    return "it holds a global header" if kind in _GLOBAL else "it holds an entry of a kind that is not known"


def _find_name_fault(name: str, path: PurePosixPath) -> str:
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        return "it holds a path that leads out of the folder"
    if not name.isprintable():
        return "it holds a name with characters that cannot be shown"
    sizes = [len(part.encode()) for part in path.parts]
    if len(sizes) > MAX_DEPTH or sum(sizes) > MAX_NAME_BYTES or max(sizes, default=0) > MAX_PART_BYTES:
        return "it holds a name that is too long"
    return ""


def _iter_records(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield key and value of the records of an extended header: each is `LENGTH KEY=VALUE` and a line feed.

    Source: POSIX.1-2017, pax, "pax Extended Header".
    """
    start = 0
    while start < len(content):
        space = content.find(b" ", start, start + 8)
        digits = content[start:space] if space > start else b""
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = content[space + 1 : max(end - 1, 0)].partition(b"=")
        if not (space < end <= len(content) and content[end - 1 : end] == b"\n" and key and equals):
            raise _damage("a header in it is malformed")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        start = end


def _parse_size(text: str) -> int:
    # No size has more digits; int() takes time for thousands of them.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ArchiveError("it holds a file whose size is not a number", got=repr(text[:40]))
    return int(text)


class _Inflated:
    """The unpacked content of a gzip file, read from beginning to end.

    Args:
        file: The gzip file.
        limit: Limit of the content in bytes.

    Attributes:
        limit: Limit of the content in bytes.
        left: Bytes that may still be read.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self.limit, self.left = file, limit, limit
        self._gzip = zlib.decompressobj(_GZIP)
        self._members = 1
        self._pending = b""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        pieces = []
        while size and (piece := self._inflate(size)):
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def drain(self) -> None:
        """Read to the end."""
        while self._inflate(_CHUNK):
            pass

    def _inflate(self, size: int) -> bytes:
        """Return 1 to `size` bytes; none at the end."""
        while not self._gzip.eof or self._begin_member():
            given = self._pending or self._file.read(_INPUT)
            try:
                piece = self._gzip.decompress(given, size)
            except zlib.error as error:
                raise _damage(str(error)) from error
            self._pending = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if piece:
                self.left -= len(piece)
                if self.left < 0:
                    raise ArchiveError(f"it holds more than {self.limit / 1e6:,.0f} MB")
                return piece
            if not given and not self._gzip.eof:
                raise _damage("it ends in the middle")
        return b""

    def _begin_member(self) -> bool:
        """Start with the next gzip file after the one that ended; return whether there is one."""
        # Zeros may fill the last block of a tape.
        while not (rest := self._pending.lstrip(b"\0")):
            self._pending = self._file.read(_INPUT)
            if not self._pending:
                return False
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            raise ArchiveError(f"it is more than {MAX_GZIP_MEMBERS} gzip files in a row")
        self._pending, self._gzip = rest, zlib.decompressobj(_GZIP)
        return True
