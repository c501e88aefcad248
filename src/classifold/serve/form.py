"""Reads a form of the type multipart/form-data as it arrives, and keeps its files in memory."""

from __future__ import annotations

from collections.abc import Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from classifold.serve.errors import HttpError

# A form of a browser has a few fields beside its files; their values are passed over.
_OTHER_PARTS = 64
_MAX_PART_HEADER = 8192


class FormReader:
    """Takes a form in pieces and returns its files. The caller bounds the size of the whole form.

    Args:
        boundary: What stands between the parts, from the header Content-Type.
        max_files: Most files in it.

    Raises:
        HttpError: 400, there is no usable boundary.
    """

    def __init__(self, boundary: str, *, max_files: int) -> None:
        self._max_files = max_files
        self._num_parts = self._header_size = 0
        self._is_complete = False
        self._files: list[tuple[str, bytearray]] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._current: bytearray | None = None
        # RFC 2046, section 5.1.1.
        if not 1 <= len(boundary) <= 70 or not boundary.isascii():
            raise HttpError(400, "the form has no boundary, or one that is not allowed")
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_part_data": self._add_data,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary.encode("ascii"), callbacks)  # type: ignore[arg-type]

    def add(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            HttpError: 400, it is malformed; 413, there are too many files or fields.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise HttpError(400, f"the form is malformed: {str(error)[:200]}") from None

    def finish(self) -> list[tuple[str, bytes]]:
        """Return name and content of each file.

        Raises:
            HttpError: 400, the end of the form is missing.
        """
        if not self._is_complete:
            raise HttpError(400, "the form is cut short: its last boundary is missing")
        # A browser sends an empty file without a name for a field that was left empty.
        return [(name, bytes(content)) for name, content in self._files if name or content]

    def _begin_part(self) -> None:
        self._num_parts += 1
        self._headers, self._header_size, self._current = {}, 0, None
        if self._num_parts > self._max_files + _OTHER_PARTS:
            raise HttpError(413, "the form has too many parts", hint="send it in several requests")

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += self._bound(data[start:end])

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._bound(data[start:end])

    def _bound(self, piece: bytes) -> bytes:
        self._header_size += len(piece)
        if self._header_size > _MAX_PART_HEADER:
            raise HttpError(400, "the form has a part whose header is too long")
        return piece

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        name = _find_file_name(self._headers)
        if name is None:
            return
        if len(self._files) >= self._max_files:
            raise HttpError(
                413,
                f"the request holds more than {self._max_files} pictures",
                hint="send them in several requests",
            )
        self._current = bytearray()
        self._files.append((name, self._current))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._current is not None:
            self._current += data[start:end]

    def _end(self) -> None:
        self._is_complete = True


def _find_file_name(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the name of the file in a part; empty if it has none; None if the part is not a file."""
    _, options = parse_options_header(headers.get(b"content-disposition", b""))
    name = options.get(b"filename")
    if name is not None:
        return name.decode("utf-8", "replace")
    kind = headers.get(b"content-type", b"").strip().lower()
    return "" if kind.startswith((b"image/", b"application/octet-stream")) else None
