"""The model that is served, and the change to a new one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx
import pytest

from classifold.errors import RunError, UsageError
from classifold.serve.model import ModelSlot, load_model
from classifold.serve.options import ServeOptions, find_name
from made_card import model_card
from made_models import COLOURS, colour_model


def save_model(path: Path, *, run: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(colour_model(model_card(COLOURS, run=run)), path)


def test_a_model_has_the_name_of_its_run_and_the_hash_of_its_file(tmp_path: Path) -> None:
    save_model(tmp_path / "model" / "model.onnx", run="flowers-1")
    model = load_model(ServeOptions(run=tmp_path / "model"))
    assert (model.name, model.run) == ("flowers-1", "flowers-1")
    assert model.sha256 == hashlib.sha256((tmp_path / "model" / "model.onnx").read_bytes()).hexdigest()


def test_a_model_without_the_name_of_a_run_has_that_of_its_folder(tmp_path: Path) -> None:
    save_model(tmp_path / "my-run" / "model.onnx", run="")
    assert load_model(ServeOptions(run=tmp_path / "my-run" / "model.onnx")).name == "my-run"


def test_a_run_is_found_by_its_name_in_the_folder_of_runs(tmp_path: Path) -> None:
    save_model(tmp_path / "runs" / "one" / "model.onnx", run="one")
    assert load_model(ServeOptions(run=Path("one"), runs_dir=tmp_path / "runs")).name == "one"


def test_a_link_that_leads_elsewhere_now_brings_the_new_model(tmp_path: Path) -> None:
    for name in ("old", "new"):
        save_model(tmp_path / name / "model.onnx", run=name)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "old")
    slot = ModelSlot(ServeOptions(run=link))
    before = slot.current
    link.unlink()
    link.symlink_to(tmp_path / "new")
    assert slot.reload().run == "new"
    assert slot.current.run == "new"
    assert before.run == "old"
    assert before.name == slot.current.name == "current"


def test_a_model_without_a_name_of_its_own_keeps_that_of_its_first_run(tmp_path: Path) -> None:
    save_model(tmp_path / "model" / "model.onnx", run="old")
    slot = ModelSlot(ServeOptions(run=tmp_path / "model"))
    save_model(tmp_path / "model" / "model.onnx", run="new")
    assert (slot.reload().name, slot.current.run) == ("old", "new")


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("runs/first", "first"),
        ("cur/", "cur"),
        ("rose.tar.gz", "rose"),
        ("s3://bucket/jobs/rose.tar.gz", "rose"),
        ("s3://bucket/job/output/model.tar.gz", None),
        ("runs/first/model.onnx", None),
        ("/opt/ml/model", None),
        (".", None),
        ("..", None),
        ("/", None),
        ("f" * 64, None),
    ],
)
def test_a_model_is_called_as_run_says_where_that_says_anything(run: str, name: str | None) -> None:
    assert find_name(run) == name


def test_the_option_name_goes_before_what_run_says(tmp_path: Path) -> None:
    save_model(tmp_path / "one" / "model.onnx", run="run-1")
    model = load_model(ServeOptions(run=tmp_path / "one", name="flowers"))
    assert (model.name, model.run) == ("flowers", "run-1")


@pytest.mark.parametrize("content", [b"", b"broken", None], ids=["empty", "damaged", "gone"])
def test_a_broken_new_model_leaves_the_old_one(tmp_path: Path, content: bytes | None) -> None:
    run = tmp_path / "run"
    save_model(run / "model.onnx", run="good")
    slot = ModelSlot(ServeOptions(run=run))
    if content is None:
        shutil.rmtree(run)
    else:
        (run / "model.onnx").write_bytes(content)
    with pytest.raises(RunError):
        slot.reload()
    assert slot.current.run == "good"


def test_an_error_that_the_model_cannot_promise_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model.onnx", run="x")
    with pytest.raises(UsageError):
        load_model(ServeOptions(run=tmp_path / "model.onnx", error=0.01))
