"""What an epoch reached: monitors that compare, a line for a log, a row of history.csv."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from classifold.training.journal import EpochRow, print_epoch, write_history


def make(**values: Any) -> EpochRow:
    base = {
        "stage": "head",
        "epoch": 3,
        "loss": 0.51,
        "accuracy": 0.75,
        "val_loss": 0.625,
        "val_accuracy": 0.8,
        "learning_rate": 0.000123,
        "seconds": 2.0,
    }
    return EpochRow(**{**base, **values})


def test_smaller_is_better_whatever_is_monitored():
    row = make()
    assert row.monitored("val_loss") == 0.625
    assert row.monitored("loss") == 0.51
    assert row.monitored("val_accuracy") == -0.8
    assert row.monitored("accuracy") == -0.75


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy"])
def test_what_is_no_number_is_the_worst(name):
    assert make(**{name: math.nan}).monitored(name) == math.inf


def test_the_standard_error_is_that_of_a_share_or_of_the_measured_losses():
    row = make(val_loss_error=0.07, num_validation=100)
    assert row.standard_error("val_accuracy") == pytest.approx(0.04)
    assert row.standard_error("val_loss") == 0.07
    assert make(val_accuracy=1.0).standard_error("val_accuracy") == 0


def test_a_log_sees_one_line_an_epoch_of_names_and_values(capfd):
    print_epoch(make(), num_pictures=500)
    (line,) = capfd.readouterr().err.splitlines()
    values = dict(word.split("=") for word in line.split())
    assert values == {
        "stage": "head",
        "epoch": "3",
        "loss": "0.5100",
        "accuracy": "0.7500",
        "val_loss": "0.6250",
        "val_accuracy": "0.8000",
        "learning_rate": "0.000123",
        "seconds": "2.00",
        "pictures_per_second": "250.0",
    }


def test_the_history_has_a_row_an_epoch_with_the_kept_one_marked(tmp_path: Path):
    rows = [make(), make(stage="fine_tune", epoch=4, best=True, val_loss=0.1 + 0.2)]
    write_history(rows, tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    columns = [
        "stage",
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "best",
        "penalty",
    ]
    assert list(read[0]) == columns
    assert [row["best"] for row in read] == ["false", "true"]
    assert [row["epoch"] for row in read] == ["3", "4"]
    assert float(read[1]["val_loss"]) == 0.1 + 0.2
