"""The stages of a run: the head on scaled features that fold away, then the upper part of the backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.dataset.scan import load_sets
from classifold.settings.config import Config


def test_stages_without_epochs_are_left_out(tiny: Callable[..., Config], keras: Any):
    from classifold.training.stages import plan_stages

    def names(**settings: Any) -> list[str]:
        return [stage.name for stage in plan_stages(tiny(**settings))]

    assert names() == ["head", "fine_tune"]
    assert names(HEAD_EPOCHS=0) == ["fine_tune"]
    assert names(EPOCHS=0) == ["head"]
    stages = plan_stages(tiny(HEAD_LEARNING_RATE=0.5, LEARNING_RATE=0.25, FINE_TUNE_SHARE=0.75))
    assert [(stage.share, stage.peak, stage.number) for stage in stages] == [(0.0, 0.5, 0), (0.75, 0.25, 1)]


@pytest.fixture
def learn(tiny: Callable[..., Config], keras: Any, sets_dir: Path, tmp_path: Path) -> Callable[..., Any]:
    """learn(HEAD_EPOCHS=2, EPOCHS=0) -> classifier, reached, validation pictures and labels, old weights."""
    from classifold.training.array_cache import ArrayCache
    from classifold.training.backend import start_keras
    from classifold.training.feed import Reached
    from classifold.training.model import build_classifier
    from classifold.training.pipeline import PictureReader
    from classifold.training.recipe import class_weights
    from classifold.training.stages import ActivationStore, begin_stage, plan_stages

    def learn(*, stop: Callable[[Any], None] | None = None, **settings: Any) -> Any:
        config = tiny(**settings)
        start_keras("tensorflow", seed=config.RANDOM_SEED)
        sets = load_sets(sets_dir)
        classifier, reached = build_classifier(config, sets.class_names), Reached()
        cache = ArrayCache(config.CACHE_GB * 1e9, tmp_path)
        with contextlib.ExitStack() as stack:
            readers = tuple(
                stack.enter_context(
                    contextlib.closing(PictureReader(sets.pictures[name], config, cache=cache, name=name))
                )
                for name in ("training", "validation")
            )
            labels = tuple(
                np.array([sets.class_names.index(one.class_name) for one in reader.pictures])
                for reader in readers
            )
            before = classifier.model.get_weights()
            store = ActivationStore(classifier, config, scratch_dir=tmp_path)
            store.take(readers, cache, num_variants=config.AUGMENTATION_VARIANTS)
            for stage in plan_stages(config):
                training = begin_stage(
                    classifier,
                    stage,
                    config,
                    store=store,
                    labels=labels,
                    class_weights=class_weights(config, sets.class_names, np.bincount(labels[0])),
                    reached=reached,
                )
                for _ in training.steps():
                    pass
            pixels = readers[1].read(range(len(readers[1]))).astype(np.float32)
        return classifier, reached, pixels, labels[1], before

    return learn


def loss_of(model: Any, pixels: np.ndarray, labels: np.ndarray) -> float:
    shares = model.predict_on_batch(pixels)[np.arange(len(labels)), labels]
    return float(-np.log(shares).mean())


@pytest.mark.parametrize(
    "settings",
    [
        {"EPOCHS": 0},
        {"EPOCHS": 0, "HEAD_LAYERS": (6,)},
        {"EPOCHS": 0, "HEAD_PENALTIES": (0.1, 0.01)},
        {"HEAD_PENALTIES": (0.1, 0.01)},
        {"HEAD_PENALTIES": (0.1, 0.01), "HEAD_FEATURES": "top"},
        {"HEAD_PENALTIES": (0.1, 0.01), "CACHE_GB": 0.0},
        {"HEAD_EPOCHS": 0},
        {"FINE_TUNE_SHARE": 1.0},
        {"CACHE_GB": 0.0, "AUGMENTATION_VARIANTS": 0},
    ],
    ids=str,
)
def test_the_whole_model_scores_what_the_kept_epoch_scored(settings, learn):
    classifier, reached, pixels, labels, _ = learn(**settings)
    # Though the stage saw scaled features, a part of the model, or activations of half precision.
    assert loss_of(classifier.model, pixels, labels) == pytest.approx(reached.best.val_loss, abs=2e-3)


def test_the_head_learns_and_leaves_the_backbone_alone(learn):
    classifier, reached, _, _, before = learn(HEAD_EPOCHS=12, EPOCHS=0, HEAD_LEARNING_RATE=0.05)
    assert reached.rows[-1].loss < reached.rows[0].loss
    after = classifier.model.get_weights()
    changed = [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    assert changed == [False] * (len(changed) - 2) + [True, True]


def test_fine_tuning_changes_the_upper_part_and_leaves_the_lower(learn):
    classifier, _, _, _, before = learn(HEAD_EPOCHS=0, EPOCHS=2, FINE_TUNE_SHARE=0.34)
    paths = [variable.path for variable in classifier.model.weights]
    pairs = zip(paths, before, classifier.model.get_weights(), strict=True)
    changed = {path.split("/")[0] for path, one, other in pairs if not np.array_equal(one, other)}
    assert changed == {"conv2", "inner2", "logits"}


def test_kept_or_computed_anew_training_ends_alike(learn):
    kept, fresh = (learn(CACHE_GB=size, EPOCHS=1, DROPOUT=0.0)[1].rows for size in (1.0, 0.0))
    for one, other in zip(kept, fresh, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.05)


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(learn):
    one, same, other = (learn(RANDOM_SEED=seed, EPOCHS=1)[0].model.get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_file_is_left_in_the_scratch_folder(learn, tmp_path: Path):
    learn(EPOCHS=1, CACHE_GB=0.0)
    assert [path for path in tmp_path.iterdir() if path.name != "backbone.py"] == []


def test_a_head_of_too_many_pictures_times_classes_is_learned_step_by_step(learn, monkeypatch):
    from classifold.training import stages

    found = learn(HEAD_PENALTIES=(0.1, 0.01), EPOCHS=0)[1].rows
    monkeypatch.setattr(stages, "_MOST_WORK", 1.0)
    learned = learn(HEAD_PENALTIES=(0.1, 0.01), EPOCHS=0, HEAD_EPOCHS=3)[1].rows
    assert [row.penalty for row in found] == [0.1, 0.01]
    assert [row.penalty for row in learned] == [0.0] * 3
