"""The content of report.html as typed values, before the template formats it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from classifold.report.trust_view import CalibrationPart, CoveragePart, CurvesPart, UnseenPart


@dataclass(frozen=True, slots=True)
class Tile:
    """A number in large type at the top of the page."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score with its interval, and what it means."""

    name: str
    value: str
    interval: str
    bar: Markup
    meaning: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The scores of one class, each with its interval; `right` are its pictures that were recognised."""

    name: str
    support: int
    right: int
    precision: str
    precision_interval: str
    recall: str
    recall_interval: str
    f1: str
    f1_interval: str
    bar: Markup
    is_small: bool


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training picture near to a mistake; no image if the file does not exist."""

    image: str | None
    key: str
    class_name: str
    distance: str


@dataclass(frozen=True, slots=True)
class PictureTile:
    """A picture with its true and predicted class; no image if the file does not exist.

    With `is_name`, only its name is shown. `heat` is the image of its heat map, `why` a sentence on it or on
    why there is none.
    """

    image: str | None
    key: str
    true_class: str
    predicted_class: str
    confidence: str
    true_confidence: str
    is_right: bool = False
    is_unknown: bool = False
    is_name: bool = False
    heat: str | None = None
    why: str = ""
    neighbours: Sequence[Neighbour] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the confusion matrix: `heat` is its strength 0..1, `target` the `id` of its pictures."""

    count: int
    heat: float
    is_right: bool
    tip: str
    place: str
    target: str


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """A row of the confusion matrix: a true class and the predictions for its pictures."""

    name: str
    support: int
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class CellPictures:
    """The pictures of one cell; `rest` are those that are not shown."""

    target: str
    place: str
    title: str
    tiles: Sequence[PictureTile]
    rest: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A frequent mistake; `target` is the `id` of its pictures, or ""."""

    true_class: str
    predicted_class: str
    count: int
    support: int
    share: str
    target: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix: as a table, or as a drawing where the classes are many."""

    class_names: Sequence[str]
    rows: Sequence[ConfusionRow]
    drawing: Markup | None
    pairs: Sequence[Pair]
    num_pairs: int
    pictures: Sequence[CellPictures]


@dataclass(frozen=True, slots=True)
class UseWay:
    """How to use the model in one language: a few lines, and a remark."""

    name: str
    lines: Sequence[str]
    note: str


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch's figures as text."""

    epoch: int
    stage: str
    loss: str
    val_loss: str
    accuracy: str
    val_accuracy: str
    learning_rate: str
    best: bool


@dataclass(frozen=True, slots=True)
class TryRow:
    """What the head reached under one strength of its regularization, as text."""

    penalty: str
    loss: str
    val_loss: str
    accuracy: str
    val_accuracy: str
    best: bool


@dataclass(frozen=True, slots=True)
class Learning:
    """The training over its epochs, and the search for the head before them.

    There are no drawings where no epoch was recorded, and no tries where the head was trained in epochs.
    """

    summary: str
    drawings: Sequence[Markup]
    epochs: Sequence[EpochRow]
    tries: Sequence[TryRow] = ()


@dataclass(frozen=True, slots=True)
class TimeRow:
    """A phase of the run and its share of the time."""

    phase: str
    duration: str
    share: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting of the run; `default` is empty where it was not changed."""

    name: str
    value: str
    default: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SetRow:
    """The number of pictures of one class in each set."""

    class_name: str
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sets:
    """The pictures of the run: names of the sets, a row for each class, and all classes together."""

    names: Sequence[str]
    rows: Sequence[SetRow]
    totals: Sequence[int]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One thing that the data check found: what, how much of it, and what it does to the scores."""

    what: str
    count: str
    effect: str


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report. A part that is None has no data; `absent` says why."""

    run_name: str
    made: str
    headline: str
    promise: Sequence[str]
    summary: str
    cautions: Sequence[str]
    tiles: Sequence[Tile]
    scores: Sequence[ScoreRow]
    classes: Sequence[ClassRow]
    confusion: Confusion
    confusion_note: str
    wrong: Sequence[PictureTile]
    wrong_note: str
    pictures_note: str
    calibration: CalibrationPart | None
    coverage: CoveragePart | None
    curves: CurvesPart | None
    unseen: UnseenPart | None
    absent: Sequence[str]
    learning: Learning
    check_rows: Sequence[CheckRow]
    check_note: str
    sets: Sets
    skipped: Sequence[Skipped]
    num_skipped: int
    times: Sequence[TimeRow]
    time_note: str
    changed_settings: Sequence[SettingRow]
    other_settings: Sequence[SettingRow]
    facts: Sequence[Fact]
    packages: Sequence[Fact]
    uses: Sequence[UseWay]
    version: str
