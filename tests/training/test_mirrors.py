"""Classes that mirroring changes: found by leave-one-out validation, and not mirrored in training."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from classifold.dataset.walk import Picture
from classifold.errors import SettingsError
from classifold.settings.loader import build_config
from classifold.training.mirrors import (
    Change,
    _name_left_out,
    _sign_test,
    describe_changes,
    find_changes,
    find_flips,
)
from made_runs import answer_set, train_without_export

SIZE = 32
CONFIG = build_config({"IMAGE_SIZE": SIZE, "NUM_WORKERS": 1})


def draw_arrow(generator, *, left, size=SIZE):
    """An arrow on a ground, in colours and places that say nothing about where it points."""
    ground, ink = (tuple(int(x) for x in generator.integers(low, low + 100, 3)) for low in (150, 0))
    image = Image.new("RGB", (size, size), ground)
    draw, y, half = ImageDraw.Draw(image), int(generator.integers(size // 3, 2 * size // 3)), size // 6
    draw.rectangle((size // 5, y - size // 24, size * 4 // 5, y + size // 24), fill=ink)
    tip, base = (size // 8, size // 3) if left else (size * 7 // 8, size * 2 // 3)
    draw.polygon([(tip, y), (base, y - half), (base, y + half)], fill=ink)
    return image


def draw_blob(generator, colour):
    pixels = np.array(colour) + generator.normal(0, 25, (SIZE, SIZE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


DRAW = {
    "arrow left": lambda generator: draw_arrow(generator, left=True),
    "arrow right": lambda generator: draw_arrow(generator, left=False),
    "arrow up": lambda generator: draw_arrow(generator, left=True).transpose(Image.Transpose.ROTATE_270),
    "arrow down": lambda generator: draw_arrow(generator, left=True).transpose(Image.Transpose.ROTATE_90),
    "blue": lambda generator: draw_blob(generator, (60, 60, 200)),
    "red": lambda generator: draw_blob(generator, (200, 60, 60)),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Thirty pictures of each kind."""
    folder, generator = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    found = {}
    for name, draw in DRAW.items():
        for number in range(30):
            path = folder / f"{name} {number}.png"
            draw(generator).save(path)
            found.setdefault(name, []).append(Picture(path, name, f"{name}/{path.name}"))
    return found


def find(drawn, class_names, *, flip="HORIZONTAL_FLIP", compute=None):
    """Return (class, the class it becomes, pictures of it that do) of every class that the flip changes."""
    from classifold.training.array_cache import ArrayCache
    from classifold.training.pipeline import PictureReader

    pictures = [picture for name in class_names for picture in drawn[name]]
    labels = np.array([class_names.index(picture.class_name) for picture in pictures], np.intp)
    reader = PictureReader(pictures, CONFIG, cache=ArrayCache(1e9, None), name="training")
    # Brightness relative to the picture's mean, on a grid: what is where, in features that a test can afford.
    changes = find_changes(
        flip, reader, labels, CONFIG, compute=compute or describe_places, num_classes=len(class_names)
    )
    return [(class_names[one.label], class_names[one.other], one.num_changed) for one in changes]


def describe_places(pixels):
    grid = pixels.astype(np.float32).reshape(len(pixels), 8, 4, 8, 4, 3).mean(axis=(2, 4))
    return grid.reshape(len(pixels), -1)


def test_two_classes_that_are_mirror_images_are_found(drawn):
    changes = find(drawn, ["arrow left", "arrow right"])
    assert [(name, other) for name, other, _ in changes] == [
        ("arrow left", "arrow right"),
        ("arrow right", "arrow left"),
    ]
    assert all(count >= 15 for _, _, count in changes)  # of the 20 that are looked at


def test_a_mirrored_pair_is_found_among_classes_that_stay_what_they_are(drawn):
    found = {name for name, _, _ in find(drawn, list(DRAW))}
    assert found == {"arrow left", "arrow right"}


def test_a_flip_from_top_to_bottom_changes_other_classes(drawn):
    found = {name for name, _, _ in find(drawn, list(DRAW), flip="VERTICAL_FLIP")}
    assert found == {"arrow up", "arrow down"}


@pytest.mark.parametrize(
    "class_names", [["blue", "red"], ["arrow up", "arrow down", "red"]], ids=["colours", "upright arrows"]
)
def test_classes_that_mirroring_leaves_alone_are_not_mentioned(drawn, class_names):
    assert find(drawn, class_names) == []


