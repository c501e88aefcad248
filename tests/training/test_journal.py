"""What an epoch reached: monitors that compare, a line for a log, a row of history.csv."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from classifold.settings.config import Monitor
from classifold.training.journal import (
    EpochRow,
    describe_epoch,
    name_stage,
    print_choice,
    print_epoch,
    print_penalty,
    write_history,
)


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


def test_a_terminal_sees_an_epoch_and_the_search_in_words_that_fit_60_columns(
    monkeypatch: pytest.MonkeyPatch,
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    row = make(epoch=12, seconds=185, penalty=0.003)
    print_epoch(row, num_pictures=500)
    print_penalty(row, number=4, most=5)
    print_choice(row, monitor="val_loss", reason="all of them were tried")
    print_choice(row, monitor="val_accuracy", reason="all of them were tried")
    lines = sys.stderr.getvalue().splitlines()
    assert lines == [
        "epoch 12: validation loss 0.625, accuracy 0.800 (3 min 05 s)",
        "head 4/5: regularization 0.003: validation loss 0.625",
        "chosen: regularization 0.003, the lowest validation loss",
        "chosen: regularization 0.003, the highest validation accuracy",
    ]
    assert max(map(len, lines[:3])) <= 60


def test_the_search_for_the_head_is_told_as_a_search(capfd):
    row = make(penalty=0.03, seconds=1.234)
    print_penalty(row, number=4, most=5)
    print_choice(row, monitor="val_loss", reason="the next 2 were no better")
    assert capfd.readouterr().err.splitlines() == [
        "head 4/5: regularization 0.03: validation loss 0.625, accuracy 0.800 (1.2 s)",
        "head: chosen: regularization 0.03, validation loss 0.625, accuracy 0.800: "
        "the lowest validation loss; the next 2 were no better",
    ]


@pytest.mark.parametrize("monitor", get_args(Monitor))
def test_every_monitor_has_its_words(monitor, capfd):
    print_choice(make(penalty=1e-05), monitor=monitor, reason="all of them were tried")
    assert re.search(
        r": the (lowest|highest) (training|validation) (loss|accuracy); ", capfd.readouterr().err
    )


def test_stages_have_names_that_a_person_knows():
    assert [name_stage(one) for one in ("head", "fine_tune")] == ["the head", "fine-tuning"]
    assert describe_epoch("fine_tune", number=6, last=15) == "fine-tuning, epoch 6 of 15"
    assert describe_epoch("head", number=1, last=3) == "training the head, epoch 1 of 3"


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
