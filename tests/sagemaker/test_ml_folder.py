"""The tree of a job, laid out and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifold.errors import JobError
from classifold.sagemaker.ml_folder import MlFolder


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "input" / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_was_laid_out_is_read_again(tmp_path: Path) -> None:
    ml = MlFolder(tmp_path / "ml")
    ml.write(
        hyperparameters={"EPOCHS": "3"},
        channels={"flowers": {"TrainingInputMode": "File"}},
        hosts=("algo-2", "algo-1"),
        checkpoint_uri="s3://bucket/job/checkpoints/",
    )
    assert ml.read_hyperparameters() == {"EPOCHS": "3"}
    assert ml.read_channels() == {"flowers": {"TrainingInputMode": "File"}}
    assert ml.read_cluster().hosts == ("algo-1", "algo-2")
    assert ml.has_checkpoints
    assert ml.channel_dir("flowers").is_dir()
    assert ml.model_dir.is_dir()


def test_the_files_have_the_keys_that_sagemaker_writes(tmp_path: Path) -> None:
    MlFolder(tmp_path / "ml").write(
        hyperparameters={}, channels={"a": {}}, instance_type="ml.m5.xlarge", checkpoint_uri="s3://b/c/"
    )
    config_dir = tmp_path / "ml" / "input" / "config"
    resources = json.loads((config_dir / "resourceconfig.json").read_text())
    assert resources["current_host"] == "algo-1"
    assert resources["current_instance_type"] == "ml.m5.xlarge"
    assert resources["instance_groups"][0]["hosts"] == ["algo-1"]
    place = json.loads((config_dir / "checkpointconfig.json").read_text())
    assert place == {"S3Uri": "s3://b/c/", "LocalPath": "/opt/ml/checkpoints"}


def test_a_job_without_a_checkpoint_config_keeps_none(tmp_path: Path) -> None:
    ml = MlFolder(tmp_path / "ml")
    ml.write(hyperparameters={}, channels={})
    assert not ml.has_checkpoints


def test_what_sagemakers_own_tools_add_is_no_setting(tmp_path: Path) -> None:
    given = {"sagemaker_program": '"x.py"', "_tuning_objective_metric": "val_loss", "EPOCHS": "3"}
    write(tmp_path, "hyperparameters.json", json.dumps(given))
    ml = MlFolder(tmp_path)
    assert ml.read_hyperparameters() == {"EPOCHS": "3"}
    assert ml.read_foreign() == ["_tuning_objective_metric", "sagemaker_program"]


def test_values_that_are_no_strings_are_read_as_their_json(tmp_path: Path) -> None:
    write(tmp_path, "hyperparameters.json", '{"EPOCHS": 3, "HEAD_LAYERS": [8]}')
    assert MlFolder(tmp_path).read_hyperparameters() == {"EPOCHS": "3", "HEAD_LAYERS": "[8]"}


def test_without_a_word_on_channels_the_folders_are_the_channels(tmp_path: Path) -> None:
    (tmp_path / "input" / "data" / "flowers").mkdir(parents=True)
    (tmp_path / "input" / "data" / "flowers-manifest").touch()
    assert MlFolder(tmp_path).read_channels() == {"flowers": {}}
    assert MlFolder(tmp_path / "nowhere").read_channels() == {}


def test_without_a_word_on_machines_there_is_one(tmp_path: Path) -> None:
    assert MlFolder(tmp_path).read_cluster().hosts == ("algo-1",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file or directory"),
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        write(tmp_path, "hyperparameters.json", "")
        path = tmp_path / "input" / "config" / "hyperparameters.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(JobError) as caught:
        MlFolder(tmp_path).read_hyperparameters()
    assert said in str(caught.value)
    assert "hyperparameters.json" in caught.value.faults[0].where
