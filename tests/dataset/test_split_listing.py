"""Dividing a listing: what the files would give in any order of lines, and every fault with its line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.dataset.division import SplitSummary
from classifold.dataset.listing import iter_listing
from classifold.dataset.listing_findings import ListingFindings
from classifold.dataset.manifest import ManifestLine, iter_manifest
from classifold.dataset.scan import load_sets
from classifold.dataset.split import split_dataset
from classifold.errors import ClassifoldError, DataError
from classifold.names import SETS, set_manifest
from classifold.settings.loader import build_config

ROOT = "s3://pets/photos/"


@pytest.fixture
def write_listing(tmp_path: Path) -> Callable[..., Path]:
    """write_listing(rows) -> a CSV of these rows, or JSON Lines of these dicts."""

    def write(rows: list[Any], name: str = "listing.csv") -> Path:
        path = tmp_path / name
        text = io.StringIO()
        if rows and isinstance(rows[0], dict):
            text.write("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            csv.writer(text).writerows(rows)
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def make_rows(counts: dict[str, int]) -> list[list[str]]:
    """The lines of an S3 Inventory, every picture with an etag of its own."""
    return [
        ["pets", f"photos/{name}/{number}.jpg", "1000", "2026-01-01T00:00:00.000Z", f"{name}{number:028}"]
        for name, count in counts.items()
        for number in range(count)
    ]


def divide(listing: Path, **values: Any) -> SplitSummary:
    values = {"MANIFEST_ROOT": ROOT, **values}
    return split_dataset(build_config({"DATA_MANIFEST": str(listing), **values}))


def read_sets(summary: SplitSummary) -> dict[str, list[ManifestLine]]:
    return {name: list(iter_manifest(summary.split_dir / set_manifest(name))) for name in SETS}


def place_of(summary: SplitSummary) -> dict[str, str]:
    return {line.identity: name for name, lines in read_sets(summary).items() for line in lines}


# What it gives


def test_an_inventory_without_a_header_becomes_three_manifests(write_listing):
    summary = divide(write_listing(make_rows({"cat": 40, "dog": 30}), "inventory.csv.gz"))
    assert summary.split_dir.name == "inventory-split"
    sets = read_sets(summary)
    assert sorted(line.key for lines in sets.values() for line in lines) == sorted(
        f"{name}/{number}.jpg" for name, count in (("cat", 40), ("dog", 30)) for number in range(count)
    )
    assert {line.class_name for line in sets["evaluation"]} == {"cat", "dog"}
    assert sets["training"][0].source.startswith(ROOT)
    assert {path.name for path in summary.split_dir.iterdir()} == {
        "split.json",
        *(set_manifest(name) for name in SETS),
    }


def test_a_listing_with_sha256_gives_the_sets_the_fingerprint_and_the_order_of_the_files(
    make_classes, split, contents, write_listing
):
    folder = make_classes({"cat": 30, "dog": 20, "dog/deep": 5, "dog/a": 4})
    by_files = split(folder)
    rows = [
        {"source-ref": str(path), "size": path.stat().st_size, "sha256": digest(path)}
        for path in folder.rglob("*.png")
    ]
    by_listing = divide(write_listing(rows, "listed.jsonl"), MANIFEST_ROOT=str(folder))
    assert by_listing.fingerprint == by_files.fingerprint
    assert by_listing.counts == by_files.counts
    files = load_sets(by_files.split_dir).pictures
    for name, lines in read_sets(by_listing).items():
        assert [line.key for line in lines] == [picture.key for picture in files[name]]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_class_may_stand_in_a_column_or_in_an_augmented_manifest(write_listing):
    rows = [["key", "size", "label"], *([f"s3://b/{n}.bin", "5", "ab"[n % 2]] for n in range(40))]
    counts = divide(write_listing(rows), MANIFEST_CLASS="label", MANIFEST_ROOT="").counts
    assert sum(sum(classes.values()) for classes in counts.values()) == 40
    rows = [
        {
            "source-ref": f"s3://b/{n}.jpg",
            "kind": n % 2,
            "kind-metadata": {"class-name": ["owl", "emu"][n % 2]},
        }
        for n in range(40)
    ]
    summary = divide(write_listing(rows, "augmented.jsonl"), MANIFEST_CLASS="kind", MANIFEST_ROOT="")
    assert set(summary.counts["training"]) == {"owl", "emu"}
    assert any("no sha256 and no etag" in note for note in summary.notes)


def test_without_a_root_the_folder_that_holds_the_picture_is_its_class(write_listing):
    summary = divide(write_listing(make_rows({"cat": 10, "dog": 10})), MANIFEST_ROOT="")
    assert {line.key.split("/")[0] for line in read_sets(summary)["training"]} == {"cat", "dog"}


def test_what_is_no_picture_is_passed_over_and_counted_and_an_empty_file_is_skipped(write_listing):
    rows = make_rows({"cat": 10, "dog": 10})
    rows += [
        ["pets", key, "7", "", "e"]
        for key in ("photos/cat/", "photos/cat/a.txt", "photos/cat/.x.jpg", "o.jpg")
    ]
    rows.append(["pets", "photos/cat/none.jpg", "0", "", "e"])
    summary = divide(write_listing(rows))
    assert summary.notes[0] == (
        "skipped: 1 folder mark, 1 hidden or left by the system, 1 no picture by its ending, "
        "1 outside MANIFEST_ROOT"
    )
    assert [one.reason for one in summary.unreadable] == ["the file is empty"]
    with pytest.raises(DataError, match="the file is empty"):
        divide(write_listing(rows), UNREADABLE_PICTURES="fail")


def test_keys_of_an_inventory_are_decoded_and_those_of_a_table_are_not(write_listing):
    plain = make_rows({"cat": 10, "dog": 10})
    found = divide(write_listing([*plain, ["pets", "photos/cat/a+%C3%A9.jpg", "9", "", "x"]]))
    assert "cat/a é.jpg" in {line.key for lines in read_sets(found).values() for line in lines}
    header = ["Bucket", "Key", "Size", "LastModified", "ETag"]
    found = divide(write_listing([header, *plain, ["pets", "photos/cat/a+%C3.jpg", "9", "", "x"]]))
    assert "cat/a+%C3.jpg" in {line.key for lines in read_sets(found).values() for line in lines}


# What holds for every listing

CONTENTS = st.lists(
    st.tuples(st.sampled_from(["ant", "bee", "cow"]), st.integers(0, 30), st.integers(0, 60)),
    min_size=1,
    max_size=80,
    unique_by=lambda one: one[:2],
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=CONTENTS, seed=st.integers(0, 9), grouped=st.booleans())
def test_no_content_is_in_two_sets_and_the_order_of_the_lines_changes_nothing(
    write_listing, tmp_path, extra, seed, grouped
):
    rows = make_rows({"ant": 6, "bee": 6, "cow": 6})
    rows += [
        ["pets", f"photos/{name}/x{place}.jpg", "5", "", f"e{content}"] for name, place, content in extra
    ]
    pattern = r"x(\d)" if grouped else ""
    random.Random(seed).shuffle(rows)
    shutil.rmtree(tmp_path / "listing-split", ignore_errors=True)
    first = divide(write_listing(rows), SPLIT_GROUP_PATTERN=pattern)
    sets = read_sets(first)
    seen = Counter(line.identity for lines in sets.values() for line in lines)
    assert max(seen.values()) == 1  # copies are written once
    classes = {}
    for name, _, content in extra:
        classes.setdefault(content, set()).add(name)
    kept = sum(len(names) == 1 for names in classes.values())
    assert sum(seen.values()) == 18 + kept
    if grouped:
        groups = {}
        for name, lines in sets.items():
            for line in lines:
                if "/x" in line.key:
                    groups.setdefault(line.key.partition("/x")[2][0], set()).add(name)
        assert all(len(names) == 1 for names in groups.values())
    random.Random(seed + 1).shuffle(rows)
    before = {path.name: path.read_bytes() for path in first.split_dir.iterdir()}
    shutil.rmtree(first.split_dir)
    second = divide(write_listing(rows), SPLIT_GROUP_PATTERN=pattern)
    assert {path.name: path.read_bytes() for path in second.split_dir.iterdir()} == before


def test_adding_renaming_and_other_shares_move_nothing_into_training(write_listing):
    rows = make_rows({"cat": 60, "dog": 60})
    before = place_of(divide(write_listing(rows)))
    renamed = [[bucket, key.replace(".jpg", " new.jpg"), *rest] for bucket, key, *rest in rows]
    more = renamed + make_rows({"cow": 30})
    for share in (0.3, 0.01):
        after = place_of(divide(write_listing(more), PERCENTAGE_VAL=share, PERCENTAGE_EVAL=share))
        assert all(after[one] == name for one, name in before.items() if name != "training")
        before = after


def test_what_was_held_out_is_remembered_while_it_is_away(write_listing):
    rows = make_rows({"cat": 40, "dog": 40})
    held = {one: name for one, name in place_of(divide(write_listing(rows))).items() if name != "training"}
    divide(write_listing([*rows[40:], *make_rows({"cow": 10})]))
    after = place_of(divide(write_listing(rows), PERCENTAGE_VAL=0.01, PERCENTAGE_EVAL=0.01))
    assert all(after[one] == name for one, name in held.items())


def test_an_object_that_is_listed_twice_counts_once(write_listing):
    rows = make_rows({"cat": 10, "dog": 10})
    summary = divide(write_listing([*rows, *rows[:5]]))
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 20


# What is refused


def test_every_faulty_line_is_named_and_the_earlier_split_stays(write_listing):
    good = [
        {"source-ref": f"s3://pets/photos/{'ab'[n % 2]}/{n}.jpg", "size": 5, "etag": str(n)}
        for n in range(40)
    ]
    summary = divide(write_listing(good, "listing.jsonl"))
    before = {path.name: path.read_bytes() for path in summary.split_dir.iterdir()}
    bad = [
        {"size": 5, "etag": "x"},
        {"source-ref": f"{ROOT}a/x.jpg", "size": "many", "etag": "x"},
        {"source-ref": f"{ROOT}a/y.jpg", "size": 5, "sha256": "12"},
        {"source-ref": f"{ROOT}a/z.jpg", "size": 5},
        {"source-ref": f"{ROOT}z.jpg", "size": 5, "etag": "x"},
        {"source-ref": f"{ROOT}a//z.jpg", "size": 5, "etag": "x"},
    ]
    path = write_listing([*good, *bad], "listing.jsonl")
    with path.open("a") as file:
        file.write("[1]\n{\n\n")
    with pytest.raises(DataError) as caught:
        divide(path)
    found = [(fault.where.rpartition("line ")[2], fault.what[:30]) for fault in caught.value.faults]
    assert [line for line, _ in found] == ["41", "42", "43", "44", "45", "46", "47", "48"]
    assert all(fault.hint for fault in caught.value.faults)
    assert {path.name: path.read_bytes() for path in summary.split_dir.iterdir()} == before


def test_of_a_thousand_faulty_lines_twenty_are_named(write_listing):
    rows = [["key", "size"], *([f"a/{n}.jpg", "x"] for n in range(1000))]
    with pytest.raises(DataError) as caught:
        divide(write_listing(rows), MANIFEST_ROOT="")
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1].where == "980 more lines"


def test_another_kind_of_identity_than_the_split_before_is_refused(write_listing):
    rows = make_rows({"cat": 10, "dog": 10})
    divide(write_listing(rows))
    with pytest.raises(DataError, match="identifies pictures by etag, the new split by key"):
        divide(write_listing([[*row[:4], ""] for row in rows]))


def test_a_listing_of_all_versions_is_refused_with_its_lines(write_listing):
    rows = make_rows({"cat": 10, "dog": 10})
    with pytest.raises(
        DataError, match=r"line 21: the content of s3://pets/photos/cat/0.jpg differs from that in line 1"
    ):
        divide(write_listing([*rows, [*rows[0][:4], "other"]]))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\0", b"a,b\n" * 3, b"{}\n", b"\x1f\x8b damaged"])
def test_what_is_no_listing_is_one_clear_error(tmp_path, content):
    for name in ("one.csv", "two.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            divide(tmp_path / name)
        assert all(fault.hint for fault in caught.value.faults)
    with pytest.raises(DataError, match="cannot be read"):
        divide(tmp_path / "missing.csv")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_pictures_or_faults_and_never_a_traceback(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    findings = ListingFindings()
    try:
        found = list(iter_listing(path, findings))
    except ClassifoldError:
        return
    assert all(one.class_name == one.key.partition("/")[0] for one in found)
    assert all(len(one.identity) == 32 for one in found)
    assert len({one.line for one in found}) == len(found)


def test_training_says_what_a_split_of_a_listing_needs(write_listing):
    split_dir = divide(write_listing(make_rows({"cat": 10, "dog": 10}))).split_dir
    with pytest.raises(DataError, match="run `classifold shards`"):
        load_sets(split_dir)
