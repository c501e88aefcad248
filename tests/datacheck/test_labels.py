"""Wrong labels are found and counted; none are claimed where classes only overlap."""

from __future__ import annotations

import numpy as np
import pytest

from classifold.datacheck.labels import check_labels, count_confident, gather_evidence
from made_facts import make_features, make_photos

COUNT, NUM_CLASSES = 400, 4


def plant(labels, share, generator):
    """Return labels of which a share is replaced by another class, and which are."""
    wrong = np.zeros(len(labels), bool)
    wrong[generator.permutation(len(labels))[: round(share * len(labels))]] = True
    planted = labels.copy()
    planted[wrong] = (labels[wrong] + generator.integers(1, NUM_CLASSES, wrong.sum())) % NUM_CLASSES
    return planted, wrong


@pytest.fixture(scope="module")
def planted():
    """Photos of which 5 % carry a wrong label, the true labels, and what the check says."""
    generator = np.random.default_rng(3)
    truth = np.arange(COUNT) % NUM_CLASSES
    labels, wrong = plant(truth, 0.05, generator)
    features = make_features(truth, generator, distance=5)
    photos = make_photos(labels, generator)
    return photos, features, truth, wrong, check_labels(photos, features, seed=1)


def test_wrong_labels_come_first_with_the_right_class_suggested(planted):
    photos, _, truth, wrong, found = planted
    files = {photo.key: index for index, photo in enumerate(photos)}
    places = [files[one.file] for one in found.suspects]
    first = places[: int(0.8 * wrong.sum())]
    assert wrong[first].mean() >= 0.9
    pairs = list(zip(found.suspects, places, strict=True))
    right = [one.suggested == f"class{truth[place]}" for one, place in pairs if wrong[place]]
    assert np.mean(right) >= 0.9
    certainties = [one.certainty for one in found.suspects]
    assert certainties == sorted(certainties, reverse=True)
    assert all(one.label == photos[place].class_name for one, place in pairs)


def test_the_neighbours_of_a_suspect_are_of_the_suggested_class(planted):
    *_, found = planted
    best = found.suspects[0]
    assert [one.label for one in best.neighbours].count(best.suggested) >= 3
    similarities = [one.similarity for one in best.neighbours]
    assert similarities == sorted(similarities, reverse=True)


def test_the_estimate_holds_the_number_of_wrong_labels(planted):
    *_, wrong, found = planted
    assert found.estimate.low <= wrong.sum() <= found.estimate.high
    assert found.estimate.low > 5


def test_the_same_pictures_give_the_same_answer(planted):
    photos, features, *_, found = planted
    again = check_labels(photos, features, seed=1)
    assert (again.suspects, again.overlaps, again.estimate) == (
        found.suspects,
        found.overlaps,
        found.estimate,
    )


@pytest.mark.parametrize("distance", [2.0, 5.0])
def test_clean_labels_are_not_called_wrong_however_much_the_classes_overlap(distance):
    generator = np.random.default_rng(4)
    labels = np.arange(COUNT) % NUM_CLASSES
    noise = gather_evidence(
        make_features(labels, generator, distance=distance), labels, np.arange(COUNT), seed=0
    ).noise
    assert noise.low * COUNT < 1
    assert noise.rate < 0.03
    assert (noise.wrong > 0.5).sum() <= 2


def test_classes_that_overlap_are_named():
    generator = np.random.default_rng(5)
    labels = np.arange(COUNT) % NUM_CLASSES
    looks = np.where(labels == 3, np.where(generator.random(COUNT) < 0.5, 2, 3), labels)
    found = check_labels(make_photos(labels, generator), make_features(looks, generator, distance=6))
    assert found.overlaps[0].classes == ("class2", "class3")
    assert len(found.overlaps) == 1
    assert found.overlaps[0].share == pytest.approx(found.overlaps[0].count / 200, rel=0.2)


def test_copies_with_one_wrong_label_do_not_speak_for_each_other():
    generator = np.random.default_rng(6)
    truth = np.arange(COUNT) % NUM_CLASSES
    features, labels = make_features(truth, generator, distance=6), truth.copy()
    copies = [0, 4, 8, 12, 16, 20]
    labels[copies] = 1
    features[copies] = features[0] + generator.normal(0, 1e-3, (len(copies), features.shape[1]))
    photos = make_photos(labels, generator)
    found = check_labels(photos, features, groups=[copies])
    keys = {photos[one].key for one in copies}
    suspects = [one for one in found.suspects if one.file in keys]
    assert len(suspects) == len(copies)
    assert all(one.suggested == "class0" for one in suspects)
    assert not any(near.file in keys for one in suspects for near in one.neighbours)


def test_a_class_with_few_pictures_is_left_out_and_named():
    generator = np.random.default_rng(7)
    labels = np.append(np.arange(100) % 2, [2, 2])
    found = check_labels(make_photos(labels, generator), make_features(labels, generator, distance=5))
    assert "class2" in found.notes[0]
    assert np.isnan(found.scores[-2:]).all()
    assert np.isfinite(found.scores[:-2]).all()


@pytest.mark.parametrize("labels", [[], [0] * 60, [0, 1] * 10])
def test_too_few_pictures_or_classes_are_a_reason_to_skip(labels):
    generator = np.random.default_rng(8)
    labels = np.array(labels, np.intp)
    found = check_labels(make_photos(labels, generator), np.zeros((len(labels), 5), np.float32))
    assert "too few pictures" in found.skipped
    assert found.suspects == ()
    assert found.estimate is None


def test_features_that_say_nothing_make_no_suspect():
    generator = np.random.default_rng(9)
    labels = np.arange(100) % 2
    found = check_labels(make_photos(labels, generator), np.ones((100, 8), np.float32))
    assert found.suspects == ()
    assert "hardly tells the classes apart" in found.skipped


def test_a_confident_example_reaches_the_mean_of_its_class():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]])
    # Thresholds: 0.75 for the first class, 0.675 for the second.
    assert count_confident(probabilities, np.array([0, 0, 1, 1])).tolist() == [0, -1, 1, -1]
