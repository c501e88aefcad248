"""What the commands on AWS print, from summaries made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from classifold.aws.cost import CostEstimate
from classifold.aws.follow import JobEnd
from classifold.aws.jobs import JobRow
from classifold.aws.spot import Interruption, format_clock, summarise_interruptions
from classifold.cli.cloud_answers import build_jobs_table, format_cost, print_end, print_job, print_jobs
from classifold.step_line import format_seconds


def row(**changes: Any) -> JobRow:
    values: dict[str, Any] = {
        "name": "petals-2026-01-01-00-00-00",
        "status": "Completed",
        "step": "Completed",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "seconds": 185.0,
        "billable_seconds": 170,
        "training_seconds": 170,
        "cost": 0.0348,
        "full_cost": 0.0348,
        "saved_share": None,
        "price_source": "a table",
        "metrics": {"val_accuracy": 0.9133, "val_loss": 0.25},
        "instance_type": "ml.g4dn.xlarge",
        "num_instances": 1,
        "is_spot": False,
        "interruptions": (),
        "lost_seconds": 0.0,
        "waited_seconds": 0.0,
        "failure_reason": "",
        "archive_uri": "s3://petals.output/petals-2026-01-01-00-00-00/output/model.tar.gz",
        "checkpoint_uri": "s3://petals.output/checkpoints/petals-2026-01-01-00-00-00/",
    }
    return JobRow(**{**values, **changes})


def test_a_job_stands_in_one_row_with_time_cost_and_metrics() -> None:
    table = build_jobs_table([row()])
    assert dict(zip(table.header, table.rows[0], strict=True)) == {
        "job": "petals-2026-01-01-00-00-00",
        "state": "Completed",
        "machine": "1 x ml.g4dn.xlarge",
        "time": "3 min 05 s",
        "billed": "170 s",
        "cost": "0.03 USD",
        "val_accuracy": "0.913",
        "val_loss": "0.250",
    }


def test_the_end_of_a_job_says_its_last_step_where_that_says_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_end(JobEnd(row(), 0), as_json=False)
    assert "00: Completed, 170 s billed, 0.03 USD\n" in capsys.readouterr().out
    print_end(JobEnd(row(status="Stopped", step="MaxRuntimeExceeded"), 130), as_json=False)
    assert "00: Stopped (MaxRuntimeExceeded), 170 s" in capsys.readouterr().out


SPOT = {
    "is_spot": True,
    "billable_seconds": 41,
    "training_seconds": 120,
    "cost": 0.0306,
    "full_cost": 0.0894,
    "saved_share": 0.6583,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "paid 41 of 120 s, 66 % saved: 0.03 USD instead of 0.09 USD"),
        ({"cost": None, "full_cost": None}, "paid 41 of 120 s, 66 % saved"),
        (
            {"cost": 0.001, "full_cost": 0.02},
            "paid 41 of 120 s, 66 % saved: under 0.01 USD instead of 0.02 USD",
        ),
        ({"cost": 0.001, "full_cost": 0.003}, "paid 41 of 120 s, 66 % saved: under 0.01 USD"),
        (
            {"billable_seconds": 120, "cost": 0.0894, "saved_share": 0.0},
            "paid 120 of 120 s, nothing saved: 0.09 USD",
        ),
    ],
)
def test_the_end_of_a_spot_job_says_what_was_paid_and_what_was_saved(
    changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(JobEnd(row(**{**SPOT, **changes}), 0), as_json=False)
    assert capsys.readouterr().out.splitlines()[0] == f"petals-2026-01-01-00-00-00: Completed, {said}"


@pytest.mark.parametrize("step", ["Stopped", "MaxWaitTimeExceeded"])
def test_a_stopped_job_says_how_to_go_on(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = row(**SPOT, status="Stopped", step=step, archive_uri="")
    print_end(JobEnd(ended, 130), as_json=False)
    said = capsys.readouterr().out
    assert said.endswith(f"Resume: classifold launch --resume {ended.name}\n")
    assert ("hint: there was too little spare capacity: raise MAX_WAIT_HOURS" in said) == (step != "Stopped")
    assert "Result:" not in said
    print_end(JobEnd(row(status="Stopped", step=step, checkpoint_uri=""), 130), as_json=False)
    assert "Go on:" not in capsys.readouterr().out


def test_the_table_says_what_spot_saved() -> None:
    (cells,) = build_jobs_table([row(**SPOT)]).rows
    assert list(cells[2:6]) == [
        "1 x ml.g4dn.xlarge spot",
        "3 min 05 s",
        "41 of 120 s",
        "0.03 USD, 66 % saved",
    ]


def interruption(**changes: Any) -> Interruption:
    values: dict[str, Any] = {
        "came": datetime(2026, 1, 1, tzinfo=UTC),
        "step": "Training",
        "waited_seconds": 93.0,
        "has_gone_on": True,
        "lost_seconds": 12.0,
        "checkpoint": datetime(2025, 12, 31, 23, 59, 48, tzinfo=UTC),
    }
    return Interruption(**{**values, **changes})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([interruption()], "interrupted once: 12 s of training lost; 1 min 33 s waited for a machine"),
        (
            [interruption(), interruption(waited_seconds=0.0, lost_seconds=0.0, step="Starting")],
            "interrupted 2 times: 12 s of training lost; 1 min 33 s waited for a machine",
        ),
        (
            [interruption(), interruption(waited_seconds=None, lost_seconds=None, has_gone_on=False)],
            "interrupted 2 times: at least 12 s of training lost; waiting for a machine, 1 min 33 s before",
        ),
        (
            [interruption(lost_seconds=None)],
            "interrupted once: lost training is not known; 1 min 33 s waited for a machine",
        ),
        ([interruption(lost_seconds=0.0)], "interrupted once: nothing lost; 1 min 33 s waited for a machine"),
    ],
)
def test_interruptions_are_summed_up_and_nothing_is_made_up(found: list[Interruption], said: str) -> None:
    assert summarise_interruptions(found) == said


def test_one_job_is_shown_with_each_of_its_interruptions(capsys: pytest.CaptureFixture[str]) -> None:
    found = (interruption(), interruption(has_gone_on=False, waited_seconds=None, lost_seconds=None))
    shown = row(**SPOT, interruptions=found)
    print_job(shown, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", Training: ")[2] for line in lines if ", Training: " in line] == [
        f"the job resumed from its checkpoint of {format_clock(interruption().checkpoint)}: "
        "12 s of training lost; 1 min 33 s waited for a machine",
        "waiting for a machine",
    ]
    print_job(shown, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert answer["interruptions"][0]["came"] == "2026-01-01T00:00:00+00:00"
    assert (answer["billable_seconds"], answer["training_seconds"], answer["saved_share"]) == (
        41,
        120,
        0.6583,
    )


def test_what_is_not_known_yet_is_left_empty() -> None:
    young = row(
        status="InProgress", step="Starting", seconds=None, billable_seconds=None, cost=None, metrics={}
    )
    (cells,) = build_jobs_table([young]).rows
    assert cells[1] == "Starting"
    assert list(cells[3:]) == [""] * 5


def test_a_failed_job_in_the_table_says_where_its_reason_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs([row(status="Failed", step="Failed", failure_reason="why")], as_json=False)
    assert "failed; the reason: classifold follow petals-2026-01-01-00-00-00" in capsys.readouterr().out


def test_the_end_of_a_failed_job_gives_the_cure_before_the_whole_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = "AlgorithmError: error: rose: no pictures\nhint: add some" + "\nmore" * 200
    print_end(JobEnd(row(status="Failed", failure_reason=reason, archive_uri=""), 1), as_json=False)
    said = capsys.readouterr().out
    assert said.index("hint: add some") < said.index("AlgorithmError")
    assert said.endswith(reason + "\n")


def test_jobs_and_ends_are_json_for_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_jobs([row()], as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["created"] == "2026-01-01T00:00:00+00:00"
    print_end(JobEnd(row(), 0), as_json=True)
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0


def test_a_cost_says_where_its_price_comes_from_or_that_it_is_not_known() -> None:
    known = CostEstimate(0.8, 9.6, "AWS's price list of today", ("for 2 machines together",))
    assert format_cost(known).splitlines() == [
        "Cost: 0.80 USD an hour, 9.60 USD at most (AWS's price list of today)",
        "  for 2 machines together",
    ]
    unknown = CostEstimate(None, None, "", ("the price of ml.x is not known",))
    assert format_cost(unknown).startswith("Cost: not known\n  the price of ml.x")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min")],
)
def test_a_time_is_written_for_a_person(seconds: float, said: str) -> None:
    assert format_seconds(seconds) == said
