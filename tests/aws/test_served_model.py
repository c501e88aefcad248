"""The model of an endpoint comes from every place that a run can be in, and is always the same archive."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifold.aws.clients import Aws
from classifold.aws.served_model import open_served_model, write_served_archive
from classifold.errors import RunError

if TYPE_CHECKING:
    from lab.cloud import Cloud

MakeRun = Callable[[str], Path]


def quiet(_: str) -> None:
    return


def pack(run: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for path in run.iterdir():
            archive.add(path, arcname=path.name)
    return target


def test_a_run_is_the_same_model_from_its_folder_its_archive_and_s3(
    aws: Aws, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("rose")
    archive = pack(run, run.parent / "model.tar.gz")
    key = "rose-2026-01-01-00-00-00/output/model.tar.gz"
    aws.client("s3").upload_file(str(archive), "petals.output", key)
    runs = Path(aws.config.RUNS_DIR)
    runs.mkdir()
    (runs / "by-name").symlink_to(run)
    found = {}
    for given in (str(run), "by-name", str(run / "model.onnx"), str(archive), f"s3://petals.output/{key}"):
        with open_served_model(aws, given, tell=quiet) as model:
            found[model.digest] = model.run_name
            last = model.folder
    assert list(found.values()) == ["rose-2026-01-01-00-00-00"]
    assert not last.exists(), "what was downloaded is removed"


def test_the_result_of_a_training_job_is_deployed_by_its_name(
    aws: Aws, aws_account: Cloud, start_job: Callable[..., str], make_run: MakeRun
) -> None:
    run = make_run("rose")
    script = f"import shutil; shutil.copytree({str(run)!r}, 'model', dirs_exist_ok=True)"
    name = start_job(script=script)
    waiter_of(aws).wait(TrainingJobName=name, WaiterConfig={"Delay": 1})
    with open_served_model(aws, name, tell=quiet) as model:
        assert model.run_name == name
        assert (model.folder / "model.onnx").is_file()


def waiter_of(aws: Aws) -> object:
    return aws.client("sagemaker").get_waiter("training_job_completed_or_stopped")


def test_an_archive_of_the_same_files_has_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    import os

    run = make_run("rose")
    write_served_archive(run, tmp_path / "one.tar.gz")
    for path in run.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    write_served_archive(run, tmp_path / "other.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()


def test_a_model_that_does_not_load_is_refused_before_anything_is_sent(aws: Aws, make_run: MakeRun) -> None:
    run = make_run("rose")
    (run / "model.onnx").write_bytes(b"no model")
    with (
        pytest.raises(RunError, match="the model does not load"),
        open_served_model(aws, str(run), tell=quiet),
    ):
        pass


def test_an_archive_that_leads_out_of_its_folder_is_refused(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x", arcname="../model.onnx")
    with (
        pytest.raises(RunError, match=r"model\.tar\.gz"),
        open_served_model(aws, str(tmp_path / "model.tar.gz"), tell=quiet),
    ):
        pass
