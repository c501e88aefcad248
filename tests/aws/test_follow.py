"""Following a job live, through everything that happens to the line to AWS."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifold.aws.clients import Aws
from classifold.aws.follow import JobEnd, follow_job, format_line
from classifold.aws.jobs import stop_job
from classifold.cli import cloud as aws_commands
from classifold.cli.cloud_answers import print_end
from classifold.errors import AwsError, Interrupted
from classifold.training.journal import EpochRow, print_epoch

if TYPE_CHECKING:
    from lab.cloud import Cloud

LINE = (
    "fine-tuning epoch 12 of 20: validation loss 0.2, accuracy 0.9130; training loss 0.3121, accuracy 0.9; "
    "learning rate 0.0005 (60.00 s, 120.0 pictures/s)"
)
EPOCHS = f"""
import sys, time
print("begins")
for _ in range(3):
    time.sleep(0.3)
    print("{LINE}", flush=True)
"""


def test_status_and_log_lines_are_told_once_each_in_order_to_the_end(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    told = list[str]()
    end = follow_job(aws, start_job(script=EPOCHS), tell=told.append, poll_seconds=0.2)
    assert end.exit_code == 0
    assert end.row.status == "Completed"
    steps = [line.split(maxsplit=1)[1].partition(":")[0] for line in told if line[2:3] == ":"]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert told.count("begins") == 1
    assert sum(line.startswith("fine-tuning epoch 12 of 20: ") for line in told) == 3


def test_a_failed_job_ends_with_its_own_code_and_its_whole_reason(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    script = """
    import pathlib, sys
    pathlib.Path("output/failure").write_text("error: rose: no pictures\\nhint: add some")
    sys.exit(7)
    """
    end = follow_job(aws, start_job(script=script), tell=lambda _: None, poll_seconds=0.2)
    assert end.exit_code == 7
    assert "error: rose: no pictures\nhint: add some" in end.row.failure_reason


def test_throttling_and_lost_connections_do_not_end_the_following(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    name = start_job(script=EPOCHS)
    # boto3's own patience is kept short, so that it is ours that is tried.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    aws_account.throttle("logs:*", count=2)
    aws_account.fail("DescribeTrainingJob", count=1)
    end = follow_job(Aws(aws.config), name, tell=told.append, poll_seconds=0.2)
    assert end.exit_code == 0
    assert told.count("begins") == 1
    assert any("retrying" in line for line in told)


def test_expired_credentials_are_waited_for_and_said_once(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    told = list[str]()
    name = start_job(script=EPOCHS)
    aws_account.expire("logs:*", count=2)
    end = follow_job(aws, name, tell=told.append, poll_seconds=0.2)
    assert end.exit_code == 0
    assert sum("credentials have expired" in line for line in told) == 1
    assert told.count("begins") == 1


def test_a_missing_right_ends_the_following_at_once_and_is_named(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    name = start_job(script=EPOCHS)
    aws_account.deny("logs:DescribeLogStreams")
    with pytest.raises(AwsError, match="the permission logs:DescribeLogStreams is missing"):
        follow_job(aws, name, tell=lambda _: None, poll_seconds=0.2)


def test_an_epoch_is_told_with_how_far_the_job_is() -> None:
    shown = "epoch 12 of 20: validation loss 0.200, accuracy 0.913 (60.0 s"
    assert format_line(LINE) == f"fine-tuning {shown}, up to 8 min left)"
    assert format_line(LINE.replace("fine-tuning", "head")) == f"head {shown})"
    assert format_line("anything else") == "anything else"


def test_an_epoch_is_read_from_the_line_that_training_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    row = EpochRow("fine_tune", 6, float("nan"), 0.25, float("inf"), 0.75, 1e-05, 0.004)
    print_epoch(row, number=1, last=10, num_pictures=100)
    assert format_line(stream.getvalue().strip()) == (
        "fine-tuning epoch 1 of 10: validation loss inf, accuracy 0.750 (0.0 s)"
    )


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace("60.00 s", "6.0.0 s"),
        LINE.replace("12", "9" * 5000),
        LINE.replace("120.0 pictures/s", ""),
        f"kept {LINE}",
        "fine-tuning epoch 1/10: 2 of 3 pictures",
    ],
)
def test_a_line_that_only_looks_like_an_epoch_is_told_as_it_is(line: str) -> None:
    assert format_line(line) == line


def test_ctrl_c_before_the_job_is_known_names_none(aws: Aws) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    aws.client("sagemaker").meta.events.register("before-send.sagemaker.Search", interrupt)
    with pytest.raises(Interrupted) as caught:
        follow_job(aws, None, tell=print)
    assert "None" not in str(caught.value)
    assert "classifold follow;" in str(caught.value)


# Spot: each machine says that it is there, and saves when it is asked to leave; the third one ends.
SAVES = """
import pathlib, signal, sys, time
count, kept = pathlib.Path("checkpoints/count"), pathlib.Path("checkpoints/saved")
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
def leave(*_):
    kept.write_text(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()))
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
if kept.exists():
    print(f"resumed from batch 17 of epoch 3 (checkpoint of {kept.read_text()} UTC)", flush=True)
