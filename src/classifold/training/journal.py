"""What a run writes down: a row of history.csv for each epoch, notes for the user, seconds of each phase."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from classifold.progress import is_notebook, is_terminal, say
from classifold.step_line import format_seconds

_STAGE_NAMES = {"head": "the head", "fine_tune": "fine-tuning"}
# As they begin a line about an epoch; `follow` and `spot` read these lines.
_STAGE_TITLES = {"head": "head", "fine_tune": "fine-tuning"}
_BEST_WORDS = {
    "val_loss": "the lowest validation loss",
    "val_accuracy": "the highest validation accuracy",
    "loss": "the lowest training loss",
    "accuracy": "the highest training accuracy",
}
# Of one kind, at most this many notes are shown one by one.
_TOLD = 20


@dataclass
class EpochRow:
    """One epoch; losses are means over pictures, accuracies shares, seconds those of the whole epoch.

    `val_loss_error` is the standard error of val_loss. Where a head was found and not learned step by step, a
    row is one strength of its regularization, the `penalty`, and the learning rate is 0.
    """

    stage: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    best: bool = False
    val_loss_error: float = 0.0
    num_validation: int = 1
    penalty: float = 0.0

    def monitored(self, name: str) -> float:
        """Return the value of a monitor, turned so that smaller is better; what is no number is the worst."""
        value = float(getattr(self, name))
        if value != value:
            return float("inf")
        return -value if name.endswith("accuracy") else value

    def standard_error(self, monitor: str) -> float:
        """Return by how much chance alone moves a monitor over so few validation pictures."""
        if monitor.endswith("accuracy"):
            share = self.val_accuracy
            return math.sqrt(share * (1 - share) / self.num_validation)
        return self.val_loss_error


def name_stage(stage: str) -> str:
    """Return a stage's name in a sentence, for instance "fine-tuning"."""
    return _STAGE_NAMES.get(stage, stage)


def number_epoch(row: EpochRow, rows: Sequence[EpochRow]) -> int:
    """Return the number of an epoch within its stage, from 1; `row.epoch` counts those of all stages.

    Args:
        row: The epoch.
        rows: All epochs so far; those of its stage are counted up to it.
    """
    return sum(one.stage == row.stage and one.epoch <= row.epoch for one in rows)


def describe_epoch(stage: str, *, number: int, last: int) -> str:
    """Return what is being done in an epoch, for instance "fine-tuning epoch 3/10"; it must fit 60 columns.

    Args:
        stage: The stage that it belongs to.
        number: The number of the epoch within the stage, from 1.
        last: The number of the stage's last epoch.
    """
    return f"{_STAGE_TITLES.get(stage, stage)} epoch {number}/{last}"


def print_epoch(row: EpochRow, *, number: int, last: int, num_pictures: int) -> None:
    """Say what an epoch reached; a log gets more figures, which SageMaker's metrics are read from.

    Args:
        row: The epoch.
        number: The number of the epoch within the stage, from 1.
        last: The number of the stage's last epoch.
        num_pictures: Number of pictures that were learned from in it.
    """
    begin = f"{_STAGE_TITLES.get(row.stage, row.stage)} epoch {number} of {last}: validation "
    if _is_shown_to_a_person():
        say(f"{begin}{_format_scores(row)} ({format_seconds(row.seconds)})")
        return
    training = f"training loss {row.loss:.4f}, accuracy {row.accuracy:.4f}"
    speed = f"{row.seconds:.2f} s, {num_pictures / max(row.seconds, 1e-9):.1f} pictures/s"
    scores = f"{_format_scores(row, decimals=4)}; {training}; learning rate {row.learning_rate:.3g}"
    say(f"{begin}{scores} ({speed})")


