"""Finds the pictures in what a user names: files, folders, patterns, lists of names, addresses, videos."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from classifold.dataset.leftovers import reason_to_pass_over
from classifold.dataset.walk import check_folder, find_reason_no_picture, leads_to_folder, walk_entries
from classifold.errors import DataError, Fault
from classifold.pictures.limits import PictureError
from classifold.predict.addresses import is_address, show_address, show_given
from classifold.predict.globs import expand_pattern, is_pattern
from classifold.predict.reading_ahead import Remote, read_ahead
from classifold.predict.sources import Passed, Source, file_source, show_path, unreadable_source
from classifold.predict.standard_input import STANDARD_INPUT, read_standard_input
from classifold.predict.videos import (
    VIDEO_CURE,
    NoPicturesError,
    can_read_videos,
    is_transport_stream,
    is_video,
    iter_frames,
)
from classifold.progress import say
from classifold.settings.config import Config

if TYPE_CHECKING:
    from classifold.predict.web import Web

S3_SCHEME: Final = "s3://"
_HINT: Final = "name files or folders of pictures"
_IS_VIDEO: Final = "files that hold a video"
_DEFAULT_MAX_PIXELS: int = Config.model_fields["MAX_PIXELS"].default


class ObjectStore(Protocol):
    """Pictures in S3; what reads them is above this room."""

    def find(self, address: str, passed: Passed) -> Iterator[Remote]:
        """Yield the pictures below an address, or the one that it names."""

    def open(self, address: str) -> Remote:
        """Return one picture, which is not read yet."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """How pictures are found and read, and what was passed over.

    Attributes:
        passed: Counts files that are no pictures.
        every: Seconds between two frames of a video.
        max_pixels: Limit of a picture's pixels.
        open_s3: Returns the connection to S3, which is made when an address needs it; None where there is
            none.
        standard_input: What `-` reads; None for the process's own.
        left_out: A folder in which patterns find nothing: where pictures are sorted into meanwhile.
    """

    passed: Passed = field(default_factory=Passed)
    every: float = 1.0
    max_pixels: int = _DEFAULT_MAX_PIXELS
    open_s3: Callable[[], ObjectStore] | None = None
    standard_input: BinaryIO | None = None
    left_out: Path | None = None

    def leaves_out(self, path: str) -> bool:
        """Return whether a path is the folder that is left out, or lies in it, wherever links lead."""
        return self.left_out is not None and Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(self.left_out)
        )


class Sources(Iterator[Source]):
    """The pictures that were found, one after the other, while they are being read in other threads."""

    def __init__(self, finder: _Finder, found: Iterable[Iterable[Source | Remote]]) -> None:
        self._finder, self._stopped = finder, threading.Event()
        self._ahead = read_ahead(itertools.chain.from_iterable(found), stopped=self._stopped)

    def __next__(self) -> Source:
        """Return the next one."""
        return next(self._ahead)

    def close(self) -> None:
        """Find no more, and cut off what is still being read from elsewhere."""
        self._stopped.set()
        self._ahead.close()
        self._finder.close()


def find_sources(given: Sequence[str | Path], inputs: Inputs | None = None) -> Sources:
    """Return the pictures that are named, in that order; within a folder in the order of names.

    A file is accepted with any name. In folders, and among what a pattern or a prefix matches, hidden files
    and files that are no pictures are passed over and counted. Everything is listed lazily, so that memory
    does not depend on the number of pictures.

    Args:
        given: Paths of files and folders, patterns, http(s) and s3 addresses, and `-`.
        inputs: How they are read; None for the defaults.

    Raises:
        DataError: Something that is named is missing or holds no picture; with all that are, before the first
            picture is yielded.
    """
    finder = _Finder(inputs or Inputs())
    faults: list[Fault] = []
    if not given:
        faults.append(Fault("predict", "no pictures were named", _HINT))
    if sum(one == STANDARD_INPUT for one in given) > 1:
        faults.append(Fault(STANDARD_INPUT, "standard input is named twice", "name it once"))
    found: list[Iterable[Source | Remote]] = []
    for one in given if not faults else ():
        try:
            found.append(finder.find(one))
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(*faults)
    return Sources(finder, found)


def count_pictures(given: Iterable[str | Path]) -> int | None:
    """Return the number of pictures in files and folders of this machine; None for anything else."""
    total = 0
    for one in given:
        path = Path(one)
        if _is_elsewhere(str(one)) or not path.exists():
            return None
        if not path.is_dir():
            total += 1
            continue
        for _, _, reason in walk_entries(path, ordered=False):
            if reason == _IS_VIDEO and can_read_videos():
                return None
            total += not reason
    return total


def list_local(given: Iterable[str | Path]) -> list[Path]:
    """Return the files and folders of this machine among the inputs; of a pattern with `**`, its folder."""
    return [_find_place(str(one)) for one in given if not _is_elsewhere(str(one))]


def _find_place(text: str) -> Path:
    """Return a path, or the innermost folder that holds all that a pattern with `**` can match."""
    if "**" not in text or os.path.lexists(text):
        return Path(text)
    parts = itertools.takewhile(lambda part: not is_pattern(part), Path(text).parts)
    return Path(*parts)


def _is_elsewhere(text: str) -> bool:
    return text == STANDARD_INPUT or is_address(text) or _is_s3(text)


def _is_s3(text: str) -> bool:
    return text[:5].lower() == S3_SCHEME


class _Finder:
    """Finds the pictures of one call."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._can_read_videos = can_read_videos()
        self._web: Web | None = None
        self._s3: ObjectStore | None = None

    def close(self) -> None:
        """Let go of what is still being read from elsewhere."""
        if self._web is not None:
            self._web.close()

    def find(self, given: str | Path) -> Iterable[Source | Remote]:
        """Return the pictures of one input.

        Raises:
            DataError: It is missing, or holds no picture.
        """
        text = str(given)
        if isinstance(given, str):
            if given == STANDARD_INPUT:
                return self._read_standard_input()
            if is_address(given):
                return [self._open_address(given)]
            if _is_s3(given):
                return self._begin(self._find_s3().find(given, self._inputs.passed), show_given(given))
            if (scheme := _find_scheme(given)) and not os.path.lexists(given):
                hint = "name files, http, https or s3 addresses"
                raise DataError(Fault(show_address(given), _explain_scheme(scheme), hint))
        path = Path(given)
        if path.is_dir():
            check_folder(path)
            return self._begin(self._walk(path), text)
        if path.exists():
            return self._open_file(path)
        if os.path.lexists(path):
            raise DataError(Fault(text, "it is a link that leads nowhere", "check the link"))
        if is_pattern(text):
            return self._begin(self._expand(text), show_given(text), "no picture matches this pattern")
        raise DataError(Fault(show_given(text), "no such file or folder", "check the path"))

    def _open_address(self, address: str) -> Remote:
        from classifold.predict.web import Web  # its packages take a while to load

        if self._web is None:
            self._web = Web(max_pixels=self._inputs.max_pixels)
        return self._web.open(address)

    def _find_s3(self) -> ObjectStore:
        if self._s3 is None:
            if self._inputs.open_s3 is None:
                raise DataError(Fault("s3://", "addresses in S3 are not read here", _HINT))
            self._s3 = self._inputs.open_s3()
        return self._s3

    def _begin(
        self, found: Iterator[Source | Remote], where: str, what: str = "this folder holds no pictures"
    ) -> Iterable[Source | Remote]:
        """Return an iterator over what is found, after checking that there is something.

        Raises:
            DataError: There is nothing, or it cannot be listed.
        """
        before = self._inputs.passed.total
        first = next(found, None)
        if first is not None:
            return itertools.chain([first], found)
        is_passed = self._inputs.passed.total > before
        raise DataError(
            Fault(where, what, "; ".join([_HINT, *(self._inputs.passed.describe() if is_passed else ())]))
        )

    # Files

    def _open_file(self, path: Path) -> Iterable[Source]:
        """Return a file that the user named: the frames of a video, and of anything else the file itself."""
        return self._open_video(path, is_named=True) if is_video(path) else [file_source(path)]

    def _walk(self, folder: Path) -> Iterator[Source]:
        for entry, _, reason in walk_entries(folder):
            yield from self._open_entry(entry.path, reason)

    def _expand(self, pattern: str) -> Iterator[Source]:
        for path, entry in expand_pattern(pattern):
            if self._inputs.leaves_out(path):
                continue
            # A name with a dot is matched only by a pattern that asks for one.
            reason = reason_to_pass_over(entry.name)
            if reason and not entry.name.startswith("."):
                self._inputs.passed.add(path, reason=reason)
                continue
            if leads_to_folder(entry):
                found = self._walk(Path(path))
                yield from (one for one in found if not self._inputs.leaves_out(str(one.path)))
            else:
                yield from self._open_entry(path, find_reason_no_picture(entry))

    def _open_entry(self, path: str, reason: str) -> Iterator[Source]:
        """Yield the pictures in a file found in a folder: the file itself, or the frames of a video.

        Anything else is counted as passed over.

        Args:
            path: The file.
            reason: Why it is not a picture; empty if it is one.
        """
        if not reason:
            yield file_source(Path(path))
        elif reason != _IS_VIDEO and not (is_transport_stream(path) and is_video(path)):
            self._inputs.passed.add(path, reason=reason)
        elif self._can_read_videos:
            yield from self._open_video(Path(path), is_named=False)
        else:
            self._inputs.passed.add(path, remark=VIDEO_CURE)

    def _open_video(self, path: Path, *, is_named: bool) -> Iterator[Source]:
        try:
            yield from iter_frames(path, every=self._inputs.every, max_pixels=self._inputs.max_pixels)
        except NoPicturesError:
            if is_named:
                yield unreadable_source(show_path(path), "the file holds sound and no pictures", path=path)
            else:
                self._inputs.passed.add(str(path))

    # Standard input

    def _read_standard_input(self) -> Iterator[Source | Remote]:
        stream = self._inputs.standard_input
        if stream is None:
            if sys.stdin is None:
                raise DataError(Fault("standard input", "it is closed", "name the pictures instead"))
            if sys.stdin.isatty():
                say("names of pictures are read from the keyboard, one a line; Ctrl-D ends them")
            stream = sys.stdin.buffer
        try:
            content = read_standard_input(stream, max_pixels=self._inputs.max_pixels)
        except PictureError as error:
            return iter([unreadable_source(STANDARD_INPUT, error.reason)])
        if content.picture is not None:
            picture = content.picture
            return iter([Source(STANDARD_INPUT, None, lambda: picture)])
        return itertools.chain.from_iterable(map(self._open_name, content.names))

    def _open_name(self, name: str) -> Iterable[Source | Remote]:
        """Return the picture that a line names; each gets an answer, so what is none is unreadable."""
        if is_address(name):
            return [self._open_address(name)]
        if _is_s3(name):
            try:
                return [self._find_s3().open(name)]
            except DataError as error:
                return [unreadable_source(show_path(show_given(name)), error.faults[0].what)]
        path = Path(name)
        if "\0" in name:
            return [unreadable_source(show_path(show_given(name)), "the name holds a NUL character")]
        if (shown := show_given(name)) != name or "://" in name:
            return self._open_odd(name, shown)
        if os.path.isdir(name):  # noqa: PTH112 - quicker for a hundred thousand names
            reason = "it is a folder; name it on the command line, or list its files: find FOLDER -type f"
            return [unreadable_source(show_path(name), reason, path=path)]
        return self._open_file(path)

    def _open_odd(self, name: str, shown: str) -> Iterable[Source]:
        """Return the picture of a name that looks like an address, which a file can have too."""
        if os.path.lexists(name):
            return self._open_file(Path(name))
        reason = _explain_scheme(scheme) if (scheme := _find_scheme(name)) else "no such file"
        return [unreadable_source(show_path(shown), reason)]


def _explain_scheme(scheme: str) -> str:
    return f"addresses with {scheme}:// are not read"


def _find_scheme(text: str) -> str:
    """Return the scheme of an address, such as "ftp"; empty for a path."""
    scheme, mark, _ = text.partition("://")
    return scheme if mark and scheme.isascii() and scheme.isalnum() else ""
