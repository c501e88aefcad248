"""The sets: small classes, imbalance, drift, what the evaluation set can show, and what training takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.counts import count_of
from classifold.datacheck.photo import Photo
from classifold.datacheck.two_samples import compare_numbers, compare_shares, correct_for_number
from classifold.dataset.evaluation_size import SUPPOSED_ACCURACY, measure_width
from classifold.findings import Drift, SetFindings
from classifold.intervals import Z_95
from classifold.names import EVALUATION, TRAINING, VALIDATION
from classifold.settings.config import Config

# A class of fewer pictures is called too small: its few evaluation pictures say nothing.
FEW = 20
# A difference is reported where chance would give it once in 200 folders, and it is large enough to matter.
_P, _EFFECT = 0.005, 0.1
# A category that is not among the most frequent ones counts as "other".
_MOST_CATEGORIES = 20
_Z_80 = 0.8416  # one-sided 80 % of the normal distribution
# Two good models make about half of their mistakes alike.
_COMMON_MISTAKES = 0.5
# Fine-tuning a picture takes about this many times a pass through the frozen layers. Start, export and the
# check of the formats take so many minutes whatever the pictures.
_LEARNING_FACTOR, _AROUND_MINUTES = 1.5, 0.7

# Time and price of a job in US dollars, from the estimated minutes here; None where they are not known.
EstimateJob = Callable[[float], tuple[float | None, float | None]]


# The columns that are compared: numbers, and categories as places in a list of names.
_NUMBERS: dict[str, Callable[[Photo], float]] = {
    "size": lambda photo: photo.size[0] * photo.size[1],
    "aspect": lambda photo: photo.size[0] / photo.size[1],
    "bytes per pixel": lambda photo: photo.num_bytes / (photo.size[0] * photo.size[1]),
    "brightness": lambda photo: photo.mean.mean(),
    "contrast": lambda photo: photo.contrast,
    "sharpness": lambda photo: photo.sharpness,
    "colourfulness": lambda photo: photo.colour,
    "JPEG quality": lambda photo: math.nan if photo.jpeg_quality is None else photo.jpeg_quality,
    "time of taking": lambda photo: math.nan if photo.taken is None else photo.taken,
}
_CATEGORIES: dict[str, Callable[[Photo], str]] = {
    "class": lambda photo: photo.class_name,
    "format": lambda photo: photo.format,
    "colour mode": lambda photo: photo.mode,
    "camera": lambda photo: photo.camera,
}
_COLUMNS = np.dtype(
    [("set", "i4"), *((name, "i4") for name in _CATEGORIES), *((name, "f8") for name in _NUMBERS)]
)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What is compared between sets.

    Attributes:
        table: One row per picture, with the columns of `_COLUMNS`.
        names: Names of the sets, and of each kind of category, by place.
    """

    table: NDArray[Any]
    names: Mapping[str, Sequence[str]]

    def in_set(self, name: str) -> NDArray[np.bool_]:
        """Return which pictures are in a set."""
        known = self.names["set"]
        mask: NDArray[np.bool_] = self.table["set"] == (known.index(name) if name in known else -1)
        return mask


def describe_sets(
    counts: Mapping[str, Mapping[str, int]],
    photos: Iterable[Photo] = (),
    *,
    accuracy: float | None = None,
    training_minutes: float | None = None,
    estimate_job: EstimateJob | None = None,
) -> SetFindings:
    """Return what is known of the sets.

    Args:
        counts: Number of pictures by set and class.
        photos: The readable pictures, whose sets are compared.
        accuracy: Of a finished run on the evaluation set, 0 to 1; None: it is supposed to be 0.9.
        training_minutes: Of a training here, as `estimate_minutes` returns; None where unknown.
        estimate_job: Time and price on the configured machine; None without one.
    """
    totals: Counter[str] = Counter()
    for of_class in counts.values():
        totals.update(of_class)
    few = {label: count for label, count in sorted(totals.items()) if count < FEW}
    imbalance = max(totals.values()) / max(min(totals.values()), 1) if len(totals) > 1 else None
    num_evaluation = sum(counts.get(EVALUATION, {}).values())
    supposed = SUPPOSED_ACCURACY if accuracy is None else accuracy
    width = measure_width(num_evaluation, supposed) if num_evaluation else None
    smallest = smallest_difference(num_evaluation, supposed) if num_evaluation else None
    minutes, price = (None, None)
    if estimate_job is not None and training_minutes is not None:
        minutes, price = estimate_job(training_minutes)
    return SetFindings(
        counts=counts,
        few=few,
        imbalance=imbalance,
        drift=tuple(find_drift(photos)),
        interval_width=width,
        smallest_difference=smallest,
        training_minutes=training_minutes,
        job_minutes=minutes,
        job_price=price,
        notes=tuple(_describe(num_evaluation, supposed, width, smallest)),
    )


