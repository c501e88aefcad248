"""The parts of the page on confidence as typed values, before the template formats them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class BinRow:
    """The pictures of one range of confidence."""

    range: str
    count: int
    confidence: str
    right: str


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """A score before and after the calibration; `before` is empty where the run has none."""

    name: str
    before: str
    after: str
    meaning: str


@dataclass(frozen=True, slots=True)
class CalibrationChart:
    """A drawing of confidence against the share that is right, and its figures."""

    caption: str
    drawing: Markup
    bins: Sequence[BinRow]


@dataclass(frozen=True, slots=True)
class CalibrationPart:
    """How far probabilities can be trusted, before and after the calibration."""

    note: str
    rows: Sequence[CalibrationRow]
    charts: Sequence[CalibrationChart]


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """What a minimum confidence does."""

    threshold: str
    answered: str
    wrong: str


@dataclass(frozen=True, slots=True)
class CoveragePart:
    """Coverage against accuracy, for the slider and for the table.

    Attributes:
        note: What the model does today, in sentences.
        drawing: The curve.
        points: For the page's script: minimum confidence, answered, right, x and y in the drawing, of each.
        start: Place of the model's own minimum confidence in `points`.
        total: Evaluation pictures.
        rows: Some of the points.
    """

    note: str
    drawing: Markup
    points: Sequence[tuple[float, int, int, float, float]]
    start: int
    total: int
    rows: Sequence[CoverageRow]


@dataclass(frozen=True, slots=True)
class UnseenRow:
    """What happened to the pictures of a class that was left out."""

    class_name: str
    num_pictures: int
    refused: str
    auroc: str


@dataclass(frozen=True, slots=True)
class UnseenPart:
    """How pictures of things that the model does not know are told from those that it knows."""

    note: str
    rows: Sequence[UnseenRow]


@dataclass(frozen=True, slots=True)
class CurveTile:
    """One class's precision against its recall."""

    class_name: str
    average: str
    drawing: Markup


@dataclass(frozen=True, slots=True)
class CurvesPart:
    """Precision against recall by class, the lowest average first."""

    tiles: Sequence[CurveTile]
