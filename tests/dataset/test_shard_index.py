"""The index of shards: what is written is read again, and what is damaged is refused in one sentence."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.shard_index import (
    Entry,
    IndexHead,
    PackedShard,
    iter_entries,
    load_shards,
    read_index_head,
    write_index,
)
from classifold.errors import DataError
from classifold.names import SETS

PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20)
KEY = st.lists(PART.filter(lambda part: part not in (".", "..")), min_size=2, max_size=4).map("/".join)
SHARD_BYTES = 10**12


@st.composite
def entries(draw: Callable[..., Any]) -> Entry:
    size = draw(st.integers(0, SHARD_BYTES // 2))
    offset = 512 * draw(st.integers(1, (SHARD_BYTES // 2 - 1024) // 512))
    return Entry(draw(KEY), draw(st.integers(0, 2)), offset, size, draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(), max_size=6), st.lists(entries(), max_size=3))
def test_what_is_written_is_read_again(training: list[Entry], evaluation: list[Entry]) -> None:
    given_ = {"training": training, "validation": [], "evaluation": evaluation}
    shards = [PackedShard(f"shard-{number:05}.tar", SHARD_BYTES, "00ff" * 16) for number in (0, 7, 99999)]
    head = IndexHead(5, {name: len(given_[name]) for name in SETS}, dict.fromkeys(SETS, shards))
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder) / "shards.json", head, given_)
        assert read_index_head(Path(folder)) == head
        assert {name: list(iter_entries(Path(folder), head, name)) for name in SETS} == given_
        # It is JSON for anybody else, too.
        whole = json.loads((Path(folder) / "shards.json").read_text(encoding="utf-8"))
    assert [tuple(line) for line in whole["training"]] == training


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an index of three pictures in two shards, and shards of zeros."""
    shards = {name: [PackedShard("shard-00000.tar", 10240, "0" * 64)] for name in SETS}
    shards["training"].append(PackedShard("shard-00001.tar", 20480, "1" * 64))
    listed = {
        "training": [Entry("a/1.jpg", 0, 512, 100, 1), Entry("b/2.jpg", 1, 512, 100, 2)],
        "validation": [Entry("a/3.jpg", 0, 512, 100, 3)],
        "evaluation": [Entry("a/4.jpg", 0, 512, 100, 4)],
    }
    counts = {name: len(listed[name]) for name in SETS}
    write_index(tmp_path / "shards.json", IndexHead(1, counts, shards), listed)
    for name in SETS:
        (tmp_path / name).mkdir()
        for shard in shards[name]:
            (tmp_path / name / shard.name).write_bytes(bytes(shard.size))
    return tmp_path


def refuse(folder: Path) -> str:
    """Load, and return the one line of the one error."""
    with pytest.raises(DataError) as caught:
        load_shards(folder)
    (fault,) = caught.value.faults
    assert "classifold upload" in fault.hint
    return fault.format().splitlines()[0]


def test_a_sound_folder_is_loaded(folder: Path) -> None:
    pictures = load_shards(folder)
    assert [(one.key, one.class_name, one.path.name, one.size) for one in pictures["training"]] == [
        ("a/1.jpg", "a", "shard-00000.tar", 100),
        ("b/2.jpg", "b", "shard-00001.tar", 100),
    ]


