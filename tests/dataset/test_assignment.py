"""Which set a picture goes to, as properties that hold whatever the pictures, their names and the order."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.assignment import Shares, assign_sets, draw, mark_copies
from classifold.dataset.index import (
    SET_RANKS,
    Reading,
    Row,
    add_earlier,
    add_pictures,
    add_readings,
    index_readings,
    open_index,
)

HELD_OUT = ("validation", "evaluation")


@dataclass(frozen=True)
class Item:
    """A picture: what it shows, its class, its name, and its group where it has one."""

    content: int
    class_name: str = "a"
    name: str = ""
    group: str | None = None

    @property
    def key(self) -> str:
        return f"{self.class_name}/{self.name or self.content}"

    @property
    def hash(self) -> str:
        return hashlib.sha256(b"%d" % self.content).hexdigest()


def divide(items, shares, earlier=()):
    """Return ({key: set}, {hash: set}, shortages) of the kept pictures."""
    with open_index() as index:
        units = {item.key: None if item.group is None else f"g:{item.group}" for item in items}
        rows = [
            Row(item.class_name, item.key, f"{n}".encode(), None, units[item.key])
            for n, item in enumerate(items)
        ]
        add_pictures(index, rows)
        hashes = [Reading(n, 1, bytes.fromhex(item.hash), None) for n, item in enumerate(items, 1)]
        add_readings(index, hashes)
        index_readings(index)
        add_earlier(index, earlier)
        mark_copies(index)
        _, shortages = assign_sets(index, shares)
        rows = index.execute("SELECT key, hash, rank FROM picture WHERE status = 'kept'").fetchall()
    by_key = {key: SET_RANKS[rank] for key, _, rank in rows}
    by_hash = {digest.hex(): SET_RANKS[rank] for _, digest, rank in rows}
    return by_key, by_hash, shortages


contents = st.integers(0, 200)
classes = st.sampled_from("abc")
groups = st.sampled_from([None, None, "p", "q", "r", "s", "t"])


def unique_keys(items):
    return list({item.key: item for item in items}.values())


folders = st.lists(st.builds(Item, contents, classes), min_size=1, max_size=60).map(unique_keys)
grouped = st.lists(
    st.builds(Item, st.integers(0, 40), classes, st.uuids().map(str), groups), min_size=1, max_size=40
).map(unique_keys)
fractions = st.builds(Shares, st.floats(0.01, 0.45), st.floats(0.01, 0.45), st.integers(0, 3))


@settings(max_examples=80, deadline=None)
@given(folders, fractions, st.randoms(use_true_random=False))
def test_the_order_in_which_the_disk_lists_files_changes_nothing(items, shares, shuffle):
    shuffled = list(items)
    shuffle.shuffle(shuffled)
    assert divide(items, shares) == divide(shuffled, shares)


@settings(max_examples=80, deadline=None)
@given(folders, fractions)
def test_a_class_with_three_different_pictures_has_one_in_every_set(items, shares):
    items = [replace(item, content=item.content * 3 + "abc".index(item.class_name)) for item in items]
    by_key, _, shortages = divide(items, shares)
    for class_name in {item.class_name for item in items}:
        units = {item.hash for item in items if item.class_name == class_name}
        found = {by_key[item.key] for item in items if item.class_name == class_name and item.key in by_key}
        if len(units) >= 3:
            assert found == set(SET_RANKS)
        else:
            assert class_name in {shortage.class_name for shortage in shortages}


@settings(max_examples=100, deadline=None)
@given(grouped, fractions)
def test_copies_and_groups_are_whole_in_one_set(items, shares):
    by_key, _, _ = divide(items, shares)
    kept = [item for item in items if item.key in by_key]
    assert len({(item.class_name, item.hash) for item in kept}) == len(kept), "a copy was written twice"
    by_group: dict[str, set[str]] = {}
    for item in kept:
        if item.group:
            by_group.setdefault(item.group, set()).add(by_key[item.key])
    assert all(len(sets) == 1 for sets in by_group.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), fractions)
def test_groups_that_share_a_picture_stay_together(first, second, shares):
    shared = Item(5000, name="in p", group="p"), Item(5000, name="in q", group="q")
    items = [*shared, Item(first, name="x", group="p"), Item(second + 2000, name="y", group="q")]
    by_key, _, _ = divide(items, shares)
    assert len({by_key[key] for key in by_key}) == 1


@st.composite
def histories(draw_from):
    """A folder and what a user does to it: add, rename, copy and delete pictures, change the shares."""
    return [
        (
            draw_from(st.sampled_from(["add", "rename", "copy", "delete", "regroup"])),
            draw_from(grouped),
            draw_from(fractions),
        )
        for _ in range(draw_from(st.integers(1, 5)))
    ]


def act(items, step, more, shuffle):
    if step == "add":
        return unique_keys([*items, *more])
    if step == "rename":
        return [replace(item, name=f"renamed {n}") for n, item in enumerate(items)]
    if step == "copy":
        return unique_keys([*items, *(replace(item, name=f"{item.name} copy") for item in items[:5])])
    if step == "regroup":
        return [replace(item, group=shuffle.choice([None, "p", "q"])) for item in items]
    return items[::2]


@settings(max_examples=100, deadline=None)
@given(grouped, fractions, histories(), st.randoms(use_true_random=False))
def test_nothing_once_held_out_ever_goes_to_training(items, shares, history, shuffle):
    held: dict[str, str] = {}
    training: set[str] = set()
    for step, more, next_shares in [("", [], shares), *history]:
        items = act(items, step, more, shuffle) if step else items
        # The record of a split: where every picture went, and what was held out before and is gone now.
        record = [*held.items(), *((digest, "training") for digest in training)]
        _, by_hash, _ = divide(items, replace(next_shares, keep_training=bool(step)), record)
        for digest, set_name in by_hash.items():
            assert not (digest in held and set_name == "training")
        held |= {digest: name for digest, name in by_hash.items() if name in HELD_OUT}
        training = {digest for digest, name in by_hash.items() if name == "training"}


@settings(max_examples=60, deadline=None)
@given(folders, fractions, st.floats(1, 1.1))  # the shares stay below 1 together
def test_larger_shares_need_no_record_to_keep_what_is_held_out(items, shares, factor):
    grown = replace(shares, validation=shares.validation * factor, evaluation=shares.evaluation * factor)
    for item in items:
        before, after = (rule.choose(draw(rule.seed, item.hash)) for rule in (shares, grown))
        assert before == 0 or after == before


def test_the_draws_spread_evenly():
    draws = [draw(0, f"h:{n}") for n in range(20_000)]
    counts = [sum(low / 10 <= value < (low + 1) / 10 for value in draws) for low in range(10)]
    assert all(0 <= value < 1 for value in draws)
    assert max(abs(count - 2000) for count in counts) < 200


def test_another_seed_is_another_division():
    items = [Item(n, "ab"[n % 2]) for n in range(200)]
    one, two = (divide(items, Shares(0.2, 0.2, seed))[0] for seed in (0, 1))
    assert sum(one[key] != two[key] for key in one) > 40


def test_a_picture_that_stands_in_two_classes_is_in_no_set():
    items = [*(Item(n, "ab"[n % 2]) for n in range(20)), Item(7, "a", "same as b")]
    by_key, _, _ = divide(items, Shares(0.2, 0.2, 0))
    assert "b/7" not in by_key
    assert "a/same as b" not in by_key
    assert len(by_key) == 19


def test_the_shares_are_about_those_that_were_asked_for():
    items = [Item(n, "ab"[n % 2]) for n in range(3000)]
    random.Random(0).shuffle(items)
    by_key, _, _ = divide(items, Shares(0.1, 0.2, 0))
    counts = {name: list(by_key.values()).count(name) / 3000 for name in SET_RANKS}
    assert abs(counts["validation"] - 0.1) < 0.02
    assert abs(counts["evaluation"] - 0.2) < 0.02
