"""Copies, conflicts and bursts become groups: the one to keep comes first, and leaks are told."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.dataset.assignment import mark_copies
from classifold.dataset.groups import GroupedPictures, find_groups
from classifold.dataset.index import SET_RANKS, open_index
from classifold.names import EVALUATION, TRAINING, VALIDATION

Put = Callable[..., int]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with open_index(tmp_path_factory.mktemp("groups") / "index.sqlite") as index:
        yield index


@pytest.fixture
def index(base: sqlite3.Connection) -> sqlite3.Connection:
    """An index without pictures."""
    base.execute("DELETE FROM picture")
    base.execute("DELETE FROM near")
    return base


@pytest.fixture
def put(index: sqlite3.Connection) -> Put:
    """put("cat/1.jpg", b"pixels", own="training") -> the picture's number."""

    def put(key: str, content: bytes, **values: Any) -> int:
        return put_picture(index, key, content, **values)

    return put


def put_picture(
    index: sqlite3.Connection,
    key: str,
    content: bytes,
    *,
    data: bytes | None = None,
    own: str | None = None,
    made: str | None = None,
    status: str = "kept",
    reason: str | None = None,
) -> int:
    """Add a picture: its content, the hash of its file if it differs, and its own or its made set."""
    values = (
        key.partition("/")[0],
        key,
        key.encode(),
        None if own is None else SET_RANKS.index(own),
        None if made is None else SET_RANKS.index(made),
        content if data is None else data,
        content,
        status,
        reason,
    )
    query = """INSERT INTO picture (class_name, key, path, given, rank, hash, content, status, reason)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    number = index.execute(query, values).lastrowid
    assert number is not None
    return number


def pair(index: sqlite3.Connection, first: int, second: int, *, kind: str = "near", words: str = "") -> None:
    index.execute("INSERT INTO near VALUES (?, ?, ?, ?)", (first, second, kind, words))


def test_files_of_one_content_are_exact_copies_and_the_kept_one_comes_first(index, put):
    put("cat/a.jpg", b"1", status="copy")
    put("cat/b.jpg", b"1", made=TRAINING)
    put("cat/c.png", b"1", data=b"other bytes", status="copy")
    put("cat/d.jpg", b"2", made=TRAINING)
    (group,) = find_groups(index).groups
    assert (group.kind, group.files) == ("exact", ("cat/b.jpg", "cat/a.jpg", "cat/c.png"))
    assert group.changes == ("", "equal bytes", "equal pixels")
    assert group.across == ()
    assert group.reason == "3 files show the same picture"


def test_the_copy_with_the_original_name_stays(index, put):
    put("cat/x (1).jpg", b"1")
    put("cat/x.jpg", b"1")
    put("cat/x - Copy.jpg", b"1")
    mark_copies(index)
    (group,) = find_groups(index).groups
    assert group.files == ("cat/x.jpg", "cat/x (1).jpg", "cat/x - Copy.jpg")


def test_of_near_copies_in_one_set_the_one_with_the_most_pixels_comes_first(index, put):
    small, large = put("cat/a.jpg", b"1", own=TRAINING), put("cat/large.jpg", b"2", own=TRAINING)
    held_out = put("cat/thumbnail.jpg", b"3", own=EVALUATION)
    for number, shape in ((small, "90x100"), (large, "1000x80"), (held_out, "9x9")):
        index.execute("UPDATE picture SET shape = ? WHERE id = ?", (shape, number))
        pair(index, large, number) if number != large else None
    (group,) = find_groups(index).groups
    assert group.files == ("evaluation/cat/thumbnail.jpg", "training/cat/large.jpg", "training/cat/a.jpg")


def test_a_changed_copy_is_near_and_its_change_is_told(index, put):
    first, second = put("cat/a.jpg", b"1"), put("cat/b.jpg", b"2")
    pair(index, first, second, words="cropped, mirrored")
    (group,) = find_groups(index).groups
    assert (group.kind, group.files, group.changes) == (
        "near",
        ("cat/a.jpg", "cat/b.jpg"),
        ("", "cropped, mirrored"),
    )
    assert group.sets == group.across == ()
    assert group.reason == "2 files show the same photograph in different versions"


def test_a_change_is_told_from_the_kept_picture_to_the_other(index, put):
    small, whole = put("cat/a.jpg", b"1", own=TRAINING), put("cat/b.jpg", b"2", own=EVALUATION)
    pair(index, small, whole, words="mirrored, with more around it")
    (group,) = find_groups(index).groups
    assert group.files[0] == "evaluation/cat/b.jpg"
    assert group.changes == ("", "mirrored, cropped")


def test_exact_and_near_copies_of_one_picture_are_one_group(index, put):
    first, second = put("cat/a.jpg", b"1"), put("cat/b.jpg", b"2")
    put("cat/c.jpg", b"2", status="copy")
    pair(index, first, second, words="resized")
    (group,) = find_groups(index).groups
    assert (group.kind, len(group.files)) == ("near", 3)


def test_one_picture_under_two_labels_is_a_conflict_and_both_labels_are_named(index, put):
    put("dog/x.jpg", b"1", status="conflict")
    put("cat/x.jpg", b"1", status="conflict")
    (group,) = find_groups(index).groups
    assert (group.kind, group.labels) == ("conflict", ("cat", "dog"))
    assert group.reason == "2 files show the same picture, under the labels cat and dog"
    first, second = put("cat/y.jpg", b"2"), put("dog/y.jpg", b"3")
    pair(index, first, second, words="darker")
    assert [one.kind for one in find_groups(index).groups] == ["conflict", "conflict"]


def test_photographs_of_one_scene_are_a_burst_and_no_copies(index, put):
    first, second, third = (put(f"cat/{name}.jpg", name.encode()) for name in "abc")
    pair(index, first, second, kind="burst")
    pair(index, second, third, kind="burst")
    found = find_groups(index)
    (group,) = found.groups
    assert (group.kind, len(group.files), group.changes) == ("burst", 3, ())
    assert group.reason == "3 photographs of one scene"
    keys = ["cat/c.jpg", "cat/a.jpg", "cat/z.jpg"]
    assert found.number(keys) == [(1, 0)]
    assert found.number(keys, is_copies=True) == []


def test_copies_across_own_sets_are_a_leak_that_names_the_sets_with_the_held_out_one_first(index, put):
    put("cat/1.jpg", b"1", own=TRAINING)
    put("cat/2.jpg", b"1", own=EVALUATION)
    put("cat/3.jpg", b"1", own=VALIDATION)
    (group,) = find_groups(index).groups
    assert group.files == ("evaluation/cat/2.jpg", "validation/cat/3.jpg", "training/cat/1.jpg")
    assert group.sets == (EVALUATION, VALIDATION, TRAINING)
    assert group.across == (TRAINING, VALIDATION, EVALUATION)
    assert group.reason.endswith(", in training and validation and evaluation")


def test_a_copy_that_split_leaves_out_is_no_leak(index, put):
    put("cat/1.jpg", b"1", made=EVALUATION)
    put("cat/2.jpg", b"1", status="copy")
    (group,) = find_groups(index).groups
    assert (group.sets, group.across) == ((EVALUATION, ""), ())


def test_the_most_harmful_group_comes_first(index, put):
    burst = put("cat/a.jpg", b"a", own=TRAINING), put("cat/b.jpg", b"b", own=EVALUATION)
    pair(index, *burst, kind="burst")
    for key, content, own in (
        ("cat/c.jpg", b"c", TRAINING),
        ("cat/d.jpg", b"c", TRAINING),
        ("cat/e.jpg", b"e", TRAINING),
        ("cat/f.jpg", b"e", VALIDATION),
        ("dog/g.jpg", b"g", TRAINING),
        ("cat/h.jpg", b"g", TRAINING),
    ):
        put(key, content, own=own)
    found = [(one.kind, bool(one.across)) for one in find_groups(index).groups]
    assert found == [("conflict", False), ("exact", True), ("burst", True), ("exact", False)]


def test_files_that_cannot_be_read_are_in_no_group(index, put):
    put("cat/1.jpg", b"1", reason="the JPEG is cut short")
    put("cat/2.jpg", b"1", reason="the JPEG is cut short")
    assert find_groups(index) == GroupedPictures((), ())


_PICTURES = st.lists(
    st.tuples(st.sampled_from("cd"), st.integers(0, 4), st.sampled_from(SET_RANKS)), min_size=2, max_size=9
)
_PAIRS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(("near", "burst"))), max_size=6
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pictures=_PICTURES, pairs=_PAIRS)
def test_every_copy_is_in_one_group_whatever_is_paired(
    index: sqlite3.Connection, pictures: list[tuple[str, int, str]], pairs: list[tuple[int, int, str]]
) -> None:
    index.execute("DELETE FROM picture")
    index.execute("DELETE FROM near")
    numbers = [
        put_picture(index, f"{name}/{number}", bytes([content]), own=own)
        for number, (name, content, own) in enumerate(pictures)
    ]
    for first, second, kind in pairs:
        if first < second < len(numbers):
            pair(index, numbers[first], numbers[second], kind=kind)
    found = find_groups(index)
    copies = [key for group in found.groups if group.kind != "burst" for key in group.files]
    assert len(copies) == len(set(copies))
    together = list(itertools.chain.from_iterable(found.keys))
    assert len(together) == len(set(together))
    # Whatever is a copy or of a burst stays together with it when folds are drawn.
    assert all(any(set(group.files) <= set(keys) for keys in found.keys) for group in found.groups)
    for group in found.groups:
        assert len(group.files) == len(group.labels) == len(group.sets)
        assert set(group.across) == (set(group.sets) if len(set(group.sets)) > 1 else set())
        assert (group.kind == "conflict") == (len(set(group.labels)) > 1 and group.kind != "burst")
        assert all(
            Path(key).parts[:2] == (name, label)
            for key, name, label in zip(group.files, group.sets, group.labels, strict=True)
        )