else:
    print("head epoch 1 of 3: validation loss 1.0", flush=True)
print(f"machine {number} ready", flush=True)
if number < 3:
    time.sleep(60)
"""


def follow_and_interrupt(aws: Aws, name: str, aws_account: Cloud) -> tuple[JobEnd, list[str]]:
    """Follow a job whose first two machines are taken back; return how it ended and what was told."""
    told = list[str]()

    def see(line: str) -> None:
        told.append(line)
        if line in ("machine 1 ready", "machine 2 ready"):
            aws_account.interrupt(name)

    return follow_job(aws, name, tell=see, poll_seconds=0.2), told


def test_interruptions_are_told_when_they_come_and_what_they_cost_when_it_goes_on(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    aws_account.set_jobs(wait_seconds=1.2)
    name = start_job(script=SAVES, SPOT=True, MAX_WAIT_HOURS=24)
    end, told = follow_and_interrupt(aws, name, aws_account)
    assert end.exit_code == 0
    came = [place for place, line in enumerate(told) if "AWS took the spot machine back" in line]
    went_on = [place for place, line in enumerate(told) if "resumed from its checkpoint of" in line]
    assert len(came) == len(went_on) == 2
    assert came[0] < told.index("machine 2 ready") < went_on[0] + 2 <= came[1] + 2 < went_on[1] + 2
    for place in went_on:
        found = re.fullmatch(
            r"(..:..:..) Interrupted: the job resumed from its checkpoint of ..:..:..: "
            r"([0-9]+) s of training lost; ([0-9]+) s waited for a machine",
            told[place],
        )
        assert found is not None, told[place]
        assert told[came[went_on.index(place)]].startswith(found[1])
        assert int(found[2]) <= 2
        assert 1 <= int(found[3]) <= 10
    first, second = end.row.interruptions
    assert first.came < second.came
    assert end.row.lost_seconds == pytest.approx(first.lost_seconds + second.lost_seconds, abs=0.1)
    assert end.row.waited_seconds >= 2.4
    # One machine at a time needs no name in front of each line.
    assert not [line for line in told if line.startswith("algo-1: ")]


def test_whoever_follows_late_and_whoever_looks_later_see_the_same_interruptions(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud, classifold: Callable[..., Any]
) -> None:
    name = start_job(script=SAVES, SPOT=True)
    end, told = follow_and_interrupt(aws, name, aws_account)
    late = list[str]()
    again = follow_job(aws, name, tell=late.append, poll_seconds=0.2)
    assert sorted(line for line in late if "Interrupted" in line) == sorted(
        line for line in told if "Interrupted" in line
    )
    assert again.row.interruptions == end.row.interruptions
    settings = ("--set", "PROJECT_NAME=petals")
    seen = json.loads(classifold("jobs", name, "--json", *settings).out)
    assert seen["lost_seconds"] == end.row.lost_seconds
    assert [one["came"] for one in seen["interruptions"]] == [
        one.came.isoformat() for one in end.row.interruptions
    ]
    shown = classifold("jobs", name, *settings).out
    assert shown.count("the job resumed from its checkpoint of") == 2
    assert "Spot:   interrupted 2 times: " in shown
    (listed,) = json.loads(classifold("jobs", "--json", *settings).out)
    assert len(listed["interruptions"]) == 2
    assert listed["lost_seconds"] is None
    assert (
        f"{name} was interrupted 2 times: lost training: see classifold jobs {name}; "
        in classifold("jobs", *settings).out
    )


def test_a_job_that_begins_anew_says_so_and_what_that_cost(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    script = "print('head epoch 1 of 3: validation loss 1.0', flush=True); import time; time.sleep(1.5)"
    name, told = start_job(script=script, SPOT=True), list[str]()

    def see(line: str) -> None:
        told.append(line)
        if line.startswith("head epoch 1 of ") and not [one for one in told if "Interrupted" in one]:
            time.sleep(0.5)
            aws_account.interrupt(name, is_sudden=True)

    end = follow_job(aws, name, tell=see, poll_seconds=0.2)
    (said,) = [line for line in told if "the job started again without a checkpoint: " in line]
    assert re.search(r": [12] s of training lost; 0 s waited for a machine$", said)
    assert end.row.lost_seconds is not None
    assert end.row.lost_seconds > 0.4


def test_a_machine_that_is_taken_back_while_it_loads_the_pictures_loses_nothing(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    aws_account.set_jobs(download_seconds=1)
    name = start_job(script="print('trained')", SPOT=True)
    told = list[str]()

    def see(line: str) -> None:
        if "Downloading" in line and not told:
            aws_account.interrupt(name)
            told.append(line)
        if "Interrupted" in line:
            told.append(line)

    end = follow_job(aws, name, tell=see, poll_seconds=0.2)
    assert "has lost nothing and starts again on the next machine, by itself" in told[1]
    assert "the job continues, nothing was lost; " in told[2]
    assert (end.row.lost_seconds, len(end.row.interruptions)) == (0.0, 1)


@pytest.mark.parametrize("way", ["stopped", "waited too long"])
def test_a_job_that_ends_while_it_waits_for_a_machine_leaves_its_checkpoint(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud, way: str
) -> None:
    aws_account.set_jobs(wait_seconds=60)
    hours = 4 / 3600 if way == "waited too long" else 24
    name = start_job(script=SAVES, SPOT=True, MAX_HOURS=hours, MAX_WAIT_HOURS=hours)
    told = list[str]()

    def see(line: str) -> None:
        told.append(line)
        if " ready" in line:
            aws_account.interrupt(name)
        if "AWS took the spot machine back" in line and way == "stopped":
            stop_job(aws, name, tell=told.append)

    end = follow_job(aws, name, tell=see, poll_seconds=0.2)
    assert (end.row.status, end.exit_code) == ("Stopped", 130)
    assert end.row.step == ("MaxWaitTimeExceeded" if way == "waited too long" else "Stopped")
    assert not [line for line in told if "resumed from its checkpoint of" in line]
    (one,) = end.row.interruptions
    assert (one.has_gone_on, one.lost_seconds) == (False, None)
    assert end.row.archive_uri == ""
    assert end.row.checkpoint_uri == f"s3://petals.output/checkpoints/{name}/"
    kept = aws.client("s3").list_objects_v2(Bucket="petals.output", Prefix=f"checkpoints/{name}/")
    assert kept["KeyCount"] == 2


def test_what_a_job_writes_cannot_steer_the_terminal_of_whoever_follows(
    aws: Aws, start_job: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    script = """
    import pathlib, sys
    print("epoch\\x1b[2J\\x1b]0;owned\\x07 one\\ttwo")
    pathlib.Path("output/failure").write_text("error: \\x1b[31mrose: bad\\nhint: \\x9bmend it")
    sys.exit(1)
    """
    end = follow_job(aws, start_job(script=script), tell=aws_commands.show, poll_seconds=0.2)
    print_end(end, as_json=False)
    printed = capfd.readouterr().out
    assert "epoch\\x1b[2J\\x1b]0;owned\\x07 one" in printed
    assert "error: \\x1b[31mrose: bad\nhint: \\x9bmend it" in printed
    assert not set(printed) & {"\x1b", "\x07", "\x9b", "\t"}
