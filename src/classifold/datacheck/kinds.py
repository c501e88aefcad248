"""What is odd about single pictures: a kind is only reported if it is unusual in this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.photo import Photo, Photos
from classifold.findings import KindCost, PictureFinding
from classifold.names import EVALUATION
from classifold.pictures.formats import FORMAT_NAMES
from classifold.report.records import iter_predictions

# A kind that more of the pictures have is how this folder is: in a folder of scans, grey is no finding.
_UNUSUAL = 1 / 3
# See `measures.measure_sharpness`. A gaussian blur of 1.5 pixels brings a sharp photograph below it; the
# sharpness must also be a third of what is usual in the folder.
_BLURRED, _LESS_THAN_USUAL = 0.2, 1 / 3
# Nearly everything is darker, or lighter, than these grey values.
_BLACK, _WHITE = 56, 225
_BLANK_CONTRAST, _NOTHING = 4.0, 1.0
# Chroma of a grey photograph: rounding gives up to 1.
_GREY = 2.0
# A text or placeholder has one flat colour at most places, and mixtures of it with one other colour. What was
# cut out of a photograph has many; a black shoe before white has not, but it is not flat either, nor is it as
# sharp as thin strokes are.
_TEXT_SHARE, _INK_SHARE, _STROKES = 0.5, 0.2, 1.8
_PLACEHOLDER_SHARE, _SECOND_SHARE, _OFF_LINE = 0.8, 0.3, 8.0
# A picture that is enlarged this often shows the model less than the folder's others.
_ENLARGED = 2
_ASPECT, _ASPECT_TO_USUAL = 3.0, 2.0
# An outlier's similarity to its nearest neighbours is this many robust standard deviations below what is
# usual in its class, which must have some pictures. Neighbours come from a sample of a class with very many.
_OUTLYING, _LEAST_OF_CLASS, _MOST_OF_CLASS, _NEAREST = 5.0, 20, 5_000, 5
_CHUNK = 1_000
# For each `Photo.mode` that may be odd the kind and its reason; one kind for all would hide which is unusual.
_MODES = {
    "CMYK": (
        "print colours (CMYK)",
        "its colours are stored as CMYK, for print; they are converted without its profile",
    ),
    "16 bit": (
        "16-bit colours",
        "samples have 16 bits; they are scaled to 8 by the range of 16 (see SAMPLE_BITS)",
    ),
    "alpha": ("transparency", "it has an alpha channel; transparent parts are read as white"),
}
_ENDINGS = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "png": (".png", ".apng"),
    "webp": (".webp",),
    "gif": (".gif",),
    "bmp": (".bmp", ".dib"),
    "tiff": (".tif", ".tiff"),
    "heif": (".heic", ".heif", ".hif"),
    "avif": (".avif", ".avifs"),
}
_KNOWN_ENDINGS = frozenset(ending for endings in _ENDINGS.values() for ending in endings)

_COLUMNS = np.dtype(
    [
        *((name, "f4") for name in ("width", "height", "contrast", "sharpness", "darkest", "lightest")),
        *((name, "f4") for name in ("colour", "main_share", "second_share", "off_line")),
        *((name, "?") for name in ("is_plain", "is_misnamed", "is_far")),
        ("mode", "i1"),
    ]
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of picture: which ones have it, and why this one does."""

    name: str
    mask: NDArray[np.bool_]
    explain: Callable[[Photo], str]


def find_odd_pictures(photos: Photos, *, image_size: int) -> list[PictureFinding]:
    """Return what is unusual about readable pictures, sorted by kind and key.

    Args:
        photos: The readable pictures, such as `measures.StoredPhotos`; read twice, so that only numbers are
            kept in memory.
        image_size: Side of the square that the model takes, in pixels.
    """
    if not len(photos):
        return []
    table = np.fromiter((_to_row(photo) for photo in photos), _COLUMNS)
    kinds = [kind for kind in _list_kinds(table, image_size) if _is_unusual(kind.mask)]
    wanted = np.zeros(len(table), np.bool_)
    for kind in kinds:
        wanted |= kind.mask
    found = [
        PictureFinding(file=photo.key, kind=kind.name, reason=kind.explain(photo))
        for number, photo in enumerate(photos)
        if wanted[number]
        for kind in kinds
        if kind.mask[number]
    ]
    return sorted(found, key=lambda one: (one.kind, one.file))


