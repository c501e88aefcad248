"""What a job asks for: read with every fault at once, before anything heavy is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.container.order import check_room, read_order
from classifold.errors import DiskError, JobError, SettingsError
from classifold.sagemaker.channels import find_channel
from classifold.sagemaker.ml_folder import MlFolder


@pytest.fixture
def ml(tmp_path: Path, draw_colours: Callable[..., Path]) -> MlFolder:
    """A job that can be begun."""
    ml = MlFolder(tmp_path / "ml")
    channel = {"TrainingInputMode": "File"}
    ml.write(hyperparameters={"EPOCHS": "3"}, channels={"colours": channel}, checkpoint_uri="s3://b/c/")
    for set_name, count in (("training", 6), ("validation", 2), ("evaluation", 3)):
        draw_colours(ml.channel_dir("colours") / set_name, count=count)
    return ml


def set_json(ml: MlFolder, name: str, content: Any) -> None:
    (ml.config_dir / f"{name}.json").write_text(json.dumps(content))


def order(ml: MlFolder, tmp_path: Path) -> Any:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_order(ml, scratch)


def refusal(ml: MlFolder, tmp_path: Path, kind: type[Exception] = JobError) -> str:
    with pytest.raises(kind) as caught:
        order(ml, tmp_path)
    return str(caught.value)


def test_the_settings_are_the_jobs_and_the_places_the_machines(ml: MlFolder, tmp_path: Path) -> None:
    found = order(ml, tmp_path)
    assert found.config.EPOCHS == 3
    assert found.config.DATA_NAME == "colours"
    assert found.config.split_dir == ml.channel_dir("colours")
    assert str(tmp_path / "scratch") == found.config.RUNS_DIR
    assert found.checkpoint_dir == ml.checkpoint_dir
    assert found.sets.class_names == ("blue", "green", "red")
    assert found.notes == ()


def test_the_name_is_sagemakers_or_else_made_from_the_time(ml, tmp_path, monkeypatch) -> None:
    assert order(ml, tmp_path).name.startswith("efficientnet-lite0-20")
    monkeypatch.setenv("TRAINING_JOB_NAME", "my-job-7")
    assert order(ml, tmp_path).name == "my-job-7"
    assert order(ml, tmp_path).run_dir == tmp_path / "scratch" / "my-job-7"


def test_values_that_the_sdk_wrote_as_json_once_more_are_read(ml: MlFolder, tmp_path: Path) -> None:
    quoted = {
        "EPOCHS": '"7"', "OPTIMIZER": '"adam"', "HEAD_LAYERS": '"[16, 8]"', "VERTICAL_FLIP": '"true"',
        "DATA_NAME": '"colours"',
    }  # fmt: skip
    set_json(ml, "hyperparameters", quoted)
    config = order(ml, tmp_path).config
    assert (config.EPOCHS, config.OPTIMIZER, config.HEAD_LAYERS) == (7, "adam", (16, 8))
    assert config.VERTICAL_FLIP


def test_hyperparameters_of_sagemakers_own_are_passed_over_with_a_note(ml, tmp_path) -> None:
    set_json(ml, "hyperparameters", {"sagemaker_region": '"x"', "_tuning_objective_metric": "val_loss"})
    (note,) = order(ml, tmp_path).notes
    assert "_tuning_objective_metric, sagemaker_region" in note


def test_every_fault_is_told_at_once_settings_first(ml: MlFolder, tmp_path: Path) -> None:
    set_json(ml, "hyperparameters", {"EPOCH": "3", "IMAGE_SIZE": "2", "OPTIMIZER": "adamm"})
    set_json(ml, "resourceconfig", {"hosts": ["algo-1", "algo-2"], "current_host": "algo-3"})
    set_json(ml, "inputdataconfig", {"a": {}, "b": {}})
    ml.model_dir.rmdir()
    said = refusal(ml, tmp_path, SettingsError)
    for words in (
        "EPOCHS?",
        "IMAGE_SIZE",
        "OPTIMIZER",
        "got algo-3 of algo-1, algo-2",
        "got a, b",
        str(ml.model_dir),
    ):
        assert words in said
    causes = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(causes) == 6
    assert all(line.startswith("error: setting ") for line in causes[:3])


def test_the_machines_of_a_job_are_known_in_one_order_and_a_batch_has_a_picture_for_each(
    ml, tmp_path
) -> None:
    hosts = [f"algo-{number}" for number in (3, 1, 2)]
    said = {"hosts": hosts, "current_host": "algo-2", "network_interface_name": "eth0"}
    set_json(ml, "resourceconfig", said)
    cluster = order(ml, tmp_path).cluster
    assert cluster.hosts == ("algo-1", "algo-2", "algo-3")
    assert (cluster.current, cluster.interface) == ("algo-2", "eth0")
    set_json(ml, "hyperparameters", {"BATCH_SIZE": "2"})
    assert "error: setting INSTANCE_COUNT: more hosts than pictures in a batch, got 3" in refusal(
        ml, tmp_path, SettingsError
    )


def test_of_several_channels_the_one_that_data_name_names_is_read(ml: MlFolder) -> None:
    set_json(ml, "inputdataconfig", {"weights": {}, "colours": {"TrainingInputMode": "FastFile"}})
    assert find_channel(ml, wanted="colours") == "colours"
    with pytest.raises(JobError, match="got colours, weights"):
        find_channel(ml, wanted="")


def test_a_job_without_channels_is_refused(ml: MlFolder) -> None:
    set_json(ml, "inputdataconfig", {})
    with pytest.raises(JobError, match="no channel"):
        find_channel(ml, wanted="colours")


def test_pipe_mode_is_refused_with_the_cure(ml: MlFolder) -> None:
    set_json(ml, "inputdataconfig", {"colours": {"TrainingInputMode": "Pipe"}})
    with pytest.raises(JobError, match="set INPUT_MODE to 'File' or 'FastFile'"):
        find_channel(ml, wanted="colours")


def test_a_channel_that_holds_no_sets_is_named(ml: MlFolder, tmp_path: Path) -> None:
    (ml.channel_dir("colours") / "validation").rename(tmp_path / "away")
    assert "there are no validation pictures" in refusal(ml, tmp_path)


# The disk


NEED = {Path("/scratch"): 4e9, Path("/model"): 2e9}


def room(free: dict[Path, float], *, cache: float = 0.0) -> list[str]:
    return check_room(NEED, free, cache=cache, scratch_dir=Path("/scratch"))


def test_a_disk_with_room_is_no_news() -> None:
    assert room({Path("/scratch"): 5e9, Path("/model"): 2e9}, cache=1e9) == []


def test_a_disk_that_is_too_small_is_named_with_need_room_and_cure() -> None:
    with pytest.raises(DiskError) as caught:
        room({Path("/scratch"): 3.5e9, Path("/model"): 1e9})
    said = str(caught.value)
    assert "/scratch: the run needs about 4.0 GB, and 3.5 GB are free" in said
    assert "/model: the run needs about 2.0 GB, and 1.0 GB are free" in said
    assert said.count("raise VOLUME_GB") == 2


def test_a_disk_without_room_for_what_would_be_kept_is_slower_and_no_error() -> None:
    (note,) = room({Path("/scratch"): 5e9, Path("/model"): 2e9}, cache=3e9)
    assert note.startswith("3.0 GB would be cached between epochs, and 1.0 GB are left")


def test_needs_on_one_disk_are_added_up(ml: MlFolder, tmp_path: Path) -> None:
    """Scratch, model and checkpoints are on one disk here: each would fit alone, together they do not."""
    import shutil

    # A model of a 25th of what is free: its 34 copies on the three places are too many.
    units = int(shutil.disk_usage(tmp_path).free / 25 / 4 / 2048)
    set_json(ml, "hyperparameters", {"HEAD_LAYERS": f"[{units}]"})
    said = refusal(ml, tmp_path)
    assert said.count("the run needs about") == 1
    assert "raise VOLUME_GB" in said


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="no list of mounts")
def test_a_small_disk_below_the_model_folder_is_found(
    ml: MlFolder, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    mount("size=1m", folder=ml.model_dir)
    said = refusal(ml, tmp_path)
    assert f"error: {ml.model_dir}: the run needs about" in said
    assert "0.0 GB are free" in said
    assert said.count("error:") == 1
