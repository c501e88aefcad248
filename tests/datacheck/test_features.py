"""Features of the data check: computed once, and taken by a later check and by training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.datacheck.features import Network, _blank_middle, compute_features, explain_missing
from classifold.dataset.scan import load_sets, scan_folder
from classifold.names import install
from classifold.settings.loader import build_config
from classifold.training.feature_cache import find_cache_dir

SETTINGS = {"IMAGE_SIZE": 32, "EPOCHS": 0, "NUM_WORKERS": 2, "HEAD_PENALTIES": (0.1,)}


class Counting(Network):
    """The network, which counts the pictures that it computes."""

    count = 0

    def __call__(self, pixels: Any) -> Any:
        self.count += len(pixels)
        return super().__call__(pixels)


@pytest.fixture
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_a_check_computes_each_picture_once_and_training_takes_the_same_bits(
    make_classes, split, cache_home: Path, tmp_path: Path, caplog, monkeypatch
):
    from made_runs import train_without_export

    folder = make_classes({"cat": 12, "dog": 12})
    split(folder)
    config = build_config({**SETTINGS, "DATA_LOCAL_DIR": str(folder)})
    sets = load_sets(config.split_dir)

    # 1. Before any check, training computes everything.
    before, _, _ = train_without_export(config, sets, tmp_path)
    # 2. A check computes each picture once; a second one nothing, without Keras.
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    pictures = scan_folder(folder).pictures
    network = Counting(config)
    first = compute_features(pictures, network)
    assert network.count == first.num_computed == 24
    assert [pictures[place].path.name for place in first.places].count("broken.jpg") == 0
    second = compute_features(pictures, Counting(config))
    assert second.num_computed == 0
    np.testing.assert_array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.places, second.places)
    # 3. A damaged cache only costs time.
    for path in find_cache_dir().glob("*/*.features"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    third = compute_features(pictures, network)
    assert third.num_computed == 24
    np.testing.assert_array_equal(first.rows, third.rows)
    # 4. Training now reads its validation features, and learns the same to the last bit.
    from classifold.training.pipeline import PictureReader

    asked: list[int] = []
    hash_files = PictureReader.hash_files

    def count(self: Any, indices: Any) -> list[bytes]:
        asked.append(len(indices))
        return hash_files(self, indices)

    monkeypatch.setattr(PictureReader, "hash_files", count)
    after, _, _ = train_without_export(config, sets, tmp_path)
    assert sum(asked) >= len(sets.pictures["validation"])
    for one, other in zip(
        before.classifier.model.get_weights(), after.classifier.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_middle_is_blanked_in_a_copy():
    pixels = np.full((100, 100, 3), 200, np.uint8)
    blanked = _blank_middle(pixels)
    assert (pixels == 200).all()
    assert (blanked[15:85, 15:85] == 127).all()
    assert (blanked != 127).all(axis=2).sum() == 100 * 100 - 70 * 70


def test_without_the_extra_the_reason_names_what_to_install(monkeypatch):
    config = build_config({"BACKEND": "tensorflow"})
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in ("keras", "tensorflow") else object()
    )
    assert install("train") in explain_missing(config)


def test_with_the_extra_there_is_no_reason_to_skip():
    assert explain_missing(build_config({"BACKEND": "tensorflow"})) == ""