def print_kept(row: EpochRow, *, number: int, last: int, stage: str, reason: str) -> None:
    """Say which epoch's weights are kept at the end of a stage, and why.

    Args:
        row: The kept epoch, of this stage or of the one before.
        number: The number of the kept epoch within its stage, from 1.
        last: The number of the last epoch of the stage.
        stage: The stage that ends.
        reason: Why this one is kept.
    """
    if row.stage == stage:
        what = f"{_STAGE_TITLES.get(stage, stage)} epoch {number} of {last}"
    else:
        what = f"{name_stage(row.stage)} as it was before {name_stage(stage)}"
    say(f"kept {what}: validation {_format_scores(row)} ({reason})")


def print_penalty(row: EpochRow, *, number: int, most: int) -> None:
    """Say how well the head does under one strength of its regularization.

    Args:
        row: What was reached; `penalty` is the strength.
        number: Which one of the strengths it is, from 1.
        most: How many there are; not all of them are tried.
    """
    # `spot` finds the first of these lines, and SageMaker's metrics the scores in all of them.
    took = format_seconds(row.seconds) if _is_shown_to_a_person() else f"{row.seconds:.1f} s"
    say(f"head {number}/{most}: regularization {row.penalty:g}: validation {_format_scores(row)} ({took})")


def print_choice(row: EpochRow, *, monitor: str, reason: str) -> None:
    """Say which regularization of the head was chosen, and why the search ended.

    Args:
        row: What was reached with it.
        monitor: CHECKPOINT_MONITOR, by which it was chosen.
        reason: Why no further one was tried.
    """
    # The scores come once more: they are to be the last ones among the job's metrics where no epoch follows.
    scores = f"validation {_format_scores(row)}"
    say(f"chosen: regularization {row.penalty:g}: {scores} ({name_best(monitor)}; {reason})")


def name_best(monitor: str) -> str:
    """Return what the best epoch has, for instance "the lowest validation loss"."""
    return _BEST_WORDS[monitor]


def _is_shown_to_a_person() -> bool:
    """Tell whether lines go to a terminal or a notebook."""
    return is_terminal() or is_notebook()


def _format_scores(row: EpochRow, *, decimals: int = 3) -> str:
    return f"loss {row.val_loss:.{decimals}f}, accuracy {row.val_accuracy:.{decimals}f}"


_COLUMNS = [*[field.name for field in fields(EpochRow)][:9], "penalty"]


def write_history(rows: Sequence[EpochRow], path: Path) -> None:
    """Write history.csv; where a head was found, its rows have a penalty and no learning rate."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            values = {**asdict(row), "best": str(row.best).lower()}
            if row.penalty:  # nothing was learned step by step
                values["learning_rate"] = ""
            writer.writerow(values)


class Clock:
    """Measures phases that follow one another; a phase that comes again adds to its time.

    Attributes:
        seconds: Of every phase that ended.
        phase: The phase under way.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.phase = "start"
        self._since = time.perf_counter()

    def end(self, phase: str) -> None:
        """Say which phase has just ended."""
        self.seconds, self._since = self.count(phase), time.perf_counter()

    def count(self, phase: str) -> dict[str, float]:
        """Return the seconds of every phase as if `phase` ended now."""
        now = time.perf_counter() - self._since
        return {**self.seconds, phase: self.seconds.get(phase, 0.0) + now}

    def go_on_from(self, seconds: dict[str, float]) -> None:
        """Add the phases of an earlier part of the run."""
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value


class Notes:
    """Notes are shown immediately, and kept for the summary.

    Attributes:
        kept: All of them.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []

    def tell(self, note: str) -> None:
        """Keep one note, and tell it."""
        self.tell_all([note])

    def tell_all(self, notes: Sequence[str]) -> None:
        """Keep notes of one kind, and tell them; of very many only the first, and none twice."""
        known = set(self.kept)
        notes = [note for note in notes if note not in known]
        self.kept += notes
        for note in notes[:_TOLD]:
            say(f"note: {note}")
        if len(notes) > _TOLD:
            say(f"note: and {len(notes) - _TOLD} more like it")
