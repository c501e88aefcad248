"""From files to batches: pictures that can be read or not, and are read once; the same pixels whatever."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.dataset.scan import load_sets
from classifold.dataset.walk import Picture
from classifold.errors import DataError
from classifold.names import SETS
from classifold.packing.pack import pack_sets
from classifold.pictures.decode import load_picture
from classifold.settings.config import Config
from classifold.training.array_cache import ArrayCache, DiskCache
from classifold.training.pipeline import PictureReader


@pytest.fixture
def read(pictures: list[Picture], tiny: Callable[..., Config]) -> Iterator[Callable[..., PictureReader]]:
    """read(memory=0, RANDOM_SEED=3) -> a reader of the seven pictures."""
    readers = []

    def read(
        chosen: list[Picture] | None = None,
        *,
        memory: float = 1e9,
        disk_cache: DiskCache | None = None,
        **settings: Any,
    ) -> PictureReader:
        reader = PictureReader(
            pictures if chosen is None else chosen,
            tiny(**settings),
            cache=ArrayCache(memory, None, disk_cache),
            name="training",
        )
        readers.append(reader)
        return reader

    yield read
    for reader in readers:
        reader.close()


def test_pictures_come_as_load_picture_gives_them_kept_or_not(read, pictures):
    expected = np.stack([load_picture(one.path, size=32, max_pixels=10**6) for one in pictures])
    for memory in (1e9, 0):
        reader = read(memory=memory)
        assert len(reader) == 7
        np.testing.assert_array_equal(reader.read([4, 0, 4]), expected[[4, 0, 4]])
        np.testing.assert_array_equal(reader.read(np.arange(7)), expected)


def test_augmented_pictures_are_the_same_kept_or_not_and_in_whatever_order(read):
    kept, fresh = read(), read(memory=0)
    for variant in (0, 3):
        whole = kept.read_augmented(range(7), variant)
        np.testing.assert_array_equal(fresh.read_augmented([5, 2], variant), whole[[5, 2]])
        assert not np.array_equal(whole, kept.read(range(7)))
    assert not np.array_equal(kept.read_augmented(range(7), 0), kept.read_augmented(range(7), 1))


def test_augmented_pictures_follow_from_the_random_seed(read):
    one, same, other = (read(RANDOM_SEED=seed).read_augmented(range(7), 0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_one_thread_and_four_give_the_same(read):
    one, four = (read(NUM_WORKERS=workers, memory=0).read_augmented(range(7), 2) for workers in (1, 4))
    np.testing.assert_array_equal(one, four)


def spoil(pictures: list[Picture], *places: int) -> None:
    for place in places:
        pictures[place].path.write_bytes(b"no picture")


@pytest.mark.parametrize("memory", [1e9, 0])
def test_unreadable_pictures_are_left_out_with_their_reason(memory, read, pictures):
    expected = read().read(range(7))
    spoil(pictures, 0, 5)
    reader = read(memory=memory)
    assert [key for key, _ in reader.unreadable] == [pictures[0].key, pictures[5].key]
    assert all(reason for _, reason in reader.unreadable)
    assert reader.pictures == [pictures[place] for place in (1, 2, 3, 4, 6)]
    np.testing.assert_array_equal(reader.read(range(5)), expected[[1, 2, 3, 4, 6]])


def test_a_file_that_is_gone_or_forbidden_is_an_unreadable_picture(read, pictures):
    pictures[2].path.unlink()
    pictures[3].path.unlink()
    pictures[3].path.mkdir()
    reader = read()
    assert [key for key, _ in reader.unreadable] == [pictures[2].key, pictures[3].key]


def test_where_the_settings_say_so_unreadable_pictures_end_the_run_and_all_are_named(read, pictures):
    spoil(pictures, 0, 5)
    with pytest.raises(DataError) as error:
        read(UNREADABLE_PICTURES="fail")
    wheres = [fault.where for fault in error.value.faults]
    assert wheres == [f"training/{pictures[0].key}", f"training/{pictures[5].key}"]
    assert all("UNREADABLE_PICTURES = 'skip'" in fault.hint for fault in error.value.faults)


def test_of_very_many_unreadable_pictures_the_first_are_named_and_the_others_counted(read, pictures):
    spoil(pictures, 0)
    with pytest.raises(DataError) as error:
        read([pictures[0]] * 30, UNREADABLE_PICTURES="fail")
    assert len(error.value.faults) == 21
    assert "10 more" in str(error.value.faults[-1].format())


def test_a_picture_that_vanishes_while_it_is_in_use_is_named(read, pictures):
    reader = read(memory=0)
    pictures[3].path.unlink()
    with pytest.raises(DataError) as error:
        reader.read([2, 3])
    assert str(pictures[3].path) in str(error.value)
    assert "hint: " in str(error.value)


def test_a_picture_of_more_pixels_than_allowed_is_left_out(read):
    assert len(read(MAX_PIXELS=1000)) == 0
    assert len(read(MAX_PIXELS=40 * 48)) == 7


def test_deep_pictures_are_read_by_the_setting(read, pictures, tmp_path: Path):
    values = np.linspace(0, 4095, 48 * 40).reshape(40, 48).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    deep = [replace(pictures[0], path=tmp_path / "deep.png", key="deep.png")]
    for bits in ("auto", 12):
        expected = load_picture(tmp_path / "deep.png", size=32, max_pixels=10**6, sample_bits=bits)
        np.testing.assert_array_equal(read(deep, SAMPLE_BITS=bits).read([0])[0], expected)
        assert (expected.max() <= 15) == (bits == "auto")


def test_what_an_earlier_process_read_is_not_read_again(read, pictures, tmp_path: Path):
    many = []
    for number in range(70):
        path = tmp_path / f"{number}.png"
        shutil.copy(pictures[number % 7].path, path)
        many.append(replace(pictures[number % 7], path=path, key=path.name))
    spoil(many, 66)
    first = read(many, disk_cache=DiskCache(tmp_path / "shelf", "key"))
    pixels = first.read(range(69))
    # Of the first block no file is needed any more; the second is read again, to say what is wrong with it.
    for one in many[:64]:
        one.path.unlink()
    second = read(many, disk_cache=DiskCache(tmp_path / "shelf", "key"))
    assert second.unreadable == first.unreadable
    assert [key for key, _ in second.unreadable] == ["66.png"]
    np.testing.assert_array_equal(second.read(range(69)), pixels)


def test_closing_ends_the_threads(read):
    import threading

    # A thread of an earlier test, of Dask's for instance, may begin or end meanwhile.
    before = set(threading.enumerate())

    def count_readers() -> int:
        return sum(one.name.startswith("pictures") for one in set(threading.enumerate()) - before)

    with closing(read(NUM_WORKERS=3, memory=0)) as reader:
        reader.read(range(7))
        assert count_readers() == 3
    assert count_readers() == 0


# Pictures in shards


@pytest.fixture
def shards_dir(sets_dir: Path, tmp_path: Path) -> Path:
    """The three sets, packed."""
    pack_sets(sets_dir, tmp_path / "shards", shard_mb=1)
    return tmp_path / "shards"


def test_pictures_in_shards_give_the_same_pixels_in_the_same_order(read, sets_dir, shards_dir):
    files, shards = load_sets(sets_dir), load_sets(shards_dir)
    assert (files.class_names, files.fingerprint) == (shards.class_names, shards.fingerprint)
    for name in SETS:
        for memory in (1e9, 0):
            one, other = (read(sets.pictures[name], memory=memory) for sets in (files, shards))
            labels = [[picture.class_name for picture in reader.pictures] for reader in (one, other)]
            assert labels[0] == labels[1]
            places = np.random.default_rng(0).permutation(len(one))
            np.testing.assert_array_equal(one.read(places), other.read(places))
            np.testing.assert_array_equal(one.read_augmented(places, 3), other.read_augmented(places, 3))


def test_a_picture_in_a_shard_is_left_out_for_the_same_reasons_as_a_file(read, sets_dir, tmp_path):
    shutil.copytree(sets_dir, tmp_path / "sets")
    folder = tmp_path / "sets" / "training" / "blue"
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(bytes(7 * 10**7))
    pack_sets(tmp_path / "sets", tmp_path / "shards", shard_mb=1)
    files, shards = (
        read(load_sets(tmp_path / name).pictures["training"], MAX_PIXELS=40 * 48).unreadable
        for name in ("sets", "shards")
    )
    assert [key for key, _ in files] == ["blue/broken.png", "blue/empty.png", "blue/huge.png"]
    assert files == shards


@pytest.mark.parametrize("unreadable", ["skip", "fail"])
def test_a_damaged_shard_ends_the_run_and_is_no_unreadable_picture(read, shards_dir, unreadable):
    pictures = load_sets(shards_dir).pictures["training"]
    member = pictures[5].member
    with pictures[5].path.open("r+b") as file:
        file.seek(member.offset + member.size // 2)
        file.write(b"rot")
    for memory in (1e9, 0):
        with pytest.raises(DataError, match="the shard is damaged") as error:
            read(pictures, memory=memory, UNREADABLE_PICTURES=unreadable)
        assert error.value.faults[0].where == str(pictures[5].path)


def test_a_shard_that_rots_while_it_is_in_use_is_named(read, shards_dir):
    pictures = load_sets(shards_dir).pictures["training"]
    reader = read(pictures, memory=0)
    with pictures[5].path.open("r+b") as file:
        file.write(bytes(pictures[5].path.stat().st_size))
    with pytest.raises(DataError, match="the shard is damaged"):
        reader.read([5])


def test_training_from_shards_learns_the_very_weights_of_training_from_files(
    tiny: Callable[..., Config], keras: Any, sets_dir: Path, shards_dir: Path, tmp_path: Path
):
    one, same = (learn(tiny(), folder, tmp_path) for folder in (sets_dir, shards_dir))
    other = learn(tiny(RANDOM_SEED=7), sets_dir, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def learn(config: Config, sets_dir: Path, scratch_dir: Path) -> list[Any]:
    """Train both stages and return the weights, and what they say of the evaluation pictures."""
    from classifold.training.backend import start_keras
    from classifold.training.feed import Reached
    from classifold.training.model import build_classifier
    from classifold.training.recipe import class_weights
    from classifold.training.stages import ActivationStore, begin_stage, plan_stages

    start_keras("tensorflow", seed=config.RANDOM_SEED)
    sets, cache = load_sets(sets_dir), ArrayCache(config.CACHE_GB * 1e9, scratch_dir)
    classifier, reached = build_classifier(config, sets.class_names), Reached()
    with ExitStack() as stack:
        readers = [
            stack.enter_context(closing(PictureReader(sets.pictures[name], config, cache=cache, name=name)))
            for name in SETS
        ]
        labels = [
            np.array([sets.class_names.index(picture.class_name) for picture in reader.pictures])
            for reader in readers
        ]
        store = ActivationStore(classifier, config, scratch_dir=scratch_dir)
        store.take((readers[0], readers[1]), cache, num_variants=config.AUGMENTATION_VARIANTS)
        for stage in plan_stages(config):
            training = begin_stage(
                classifier,
                stage,
                config,
                store=store,
                labels=(labels[0], labels[1]),
                class_weights=class_weights(config, sets.class_names, np.bincount(labels[0])),
                reached=reached,
            )
            for _ in training.steps():
                pass
        pixels = readers[2].read(range(len(readers[2]))).astype(np.float32)
    return [*classifier.model.get_weights(), classifier.model.predict_on_batch(pixels)]