def _describe(
    num_evaluation: int, accuracy: float, width: float | None, smallest: float | None
) -> Iterator[str]:
    if width is None or smallest is None:
        return
    yield (
        f"with {count_of(num_evaluation, 'evaluation picture')}, the 95 % interval of an accuracy of "
        f"{100 * accuracy:.0f} % is {100 * width:.1f} points wide; a difference of less than "
        f"{100 * smallest:.1f} points between two such models is usually not significant, if they share half "
        "of their mistakes"
    )


def smallest_difference(num_pictures: int, accuracy: float = SUPPOSED_ACCURACY) -> float:
    """Return the smallest difference in accuracy of two models that this evaluation set shows, 0 to 1.

    Both models answer for the same pictures, and only those that one names right and the other wrong count
    (McNemar 1947). "Shows" means that a difference of this size is found at the 5 % level in 4 of 5
    evaluation sets. It is assumed that both models have about this accuracy and make half of their mistakes
    on the same pictures.

    Args:
        num_pictures: Evaluation pictures, at least 1.
        accuracy: Of both models, about, 0 to 1.
    """
    disagreement = 2 * (1 - accuracy) * (1 - _COMMON_MISTAKES)
    found = (Z_95 + _Z_80) * math.sqrt(disagreement / num_pictures)
    # The models differ in no more pictures than those they disagree on.
    if found >= disagreement:
        found = (Z_95 + _Z_80) ** 2 / num_pictures
    return min(found, 1.0)


def find_drift(photos: Iterable[Photo]) -> list[Drift]:
    """Return in what the validation and evaluation sets differ from training, more than by chance.

    Compared are numbers by the Kolmogorov-Smirnov test and categories by the chi-squared test, all corrected
    together by Holm's method. Numbers are compared within their class, less its median, so that other
    shares of the classes are not reported again in every number.

    Args:
        photos: The readable pictures with their sets; those without one are not compared.
    """
    columns = _read_columns(photos)
    found: list[tuple[str, str, float, float, str]] = []
    training = columns.in_set(TRAINING)
    for name in (VALIDATION, EVALUATION):
        chosen = columns.in_set(name)
        if training.any() and chosen.any():
            found += _compare(columns, name, training, chosen)
    corrected = correct_for_number([p for _, _, _, p, _ in found])
    drift = [
        Drift(set_name=name, what=what, p=p, reason=reason)
        for (name, what, effect, _, reason), p in zip(found, corrected, strict=True)
        if p < _P and effect >= _EFFECT
    ]
    return sorted(drift, key=lambda one: one.p)


def _read_columns(photos: Iterable[Photo]) -> _Columns:
    names: dict[str, dict[str, int]] = {name: {} for name in ("set", *_CATEGORIES)}

    def place(kind: str, text: str) -> int:
        return names[kind].setdefault(text, len(names[kind]))

    rows = (
        (
            place("set", photo.set_name),
            *(place(name, read(photo)) for name, read in _CATEGORIES.items()),
            *(read(photo) for read in _NUMBERS.values()),
        )
        for photo in photos
        if photo.set_name
    )
    # A million pictures take 92 MB so.
    table = np.fromiter(rows, _COLUMNS)
    return _Columns(table, {name: list(places) for name, places in names.items()})


