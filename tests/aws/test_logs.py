"""Following a job live, through everything that happens to the line to AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifold import aws_commands
from classifold.aws.clients import Aws
from classifold.aws.logs import follow_job, format_line
from classifold.aws_answers import print_end
from classifold.errors import AwsError, Interrupted

if TYPE_CHECKING:
    from lab.cloud import Cloud

LINE = (
    "stage=fine_tune epoch=12 loss=0.3121 accuracy=0.9 val_loss=0.2 val_accuracy=0.9130 learning_rate=0.0005 "
    "seconds=60.00 pictures_per_second=120.0"
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
    assert sum(line.startswith("epoch 12/15 fine_tune: ") for line in told) == 3


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
    assert any("trying again" in line for line in told)


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
    with pytest.raises(AwsError, match="the right logs:DescribeLogStreams is missing"):
        follow_job(aws, name, tell=lambda _: None, poll_seconds=0.2)


def test_an_epoch_is_told_with_how_far_the_job_is() -> None:
    assert format_line(LINE, 20) == (
        "epoch 12/20 fine_tune: val_loss 0.200, val_accuracy 0.913, 60.0 s, up to 8 min left"
    )
    assert format_line("anything else", 20) == "anything else"


@pytest.mark.parametrize(
    "line", ["stage=head epoch=1 x seconds=1.2.3", f"stage=head epoch={'9' * 5000} x seconds=1", "seconds=."]
)
def test_a_line_that_only_looks_like_an_epoch_is_told_as_it_is(line: str) -> None:
    assert format_line(line, 20) == line


def test_ctrl_c_before_the_job_is_known_names_none(aws: Aws) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    aws.client("sagemaker").meta.events.register("before-send.sagemaker.Search", interrupt)
    with pytest.raises(Interrupted) as caught:
        follow_job(aws, None, tell=print)
    assert "None" not in str(caught.value)
    assert "classifold follow;" in str(caught.value)


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
