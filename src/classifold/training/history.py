"""What an epoch reached: a row of history.csv, and a line that both a person and a log filter can read."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from classifold.progress import Advance, is_terminal, say


@dataclass
class EpochRow:
    """One epoch; losses are means over pictures, accuracies shares, seconds those of the whole epoch.

    `val_loss_error` is the standard error of val_loss. Where a head was found and not learned step by step, a
    row is one strength of its regularisation, the `penalty`, and the learning rate is 0.
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


def print_epoch(row: EpochRow, *, num_pictures: int, advance: Advance) -> None:
    """Tell of an epoch: on the progress bar for a person, as one line of `name=value` for a log."""
    rate = num_pictures / max(row.seconds, 1e-9)
    if is_terminal():
        # Short, so that it fits a terminal of 80 columns beside the bar, the rate and the time left.
        advance.describe(f"{row.stage} {row.epoch}: val {row.val_accuracy:.3f}")
        return
    line = (
        f"stage={row.stage} epoch={row.epoch} loss={row.loss:.4f} accuracy={row.accuracy:.4f} "
        f"val_loss={row.val_loss:.4f} val_accuracy={row.val_accuracy:.4f} "
        f"learning_rate={row.learning_rate:.3g} seconds={row.seconds:.2f} pictures_per_second={rate:.1f}"
    )
    say(line)


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