def _to_row(photo: Photo) -> tuple[Any, ...]:
    return (
        *photo.size,
        photo.contrast,
        photo.sharpness,
        photo.darkest,
        photo.lightest,
        photo.colour,
        photo.main_share,
        photo.second_share,
        photo.off_line,
        photo.is_plain,
        _is_misnamed(photo),
        bool(photo.profile),
        list(_MODES).index(photo.mode) if photo.mode in _MODES else -1,
    )


def _is_misnamed(photo: Photo) -> bool:
    """Return whether the file's extension is that of another format."""
    ending = PurePath(photo.key).suffix.lower()
    return ending in _KNOWN_ENDINGS and ending not in _ENDINGS.get(photo.format, (ending,))


def _is_unusual(mask: NDArray[np.bool_]) -> bool:
    return 0 < int(np.count_nonzero(mask)) <= max(1, _UNUSUAL * len(mask))


def _list_kinds(table: NDArray[Any], image_size: int) -> Iterator[_Kind]:
    # What is left of an underexposed photograph is nearly one colour as well, and yet there is something.
    something = table["contrast"] > _NOTHING
    dark = something & (table["lightest"] < _BLACK)
    bright = something & (table["darkest"] > _WHITE)
    blank = (table["is_plain"] | (table["contrast"] < _BLANK_CONTRAST)) & ~(dark | bright)
    is_ink = (table["second_share"] >= _INK_SHARE) & (table["sharpness"] > _STROKES)
    is_text = (table["main_share"] >= _TEXT_SHARE) & is_ink
    is_flat = (table["main_share"] >= _PLACEHOLDER_SHARE) & (table["second_share"] >= _SECOND_SHARE)
    placeholder = ~(blank | dark | bright) & (table["off_line"] < _OFF_LINE) & (is_text | is_flat)
    # What such a picture lacks in detail and colour is told by its first kind.
    whole = ~(blank | dark | bright | placeholder)
    yield _Kind("blank", blank, lambda photo: f"nearly all of it is {_name_colour(photo)}")
    yield _Kind("near black", dark, lambda photo: f"99 % of it is darker than {photo.lightest:.0f} of 255")
    yield _Kind("near white", bright, lambda photo: f"99 % of it is lighter than {photo.darkest:.0f} of 255")
    yield _Kind(
        "text or placeholder",
        placeholder,
        lambda photo: f"{photo.main_share:.0%} of it has one flat colour, and the rest mixes it with another",
    )
    yield from _list_detail_kinds(table, whole)
    yield from _list_shape_kinds(table, image_size)
    yield from _list_file_kinds(table)


def _list_detail_kinds(table: NDArray[Any], whole: NDArray[np.bool_]) -> Iterator[_Kind]:
    sharpness = table["sharpness"]
    usual = float(np.median(sharpness[whole])) if whole.any() else 0.0
    blurred = whole & (sharpness < min(_BLURRED, usual * _LESS_THAN_USUAL))
    yield _Kind(
        "blurred",
        blurred,
        lambda photo: (
            f"its sharpness is {photo.sharpness:.2f}, where the median of this folder is {usual:.2f}"
        ),
    )
    yield _Kind(
        "grey", whole & (table["colour"] < _GREY), lambda _: "it has no colours; most others here have"
    )


def _list_shape_kinds(table: NDArray[Any], image_size: int) -> Iterator[_Kind]:
    width, height = table["width"], table["height"]
    yield _Kind(
        "tiny",
        np.sqrt(width * height) * _ENLARGED <= image_size,
        lambda photo: f"{_say_size(photo)}; the model takes {image_size} x {image_size}",
    )
    # An aspect is how many times the longer side is as long as the shorter one.
    aspect = np.exp(np.abs(np.log(width / height)))
    limit = max(_ASPECT, _ASPECT_TO_USUAL * float(np.median(aspect)))
    yield _Kind("long and narrow", aspect >= limit, _explain_aspect)


