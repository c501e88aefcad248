"""Whether mirroring a picture changes its class, as it does for arrows, letters and hands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.progress import show_progress
from classifold.settings.config import Config
from classifold.training.array_cache import blocks
from classifold.training.budget import choose_places
from classifold.training.hosts import Hosts
from classifold.training.pipeline import PictureReader
from classifold.training.scaling import measure_scaling

# The axis of (height, width, 3) pixels that each setting reverses, and how a person says it.
_AXES = {"HORIZONTAL_FLIP": (1, "left to right"), "VERTICAL_FLIP": (0, "top to bottom")}

# Pictures per class that are looked at: with 13 of 13 the sign test below is passed for up to 80 classes.
_PER_CLASS = 20
# The look costs at most this share of the frozen pass, but small data sets get a fair number of pictures.
_COST_SHARE, _FEWEST, _MOST = 0.1, 200, 4000
# A class is changed by mirroring where at least half of its recognized pictures are taken for another class,
# and chance would do that in fewer than one of a hundred data sets.
_CHANGED_SHARE, _SIGNIFICANCE = 0.5, 0.01
# L2 strengths of the ridge regression, as shares of the mean squared length of a picture's features.
_STRENGTHS = (0.01, 0.1, 1.0)

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Read = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass(frozen=True)
class Change:
    """A class whose pictures show another class once they are mirrored.

    Attributes:
        label: The index of the class among the class names.
        other: The class that most of its mirrored pictures are taken for.
        num_changed: Pictures that are recognized as they are and taken for another class when mirrored.
        num_recognized: Pictures that are recognized as they are.
    """

    label: int
    other: int
    num_changed: int
    num_recognized: int


def find_flips(config: Config) -> list[str]:
    """Return the names of the settings by which pictures are mirrored in training."""
    return [name for name in _AXES if getattr(config, name) is not False]


def find_changes(
    flip: str,
    reader: PictureReader,
    labels: NDArray[np.intp],
    config: Config,
    *,
    compute: Compute,
    num_classes: int,
    read_plain: Read | None = None,
    hosts: Hosts | None = None,
) -> list[Change]:
    """Return the classes that mirroring changes, by leave-one-out validation on the frozen features.

    A ridge regression on the features of plain training pictures names each of them, and its mirror image,
    without having seen that picture. Photographs keep their class when mirrored. Where a class is recognized
    in plain pictures but its mirror images are taken for another class, mirrored pictures would carry wrong
    labels in training.

    Args:
        flip: HORIZONTAL_FLIP or VERTICAL_FLIP.
        reader: This host's training pictures.
        labels: Classes of the training pictures, shape (N,).
        config: RANDOM_SEED and AUGMENTATION_VARIANTS.
        compute: From pixels (N, size, size, 3) to features (N, F).
        num_classes: Number of classes, C.
        read_plain: From indices to the features of plain pictures, where some are kept; None: computed.
        hosts: The hosts that share the pictures; all of them get the same answer. None: this one alone.
    """
    hosts = hosts or Hosts()
    places = choose_places(labels, _count_pictures(len(labels), config, num_classes), seed=config.RANDOM_SEED)
    axis = _AXES[flip][0] + 1  # behind the axis of the pictures
    plain, mirrored = [], []
    with show_progress("testing whether mirrored pictures keep their class", len(places)) as advance:
        for block in blocks(len(places)):
            pixels = reader.read(places[block])
            plain.append(compute(pixels) if read_plain is None else read_plain(places[block]))
            mirrored.append(compute(np.flip(pixels, axis).copy()))
            advance(len(pixels))
    if not hosts.agree(bool(plain)):
        return []
    seen, seen_mirrored = (_gather(hosts, np.concatenate(parts)) for parts in (plain, mirrored))
    truth = _gather(hosts, labels[places].astype(np.float32)[:, None])[:, 0].astype(np.intp)
    if not (np.isfinite(seen).all() and np.isfinite(seen_mirrored).all()):
        return []  # training itself says what to do about such a backbone
    scaling = measure_scaling(seen)
    answers, mirror_answers = _name_left_out(
        scaling.apply(seen), scaling.apply(seen_mirrored), truth, num_classes
    )
    return _compare(answers, mirror_answers, truth)


def _count_pictures(count: int, config: Config, num_classes: int) -> int:
    """Return how many of this host's `count` training pictures are looked at."""
    versions = config.AUGMENTATION_VARIANTS or 1
    affordable = max(_FEWEST, int(_COST_SHARE * count * versions / 2))  # each is computed twice
    return min(count, affordable, _PER_CLASS * num_classes, _MOST)


