"""Yields frames of a video as pictures, at regular times."""

from __future__ import annotations

import importlib.util
import math
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from classifold.counts import count_of
from classifold.machine import count_cores
from classifold.names import install
from classifold.pictures.formats import HEAD_BYTES, PICTURE_ENDINGS, identify_format, name_content
from classifold.pictures.given import Given
from classifold.pictures.limits import PictureError, check_size, open_ordinary, read_head
from classifold.predict.sources import Source, show_path, unreadable_source

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_CURE: Final = "their frames are read with the package av: pip install av"
# Frames that wait for a thread; one of 4K takes 12 MB.
_MOST_WAITING: Final = 12
# A decoder that fails so often in a row has lost the thread.
_MOST_FAILURES: Final = 200
# MPEG transport streams: packets of 188 bytes, of which each begins with this one, or has it after four more.
_TRANSPORT_STREAMS: Final = frozenset({".mts", ".m2ts", ".m2t", ".ts"})
_SYNC: Final = b"G"
# Seconds by which two equal times may differ.
_ROUNDING: Final = 1e-4
# Frames a second of a stream that has no times.
_USUAL_RATE: Final = 25.0
# A video may end a little before the end that its header tells, where its sound is longer.
_TOLERANCE: Final = 1.0


def can_read_videos() -> bool:
    """Return whether the package that decodes videos is installed."""
    return importlib.util.find_spec("av") is not None


def is_video(path: Path | str) -> bool:
    """Return whether a file holds a video, by its content; one with the ending of a picture never does."""
    if os.path.splitext(path)[1].lower() in PICTURE_ENDINGS:  # noqa: PTH122 - a Path per file is slow
        return False
    try:
        head = read_head(path, max(HEAD_BYTES, 200))
    except PictureError:
        return False
    if is_transport_stream(path):
        return any(head[at : at + 1] == head[at + 188 : at + 189] == _SYNC for at in (0, 4))
    return identify_format(head) is None and name_content(head) == "a video"


def is_transport_stream(path: Path | str) -> bool:
    """Return whether a file has the ending of camcorders' videos, whose first bytes say little."""
    return os.path.splitext(path)[1].lower() in _TRANSPORT_STREAMS  # noqa: PTH122 - as above


class NoPicturesError(Exception):
    """A file of a video's format holds sound only."""


def iter_frames(path: Path, *, every: float, max_pixels: int) -> Iterator[Source]:
    """Yield the frames of a video that are shown at 0, `every`, 2 * `every` and so on.

    They are called `clip.mp4#t=12.5`, by the seconds from the beginning, and upright by the rotation that a
    phone notes. A frame that is shown longer than `every` is yielded once. Where a video is damaged, what can
    be decoded is yielded, and at the end an unreadable source that says what is missing. At most 12 frames
    wait in memory: who takes more of them without reading any waits for good.

    Args:
        path: The video.
        every: Seconds between two frames.
        max_pixels: Limit of a frame's pixels.

    Raises:
        NoPicturesError: It holds sound only.
    """
    name = show_path(path)
    if not can_read_videos():
        yield unreadable_source(
            name, f"the file holds a video; for its frames: {install('video')}", path=path
        )
        return
    import av

    try:
        # As an open file, since a path with a colon is an address to FFmpeg.
        with (
            os.fdopen(open_ordinary(path), "rb") as file,
            av.open(file, options={"protocol_whitelist": ""}, metadata_errors="replace") as video,
        ):
            if not video.streams.video and video.streams.audio:
                raise NoPicturesError
            if not video.streams.video:
                raise PictureError("the video is damaged or cut short: its index is missing")
            yield from _Clip(video, path=path, every=every, max_pixels=max_pixels)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        yield unreadable_source(name, f"the video cannot be read: {reason}", path=path)
    except PictureError as error:
        yield unreadable_source(name, error.reason, path=path)


