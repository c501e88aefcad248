"""A plan for a listing: a new listing of the same format, in which only what the plan names has changed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck.new_listing import write_new_listing
from classifold.datacheck.plan import Step
from classifold.dataset.listing import iter_listing
from classifold.dataset.listing_findings import ListingFindings
from classifold.errors import DataError

NAMES = {f"{n}.jpg": "cat" if n < 3 else "dog" for n in range(1, 5)}
PLAN = [
    Step("cat/1.jpg", "quarantine", row=2),
    Step("cat/2.jpg", "move", "dog", row=3),
    Step("dog/3.jpg", "keep"),
]
AFTER = {"2.jpg": "dog", "3.jpg": "dog", "4.jpg": "dog"}


def read(listing: Path) -> dict[str, str]:
    found = iter_listing(listing, ListingFindings())
    return {one.key.partition("/")[2]: one.class_name for one in found}


def coco() -> dict[str, Any]:
    return {
        "info": {"year": 2026},
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg"} for n in range(1, 5)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
        "annotations": [{"id": n, "image_id": 10 + n, "category_id": 7 if n < 3 else 8} for n in range(1, 5)],
    }


def manifest() -> str:
    lines = [
        {
            "source-ref": f"{n}.jpg",
            "kind": int(n > 2),
            "kind-metadata": {"class-name": "cat" if n < 3 else "dog"},
        }
        for n in range(1, 5)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


LISTINGS = {
    "comma.csv": "file_name,label,note\n" + "".join(f'{n},{c},"a, b"\n' for n, c in NAMES.items()),
    "semicolon.csv": "note;label;file_name\r\n" + "".join(f"x;{c};{n}\r\n" for n, c in NAMES.items()),
    "tab.tsv": "path\tclass\n" + "".join(f"{n}\t{c}\n" for n, c in NAMES.items()),
    "blanks.txt": "file   label\n" + "".join(f"{n}   {c}\n" for n, c in NAMES.items()),
    "list.txt": "".join(f"{n} {c}\n" for n, c in NAMES.items()),
    "list.csv": "".join(f"{n},{c}\n" for n, c in NAMES.items()),
    "lines.jsonl": "".join(json.dumps({"file_name": n, "label": c}) + "\n" for n, c in NAMES.items()),
    "array.json": json.dumps([{"file_name": n, "label": [c]} for n, c in NAMES.items()]),
    "pairs.json": json.dumps(list(NAMES.items())),
    "object.json": json.dumps(NAMES),
    "coco.json": json.dumps(coco()),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    return tmp_path


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "gzip"])
def test_every_format_comes_back_with_the_changes_alone(folder: Path, name: str, coding: str) -> None:
    listing, text = folder / name, LISTINGS[name]
    raw = gzip.compress(text.encode()) if coding == "gzip" else text.encode(coding)
    listing.write_bytes(raw)
    done = write_new_listing(listing, PLAN, plan=folder / "plan.csv")
    assert (done.num_removed, done.num_changed) == (1, 1)
    assert done.path.name == name.replace(".", "-checked.", 1)
    assert read(done.path) == AFTER
    assert listing.read_bytes() == raw
    if coding != "utf-8":  # the mark of the encoding, or of gzip
        assert done.path.read_bytes()[:2] == raw[:2]


def test_lines_that_do_not_change_stay_byte_for_byte(folder: Path) -> None:
    lines = [
        b"\xef\xbb\xbffile_name;label;note\r\n",
        b'1.jpg;cat;"two\r\nlines"\r\n',
        b'"2.jpg";cat;caf\xe9\r\n',
        b' 3.jpg; dog ;"say ""hi"""\r\n',
        b"\r\n",
        b"4.jpg;dog;no line end",
    ]
    (folder / "a.csv").write_bytes(b"".join(lines))
    new = write_new_listing(folder / "a.csv", PLAN, plan=folder / "plan.csv").path
    assert new.read_bytes() == b"".join([lines[0], b"2.jpg;dog;caf\xe9\r\n", *lines[3:]])