def _gather(hosts: Hosts, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows (N, F) of every host, in the order of the hosts."""
    every = hosts.gather_bytes(np.ascontiguousarray(rows, np.float32).tobytes())
    return np.concatenate([np.frombuffer(one, np.float32).reshape(-1, rows.shape[1]) for one in every])


def _name_left_out(
    plain: NDArray[np.float32], mirrored: NDArray[np.float32], truth: NDArray[np.intp], num_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return what each picture and its mirror image are taken for by a regression that never saw the picture.

    The answers of all N regressions follow from one inverse. Source: Rifkin and Lippert 2007, "Notes on
    Regularized Least Squares", section 4.2 (leave-one-out values).

    Args:
        plain: Features of the pictures as they are, (N, F).
        mirrored: Features of the same pictures mirrored, (N, F).
        truth: Their classes, (N,).
        num_classes: Number of classes, C.

    Returns:
        Classes (N,) of the plain and of the mirrored pictures, with the strength that names the most plain
        pictures right.
    """
    targets = np.eye(num_classes)[truth] - 1 / num_classes
    kernel, crossed = (one.astype(np.float64) @ plain.T.astype(np.float64) for one in (plain, mirrored))
    best: tuple[int, NDArray[np.intp], NDArray[np.intp]] | None = None
    for strength in _STRENGTHS:
        penalty = strength * max(float(np.trace(kernel)) / len(kernel), 1e-9)
        inverse = np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
        weights = inverse @ targets
        # Without picture i the weights change along column i of the inverse, by this much.
        shift = weights / np.diag(inverse)[:, None]
        answers = (targets - shift).argmax(axis=1)
        mirror_answers = (crossed @ weights - (crossed * inverse.T).sum(axis=1)[:, None] * shift).argmax(
            axis=1
        )
        num_right = int((answers == truth).sum())
        if best is None or num_right > best[0]:
            best = num_right, answers, mirror_answers
    if best is None:
        raise ValueError("no strength to try")
    return best[1], best[2]


def _compare(
    answers: NDArray[np.intp], mirror_answers: NDArray[np.intp], truth: NDArray[np.intp]
) -> list[Change]:
    """Return the classes that mirroring changes, given what plain and mirrored pictures are taken for."""
    changes = []
    labels = np.unique(truth)
    for label in labels:
        of_class = truth == label
        recognized = of_class & (answers == label)
        lost = recognized & (mirror_answers != label)
        gained = of_class & (answers != label) & (mirror_answers == label)
        num_lost, num_gained = int(lost.sum()), int(gained.sum())
        is_common = num_lost and num_lost >= _CHANGED_SHARE * recognized.sum()
        if is_common and _sign_test(num_lost, num_gained) < _SIGNIFICANCE / len(labels):
            other = int(np.bincount(mirror_answers[lost]).argmax())
            changes.append(Change(int(label), other, num_lost, int(recognized.sum())))
    return changes


def _sign_test(num_lost: int, num_gained: int) -> float:
    """Return how likely chance loses at least as many, where losing and gaining are equally likely."""
    total = num_lost + num_gained
    at_least = sum(math.comb(total, count) for count in range(num_lost, total + 1))
    return float(at_least / 2**total)


def describe_changes(flip: str, changes: list[Change], class_names: tuple[str, ...], *, is_off: bool) -> str:
    """Return what the user should know, as a note.

    Args:
        flip: HORIZONTAL_FLIP or VERTICAL_FLIP.
        changes: At least one.
        class_names: Names of all classes.
        is_off: Whether training goes without this flip now.
    """
    first, way = changes[0], _AXES[flip][1]
    seen = f"{first.num_changed} of {first.num_recognized} recognized pictures"
    what = (
        f"mirrored {way}, {seen} of {class_names[first.label]!r} are taken for {class_names[first.other]!r}"
    )
    if len(changes) > 1:
        what += f", and {len(changes) - 1} more of the classes change"
    if is_off:
        return f"{what}: pictures are not mirrored in training; {flip} = True mirrors them anyway"
    return f"{what}: {flip} = False tells such classes apart"
