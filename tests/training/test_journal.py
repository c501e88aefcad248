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
    number_epoch,
    print_choice,
    print_epoch,
    print_kept,
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


def test_a_log_sees_one_line_an_epoch_with_all_its_figures(capfd):
    print_epoch(make(stage="fine_tune", epoch=6), number=1, last=10, num_pictures=500)
    assert capfd.readouterr().err == (
        "fine-tuning epoch 1 of 10: validation loss 0.6250, accuracy 0.8000; training loss 0.5100, "
        "accuracy 0.7500; learning rate 0.000123 (2.00 s, 250.0 pictures/s)\n"
    )


def test_a_terminal_sees_epochs_and_the_search_in_the_words_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    row = make(stage="fine_tune", epoch=12, seconds=185)
    print_epoch(row, number=7, last=10, num_pictures=500)
    tried = make(seconds=1.2, penalty=0.003)
    print_penalty(tried, number=4, most=5)
    print_choice(tried, monitor="val_loss", reason="all of them were tried")
    assert sys.stderr.getvalue().splitlines() == [
        "fine-tuning epoch 7 of 10: validation loss 0.625, accuracy 0.800 (3 min 05 s)",
        "head 4/5: regularization 0.003: validation loss 0.625, accuracy 0.800 (1 s)",
        "chosen: regularization 0.003: validation loss 0.625, accuracy 0.800 "
        "(the lowest validation loss; all of them were tried)",
    ]


def test_the_search_for_the_head_is_told_as_a_search(capfd):
    row = make(penalty=0.03, seconds=1.234)
    print_penalty(row, number=4, most=5)
    print_choice(row, monitor="val_loss", reason="the next 2 were no better")
    assert capfd.readouterr().err.splitlines() == [
        "head 4/5: regularization 0.03: validation loss 0.625, accuracy 0.800 (1.2 s)",
        "chosen: regularization 0.03: validation loss 0.625, accuracy 0.800 "
        "(the lowest validation loss; the next 2 were no better)",
    ]


def test_the_end_of_a_stage_names_the_epoch_that_is_kept_and_why(capfd):
    tuned = make(stage="fine_tune", epoch=12)
    for row in (tuned, make(penalty=0.03)):
        print_kept(row, number=7, last=10, stage="fine_tune", reason="the lowest validation loss")
    assert capfd.readouterr().err.splitlines() == [
        "kept fine-tuning epoch 7 of 10: validation loss 0.625, accuracy 0.800 (the lowest validation loss)",
        "kept the head as it was before fine-tuning: validation loss 0.625, accuracy 0.800 "
        "(the lowest validation loss)",
    ]


def test_an_epoch_is_numbered_within_its_stage():
    rows = [make(epoch=1), make(epoch=2), make(stage="fine_tune", epoch=3), make(stage="fine_tune", epoch=4)]
    assert [number_epoch(row, rows) for row in rows] == [1, 2, 1, 2]


@pytest.mark.parametrize("monitor", get_args(Monitor))
def test_every_monitor_has_its_words(monitor, capfd):
    print_choice(make(penalty=1e-05), monitor=monitor, reason="all of them were tried")
    assert re.search(
        r" \(the (lowest|highest) (training|validation) (loss|accuracy); ", capfd.readouterr().err
    )


def test_stages_have_names_that_a_person_knows():
    assert [name_stage(one) for one in ("head", "fine_tune")] == ["the head", "fine-tuning"]
    assert describe_epoch("fine_tune", number=1, last=10) == "fine-tuning epoch 1/10"
    assert describe_epoch("head", number=1, last=3) == "head epoch 1/3"


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
