"""What is known of a picture besides its subject, as columns of numbers: size, format, camera, name..."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.photo import Photo

# A value such as a camera's name gets a column where at least this share of the pictures have it.
_COMMON = 0.02
_MOST_COLUMNS = 40
# Runs of letters in a file's name; shorter ones are usually parts of random numbers.
_WORD = re.compile(r"[^\W\d_]{3,}")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class FactGroup:
    """One group of facts about all pictures.

    Attributes:
        name: The group, such as "camera": the name of the shortcut.
        columns: Shape (N, k), float32.
        phrases: For each column what a number above a threshold means: "the width is above {} pixels", or
            without braces for a column of zeros and ones: "the format is png".
        least_gain: How much better than chance it must tell the class to be reported, 0 (not at all) to 1
            (perfectly): facts that follow from the subject as well must tell nearly everything.
        remark: What it means where such facts tell the class.
    """

    name: str
    columns: NDArray[np.float32]
    phrases: tuple[str, ...]
    least_gain: float
    remark: str


# What has nothing to do with the subject; what can also follow from it, as sharpness does; and its colour. In
# three public folders (flowers, trash, clothing) their gain was at most 0.33, 0.40 and 0.48.
_FOREIGN, _RELATED, _OWN = 0.4, 0.5, 0.65
_SOURCES = (
    "the classes seem to come from different sources; take pictures of every class from each source, or "
    "process all in the same way"
)
_NAMED = (
    "the model does not see file names, but different names suggest different sources: check whether light, "
    "camera or place differ between the classes too"
)
_NATURAL = (
    "this is natural if the subjects themselves differ in it; otherwise the classes were photographed "
    "differently"
)


def gather_facts(photos: Sequence[Photo]) -> list[FactGroup]:
    """Return every group of facts in which the pictures differ at all.

    Args:
        photos: The pictures, N of them.
    """
    groups = [
        _numbers(photos, "size", _FOREIGN, _SOURCES, _SIZES),
        _numbers(photos, "aspect", _FOREIGN, _SOURCES, _ASPECTS),
        _values(photos, "format", "the format is {}", lambda one: one.format),
        _values(photos, "colour mode", "the colours are stored as {}", lambda one: one.mode),
        _values(photos, "colour profile", "the colour profile is {}", lambda one: one.profile or "none"),
        _numbers(photos, "JPEG quality", _FOREIGN, _SOURCES, _QUALITIES),
        _numbers(photos, "bytes per pixel", _RELATED, _NATURAL, _DENSITIES),
        _values(photos, "camera", "the camera is {}", lambda one: one.camera or "unknown"),
        _numbers(photos, "date", _FOREIGN, _SOURCES, _DATES),
        _numbers(photos, "brightness", _RELATED, _NATURAL, _LIGHTS),
        _numbers(photos, "mean colour", _OWN, _NATURAL, _COLOURS),
        _numbers(photos, "border colour", _RELATED, _NATURAL, _BORDERS),
        _numbers(photos, "sharpness", _RELATED, _NATURAL, _SHARPNESSES),
        _words(photos),
        _order(photos),
    ]
    return [group for group in groups if group is not None and np.ptp(group.columns, axis=0).any()]


Measure = tuple[str, Callable[[Photo], float]]


def _day(photo: Photo) -> datetime.datetime:
    # The camera's own clock, which knows no zone.
    return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=photo.taken or 0)


def _read_tint(photo: Photo, channel: int) -> float:
    return float(photo.mean[channel] - photo.mean.mean())


def _read_border(photo: Photo, channel: int) -> float:
    return float(photo.border[channel])


_SIZES: tuple[Measure, ...] = (
    ("the width is above {} pixels", lambda one: one.size[0]),
    ("the height is above {} pixels", lambda one: one.size[1]),
    ("there are more than {} megapixels", lambda one: one.size[0] * one.size[1] / 1e6),
)
_ASPECTS: tuple[Measure, ...] = (
    ("the width is more than {} times the height", lambda one: one.size[0] / max(1, one.size[1])),
)
_QUALITIES: tuple[Measure, ...] = (
    ("the JPEG quality is above {}", lambda one: np.nan if one.jpeg_quality is None else one.jpeg_quality),
)
_DENSITIES: tuple[Measure, ...] = (
    (
        "the file has more than {} bytes per pixel",
        lambda one: one.num_bytes / max(1, one.size[0] * one.size[1]),
    ),
)
_DATES: tuple[Measure, ...] = (
    ("the time of taking is known", lambda one: float(one.taken is not None)),
    ("it was taken after {}", lambda one: np.nan if one.taken is None else one.taken),
    ("the hour of taking is above {}", lambda one: np.nan if one.taken is None else _day(one).hour),
    (
        "the day of the week (Monday is 1) is above {}",
        lambda one: np.nan if one.taken is None else _day(one).isoweekday(),
    ),
)
_LIGHTS: tuple[Measure, ...] = (
    ("the mean brightness is above {} of 255", lambda one: float(one.mean.mean())),
    ("the contrast is above {}", lambda one: one.contrast),
)
_CHANNELS = ("red", "green", "blue")
_COLOURS: tuple[Measure, ...] = tuple(
    (f"{name} is more than {{}} above the mean of all channels", functools.partial(_read_tint, channel=place))
    for place, name in enumerate(_CHANNELS)
)
_BORDERS: tuple[Measure, ...] = tuple(
    (f"the border's {name} is above {{}} of 255", functools.partial(_read_border, channel=place))
    for place, name in enumerate(_CHANNELS)
)
_SHARPNESSES: tuple[Measure, ...] = (("the sharpness is above {}", lambda one: one.sharpness),)


def _numbers(
    photos: Sequence[Photo], name: str, least_gain: float, remark: str, measures: Sequence[Measure]
) -> FactGroup:
    columns = np.array([[measure(photo) for _, measure in measures] for photo in photos], np.float64)
    columns = columns.reshape(len(photos), len(measures))
    for place in range(columns.shape[1]):
        column = columns[:, place]
        known = column[np.isfinite(column)]
        # What is unknown tells nothing here: where it does, the format or another column says so.
        column[~np.isfinite(column)] = np.median(known) if len(known) else 0.0
    phrases = tuple(phrase for phrase, _ in measures)
    return FactGroup(name, columns.astype(np.float32), phrases, least_gain, remark)


def _values(
    photos: Sequence[Photo], name: str, phrase: str, read: Callable[[Photo], str]
) -> FactGroup | None:
    given = [read(photo) for photo in photos]
    return _flags([{one} for one in given], name, phrase, remark=_SOURCES)


def _flags(given: Sequence[set[str]], name: str, phrase: str, *, remark: str) -> FactGroup | None:
    """Return a column of zeros and ones for each value that is common; None where none is."""
    counts = Counter(value for values in given for value in values)
    least = max(2.0, _COMMON * len(given))
    common = [value for value, count in counts.most_common(_MOST_COLUMNS) if count >= least]
    if not common:
        return None
    columns = np.array([[float(value in values) for value in common] for values in given], np.float32)
    return FactGroup(name, columns, tuple(phrase.format(value) for value in common), _FOREIGN, remark)


def _own_path(photo: Photo) -> str:
    """Return the part of a key that is below the class's folder, without the file's ending."""
    rest = photo.key
    for part in (*filter(None, [photo.set_name]), *photo.class_name.split("/")):
        rest = rest.removeprefix(f"{part}/")
    head, dot, ending = rest.rpartition(".")
    return head if dot and "/" not in ending else rest


def _words(photos: Sequence[Photo]) -> FactGroup | None:
    """Return which words the names hold; a class's own name in its files' names says nothing of a source."""
    own = {word.lower() for photo in photos for word in _WORD.findall(photo.class_name)}
    stems = {word[: max(3, len(word) - 1)] for word in own}
    given = []
    for photo in photos:
        words = {word.lower() for word in _WORD.findall(_own_path(photo))}
        given.append({word for word in words if not any(word.startswith(stem) for stem in stems)})
    return _flags(given, "file name", "the name holds '{}'", remark=_NAMED)


def _order(photos: Sequence[Photo]) -> FactGroup | None:
    """Return the number in each name, where pictures of all classes are numbered in one way."""
    paths = [_own_path(photo) for photo in photos]
    patterns: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        patterns.setdefault(_NUMBER.sub("#", path), []).append(index)
    members = max(patterns.values(), key=len, default=[])
    every = len({photo.class_name for photo in photos})
    if len(members) < 0.8 * len(photos) or len({photos[one].class_name for one in members}) < every:
        return None
    numbers = np.full(len(photos), np.nan)
    for index in members:
        digits = _NUMBER.findall(paths[index])
        numbers[index] = float(digits[-1]) if digits else np.nan
    if not np.isfinite(numbers).any() or _counts_for_itself(photos, numbers):
        return None
    numbers = np.where(np.isfinite(numbers), numbers, np.nanmedian(numbers))
    column = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")[:, None].astype(np.float32)
    phrase = "the file comes after position {} when all are sorted by the number in their name"
    return FactGroup("file order", column, (phrase,), _FOREIGN, _NAMED)


def _counts_for_itself(photos: Sequence[Photo], numbers: NDArray[np.float64]) -> bool:
    """Tell whether a class shares most of its numbers with others: each is then numbered by itself."""
    numbered = [
        (photo, number)
        for photo, number in zip(photos, numbers.tolist(), strict=True)
        if not math.isnan(number)  # a name without a number
    ]
    holders: dict[float, set[str]] = {}
    for photo, number in numbered:
        holders.setdefault(number, set()).add(photo.class_name)
    shared, total = Counter[str](), Counter[str]()
    for photo, number in numbered:
        total[photo.class_name] += 1
        shared[photo.class_name] += len(holders[number]) > 1
    return any(shared[name] >= 0.5 * count for name, count in total.items())