def test_an_augmented_manifest_changes_the_number_and_the_name(folder: Path) -> None:
    (folder / "m.manifest").write_text(manifest())
    rows = list(iter_listing(folder / "m.manifest", ListingFindings(), class_column="kind"))
    assert [row.class_name for row in rows] == ["cat", "cat", "dog", "dog"]
    done = write_new_listing(folder / "m.manifest", PLAN, plan=folder / "plan.csv", class_column="kind")
    first = json.loads(done.path.read_text().splitlines()[0])
    assert first == {"source-ref": "2.jpg", "kind": 1, "kind-metadata": {"class-name": "dog"}}


def test_a_coco_file_keeps_everything_else(folder: Path) -> None:
    (folder / "coco.json").write_text(json.dumps(coco()))
    new = json.loads(write_new_listing(folder / "coco.json", PLAN, plan=folder / "p").path.read_text())
    assert new["info"] == {"year": 2026}
    assert [one["id"] for one in new["images"]] == [12, 13, 14]
    assert [(one["image_id"], one["category_id"]) for one in new["annotations"]] == [
        (12, 8),
        (13, 8),
        (14, 8),
    ]


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_a_parquet_file_keeps_its_types(folder: Path, *, is_dictionary: bool) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = arrow.array(list(NAMES.values()))
    columns = {
        "file_name": list(NAMES),
        "label": labels.dictionary_encode() if is_dictionary else labels,
        "size": arrow.array([1, 2, 3, 4], type=arrow.int32()),
    }
    parquet.write_table(arrow.table(columns), folder / "a.parquet")
    new = write_new_listing(folder / "a.parquet", PLAN, plan=folder / "plan.csv").path
    assert read(new) == AFTER
    assert parquet.read_schema(new).types == parquet.read_schema(folder / "a.parquet").types


def test_a_second_new_listing_takes_another_name(folder: Path) -> None:
    (folder / "a.csv").write_text(LISTINGS["comma.csv"])
    names = [write_new_listing(folder / "a.csv", PLAN, plan=folder / "p").path.name for _ in range(2)]
    assert names == ["a-checked.csv", "a-checked-2.csv"]


def test_every_row_that_cannot_be_followed_is_named(folder: Path) -> None:
    (folder / "a.csv").write_text(LISTINGS["comma.csv"])
    plan = [
        Step("cat/9.jpg", "quarantine", row=2),
        Step("cat/1.jpg", "move", "dogs", row=3),
        Step("cat/2.jpg", "move", row=4),
    ]
    with pytest.raises(DataError) as caught:
        write_new_listing(folder / "a.csv", plan, plan=folder / "p")
    assert [(fault.what, fault.hint) for fault in caught.value.faults] == [
        ("the listing names no such picture", "run `classifold check` again, or delete the row"),
        ("the listing has no such class", "did you mean dog?"),
        ("the action is move, but the column `to` is empty", "name a class in the column `to`"),
    ]
    assert list(folder.glob("*checked*")) == []


def test_where_the_folder_is_the_class_lines_can_only_be_left_out(folder: Path) -> None:
    (folder / "paths.txt").write_text("a/cat/1.jpg\na/dog/2.jpg\n")
    plan = [Step("cat/a/cat/1.jpg", "move", "dog", row=2)]
    with pytest.raises(DataError, match="no column for the class"):
        write_new_listing(folder / "paths.txt", plan, plan=folder / "p")
    done = write_new_listing(folder / "paths.txt", [Step("cat/a/cat/1.jpg", "quarantine")], plan=folder / "p")
    assert done.path.read_text() == "a/dog/2.jpg\n"


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(notes=st.lists(cells, min_size=4, max_size=4), gone=st.sets(st.integers(1, 4), max_size=3))
def test_whatever_the_other_cells_hold_they_stay(
    tmp_path_factory: pytest.TempPathFactory, notes: list[str], gone: set[int]
) -> None:
    import csv

    folder = tmp_path_factory.getbasetemp() / "cells"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "note"])
        writer.writerows(
            [name, label, note] for (name, label), note in zip(NAMES.items(), notes, strict=True)
        )
    plan = [Step(f"{NAMES[f'{n}.jpg']}/{n}.jpg", "quarantine") for n in gone]
    new = write_new_listing(folder / "a.csv", plan, plan=folder / "p").path
    with new.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[2] for row in rows] == [note for n, note in enumerate(notes, start=1) if n not in gone]
