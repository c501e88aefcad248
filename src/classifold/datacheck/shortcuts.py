"""Finds shortcuts: what tells the class without a look at the subject, so that a model may learn that."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.counts import write_percent
from classifold.datacheck.facts import FactGroup, gather_facts
from classifold.datacheck.out_of_fold import NUM_FOLDS, Folds, assign_folds, number_groups, reduce_features
from classifold.datacheck.photo import Photo
from classifold.datacheck.two_samples import correct_for_number
from classifold.findings import Shortcut

# A shortcut is reported where chance would do as well in fewer than one of a hundred folders; besides, it
# must tell the class far better than chance (`FactGroup.least_gain`).
_SIGNIFICANCE = 0.01
_NUM_PERMUTATIONS, _FEWEST_PERMUTATIONS = 200, 50
# The search for chance ends early where it did as well so often.
_ENOUGH = 5
# More pictures than this are drawn from: trees of a few leaves need no more.
_MOST_PICTURES = 2000
# The background is reported where it tells the class nearly as well as the whole picture, and well at all.
_BACKGROUND_SHARE, _BACKGROUND_GAIN = 0.9, 0.4
_MOST_BACKGROUNDS = 4000


@dataclass(frozen=True)
class _Score:
    """How well a model tells classes.

    Attributes:
        gain: The larger of two: how much better than chance it tells all classes, or one class from all
            others; 0 (not at all) to 1 (perfectly).
        accuracy: The balanced accuracy of that task.
        label: The class that is told from all others; None: all classes are told.
    """

    gain: float
    accuracy: float
    label: int | None


def find_shortcuts(
    photos: Sequence[Photo], *, groups: Sequence[Sequence[int]] = (), seed: int = 0
) -> tuple[Shortcut, ...]:
    """Return the facts about files and pictures that tell the class, the strongest first.

    For each group of facts a small decision tree is cross-validated, on one picture of each group of copies
    or burst. It counts if it tells all classes, or one from all others, much better than chance, and if
    trees on shuffled facts hardly ever do as well; probabilities are corrected for the number of groups of
    facts (Holm 1979). Mean colour, brightness and the like follow from the subject as well: they must tell
    nearly everything, and the reason says so.

    Args:
        photos: The pictures, N of them.
        groups: Indices of the pictures of each group of copies or burst.
        seed: Of folds and shuffling.
    """
    chosen, labels, class_names = _choose_pictures(photos, groups, seed=seed)
    if len(class_names) < 2:
        return ()
    facts = gather_facts([photos[index] for index in chosen.tolist()])
    folds = assign_folds(labels, np.arange(len(labels)), seed=seed)
    tested = []
    for group in facts:
        score = _judge(group.columns, labels, folds)
        if score.gain < group.least_gain:
            tested.append((1.0, 0.0, score, group))
            continue
        p, chance = _compare_chance(group.columns, labels, folds, score, seed=seed)
        tested.append((p, chance, score, group))
    found = [
        Shortcut(
            name=group.name,
            accuracy=score.accuracy,
            chance=chance,
            p=p,
            reason=_explain(group, labels, class_names, score),
        )
        for p, (_, chance, score, group) in zip(
            correct_for_number([one[0] for one in tested]), tested, strict=True
        )
        if p <= _SIGNIFICANCE
    ]
    return tuple(sorted(found, key=lambda one: (-(one.accuracy - one.chance), one.name)))


def _choose_pictures(
    photos: Sequence[Photo], groups: Sequence[Sequence[int]], *, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], list[str]]:
    """Return indices, labels and class names: one picture of each group, no tiny class, not too many."""
    numbers = number_groups(groups, len(photos))
    firsts = np.sort(np.unique(numbers, return_index=True)[1]) if len(photos) else np.zeros(0, np.intp)
    given = np.array([photos[index].class_name for index in firsts.tolist()], dtype=np.str_)
    class_names, labels = np.unique(given, return_inverse=True)
    sizes = np.bincount(labels, minlength=len(class_names))
    # So many of each class at most: rare classes stay whole.
    most = max(NUM_FOLDS, _MOST_PICTURES // max(1, len(class_names)))
    generator = np.random.default_rng(seed)
    parts = [
        generator.permutation(np.flatnonzero(labels == one))[:most]
        for one in np.flatnonzero(sizes >= NUM_FOLDS).tolist()
    ]
    kept = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.intp)
    names, numbered = np.unique(given[kept], return_inverse=True)
    return firsts[kept].astype(np.intp), numbered.astype(np.intp), [str(name) for name in names]


def _judge(columns: NDArray[np.float32], labels: NDArray[np.intp], folds: NDArray[np.intp]) -> _Score:
    """Return how well a small tree on some columns tells classes of pictures that it did not see."""
    from sklearn.tree import DecisionTreeClassifier

    num_classes = int(labels.max()) + 1
    weights = 1.0 / np.bincount(labels)[labels]
    answers = np.empty(len(labels), np.intp)
    for fold in range(NUM_FOLDS):
        inside = folds != fold
        tree = DecisionTreeClassifier(
            max_leaf_nodes=max(6, 2 * num_classes), min_samples_leaf=2, random_state=0
        )
        tree.fit(columns[inside], labels[inside], weights[inside], check_input=False)
        shares = tree.predict_proba(columns[~inside], check_input=False)
        answers[~inside] = tree.classes_[shares.argmax(axis=1)]
    return _score(answers, labels, num_classes)


def _score(answers: NDArray[np.intp], labels: NDArray[np.intp], num_classes: int) -> _Score:
    """Return how well answers tell the classes; each class weighs the same, however rare."""
    table = np.zeros((num_classes, num_classes))
    np.add.at(table, (labels, answers), 1)
    recalls = table.diagonal() / table.sum(axis=1)
    every = float(recalls.mean())
    best = _Score((every - 1 / num_classes) / (1 - 1 / num_classes), every, None)
    if num_classes > 2:
        wrongly = (table.sum(axis=0) - table.diagonal()) / (len(labels) - table.sum(axis=1))
        label = int((recalls - wrongly).argmax())
        # All classes come first: one alone must be told clearly better.
        gain = float(recalls[label] - wrongly[label])
        if gain > best.gain + 0.1:
            best = _Score(gain, (1 + gain) / 2, label)
    return best


def _compare_chance(
    columns: NDArray[np.float32],
    labels: NDArray[np.intp],
    folds: NDArray[np.intp],
    score: _Score,
    *,
    seed: int,
) -> tuple[float, float]:
    """Return the probability of such a gain by chance, and the mean balanced accuracy of chance.

    The facts are shuffled among the pictures. Where none of the shuffled ones did as well, the probability is
    that of a Gumbel distribution with their mean and variance: the gain is a largest value, of several
    classes and many splits, and its tail falls slower than a normal one's.
    """
    generator = np.random.default_rng([seed, 1])
    gains: list[float] = []
    num_reached = 0
    for _ in range(_NUM_PERMUTATIONS):
        shuffled = np.ascontiguousarray(columns[generator.permutation(len(columns))])
        gains.append(_judge(shuffled, labels, folds).gain)
        num_reached += gains[-1] >= score.gain
        if num_reached >= _ENOUGH or _is_plain(gains, score.gain):
            break
    num_told = int(labels.max()) + 1 if score.label is None else 2
    mean = float(np.mean(gains))
    chance = 1 / num_told + mean * (1 - 1 / num_told)
    if num_reached:
        return (1 + num_reached) / (1 + len(gains)), chance
    return _gumbel_tail(score.gain, mean, float(np.std(gains, ddof=1))), chance


def _is_plain(gains: Sequence[float], gain: float) -> bool:
    """Tell whether a gain is so far above those of chance that more of them would change nothing."""
    if len(gains) != _FEWEST_PERMUTATIONS or max(gains) >= gain:
        return False
    return _gumbel_tail(gain, float(np.mean(gains)), float(np.std(gains, ddof=1))) < _SIGNIFICANCE / 1000


def _gumbel_tail(value: float, mean: float, deviation: float) -> float:
    """Return the probability that a Gumbel distribution of this mean and deviation exceeds a value."""
    scale = max(1e-3, deviation) * math.sqrt(6) / math.pi
    mode = mean - 0.5772156649 * scale
    return -math.expm1(-math.exp(-(value - mode) / scale))


def _explain(facts: FactGroup, labels: NDArray[np.intp], class_names: Sequence[str], score: _Score) -> str:
    """Return one sentence that says what tells which class."""
    label, column, threshold = _find_split(facts.columns, labels, score)
    above = facts.columns[:, column] > threshold
    inside, outside = above[labels == label].mean(), above[labels != label].mean()
    phrase = facts.phrases[column]
    if "{}" in phrase:
        phrase = phrase.format(_say_number(facts, column, threshold))
    share = f"{write_percent(inside)} of {class_names[label]} and {write_percent(outside)} of the others"
    told = "the class" if score.label is None else f"{class_names[score.label]} from the others"
    accuracy = f"{write_percent(score.accuracy)} balanced accuracy"
    return f"{facts.name} alone tells {told} with {accuracy}: {phrase} in {share}; {facts.remark}"


def _say_number(facts: FactGroup, column: int, threshold: float) -> str:
    if facts.phrases[column] == "it was taken after {}":
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=threshold)
        return f"{moment:%Y-%m-%d}"
    return f"{threshold:.3g}" if abs(threshold) < 1000 else f"{threshold:.0f}"


def _find_split(
    columns: NDArray[np.float32], labels: NDArray[np.intp], score: _Score
) -> tuple[int, int, float]:
    """Return class, column and threshold of the single split that tells one class best from the others."""
    from sklearn.tree import DecisionTreeClassifier

    best, found = -1.0, (0, 0, 0.0)
    for label in range(int(labels.max()) + 1) if score.label is None else (score.label,):
        is_own = (labels == label).astype(np.intp)
        weights = 1.0 / np.bincount(is_own, minlength=2)[is_own]
        stump = DecisionTreeClassifier(max_leaf_nodes=2, random_state=0)
        tree = stump.fit(columns, is_own, weights).tree_
        if tree.feature[0] < 0:
            continue
        above = columns[:, tree.feature[0]] > tree.threshold[0]
        gain = abs(above[is_own == 1].mean() - above[is_own == 0].mean())
        if gain > best:
            best, found = float(gain), (label, int(tree.feature[0]), float(tree.threshold[0]))
    return found


def choose_for_background(labels: NDArray[np.intp], *, seed: int = 0) -> NDArray[np.intp]:
    """Return the indices of the pictures whose background is looked at, 4,000 at most, each class's share."""
    if len(labels) <= _MOST_BACKGROUNDS:
        return np.arange(len(labels))
    return np.sort(np.random.default_rng(seed).permutation(len(labels))[:_MOST_BACKGROUNDS])