def _list_file_kinds(table: NDArray[Any]) -> Iterator[_Kind]:
    for number, (name, reason) in enumerate(_MODES.values()):
        yield _Kind(name, table["mode"] == number, lambda _, reason=reason: reason)  # type: ignore[misc]
    yield _Kind(
        "unusual colour profile",
        table["is_far"],
        lambda photo: f"its colour profile, {photo.profile}, is far from sRGB and is not applied",
    )
    yield _Kind("wrong file extension", table["is_misnamed"], _explain_name)


def _say_size(photo: Photo) -> str:
    return "{} x {} pixels".format(*photo.size)


def _explain_aspect(photo: Photo) -> str:
    width, height = photo.size
    narrower, shorter = ("narrower", width / height), ("flatter", height / width)
    word, times = narrower if width > height else shorter
    return f"{_say_size(photo)}: resized to a square, its content becomes {times:.1f} times {word}"


def _explain_name(photo: Photo) -> str:
    name = FORMAT_NAMES.get(photo.format, photo.format)
    return f"it is named {PurePath(photo.key).suffix}, but the file is a {name}"


def _name_colour(photo: Photo) -> str:
    red, green, blue = (round(float(value)) for value in photo.mean)
    if max(red, green, blue) < 32:
        return "black"
    return "white" if min(red, green, blue) > 224 else f"one colour (red {red}, green {green}, blue {blue})"


def find_outliers(
    keys: Sequence[str], labels: Sequence[str], features: NDArray[np.float32]
) -> list[PictureFinding]:
    """Return the pictures that look like no other of their class, sorted by key.

    Args:
        keys: Keys of the pictures, (N,).
        labels: Their classes, (N,).
        features: Features of a frozen backbone, (N, D).
    """
    classes = np.asarray(labels)
    found = []
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        if len(members) < _LEAST_OF_CLASS:
            continue
        nearest = _similarity_to_nearest(np.asarray(features[members], np.float32))
        usual = float(np.median(nearest))
        # 1.4826 makes the median of absolute deviations a standard deviation where these are normal.
        spread = 1.4826 * float(np.median(np.abs(nearest - usual)))
        for at in np.flatnonzero(nearest < usual - _OUTLYING * max(spread, 1e-3)):
            reason = (
                f"it looks like no other picture of {label}: the most similar ones have a cosine similarity "
                f"of {nearest[at]:.2f}, and {usual:.2f} is usual"
            )
            found.append(PictureFinding(file=keys[members[at]], kind="unlike its class", reason=reason))
    return sorted(found, key=lambda one: one.file)


def _similarity_to_nearest(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each picture's mean cosine similarity to the nearest others of its class, (N,).

    Args:
        features: Of one class, (N, D). The neighbours come from an even sample of a large one.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    sample = unit[:: -(-len(unit) // _MOST_OF_CLASS)]
    count = min(_NEAREST, len(sample) - 1)
    means = []
    for start in range(0, len(unit), _CHUNK):
        similarity = unit[start : start + _CHUNK] @ sample.T
        best = -np.partition(-similarity, count, axis=1)[:, : count + 1]
        # The best one is the picture itself where that is in the sample, else a copy or the nearest one.
        means.append(np.sort(best, axis=1)[:, :count].mean(axis=1))
    return np.concatenate(means)


def costs(
    findings: Iterable[PictureFinding], run_dir: Path, *, places: Mapping[str, str] | None = None
) -> list[KindCost]:
    """Return how a finished run does on the evaluation pictures of each kind, sorted by kind.

    Args:
        findings: What is odd about which picture.
        run_dir: The run folder, with its predictions.csv.
        places: Keys below the evaluation folder of the pictures whose key in the split differs, by key.

    Raises:
        RunError: predictions.csv is missing or damaged.
    """
    kinds: dict[str, set[str]] = {}
    for one in findings:
        key = (places or {}).get(one.file, one.file.removeprefix(f"{EVALUATION}/"))
        kinds.setdefault(key, set()).add(one.kind)
    counts: dict[str, list[int]] = {kind: [0, 0] for one in kinds.values() for kind in one}
    total = correct = 0
    for row in iter_predictions(run_dir):
        total, correct = total + 1, correct + row.correct
        for kind in kinds.get(row.key, ()):
            counts[kind][0] += 1
            counts[kind][1] += row.correct
    return [
        KindCost(kind=kind, count=count, correct=right, others=(correct - right) / (total - count))
        for kind, (count, right) in sorted(counts.items())
        if 0 < count < total
    ]
