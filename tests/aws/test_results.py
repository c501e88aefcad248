"""Bringing a job's result home: whole, checked, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifold import names
from classifold.aws.jobs import describe_job, stop_job
from classifold.aws.results import fetch_job
from classifold.errors import AwsError, JobError, RunError

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from lab.cloud import Cloud

JOB = "petals-2026-01-01-00-00-00"


def ignore(_: str) -> None:
    pass


def end_of(aws: Aws, name: str) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = str(describe_job(aws, name)["TrainingJobStatus"])
        if status not in ("InProgress", "Stopping"):
            return status
        time.sleep(0.1)
    raise AssertionError(f"{name} does not end")


@pytest.fixture
def trains(colour_run: Path) -> str:
    """Return a script that leaves a run folder with every artefact, and a model that loads."""
    return f"""
    import json, pathlib, shutil
    model = pathlib.Path("model")
    (model / "checkpoint" / "variables").mkdir(parents=True)
    (model / "checkpoint" / "saved_model.pb").write_text("graph")
    for name in {[name for name in names.ARTEFACTS if name != "checkpoint"]}:
        (model / name).write_text("{{}}")
    shutil.copy({str(colour_run / "model.onnx")!r}, model / "model.onnx")
    """


def test_a_completed_job_becomes_a_run_folder(aws: Aws, start_job: Callable[..., str], trains: str) -> None:
    assert end_of(aws, start_job(script=trains)) == "Completed"
    told = list[str]()
    run_dir = fetch_job(aws, None, tell=told.append)
    assert run_dir == Path("runs") / JOB
    assert {path.name for path in run_dir.iterdir()} == {*names.ARTEFACTS, names.JOB_JSON}
    bill = json.loads((run_dir / names.JOB_JSON).read_text())
    assert (bill["name"], bill["num_instances"], bill["is_spot"]) == (JOB, 1, False)
    assert bill["usd"] > 0
    assert bill["billable_seconds"] >= 1
    assert bill["price_source"]
    assert (run_dir / "checkpoint" / "saved_model.pb").read_text() == "graph"
    assert [path.name for path in Path("runs").iterdir()] == [JOB]
    assert told == [f"s3://petals.output/{JOB}/output/model.tar.gz is unpacked in {run_dir}"]


def test_a_result_that_is_there_is_not_downloaded_again(
    aws: Aws, start_job: Callable[..., str], trains: str, aws_account: Cloud
) -> None:
    end_of(aws, start_job(script=trains))
    fetch_job(aws, JOB, tell=ignore)
    aws_account.forget_calls()
    told = list[str]()
    fetch_job(aws, JOB, tell=told.append)
    assert aws_account.calls(service="s3") == []
    assert told == [f"runs/{JOB} exists already"]


def test_a_cut_download_is_taken_up_again(
    aws: Aws, start_job: Callable[..., str], trains: str, aws_account: Cloud
) -> None:
    end_of(aws, start_job(script=trains))
    aws_account.fail("GetObject", count=2)
    assert (fetch_job(aws, JOB, tell=ignore) / "model.onnx").is_file()


def test_a_running_job_has_no_result_yet(aws: Aws, start_job: Callable[..., str]) -> None:
    start_job(script="import time; time.sleep(30)")
    with pytest.raises(JobError, match=f"it is still running .*\n.*classifold follow {JOB}"):
        fetch_job(aws, JOB, tell=ignore)
    stop_job(aws, JOB, tell=ignore)


def test_a_failed_job_is_told_with_its_reason_and_the_cure_from_it(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    script = """
    import pathlib, sys
    pathlib.Path("output/failure").write_text("error: rose: no pictures\\nhint: add some")
    sys.exit(1)
    """
    end_of(aws, start_job(script=script))
    with pytest.raises(JobError, match=r"Failed: AlgorithmError: error: rose: no pictures.*\nhint: add some"):
        fetch_job(aws, JOB, tell=ignore)
    assert not Path("runs").exists()


def test_a_stopped_job_gives_its_best_model_so_far(aws: Aws, start_job: Callable[..., str]) -> None:
    script = """
    import pathlib, signal, sys, time
    def leave(*_):
        for name in ("model.keras", "classes.json", "config.json", "history.csv"):
            pathlib.Path("model", name).write_text("{}")
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    print("ready", flush=True)
    time.sleep(60)
    """
    start_job(script=script)
    while describe_job(aws, JOB)["SecondaryStatus"] != "Training":
        time.sleep(0.1)
    time.sleep(0.5)
    stop_job(aws, JOB, tell=ignore)
    assert end_of(aws, JOB) == "Stopped"
    run_dir = fetch_job(aws, JOB, tell=ignore)
    assert run_dir == Path("runs") / f"{JOB}.interrupted"
    assert (run_dir / "model.keras").is_file()


def test_a_result_that_lacks_a_file_is_refused_and_leaves_nothing(
    aws: Aws, start_job: Callable[..., str], trains: str
) -> None:
    end_of(aws, start_job(script=trains + "\n    (model / 'metrics.json').unlink()"))
    with pytest.raises(RunError, match=r"metrics\.json is missing"):
        fetch_job(aws, JOB, tell=ignore)
    assert list(Path("runs").iterdir()) == []


def test_a_result_with_a_link_in_it_is_refused(aws: Aws, start_job: Callable[..., str], trains: str) -> None:
    end_of(aws, start_job(script=trains + "\n    (model / 'more').symlink_to('/etc/passwd')"))
    with pytest.raises(RunError, match="it holds a link or a device"):
        fetch_job(aws, JOB, tell=ignore)


def test_a_result_that_was_removed_says_so(aws: Aws, start_job: Callable[..., str], trains: str) -> None:
    end_of(aws, start_job(script=trains))
    aws.client("s3").delete_object(Bucket="petals.output", Key=f"{JOB}/output/model.tar.gz")
    with pytest.raises(AwsError, match="the result was removed"):
        fetch_job(aws, JOB, tell=ignore)


def test_a_missing_right_to_read_the_result_is_named(
    aws: Aws, start_job: Callable[..., str], trains: str, aws_account: Cloud
) -> None:
    end_of(aws, start_job(script=trains))
    aws_account.deny("s3:GetObject")
    with pytest.raises(AwsError, match="s3:GetObject"):
        fetch_job(aws, JOB, tell=ignore)