class _Clip:
    """An open video.

    Args:
        video: The video.
        path: Its path.
        every: Seconds between two frames.
        max_pixels: Limit of a frame's pixels.
    """

    def __init__(self, video: InputContainer, *, path: Path, every: float, max_pixels: int) -> None:
        self._video, self._path, self._every, self._max_pixels = video, path, every, max_pixels
        self._name = show_path(path)
        self._stream: VideoStream = video.streams.video[0]
        codec: VideoCodecContext | None = self._stream.codec_context
        if codec is None:
            raise PictureError("the video is in a format that cannot be decoded")
        codec.thread_type, codec.thread_count = "AUTO", count_cores()
        # A thread that reads a frame makes room for the next one.
        self._room = threading.Semaphore(_MOST_WAITING)
        self._damaged: list[float] = []
        self._time = 0.0  # seconds of the last frame that was decoded

    def __iter__(self) -> Iterator[Source]:
        """Yield the frames, then what is wrong with the video."""
        check_size(self._stream.width or 1, self._stream.height or 1, max_pixels=self._max_pixels)
        shown: VideoFrame | None = None
        is_empty = True
        number = 0  # of the next time, in steps of `every`
        for frame in self._decode():
            # The frame before is shown until this one; a little less, since times are rounded.
            until = self._time - _ROUNDING
            if shown is not None and number * self._every < until:
                yield self._open(shown, number * self._every)
                # Not step by step: a damaged video may leap by years.
                number = math.ceil(until / self._every)
            shown, is_empty = frame, False
        if shown is not None and number * self._every <= self._time + _ROUNDING:
            yield self._open(shown, number * self._every)
        if reason := self._find_fault() or ("none of its frames can be decoded" if is_empty else ""):
            yield unreadable_source(self._name, reason, path=self._path)

    def _decode(self) -> Iterator[VideoFrame]:
        import av

        failures = 0
        try:
            for packet in self._video.demux(self._stream):
                try:
                    frames = packet.decode()
                    failures = 0
                except av.InvalidDataError:
                    self._damaged.append(self._time)
                    failures += 1
                    if failures == _MOST_FAILURES:
                        return
                    continue
                for frame in frames:
                    self._note_time(frame)
                    if frame.is_corrupt:
                        self._damaged.append(self._time)
                    else:
                        yield frame
        except av.FFmpegError:
            self._damaged.append(self._time)

    def _note_time(self, frame: VideoFrame) -> None:
        if frame.pts is None:
            self._time += 1 / float(self._stream.average_rate or _USUAL_RATE)
            return
        start = self._stream.start_time or 0
        self._time = max(self._time, float(frame.time) - float(start * (self._stream.time_base or 0)))

    def _open(self, frame: VideoFrame, seconds: float) -> Source:
        self._room.acquire()
        waiting = _Waiting(frame, self._max_pixels, self._room)
        return Source(f"{self._name}#t={seconds:.6g}", None, waiting.take)

    def _find_fault(self) -> str:
        """Return what of the video could not be decoded; empty if nothing was missing."""
        if self._damaged:
            places = count_of(len(self._damaged), "place")
            return f"the video is damaged in {places}, the first after {self._damaged[0]:.1f} seconds"
        duration = self._find_duration()
        if self._time + max(_TOLERANCE, duration / 100) < duration:
            return f"the video ends after {self._time:.1f} of {duration:.1f} seconds: it is cut short"
        return ""

    def _find_duration(self) -> float:
        """Return the seconds that the header tells; 0 where it tells none."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        # The whole file's, in microseconds; its sound may be longer than the pictures.
        return (self._video.duration or 0) / 1e6 if not self._video.streams.audio else 0.0


class _Waiting:
    """A frame as it was decoded, which takes half the memory of its pixels."""

    def __init__(self, frame: VideoFrame, max_pixels: int, room: threading.Semaphore) -> None:
        self._frame: VideoFrame | None = frame
        self._max_pixels = max_pixels
        # Once: when it is read, or when it is thrown away unread.
        self._make_room = weakref.finalize(self, room.release)

    def take(self) -> Given:
        """Return the frame's pixels, upright, shape (height, width, 3), and let go of it."""
        frame, self._frame = self._frame, None
        if frame is None:
            raise PictureError("the frame was read before")
        try:
            check_size(frame.width, frame.height, max_pixels=self._max_pixels)
            pixels = frame.to_ndarray(format="rgb24")
            # Quarters of a turn against the clock that make it upright.
            return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
        finally:
            self._make_room()