def test_noise_is_no_evidence(drawn):
    """Classes that cannot be told apart at all: neither can they be told to change."""
    names = ["one", "two"]
    noise = {name: [] for name in names}
    for number, picture in enumerate(drawn["blue"] + drawn["red"]):
        noise[names[number % 2]].append(Picture(picture.path, names[number % 2], picture.key))
    assert find(noise, names) == []


def test_features_that_are_no_numbers_are_left_to_training(drawn):
    assert find(drawn, ["blue", "red"], compute=lambda pixels: describe_places(pixels) * np.inf) == []


@pytest.mark.parametrize("seed", range(3))
def test_the_left_out_answers_are_those_of_regressions_without_the_picture(seed):
    generator = np.random.default_rng(seed)
    plain, mirrored = generator.normal(size=(2, 12, 5)).astype(np.float32)
    truth = np.arange(12) % 3
    answers, mirror_answers = _name_left_out(plain, mirrored, truth, 3)
    targets = np.eye(3)[truth] - 1 / 3
    kernel = plain.astype(float) @ plain.T.astype(float)
    fitting = []
    for strength in (0.01, 0.1, 1.0):
        penalty, kept = strength * np.trace(kernel) / 12, []
        for place in range(12):
            rest = np.arange(12) != place
            weights = np.linalg.solve(kernel[rest][:, rest] + penalty * np.eye(11), targets[rest])
            both = (
                np.stack([plain[place], mirrored[place]]).astype(float)
                @ plain[rest].T.astype(float)
                @ weights
            )
            kept.append(both.argmax(axis=1))
        fitting.append(np.array(kept).T)
    best = max(fitting, key=lambda pair: (pair[0] == truth).sum())
    assert answers.tolist() == best[0].tolist()
    assert mirror_answers.tolist() == best[1].tolist()


def test_the_sign_test_is_that_of_a_fair_coin():
    assert _sign_test(5, 0) == 1 / 32
    assert _sign_test(0, 0) == 1
    assert _sign_test(2, 1) == 0.5


def test_flips_that_are_on_are_looked_at():
    assert find_flips(build_config({})) == ["HORIZONTAL_FLIP"]
    assert find_flips(build_config({"HORIZONTAL_FLIP": False, "VERTICAL_FLIP": True})) == ["VERTICAL_FLIP"]


def test_another_word_than_auto_is_refused_with_what_is_meant():
    with pytest.raises(SettingsError, match='True or False or "auto"'):
        build_config({"HORIZONTAL_FLIP": "atuo"})


# A whole run


@pytest.fixture(scope="module")
def split_dir(tmp_path_factory):
    """Three sets of arrows to the left and to the right, larger than the backbone's smallest size."""
    folder, generator = tmp_path_factory.mktemp("arrows"), np.random.default_rng(1)
    for set_name, count in {"training": 40, "validation": 12, "evaluation": 20}.items():
        for name in ("arrow left", "arrow right"):
            place = folder / set_name / name
            place.mkdir(parents=True)
            for number in range(count):
                draw_arrow(generator, left=name == "arrow left", size=64).save(place / f"{number}.png")
    return folder


@pytest.fixture
def train(keras, split_dir, tmp_path):
    """train(HORIZONTAL_FLIP=True) -> the accuracy on the evaluation pictures."""
    from classifold.dataset.scan import load_sets

    sets = load_sets(split_dir)

    def train(**settings):
        quick = {"IMAGE_SIZE": 64, "EPOCHS": 0, "AUGMENTATION_VARIANTS": 4}
        learning, _, _ = train_without_export(build_config({**quick, **settings}), sets, tmp_path)
        shares, labels = answer_set(learning.classifier.model, sets, "evaluation", size=64)
        return (shares.argmax(axis=1) == labels).mean()

    return train


def test_arrows_are_learned_with_default_settings_and_the_flip_is_named(train, capsys):
    accuracy, said = train(), capsys.readouterr().err
    assert re.search("note: mirrored left to right, .* 'arrow left' are taken for 'arrow right'", said)
    assert "pictures are not mirrored in training" in said
    assert accuracy > 0.9


def test_who_asks_for_the_flip_gets_it_and_is_told_what_it_does(train, capsys):
    accuracy, said = train(HORIZONTAL_FLIP=True), capsys.readouterr().err
    assert "HORIZONTAL_FLIP = False tells such classes apart" in said
    assert accuracy < 0.9


def test_the_note_counts_the_other_classes():
    changes = [Change(label, 1 - label, num_changed=9, num_recognized=10) for label in (0, 1)]
    text = describe_changes("HORIZONTAL_FLIP", changes, ("b", "d"), is_off=True)
    assert text.startswith(
        "mirrored left to right, 9 of 10 recognized pictures of 'b' are taken for 'd', and 1 more"
    )
