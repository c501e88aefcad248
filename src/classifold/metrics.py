"""The scores of a run as typed values: the content of metrics.json, written and read here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from classifold.intervals import wilson_interval

# Format 1 had neither `calibration` nor `answers` nor `unseen`; it is still read.
FORMAT = 2
# Limit of a count, far above any run; larger numbers would break the arithmetic of the page.
_MAX_COUNT = 10**12
_Count = Annotated[int, Field(ge=0, le=_MAX_COUNT)]


class Record(BaseModel):
    """A part of a file of the run folder."""

    # Fields of later releases are ignored. Training writes only finite numbers.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Score(Record):
    """A score with its 95 % interval; None where it could not be computed.

    Attributes:
        value: The score.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def score_share(part: int, whole: int) -> Score:
    """Return a share with its 95 % interval (Wilson 1927); without a value where there is no whole."""
    if not whole:
        return Score(value=None)
    low, high = wilson_interval(part / whole, whole)
    return Score(value=part / whole, low=low, high=high)


class ClassScores(Record):
    """The scores of one class: shares 0..1, None where the divisor is 0.

    Attributes:
        class_name: The class.
        precision: Share of the pictures named so that are of the class.
        recall: Share of the pictures of the class that are named so.
        f1: Harmonic mean of precision and recall.
        support: Number of evaluation pictures of the class.
        recall_low: Lower end of the 95 % interval of the recall.
        recall_high: Upper end of the 95 % interval of the recall.
        precision_low: Lower end of the 95 % interval of the precision.
        precision_high: Upper end of the 95 % interval of the precision.
        f1_low: Lower end of the 95 % interval of F1.
        f1_high: Upper end of the 95 % interval of F1.
    """

    class_name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: _Count
    recall_low: float | None = None
    recall_high: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None
    f1_low: float | None = None
    f1_high: float | None = None


class ReliabilityBin(Record):
    """The pictures with a confidence between `low` and `high`: their number, mean confidence and accuracy.

    Attributes:
        low: Lower end of the range of confidence, 0..1.
        high: Upper end of the range of confidence, 0..1.
        count: Number of pictures in the range.
        confidence: Mean confidence of these pictures, 0..1; None if the range has no pictures.
        accuracy: Share of these pictures that are right, 0..1; None if the range has no pictures.
    """

    low: float
    high: float
    count: _Count
    confidence: float | None
    accuracy: float | None


class Unreadable(Record):
    """A picture that was skipped, and why.

    Attributes:
        path: The picture below the evaluation folder.
        reason: Why it could not be read.
    """

    path: str
    reason: str


class Calibration(Record):
    """How the probabilities were calibrated, and the scores that they had before, on the evaluation set.

    The scores after it are the run's own: `scores` and `reliability` of the file.

    Attributes:
        method: "none" where a temperature did not help in cross-validation on the validation set.
        temperature: The logits were divided by it; 1 for "none", None for "per class".
        num_pictures: Validation pictures that it was fitted on.
        calibration_error: Before; mean gap between confidence and share right.
        log_loss: Before; the mean of -ln(probability given to the true class).
        reliability: Before.
    """

    method: Literal["none", "temperature", "per class"]
    temperature: float | None
    num_pictures: _Count
    calibration_error: Score
    log_loss: Score
    reliability: tuple[ReliabilityBin, ...] = ()


class CoveragePoint(Record):
    """What a minimum confidence does to the evaluation pictures whose distance is within the limit.

    Attributes:
        min_confidence: Pictures with less confidence are unknown.
        num_answered: Pictures that are answered.
        num_right: Those of them that are right.
    """

    min_confidence: float
    num_answered: _Count
    num_right: _Count


class Answers(Record):
    """Which evaluation pictures the model answers, and how many of those answers are right.

    Attributes:
        min_confidence: Pictures with less confidence are unknown.
        max_distance: Pictures that are further from the training pictures are unknown.
        max_error: The share of wrong answers that `min_confidence` was chosen for; None: none was asked for.
        num_answered: Evaluation pictures that are answered.
        num_right: Those of them that are right.
        coverage: The share of evaluation pictures that are answered.
        accuracy: The share of answers that are right; its value is None where nothing is answered.
        curve: What other minimum confidences would do, from the lowest to the highest, at most 200.
    """

    min_confidence: float
    max_distance: float
    max_error: float | None = None
    num_answered: _Count
    num_right: _Count
    coverage: Score
    accuracy: Score
    curve: tuple[CoveragePoint, ...] = ()


class UnseenClass(Record):
    """How pictures of one class are told from the others when the class is left out.

    Attributes:
        class_name: The class that was left out.
        num_pictures: Its pictures, of all three sets.
        auroc: How well the distance separates them from evaluation pictures of the other classes,
            0..1; 0.5 is guessing.
        refused: The share of them that is called unknown because of their distance.
    """

    class_name: str
    num_pictures: _Count
    auroc: float
    refused: float


class Unseen(Record):
    """What happens to pictures of a class that the model was not trained on: each class was left out in turn.

    Attributes:
        false_refusals: The share of pictures of known classes that may be beyond the limit, such as 0.05.
        auroc: Mean over the classes, with its interval over them.
        refused: Mean over the classes of the share that is called unknown, with its interval.
        is_weak: There are too few classes for the estimate to say much.
        classes: Each class.
    """

    false_refusals: float
    auroc: Score
    refused: Score
    is_weak: bool
    classes: tuple[UnseenClass, ...] = ()


class Metrics(Record):
    """The content of metrics.json: scores on the evaluation set.

    Attributes:
        format: Version of this format. Format 1 has neither calibration nor answers nor unseen.
        set: The set that the scores are of.
        num_pictures: Evaluation pictures that could be read.
        unreadable: Evaluation pictures that could not be read.
        class_names: In the order of the model's outputs.
        top_k: For the score top_k_accuracy.
        scores: By name: accuracy, balanced_accuracy, macro_f1, log_loss, top_k_accuracy, calibration_error.
        per_class: The scores of each class, in the order of class_names.
        confusion_matrix: Counts: one row per true class, one column per predicted class.
        reliability: Equal ranges of confidence, from the lowest to the highest.
        calibration: How the probabilities were calibrated; None in format 1.
        answers: Which pictures the model answers; None in format 1.
        unseen: What happens to pictures of a left-out class; None where it was not measured.
    """

    format: Literal[1, 2]
    set: Literal["evaluation"] = "evaluation"
    num_pictures: int = Field(ge=1, le=_MAX_COUNT)
    unreadable: tuple[Unreadable, ...] = ()
    class_names: tuple[str, ...] = Field(min_length=1)
    top_k: int = Field(ge=1)
    scores: dict[str, Score]
    per_class: tuple[ClassScores, ...]
    confusion_matrix: tuple[tuple[_Count, ...], ...]
    reliability: tuple[ReliabilityBin, ...] = ()
    calibration: Calibration | None = None
    answers: Answers | None = None
    unseen: Unseen | None = None

    @model_validator(mode="after")
    def _check_sizes(self) -> Metrics:
        size = len(self.class_names)
        if len(self.confusion_matrix) != size or any(len(row) != size for row in self.confusion_matrix):
            raise ValueError(f"confusion_matrix is not {size} x {size} as there are class_names")
        if not any(map(any, self.confusion_matrix)):
            raise ValueError("confusion_matrix counts no picture")
        if [scores.class_name for scores in self.per_class] != list(self.class_names):
            raise ValueError("per_class does not list the class_names in their order")
        if "accuracy" not in self.scores or self.scores["accuracy"].value is None:
            raise ValueError("scores has no accuracy")
        return self