def _compare(
    columns: _Columns, name: str, training: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> Iterator[tuple[str, str, float, float, str]]:
    """Yield (set, what, effect, p, reason) of every comparison of a set with training."""
    for what in _CATEGORIES:
        places = columns.table[what]
        effect, p, place = _compare_categories(places, training, chosen)
        text = columns.names[what][place] or "unknown"
        here, there = (f"{100 * float((places[one] == place).mean()):.0f} %" for one in (chosen, training))
        reason = f"{here} of the {name} pictures have the {what} {text}, and {there} of the training pictures"
        yield name, f"share of class {text}" if what == "class" else what, effect, p, reason
    for what in _NUMBERS:
        values = columns.table[what]
        known = ~np.isnan(values)
        one, other = training & known, chosen & known
        if not one.any() or not other.any():
            continue
        level = _without_class(values, columns.table["class"])
        effect, p = compare_numbers(level[one], level[other])
        here, there = (_say(what, float(np.median(values[mask]))) for mask in (other, one))
        yield name, what, effect, p, _describe_medians(what, name, here, there)


def _describe_medians(what: str, name: str, here: str, there: str) -> str:
    if here == there:
        where = f"between {name} and training"
        return f"the distribution of the {what} differs {where}; the median is {here} in both"
    return f"the median {what} is {here} in {name} and {there} in training"


def _say(what: str, value: float) -> str:
    if what == "time of taking":
        return str(np.datetime64(int(value), "s")).replace("T", " ")
    return f"{value:,.0f} pixels" if what == "size" else f"{value:.3g}"


def _without_class(values: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return values less the median of their class in all sets together."""
    level = values.copy()
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        known = members[~np.isnan(values[members])]
        if len(known):
            level[known] -= np.median(values[known])
    return level


def _compare_categories(
    places: NDArray[np.int32], training: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> tuple[float, float, int]:
    """Return effect, p, and the category whose share differs most."""
    size = int(places.max()) + 1
    counts = [np.bincount(places[mask], minlength=size) for mask in (training, chosen)]
    order = np.argsort(-(counts[0] + counts[1]), kind="stable")
    kept, rest = order[:_MOST_CATEGORIES], order[_MOST_CATEGORIES:]
    one, other = ([*count[kept].tolist(), int(count[rest].sum())] for count in counts)
    effect, p = compare_shares(one, other)
    differences = np.abs(counts[0][kept] / counts[0].sum() - counts[1][kept] / counts[1].sum())
    return effect, p, int(kept[int(differences.argmax())])


def estimate_minutes(
    counts: Mapping[str, Mapping[str, int]], config: Config, *, seconds_each: float
) -> float:
    """Return about how many minutes a training takes here.

    Args:
        counts: Number of pictures by set and class.
        config: The settings: how many versions and epochs.
        seconds_each: Seconds that one picture takes to be read and to go through the frozen layers, as
            measured while its features were computed.
    """
    num_training, num_validation, num_evaluation = (
        sum(counts.get(name, {}).values()) for name in (TRAINING, VALIDATION, EVALUATION)
    )
    # Without a number of versions every epoch of the head has new ones.
    versions = config.AUGMENTATION_VARIANTS or max(config.HEAD_EPOCHS, 1)
    passes = num_training * versions + num_validation + num_evaluation
    epochs = config.EPOCHS * (_LEARNING_FACTOR * num_training + num_validation)
    return _AROUND_MINUTES + (passes + epochs) * seconds_each / 60


def scale_to_machine(minutes: float, instance_type: str, *, num_cores: int) -> float | None:
    """Return minutes here as minutes on a SageMaker machine, by the number of cores; None for one with a GPU.

    How much faster a GPU is depends on backbone and picture size, and is known after the first job.

    Args:
        minutes: Of a training on this machine.
        instance_type: SageMaker's name of the machine, such as ml.c5.2xlarge.
        num_cores: Cores that this process may use.
    """
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    if family[:1] not in ("c", "m", "r", "t"):
        return None
    return minutes * num_cores / _count_cores_of(size) if _count_cores_of(size) else None


def _count_cores_of(size: str) -> int:
    """Return the vCPUs of a size of machine, 0 for an unknown one."""
    if size in ("medium", "large"):
        return 2
    times = size.removesuffix("xlarge")
    if times == size or not (times == "" or times.isdecimal()):
        return 0
    return 4 * int(times or 1)
