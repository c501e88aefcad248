"""The result of a comparison as typed values: what JSON, page and Python show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from classifold.metrics import Record, Score


class ComparedRun(Record):
    """One of the compared runs.

    Attributes:
        letter: "A" for the first run, and so on; the keys of `Difference.values`.
        name: Name of its folder, with as much of the path as tells it from the others.
        path: The run folder.
        started: When its training began, ISO 8601; empty where it is not known.
        num_classes: Number of classes that the model knows.
        accuracy: Share of the compared pictures that were named correctly.
        log_loss: Mean of -ln(probability given to the true class) over the compared pictures.
        balanced_accuracy: Mean recall of the classes; None where only common pictures are compared.
        calibration_error: Mean gap between confidence and share right; None as above.
        coverage: Share of pictures that the model answers; None as above, and in runs of earlier releases.
        answered_accuracy: Share of those answers that is right; None as for `coverage`.
        unseen_refused: Share of pictures of left-out classes that is called unknown; None as for `coverage`.
        promise: What the model promises, in sentences; empty as for `coverage`.
        seconds: Time of the training from its start to the report; None where it is not known.
        machine: The machine that it was trained on: number of cores and platform.
        model_mb: Size of model.onnx in MB; None where it is missing.
        usd: What the job on SageMaker was billed, in US dollars; None where it is not known, as for a run
            that was trained on a machine of your own.
    """

    letter: str
    name: str
    path: str
    started: str = ""
    num_classes: int
    accuracy: Score
    log_loss: Score | None = None
    balanced_accuracy: Score | None = None
    calibration_error: Score | None = None
    coverage: Score | None = None
    answered_accuracy: Score | None = None
    unseen_refused: Score | None = None
    promise: tuple[str, ...] = ()
    seconds: float | None = None
    machine: str = ""
    model_mb: float | None = None
    usd: float | None = None


class ClassPair(Record):
    """One class in a pair of runs: how many of its pictures each named correctly, and where they differ."""

    class_name: str
    num_pictures: int
    right_before: int
    right: int
    better: int
    worse: int


class Pair(Record):
    """A run against the first one, on the same pictures.

    Attributes:
        letter: The run.
        against: The first run.
        both_right: Pictures that both name correctly.
        better: Pictures that the run names correctly and the first one does not.
        worse: Pictures that the first one names correctly and the run does not.
        both_wrong: Pictures that neither names correctly.
        accuracy: Accuracy of the run minus that of the first one.
        log_loss: The same for the log loss, where less is better; None where it cannot be computed.
        p_value: Of McNemar's exact test.
        corrected_p_value: The same, corrected for the number of comparisons (Holm).
        can_be_chance: Whether `corrected_p_value` is 0.05 or more.
        classes: Each class, those with the most differing pictures first.
        better_pictures: Some of the pictures that count as `better`, by path, at most 20.
        worse_pictures: Some of the pictures that count as `worse`.
    """

    letter: str
    against: str
    both_right: int
    better: int
    worse: int
    both_wrong: int
    accuracy: Score
    log_loss: Score | None = None
    p_value: float
    corrected_p_value: float
    can_be_chance: bool
    classes: tuple[ClassPair, ...] = ()
    better_pictures: tuple[str, ...] = ()
    worse_pictures: tuple[str, ...] = ()


class Difference(Record):
    """Something that is not the same in all runs.

    Attributes:
        name: The setting, set of pictures, version or machine.
        values: Its value by the run's letter; a run that does not have it is left out.
    """

    name: str
    values: dict[str, Any]


class Comparison(Record):
    """Finished runs on the same evaluation pictures, side by side: what `compare` returns.

    Attributes:
        num_pictures: The pictures that the runs are compared on.
        is_common_only: The runs have other evaluation pictures too, which are left out.
        runs: Each run: scores, time, size.
        pairs: Each run but the first, against the first.
        sentences: The result in words: a sentence or more for each pair.
        settings: Settings that differ; those that change the trained model first.
        data: What differs in the pictures and classes.
        environment: Versions and machines that differ.
        notes: What to be careful about, one sentence each.

    Example:
        >>> import classifold
        >>> found = classifold.compare("runs/first", "runs/second")
        >>> found
        Comparison(A first, B second, 9 pictures)
        >>> found.pairs[0].can_be_chance
        True
    """

    format: Literal[1] = 1
    num_pictures: Annotated[int, Field(ge=1)]
    is_common_only: bool
    runs: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]
    sentences: tuple[str, ...] = ()
    settings: tuple[Difference, ...] = ()
    data: tuple[Difference, ...] = ()
    environment: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    def write_page(self, path: str | Path) -> Path:
        """Write the comparison as one page that opens offline in any browser; return its path.

        Args:
            path: The file to create or to replace, such as "comparison.html".

        Raises:
            ClassifoldError: The file cannot be written, or is one of a run folder's own.

        Example:
            >>> import classifold
            >>> found = classifold.compare("runs/first", "runs/second")
            >>> found.write_page("comparison.html").name
            'comparison.html'
        """
        from classifold.comparison.page import write_page

        return write_page(self, Path(path))

    def __repr__(self) -> str:
        runs = ", ".join(f"{one.letter} {one.name}" for one in self.runs)
        return f"Comparison({runs}, {self.num_pictures:,} pictures)"
