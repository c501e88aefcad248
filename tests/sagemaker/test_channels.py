"""A job whose training shards are shared out by key: its channels become one folder of three sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.container.order import read_order
from classifold.dataset.scan import load_sets
from classifold.errors import DataError, JobError, SettingsError
from classifold.packing.pack import pack_sets
from classifold.sagemaker.channels import find_channel
from classifold.sagemaker.ml_folder import MlFolder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards with three of training."""
    folder = tmp_path_factory.mktemp("packed")
    generator = np.random.default_rng(0)
    for set_name, count in (("training", 12), ("validation", 2), ("evaluation", 2)):
        for name in ("blue", "red"):
            (folder / "sets" / set_name / name).mkdir(parents=True)
            for number in range(count):
                noise = Image.fromarray(generator.integers(0, 255, (190, 190, 3), np.uint8))
                noise.save(folder / "sets" / set_name / name / f"{number}.png")
    summary = pack_sets(folder / "sets", folder / "shards", shard_mb=1)
    assert sum(name.startswith("training/") for name in summary.files) == 3
    return folder / "shards"


def lay_out(
    root: Path, shards: Path, *, kept: set[int], hosts: tuple[str, ...] = ("algo-1", "algo-2")
) -> MlFolder:
    """Return /opt/ml as it is where these training shards came to the first host."""
    ml = MlFolder(root / "ml")
    names = ["colours", *(f"colours-{one}" for one in ("training", "validation", "evaluation"))]
    channels = {
        name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} for name in names
    }
    channels["colours-training"]["S3DistributionType"] = "ShardedByS3Key"
    ml.write(hyperparameters={"DATA_NAME": "colours"}, channels=channels, hosts=hosts)
    shutil.copy(shards / "shards.json", ml.channel_dir("colours"))
    for set_name in ("training", "validation", "evaluation"):
        for number, path in enumerate(sorted((shards / set_name).iterdir())):
            if set_name != "training" or number in kept:
                shutil.copy(path, ml.channel_dir(f"colours-{set_name}"))
    return ml


def order(ml: MlFolder, tmp_path: Path) -> Any:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_order(ml, scratch)


def set_channels(ml: MlFolder, change: Any) -> None:
    path = ml.config_dir / "inputdataconfig.json"
    channels = json.loads(path.read_text())
    change(channels)
    path.write_text(json.dumps(channels))


def test_the_sets_are_whole_and_what_is_here_is_known(shards: Path, tmp_path: Path) -> None:
    whole = load_sets(shards)
    found = [
        order(lay_out(tmp_path / str(one), shards, kept=kept), tmp_path / str(one))
        for one, kept in enumerate(({0, 2}, {1}))
    ]
    present = [one.sets.present["training"] for one in found]
    assert sorted(present[0] + present[1]) == list(range(24))
    for one in found:
        assert one.sets.class_names == whole.class_names
        assert one.sets.fingerprint == whole.fingerprint
        assert [p.key for p in one.sets.pictures["training"]] == [p.key for p in whole.pictures["training"]]
        assert list(one.sets.present) == ["training"]
        assert one.config.split_dir == Path(one.config.RUNS_DIR) / ".pictures"
        for place in one.sets.present["training"]:
            assert one.sets.pictures["training"][place].read_bytes(max_pixels=10**6)
        assert one.sets.pictures["evaluation"][3].read_bytes(max_pixels=10**6)


def test_on_one_host_all_shards_must_be_there(shards: Path, tmp_path: Path) -> None:
    sets = order(lay_out(tmp_path / "a", shards, kept={0, 1, 2}, hosts=("algo-1",)), tmp_path / "a").sets
    assert sets.present == {}
    with pytest.raises((JobError, DataError), match=r"shard-00001.tar: the shard is missing"):
        order(lay_out(tmp_path / "b", shards, kept={0, 2}, hosts=("algo-1",)), tmp_path / "b")


def test_a_shard_that_is_cut_short_is_named_and_one_that_is_elsewhere_is_not(
    shards: Path, tmp_path: Path
) -> None:
    ml = lay_out(tmp_path, shards, kept={0, 2})
    path = ml.channel_dir("colours-training") / "shard-00002.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(JobError, match=r"shard-00002.tar: the shard is cut short") as caught:
        order(ml, tmp_path)
    assert "shard-00001" not in str(caught.value)


def test_fewer_shards_than_machines_and_none_on_this_one_are_refused(shards: Path, tmp_path: Path) -> None:
    hosts = tuple(f"algo-{number}" for number in range(1, 5))
    with pytest.raises((JobError, SettingsError)) as caught:
        order(lay_out(tmp_path / "a", shards, kept={0}, hosts=hosts), tmp_path / "a")
    assert str(caught.value).startswith(
        "error: setting INSTANCE_COUNT: 4 machines share 3 training shards, so that some would have none"
    )
    with pytest.raises(JobError, match="host algo-1: no training shard of the index came to this host"):
        order(lay_out(tmp_path / "b", shards, kept=set()), tmp_path / "b")


def test_sets_without_a_channel_and_pipe_mode_are_refused(shards: Path, tmp_path: Path) -> None:
    ml = lay_out(tmp_path, shards, kept={0})
    set_channels(ml, lambda channels: channels["colours-training"].update(TrainingInputMode="Pipe"))
    with pytest.raises(JobError, match="channel colours-training: expected File or FastFile mode, got Pipe"):
        find_channel(ml, wanted="colours")
    set_channels(ml, lambda channels: channels.pop("colours-evaluation"))
    with pytest.raises(JobError, match="the channels of some sets are missing, got colours-evaluation"):
        find_channel(ml, wanted="colours")


def test_validation_pictures_are_not_shared_out(shards: Path, tmp_path: Path) -> None:
    ml = lay_out(tmp_path, shards, kept={0, 1})
    set_channels(
        ml, lambda channels: channels["colours-validation"].update(S3DistributionType="ShardedByS3Key")
    )
    with pytest.raises(JobError, match="the validation set: only training shards can be distributed"):
        order(ml, tmp_path)
