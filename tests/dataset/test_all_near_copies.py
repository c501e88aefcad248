"""Near copies and bursts of all pictures, for a check: across own sets too, and whatever the settings say."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from classifold.dataset.check import CheckReport, Reading, check_data
from classifold.dataset.near_copies import find_all_near_copies
from classifold.settings.config import Config
from classifold.settings.loader import build_config
from made_scenes import draw_classes, draw_own_sets, draw_scene, plant_problems

Pairs = set[tuple[str, str, str]]


def find(folder: Path, **settings: Any) -> tuple[Pairs, Pairs, CheckReport]:
    """Return the pairs that the split knows, those of all pictures, and the report."""
    found: list[Pairs] = []

    def look(index: sqlite3.Connection, config: Config) -> None:
        found.append(list_pairs(index))
        find_all_near_copies(index, config)
        found.append(list_pairs(index))

    values = {"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings}
    report = check_data(build_config(values), Reading(examine=look))
    return found[0], found[1], report


def list_pairs(index: sqlite3.Connection) -> Pairs:
    query = """SELECT kind, one.key, other.key FROM near JOIN picture AS one ON one.id = first
               JOIN picture AS other ON other.id = second"""
    return {(kind, *sorted(keys)) for kind, *keys in index.execute(query)}


@pytest.fixture(scope="module")
def own_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_own_sets(tmp_path_factory.mktemp("near") / "sets")


def test_pairs_across_own_sets_are_found_though_the_split_ties_nothing_to_them(own_sets: Path) -> None:
    tied, every, _ = find(own_sets)
    assert tied == set()
    assert every == {
        ("near", "cat/100.jpg", "cat/leak.jpg"),
        ("near", "dog/200.jpg", "dog/equal.jpg"),
        ("burst", "dog/burst.jpg", "dog/burst.jpg"),
    }


def test_what_the_split_found_is_not_looked_for_again(tmp_path: Path) -> None:
    tied, every, report = find(plant_problems(draw_classes(tmp_path / "photos")))
    assert tied == every
    assert {kind for kind, *_ in every} == {"near", "burst"}
    assert any("stay in one set with them (NEAR_COPIES)" in note for note in report.notes)


def test_a_folder_without_near_copies_has_no_pairs_and_no_note(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "photos", count=5)
    draw_scene(999).save(folder / "cat" / "other.png")
    tied, every, report = find(folder)
    assert tied == every == set()
    assert not any("NEAR_COPIES" in note for note in report.notes)
