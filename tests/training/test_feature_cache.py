"""Kept features: found again by content, bounded, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.settings.loader import build_config
from classifold.training.feature_cache import (
    FeatureCache,
    find_cache_dir,
    hash_content,
    name_network,
    open_cache,
)

DIGESTS = [hash_content(bytes([number])) for number in range(10)]
ROWS = np.random.default_rng(0).normal(size=(10, 7)).astype(np.float32)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    cache = FeatureCache(tmp_path, "net")
    cache.add(DIGESTS[:6], ROWS[:6])
    cache.add(DIGESTS[6:], ROWS[6:])
    return tmp_path


def test_what_was_added_is_found_by_a_later_process_bit_for_bit(filled: Path):
    cache = FeatureCache(filled, "net")
    assert len(cache) == 10
    found = cache.find([*DIGESTS, hash_content(b"new")])
    assert sorted(found) == list(range(10))
    np.testing.assert_array_equal(np.stack([found[index] for index in range(10)]), ROWS)
    assert len(FeatureCache(filled, "another net")) == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_file_is_ignored_and_removed(filled: Path, damage):
    path = max((filled / "net").iterdir(), key=lambda one: one.stat().st_size)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(
        {"flip": bytes(content), "cut": content[:-9], "empty": b"", "foreign": b"x" * 999}[damage]
    )
    cache = FeatureCache(filled, "net")
    found = cache.find(DIGESTS)
    assert sorted(found) == [6, 7, 8, 9]
    for index, row in found.items():
        np.testing.assert_array_equal(row, ROWS[index])


@given(content=st.binary(max_size=400))
def test_no_content_of_a_file_is_fatal(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    (folder / "net").mkdir()
    (folder / "net" / "a.features").write_bytes(content)
    cache = FeatureCache(folder, "net")
    assert cache.find(DIGESTS) == {}


def test_the_longest_unused_files_are_removed_first(tmp_path: Path):
    size = 4 * 100 + 32 + 20
    rows = np.zeros((1, 100), np.float32)
    cache = FeatureCache(tmp_path, "net", max_bytes=3 * size)
    for number in range(3):
        cache.add([DIGESTS[number]], rows)
        for path in (tmp_path / "net").iterdir():  # each older than what follows
            times = path.stat().st_mtime - 100
            os.utime(path, (times, times))
    cache.find([DIGESTS[0]])
    cache.add([DIGESTS[3]], rows)
    kept = FeatureCache(tmp_path, "net")
    assert [digest in kept for digest in DIGESTS[:4]] == [True, False, True, True]


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(tmp_path: Path):
    (tmp_path / "net").write_text("a file where the folder should be")
    cache = FeatureCache(tmp_path, "net")
    cache.add(DIGESTS, ROWS)
    assert len(cache) == 0


def test_the_folder_is_below_the_users_cache(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_cache_dir() == tmp_path / "classifold" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_cache_dir() == tmp_path / "home" / ".cache" / "classifold" / "features"


def test_the_name_of_a_network_follows_from_all_that_changes_its_features():
    def name(variant="", **settings):
        return name_network(build_config(settings), backend="tensorflow", variant=variant)

    assert name() == name() == name(RANDOM_SEED=7, EPOCHS=0)
    others = [
        name(IMAGE_SIZE=96),
        name(BACKBONE="MobileNetV2"),
        name(HEAD_FEATURES="top"),
        name(SAMPLE_BITS=12),
        name(variant="blanked"),
    ]
    assert len({name(), *others}) == 6


def test_weights_that_the_settings_do_not_tell_are_not_kept(tmp_path: Path):
    def name(**settings):
        return name_network(build_config(settings), backend="tensorflow")

    assert name(BACKBONE_WEIGHTS=None) is None
    assert name(BACKBONE=f"{tmp_path}/own.py:build") is None
    assert name(BACKBONE_WEIGHTS=str(tmp_path / "missing.keras")) is None
    weights = tmp_path / "earlier.keras"
    weights.write_bytes(b"one")
    first = name(BACKBONE_WEIGHTS=str(weights))
    weights.write_bytes(b"another")
    assert first is not None
    assert name(BACKBONE_WEIGHTS=str(weights)) != first
    assert open_cache(build_config({"BACKBONE_WEIGHTS": None}), backend="tensorflow") is None