BROKEN = {
    "a key above the folder": ('"b/2.jpg"', '"b/../../2.jpg"', "a key that is not <class>/<file>"),
    "an absolute key": ('"b/2.jpg"', '"/b/2.jpg"', "a key that is not <class>/<file>"),
    "a key without a class": ('"b/2.jpg"', '"2.jpg"', "a key that is not <class>/<file>"),
    "a key that ends in a folder": ('"b/2.jpg"', '"b/"', "a key that is not <class>/<file>"),
    "a zero byte": ('"b/2.jpg"', '"b/2\\u0000.jpg"', "a key that is not <class>/<file>"),
    "half a character": ('"b/2.jpg"', '"b/\\ud800.jpg"', "surrogates not allowed"),
    "a key that is no text": ('"b/2.jpg"', "17", "not an entry"),
    "an offset before the content": ('"b/2.jpg", 1, 512', '"b/2.jpg", 1, 0', "is not inside a shard"),
    "an offset between blocks": ('"b/2.jpg", 1, 512', '"b/2.jpg", 1, 513', "is not inside a shard"),
    "a negative offset": ('"b/2.jpg", 1, 512', '"b/2.jpg", 1, -512', "is not inside a shard"),
    "an end behind the shard": (
        '"b/2.jpg", 1, 512, 100',
        '"b/2.jpg", 1, 512, 20000',
        "is not inside a shard",
    ),
    "a negative size": ('"b/2.jpg", 1, 512, 100', '"b/2.jpg", 1, 1024, -100', "is not inside a shard"),
    "a size that is no number": ("512, 100, 2]", "512, 1e2, 2]", "not an entry"),
    "true for a number": ('"b/2.jpg", 1', '"b/2.jpg", true', "not an entry"),
    "a shard that is not there": ('"b/2.jpg", 1', '"b/2.jpg", 2', "is not inside a shard"),
    "a shard before the first": ('"b/2.jpg", 1', '"b/2.jpg", -1', "is not inside a shard"),
    "a field too many": ("100, 2]", "100, 2, 3]", "damaged"),
    "an object for a list": ('["b/2.jpg", 1, 512, 100, 2]', "{}", "damaged"),
    "a number for a list": ('["b/2.jpg", 1, 512, 100, 2]', "5", "damaged"),
    "a line that is no JSON": ('["b/2.jpg"', '["b/2.jpg', "damaged"),
    "a line too few": ('["b/2.jpg", 1, 512, 100, 2]\n', "", "damaged"),
    "a picture less": (',\n["b/2.jpg", 1, 512, 100, 2]', "", "it lists 1 training pictures, not 2"),
    "a shard outside": ('"shard-00001.tar"', '"../shard-00001.tar"', "not the name of a shard"),
    "a shard named twice": ('"shard-00001.tar"', '"shard-00000.tar"', "named twice"),
    "a shard without a size": ('"size": 20480', '"bytes": 20480', "its head is not valid"),
    "a shard of negative size": ('"size": 20480', '"size": -1', "not a number of pictures or bytes"),
    "no shards": ('"shards": {', '"shard": {', "its head is not valid"),
    "no counts": ('"counts": {"training"', '"counts": {"train"', "its head is not valid"),
    "a list for the head": ('{"format"', '[{"format"', "its first line is not a valid head"),
    "endless nesting": ('["b/2.jpg", 1, 512, 100, 2]', "[" * 200_000, "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_index_is_named_with_what_is_wrong_and_the_cure(folder: Path, name: str) -> None:
    before, after, what = BROKEN[name]
    path = folder / "shards.json"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    line = refuse(folder)
    assert line.startswith(f"error: {path}: ")
    assert what in line
    assert len(line) < 500


def test_wherever_the_index_is_cut_it_is_refused(folder: Path) -> None:
    path = folder / "shards.json"
    whole = path.read_bytes()
    end = whole.rindex(b"\n]")  # what follows is no picture's
    for length in range(0, end, 7):
        path.write_bytes(whole[:length])
        assert "damaged" in refuse(folder)


def test_an_index_of_another_format_is_said_to_be_of_another_version(folder: Path) -> None:
    path = folder / "shards.json"
    path.write_text(path.read_text().replace('{"format": 1', '{"format": 2'))
    assert "another format than this version reads" in refuse(folder)


def test_missing_and_cut_shards_are_all_named(folder: Path) -> None:
    (folder / "training" / "shard-00001.tar").unlink()
    with (folder / "evaluation" / "shard-00000.tar").open("r+b") as file:
        file.truncate(10239)
    with pytest.raises(DataError) as caught:
        load_shards(folder)
    assert [(fault.where, fault.what, fault.got) for fault in caught.value.faults] == [
        (
            str(folder / "training" / "shard-00001.tar"),
            "the shard is missing: No such file or directory",
            "",
        ),
        (
            str(folder / "evaluation" / "shard-00000.tar"),
            "the shard is cut short or damaged: expected 10240 bytes",
            "10239",
        ),
    ]
    assert all("classifold upload" in fault.hint for fault in caught.value.faults)


def test_of_very_many_missing_shards_the_first_are_named(tmp_path: Path) -> None:
    shards = [PackedShard(f"shard-{number:05}.tar", 10240, "0" * 64) for number in range(50)]
    head = IndexHead(1, dict.fromkeys(SETS, 0), {**{name: [] for name in SETS}, "training": shards})
    write_index(tmp_path / "shards.json", head, dict.fromkeys(SETS, ()))
    with pytest.raises(DataError) as caught:
        load_shards(tmp_path)
    assert len(caught.value.faults) == 21
    assert "30 more shards" in str(caught.value)


def test_a_large_index_is_written_and_read_line_by_line(tmp_path: Path) -> None:
    count = 20_000
    shard = PackedShard("shard-00000.tar", 10**12, "0" * 64)
    head = IndexHead(1, {**dict.fromkeys(SETS, 0), "training": count}, {name: [shard] for name in SETS})

    def lines() -> Iterator[Entry]:
        return (
            Entry(f"class {number % 10}/{number}.jpg", 0, 1024 * number + 512, 500, 7)
            for number in range(count)
        )

    tracemalloc.start()
    write_index(tmp_path / "shards.json", head, {**dict.fromkeys(SETS, ()), "training": lines()})
    assert sum(entry.size for entry in iter_entries(tmp_path, head, "training")) == 500 * count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