def judge_background(
    photos: Sequence[Photo],
    whole: NDArray[np.float32],
    background: NDArray[np.float32],
    *,
    groups: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> Shortcut | None:
    """Return a shortcut if the background tells the class nearly as well as the whole picture; else None.

    Args:
        photos: The pictures, N of them.
        whole: Features of the pictures, shape (N, F).
        background: Features of the same pictures with the middle blanked, shape (N, F).
        groups: Indices of the pictures of each group of copies or burst.
        seed: Of the folds.
    """
    chosen, labels, class_names = _choose_pictures(photos, groups, seed=seed)
    if len(class_names) < 2:
        return None
    answers = [_answer(features[chosen], labels, seed=seed) for features in (whole, background)]
    recall, full_recall = (_balanced(one, labels) for one in (answers[1], answers[0]))
    floor = 1 / len(class_names)
    gain, full_gain = (recall - floor) / (1 - floor), (full_recall - floor) / (1 - floor)
    if gain < _BACKGROUND_GAIN or gain < _BACKGROUND_SHARE * full_gain:
        return None
    generator = np.random.default_rng([seed, 2])
    null = [_balanced(answers[1], generator.permutation(labels)) for _ in range(_NUM_PERMUTATIONS)]
    p = _gumbel_tail(recall, float(np.mean(null)), float(np.std(null)))
    if p > _SIGNIFICANCE:
        return None
    reason = (
        "with the middle of every picture painted grey, the class is still recognized with "
        f"{write_percent(recall)} balanced accuracy ({write_percent(full_recall)} on whole pictures); this "
        "is natural if each class has its own surroundings or fills the whole picture; otherwise the model "
        "may learn the place instead of the subject: add pictures of each class in other places"
    )
    return Shortcut(name="background", accuracy=recall, chance=float(np.mean(null)), p=p, reason=reason)


def _answer(features: NDArray[np.float32], labels: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    folds = Folds(
        reduce_features(features, seed=seed),
        labels,
        np.arange(len(labels)),
        num_classes=int(labels.max()) + 1,
        seed=seed,
    )
    return np.asarray(folds.predict().argmax(axis=1), np.intp)


def _balanced(answers: NDArray[np.intp], labels: NDArray[np.intp]) -> float:
    right = np.bincount(labels, answers == labels) / np.bincount(labels)
    return float(right.mean())
