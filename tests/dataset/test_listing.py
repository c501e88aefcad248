"""Listings as people write them: any table is read back as it was written, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.dataset.check import CheckReport, check_data
from classifold.dataset.division import SplitSummary
from classifold.dataset.listing import Listed, iter_listing
from classifold.dataset.listing_findings import ListingFindings
from classifold.dataset.manifest import iter_manifest
from classifold.dataset.split import split_dataset
from classifold.errors import ClassifoldError, DataError, Fault, MissingExtraError
from classifold.names import SETS, set_manifest
from classifold.settings.loader import build_config

PNG = b"\x89PNG\r\n\x1a\n"
PER_CLASS = 6


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder `pics` of six files each for cat and dog that start as pictures do."""
    for name in ("cat", "dog"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            (tmp_path / "pics" / name / f"{number}.png").write_bytes(PNG + bytes([number]))
    return tmp_path / "pics"


ROWS = [(f"pics/{name}/{number}.png", name) for name in ("cat", "dog") for number in range(PER_CLASS)]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[list[Listed], ListingFindings]]:
    """read(content, root="", class_column="") -> the pictures of a listing, and what else there is."""

    def read(
        content: str | bytes, *, name: str = "list.csv", **how: str
    ) -> tuple[list[Listed], ListingFindings]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        findings = ListingFindings()
        found = list(iter_listing(path, findings, **how))
        findings.check(path)
        return found, findings

    return read


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., CheckReport]:
    """check(content, MANIFEST_ROOT=...) -> what the check says of a listing."""

    def check(content: str | bytes, **values: Any) -> CheckReport:
        (tmp_path / "list.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        return check_data(build_config({"DATA_MANIFEST": str(tmp_path / "list.csv"), **values}))

    return check


def divide(tmp_path: Path, content: str | bytes, **values: Any) -> SplitSummary:
    (tmp_path / "list.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return split_dataset(build_config({"DATA_MANIFEST": str(tmp_path / "list.csv"), **values}))


def write_table(rows: list[tuple[str, ...]], separator: str = ",", **how: Any) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n", **how).writerows(rows)
    return text.getvalue()


def classes_of(found: list[Listed], tmp_path: Path) -> list[tuple[str, str]]:
    return [(os.path.relpath(one.source, tmp_path), one.class_name) for one in found]


def only_fault(report: CheckReport) -> str:
    assert len(report.faults) == 1, report.faults
    assert report.faults[0].hint
    return str(report.faults[0].format())


# Tables


HEADERS = [
    ("file_name", "label"),
    ("filename", "class"),
    ("File Name", "Class Name"),
    ("FILE", "Category"),
    ("path", "target"),
    ("filepaths", "labels"),
    ("image", "tag"),
    ("image_path", "species"),
    ("Image-Path", "class_name"),
    ("img", "y"),
    ("key", "label"),
    ("name", "breed"),
    ("id", "label"),
    ("Bilddatei", "Label"),
]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", HEADERS)
def test_the_columns_are_known_by_the_names_that_people_use(read, pictures, tmp_path, header, separator):
    found, findings = read(write_table([header, *ROWS], separator))
    assert classes_of(found, tmp_path) == ROWS
    assert findings.missing.count == 0


def test_of_several_columns_the_one_with_names_of_files_is_the_picture(read, pictures, tmp_path):
    rows = [("name", "id", "label"), *((name, path, name) for path, name in ROWS)]
    assert classes_of(read(write_table(rows))[0], tmp_path) == ROWS
    rows = [("class id", "filepaths", "labels", "data set"), *(("7", *row, "train") for row in ROWS)]
    found, _ = read(write_table(rows))
    assert classes_of(found, tmp_path) == ROWS
    assert {one.set_name for one in found} == {"training"}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " ", "   ", " \t"])
@pytest.mark.parametrize("number", [False, True])
def test_a_list_of_paths_and_classes_needs_no_header(read, pictures, tmp_path, separator, number):
    rows = [(path, str(int(name == "dog")) if number else name) for path, name in ROWS]
    found, _ = read("".join(f"{path}{separator}{name}\n" for path, name in rows), name="train.txt")
    assert classes_of(found, tmp_path) == rows


def test_a_list_of_paths_alone_takes_the_folders_as_classes(read, pictures, tmp_path):
    (pictures / "cat" / "my cat.png").write_bytes(PNG)
    found, _ = read("".join(f"{path}\n" for path, _ in [*ROWS, ("pics/cat/my cat.png", "")]))
    assert classes_of(found, tmp_path) == [*ROWS, ("pics/cat/my cat.png", "cat")]


def test_the_class_may_come_first_and_a_path_may_have_blanks(read, pictures, tmp_path):
    (pictures / "cat" / "my cat.png").write_bytes(PNG)
    rows = [*ROWS, ("pics/cat/my cat.png", "cat")]
    assert classes_of(read("".join(f"{name},{path}\n" for path, name in rows))[0], tmp_path) == rows
    assert classes_of(read("".join(f"{path} {name}\n" for path, name in rows))[0], tmp_path) == rows
    assert (
        classes_of(read('file_name, "label"\n' + "".join(f'{p}, "{c}"\n' for p, c in rows))[0], tmp_path)
        == rows
    )
    assert classes_of(read("image label\n" + "".join(f"{p} {c}\n" for p, c in ROWS))[0], tmp_path) == ROWS


def test_an_inventory_may_begin_with_a_folder_in_a_bucket_that_is_called_as_a_column_is(read):
    rows = [
        "images,photos/,0,2026-01-01,e0",
        *(f"images,photos/cat/{n}.jpg,9,2026-01-01,e{n}" for n in range(3)),
    ]
    for number in (2, 3, 5):  # columns: bucket and key alone, with sizes, all of them
        text = "\n".join(",".join(row.split(",")[:number]) for row in rows)
        found, findings = read(text)
        assert [one.source for one in found] == [f"s3://images/photos/cat/{n}.jpg" for n in range(3)]
        assert findings.passed_over == {"folder marks": 1}


@pytest.mark.parametrize("name", ["ORCHID", "PAR1", "BZh9"])
def test_a_name_that_begins_as_another_kind_of_file_does_is_a_name(read, name):
    found, _ = read(f"{name}/1.jpg,{name}\n{name}/2.jpg,{name}\n")
    assert [one.class_name for one in found] == [name, name]


def test_the_numbers_that_pandas_writes_before_each_row_are_no_fault(read, pictures, tmp_path):
    rows = [("", "path", "label"), *((str(number), *row) for number, row in enumerate(ROWS))]
    assert classes_of(read(write_table(rows))[0], tmp_path) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_every_unicode_encoding_is_read(read, pictures, tmp_path, encoding, is_packed):
    rows = [(path, "Bär") for path, _ in ROWS]
    content = write_table([("path", "label"), *rows], ";").replace("\n", "\r\n").encode(encoding)
    content = gzip.compress(content) if is_packed else content
    found, findings = read(content)
    assert classes_of(found, tmp_path) == rows
    assert findings.num_recoded == 0


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_windows_1252_is_read_and_noted(check, pictures, encoding):
    rows = [(path, {"cat": "chaton né", "dog": "Bär"}[name]) for path, name in ROWS]
    report = check(write_table([("path", "label"), *rows]).encode(encoding))
    assert set(report.classes) == {"chaton né", "Bär"}
    assert "not UTF-8, and read as Windows-1252 (Latin-1): 12 lines" in " ".join(report.notes)
    assert report.faults == ()


@pytest.mark.parametrize(
    ("encoding", "title", "names"),
    [
        ("gbk", "GBK", ("猫科", "狗狗")),
        ("cp932", "Shift-JIS", ("ネコ", "いぬ")),
        ("cp1251", "Windows-1251", ("кошка", "собака")),
    ],
)
def test_class_names_of_another_encoding_are_refused(check, pictures, encoding, title, names):
    rows = [(path, names[name == "dog"]) for path, name in ROWS]
    report = check(write_table([("path", "label"), *rows]).encode(encoding))
    fault = only_fault(report)
    assert f"its class names are not UTF-8, and most likely {title}" in fault
    assert any(f"which is {name!r}" in fault for name in names)
    assert "-t utf-8" in report.faults[0].hint


def test_a_class_that_is_a_missing_value_is_told(check, pictures):
    rows = [(path, "NaN" if name == "dog" else name) for path, name in ROWS]
    notes = check(write_table([("path", "label"), *rows])).notes
    assert "taken as a class, although programs write it for a missing value: 'NaN'" in notes


def test_classes_by_folders_are_told_where_a_column_could_hold_them(check, pictures):
    rows = [(path, "benign") for path, _ in ROWS]
    report = check(write_table([("img_path", "diagnosis"), *rows]))
    line = "the classes are the folders of the pictures; MANIFEST_CLASS can name a column instead: diagnosis"
    assert line in report.notes
    assert not any("folders of the pictures" in note for note in check("path\n" + ROWS[0][0]).notes)


def test_a_key_in_s3_that_is_no_utf_8_is_refused(read):
    with pytest.raises(DataError, match="its key is not UTF-8"):
        read("source-ref,size\ns3://b/cat/é.jpg,5\n".encode("latin-1"))


TEXT = st.text(
    st.characters(
        min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="/\\:", exclude_categories=("C", "Z")
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: unicodedata.is_normalized("NFC", text) and text not in (".", ".."))
NAMES = st.lists(TEXT, min_size=1, max_size=3).map(" ".join)
TABLES = st.lists(st.tuples(NAMES.map(lambda name: f"{name}.jpg"), NAMES), min_size=1, max_size=9)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=TABLES,
    header=st.sampled_from(HEADERS),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(ENCODINGS),
    is_packed=st.booleans(),
)
def test_any_table_is_read_back_as_it_was_written(
    read, rows, header, separator, quoting, end, encoding, is_packed
):
    text = write_table([header, *rows], separator, quoting=quoting).replace("\n", end)
    content = text.encode("utf-16" if encoding.startswith("utf-16") and not text.isascii() else encoding)
    found, _ = read(gzip.compress(content) if is_packed else content, root="s3://b/")
    assert [(one.source, one.class_name) for one in found] == [
        (f"s3://b/{path}", name) for path, name in rows
    ]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=TABLES,
    kind=st.sampled_from(["lines", "array", "pretty", "object", "pairs"]),
    is_ascii=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_json_is_read_back_as_it_was_written(read, rows, kind, is_ascii, encoding):
    rows = list(dict(rows).items())
    objects = [{"file_name": path, "label": name} for path, name in rows]
    value = {"object": dict(rows), "pairs": rows}.get(kind, objects)
    text = json.dumps(value, ensure_ascii=is_ascii, indent=2 if kind == "pretty" else None)
    if kind == "lines":
        text = "".join(f"{json.dumps(one, ensure_ascii=is_ascii)}\n" for one in objects)
    found, _ = read(text.encode(encoding), root="s3://b/")
    assert [(one.source, one.class_name) for one in found] == [
        (f"s3://b/{path}", name) for path, name in rows
    ]


def test_json_objects_may_name_their_pictures_differently(read, pictures, tmp_path):
    lines = [{"id": f"n{number}", "name": path, "label": name} for number, (path, name) in enumerate(ROWS)]
    lines[3] = {"file_name": ROWS[3][0], "label": ROWS[3][1]}
    found, _ = read("\n".join(map(json.dumps, lines)))
    assert classes_of(found, tmp_path) == ROWS


def test_a_line_of_a_table_without_a_name_is_not_given_another_column_s(read, pictures):
    rows = [
        ("id", "path", "label"),
        *((str(number), *row) for number, row in enumerate(ROWS)),
        ("9", "", "cat"),
    ]
    with pytest.raises(DataError, match="line 14: it does not name a picture"):
        read(write_table(rows))


COCO = {
    "images": [{"id": n, "file_name": path} for n, (path, _) in enumerate(ROWS)],
    "annotations": [
        {"id": n, "image_id": n, "category_id": 7 + (c == "dog")} for n, (_, c) in enumerate(ROWS)
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
}


def test_annotations_as_coco_has_them_give_each_image_its_class(read, pictures, tmp_path):
    boxes = [*COCO["annotations"], {"id": 99, "image_id": 0, "category_id": 7}]
    for indent in (None, 2):
        found, _ = read(json.dumps({**COCO, "annotations": boxes}, indent=indent))
        assert classes_of(found, tmp_path) == ROWS
    found, findings = read(json.dumps({**COCO, "annotations": boxes[1:-1]}))
    assert classes_of(found, tmp_path) == ROWS[1:]
    assert findings.passed_over == {"images without an annotation": 1}


def test_an_image_with_annotations_of_several_classes_is_refused(read, pictures):
    more = [{"id": 99, "image_id": 3, "category_id": 8}]
    with pytest.raises(DataError, match=r"1 image has annotations of several classes.*got pics/cat/3\.png"):
        read(json.dumps({**COCO, "annotations": COCO["annotations"] + more}))
    with pytest.raises(DataError, match="do not fit together"):
        read(json.dumps({**COCO, "categories": []}))


UNKNOWN = {
    "no header": ("0001,cat\n0002,dog\n", "no column of the listing names the pictures", "0001, cat"),
    "other columns": (
        "a;b;c\n1;2;3\n",
        "no column of the listing names the pictures",
        "semicolons, are a, b, c",
    ),
    "no separator": ("rose~1\ntulip~2\n", "separator is not known", "file_name"),
    "columns without names": ("a.jpg,cat,7\nb.jpg,dog,8\n", "has no header and 3 columns", "file_name,label"),
    "several numbers": ("a.jpg 0 1 1\nb.jpg 1 0 0\n", "followed by several numbers", "one class"),
    "empty": ("\n\n", "the listing is empty", "name at least one"),
    "a number": ("[3", "JSON object", "correct"),
    "an object of others": ('{\n"a": 1,\n"b": 2\n}\n', "does not contain a list of pictures", "JSON Lines"),
    "a list of numbers": ("[1, 2]", "it is not a JSON object", "correct"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_of_a_table_is_said_with_what_was_seen(read, name):
    content, what, hint = UNKNOWN[name]
    with pytest.raises(DataError) as caught:
        read(content)
    assert what in str(caught.value)
    assert hint in caught.value.faults[0].hint
    assert all(len(fault.format()) < 500 for fault in caught.value.faults)


OTHERS = {
    "xlsx": (b"PK\x03\x04\x14\0[Content_Types].xml", "a workbook", "save the table as CSV"),
    "zip": (b"PK\x03\x04\x14\0", "expected a folder or a listing, got a ZIP archive", "unpack it first"),
    "rar": (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    "tar": (b"photos/".ljust(257, b"\0") + b"ustar\0", "got a tar archive", "unpack it first"),
    "tar.gz": (gzip.compress(bytes(257) + b"ustar  \0"), "got a tar archive", "unpack it first"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(99), "got a video", "save its frames as pictures"),
    "xls": (b"\xd0\xcf\x11\xe0\0\0", "a workbook of Excel", "save the table as CSV"),
    "sqlite": (b"SQLite format 3\0", "an SQLite database", "CSV"),
    "orc": (b"ORC\x01\0\0", "an ORC file", "CSV or Parquet"),
    "xz": (b"\xfd7zXZ\0rest", "compressed by xz", "gzip"),
    "picture": (PNG + bytes(99), "this is one picture (PNG)", "one sub-folder of pictures per class"),
    "pdf": (b"%PDF-1.7\n", "a PDF document", "DATA_MANIFEST"),
    "damaged UTF-16": (b"\xff\xfe" + "path,label".encode("utf-16-le") + b"\0", "utf-16", "UTF-8"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_no_listing_is_named(read, name):
    content, what, hint = OTHERS[name]
    with pytest.raises(DataError) as caught:
        read(content)
    assert what in str(caught.value)
    assert hint in caught.value.faults[0].hint


def test_a_pipe_or_a_folder_as_a_listing_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path):
        with pytest.raises(DataError, match="not an ordinary file"):
            list(iter_listing(path, ListingFindings()))


def test_a_line_without_end_takes_no_memory(read):
    with pytest.raises(DataError, match="a line of more than"):
        read(gzip.compress(b"path,label\n" + b"x" * 2**25))


def test_a_line_with_too_many_columns_is_named(read):
    with pytest.raises(DataError, match="line 3: it has 3 columns, and the table 2"):
        read("file_name,label\ns3://b/1.jpg,cat\ns3://b/2, 3.jpg,cat\n")


def test_parts_of_a_table_that_were_joined_repeat_its_header(read, pictures, tmp_path):
    part = write_table([("path", "label"), *ROWS[:3]]), write_table([("path", "label"), *ROWS[3:]])
    assert classes_of(read("".join(part))[0], tmp_path) == ROWS


def test_a_column_that_is_not_there_is_named_with_those_that_are(check, pictures):
    report = check(write_table([("path", "kind"), *ROWS]), MANIFEST_CLASS="label")
    assert "has no such column, got 'label'" in only_fault(report)
    assert "path, kind" in report.faults[0].hint


@pytest.mark.parametrize("column", ["file_name", "label"])
def test_of_a_list_without_a_header_the_columns_are_file_name_and_label(check, pictures, column):
    report = check("".join(f"{path} {name}\n" for path, name in ROWS), MANIFEST_CLASS=column)
    assert bool(report.faults) == (column == "file_name")
    assert all("it does not name a picture" in fault.what for fault in report.faults)


def test_without_a_known_column_the_columns_are_offered(check, pictures):
    for number, (path, _) in enumerate(ROWS):
        (pictures.parent / path).rename(pictures / f"{number}.png")
    rows = [("path", "kind"), *((f"pics/{number}.png", name) for number, (_, name) in enumerate(ROWS))]
    report = check(write_table(rows))
    assert "no column is known to hold the class" in only_fault(report)
    assert "set MANIFEST_CLASS to one of its columns: kind" in report.faults[0].hint
    assert check(write_table(rows), MANIFEST_CLASS="Kind").faults == ()


@pytest.mark.parametrize("separator", [" ", ",", ";", "|", ", "])
def test_several_classes_for_a_picture_are_refused(check, pictures, separator):
    rows = [*ROWS[:-1], (ROWS[-1][0], f"cat{separator}dog")]
    text = only_fault(check(write_table([("path", "label"), *rows])))
    assert "the column 'label' names several classes for a picture" in text
    assert f"'cat{separator}dog'" in text


def test_classes_of_several_words_are_classes(check, pictures):
    names = {"cat": "golden retriever", "dog": "labrador retriever"}
    rows = [("path", "label"), *((path, names[name]) for path, name in ROWS)]
    assert check(write_table(rows)).faults == ()


def test_a_list_of_classes_in_json_is_refused_and_a_list_of_one_is_taken(read, pictures):
    lines = [json.dumps({"path": path, "label": [name]}) for path, name in ROWS]
    assert len(read("\n".join(lines))[0]) == len(ROWS)
    with pytest.raises(DataError, match="line 1: it names 2 classes in 'label'"):
        read(json.dumps({"path": ROWS[0][0], "label": ["cat", "dog"]}) + "\n" + "\n".join(lines))


def test_a_column_of_zeros_and_ones_for_each_class_is_named(check, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(8):
        (tmp_path / "images" / f"{number}.png").write_bytes(PNG)
    rows = [(f"images/{number}.png", str(number % 2), str(1 - number % 2)) for number in range(8)]
    text = only_fault(check(write_table([("filename", "cat", "dog"), *rows])))
    assert "its classes are columns of zeros and ones" in text
    assert text.partition("\n")[0].endswith("got cat, dog")


# The user's own sets


def test_a_column_of_sets_is_the_user_s_own_split(tmp_path, pictures):
    sets = ["train", "train", "Train", "val", "test", "TEST"] * 2
    rows = [("path", "label", "split"), *((*row, name) for row, name in zip(ROWS, sets, strict=True))]
    summary = divide(tmp_path, write_table(rows))
    for name, expected in zip(SETS, ({0, 1, 2}, {3}, {4, 5}), strict=True):
        lines = iter_manifest(summary.split_dir / set_manifest(name))
        assert {int(Path(line.source).stem) for line in lines} == expected
    assert "the sets are those of the column 'split'" in summary.notes
    assert json.loads((summary.split_dir / "split.json").read_text())["own_split"] == list(SETS)


def test_a_set_that_the_column_lacks_is_made_from_training(check, tmp_path, pictures):
    rows = [("path", "label", "subset"), *((*row, "test" if "5" in row[0] else "train") for row in ROWS)]
    report = check(write_table(rows))
    assert report.counts["evaluation"] == {"cat": 1, "dog": 1}
    assert all(report.counts["validation"][name] >= 1 for name in ("cat", "dog"))
    assert any("there was no validation set" in note for note in report.notes)


def test_a_column_of_sets_that_is_not_filled_is_refused_and_one_of_other_words_is_told(check, pictures):
    rows = [("path", "label", "split"), *((*row, "train" if "5" in row[0] else "") for row in ROWS)]
    assert "10 pictures have no known set in the column 'split'" in only_fault(check(write_table(rows)))
    rows = [("path", "label", "split"), *((*row, "test") for row in ROWS)]
    assert "puts no picture into training" in only_fault(check(write_table(rows)))
    rows = [("path", "label", "split"), *((*row, "A") for row in ROWS)]
    report = check(write_table(rows))
    assert report.faults == ()
    assert "the column 'split' does not name sets and is ignored" in report.notes


# Files of this machine


def test_files_that_are_not_there_are_counted_named_and_left_out(check, pictures):
    rows = [("path", "label"), *ROWS, ("pics/cat/gone.png", "cat"), ("pics/dog/lost.png", "dog")]
    report = check(write_table(rows))
    assert report.classes["cat"] == {"kept": 6, "copy": 0, "conflict": 0, "unreadable": 1}
    names = "pics/cat/gone.png (line 14), pics/dog/lost.png (line 15)"
    assert f"missing, and left out: 2 of 14 files: {names}" in report.notes
    assert report.faults == ()
    report = check(write_table(rows), UNREADABLE_PICTURES="fail")
    assert [fault.what for fault in report.faults] == ["the file does not exist"] * 2


def test_a_listing_of_which_no_file_is_there_is_refused(check, tmp_path):
    text = only_fault(check(write_table([("path", "label"), *ROWS])))
    assert "none of the 12 files that it names exists" in text
    assert "got pics/cat/0.png (line 2), pics/cat/1.png (line 3), pics/cat/2.png (line 4) and 9 more" in text
    assert f"relative paths start at {tmp_path}" in text


def test_backslashes_are_separators_where_no_file_has_them_in_its_name(check, read, pictures, tmp_path):
    rows = [(path.replace("/", "\\"), name) for path, name in ROWS]
    report = check(write_table([("path", "label"), *rows]))
    assert report.faults == ()
    assert "missing under their names with backslashes, found with / in their place: 12 files" in report.notes
    assert check(write_table([("path",), *((path,) for path, _ in rows)])).classes.keys() == {"cat", "dog"}
    literal = "pics\\cat\\0.png"
    (tmp_path / literal).write_bytes(PNG)
    assert read(write_table([("path", "label"), (literal, "cat")]))[0][0].source == str(tmp_path / literal)


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "file:{}"])
def test_file_addresses_are_paths(read, pictures, tmp_path, form):
    (pictures / "cat" / "my cat.png").write_bytes(PNG)
    rows = [*ROWS, ("pics/cat/my cat.png", "cat")]
    written = [(form.format(f"{tmp_path}/{path}".replace(" ", "%20")), name) for path, name in rows]
    assert classes_of(read(write_table([("url", "label"), *written]))[0], tmp_path) == rows


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("https://example.org/{}", "https:// addresses"),
        ("HTTP://example.org/{}", "http:// addresses"),
        ("gs://bucket/{}", "gs:// addresses"),
        ("abfss://box@account/{}", "abfss:// addresses"),
        ("file://server/share/{}", "file:// addresses of another machine"),
        ("data:image/png;base64,{}", "data: addresses"),
        ("C:\\Users\\me\\{}", "paths of a Windows drive"),
        ("D:/{}", "paths of a Windows drive"),
    ],
)
def test_other_addresses_are_told_once_and_never_taken_as_paths(check, pictures, address, kind):
    rows = [(address.format(path), name) for path, name in ROWS]
    text = only_fault(check(write_table([("path", "label"), *rows])))
    assert "12 in all" in text
    assert kind in text
    assert "(line 2)" in text


def test_a_name_without_its_ending_is_the_one_picture_of_that_name(read, check, pictures, tmp_path):
    for number in range(3):
        (tmp_path / f"{number:04}.jpg").write_bytes(PNG)
    found, _ = read("image_id,label\n0000,a\n0001,b\n0002,a\n", class_column="")
    assert [Path(one.source).name for one in found] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    (tmp_path / "0001.png").write_bytes(PNG)
    text = only_fault(check("image_id,label\n0000,a\n0001,b\n0002,a\n"))
    assert "line 3: several files could be meant, got '0001.jpg, 0001.png'" in text
    found, _ = read('[{"id": 7, "label": "a"}]')
    assert found[0].reason == "the file does not exist"


def test_a_name_is_found_however_its_accents_are_composed(read, tmp_path):
    name = "Bärbel é.jpg"
    (tmp_path / unicodedata.normalize("NFD", name)).write_bytes(PNG)
    for form in ("NFC", "NFD"):
        found, _ = read(write_table([("path", "label"), (unicodedata.normalize(form, name), "cat")]))
        assert (found[0].reason, found[0].key) == ("", f"cat/{name}")


@pytest.mark.parametrize("size", ["1e999", str(2**63), "true", "-1", '"x"'])
def test_a_size_that_cannot_be_is_named(read, size):
    with pytest.raises(DataError, match="line 1: its size is not a number of bytes"):
        read(f'{{"key": "s3://b/a/1.jpg", "size": {size}}}\n')


def test_relative_paths_start_at_the_listing_and_then_at_the_root(check, pictures, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pictures.rename(elsewhere / "pics")
    report = check(write_table([("path", "label"), *ROWS]), MANIFEST_ROOT=str(elsewhere))
    assert report.faults == ()
    assert "relative paths found below MANIFEST_ROOT: 12" in report.notes
    listed = write_table([("path",), *((path,) for path, _ in ROWS)])
    report = check(listed.replace("pics/", ""), MANIFEST_ROOT=str(elsewhere / "pics"))
    assert set(report.classes) == {"cat", "dog"}


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "folder link"])
def test_a_file_outside_is_named_and_a_root_that_holds_it_lets_it_in(
    check, pictures, tmp_path, tmp_path_factory, way
):
    folder = tmp_path_factory.mktemp("elsewhere")
    for number in range(PER_CLASS):
        (folder / f"{number}.png").write_bytes(PNG)
        (pictures / f"{number}.png").symlink_to(folder / f"{number}.png")
    (pictures / "far").symlink_to(folder)
    start = {
        "absolute": str(folder),
        "dots": os.path.relpath(folder, tmp_path),
        "link": "pics",
        "folder link": "pics/far",
    }[way]
    rows = [("path", "label"), *ROWS, *((f"{start}/{n}.png", "cow") for n in range(PER_CLASS))]
    text = only_fault(check(write_table(rows)))
    assert "it names files outside its folder and MANIFEST_ROOT, 6 in all" in text
    assert f"got {folder}/0.png (line 14)" in text
    assert "MANIFEST_ROOT" in text
    report = check(write_table(rows), MANIFEST_ROOT=str(folder))
    assert report.faults == ()
    assert report.classes["cow"]["kept"] == PER_CLASS


def test_below_a_root_that_is_a_link_the_classes_are_folders(check, pictures, tmp_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk") / "photos"
    pictures.rename(folder)
    (tmp_path / "pics").symlink_to(folder)
    report = check(write_table([("path",), *((path,) for path, _ in ROWS)]), MANIFEST_ROOT=str(folder))
    assert (report.faults, set(report.classes)) == ((), {"cat", "dog"})


@pytest.mark.parametrize("kind", ["fifo", "folder", "text", "empty", "device"])
def test_what_is_no_picture_by_its_content_is_left_out(check, pictures, kind):
    path = pictures / "cat" / "odd.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        if not Path("/dev/zero").is_char_device():
            pytest.skip("this system has no /dev/zero")
        path = Path("/dev/zero")
    else:
        path.write_text("aws_secret_access_key" if kind == "text" else "")
    rows = [("path", "label"), *ROWS, (str(path), "cat")]
    report = check(write_table(rows), MANIFEST_ROOT="/dev" if kind == "device" else "")
    assert report.faults == ()
    assert report.classes["cat"] == {"kept": 6, "copy": 0, "conflict": 0, "unreadable": 1}
    what = {"text": "holds no picture", "empty": "is empty"}.get(kind, "not an ordinary file")
    assert any(what in note for note in report.notes)


# Parquet


def test_without_a_reader_of_parquet_its_install_is_named(read, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install pyarrow"):
        read(b"PAR1\x15\x04")


def test_a_parquet_file_is_read_and_pictures_inside_one_are_refused(read, pictures, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    paths, names = map(list, zip(*ROWS, strict=True))
    parquet.write_table(pyarrow.table({"File Name": paths, "Label": names}), tmp_path / "a.parquet")
    found, findings = read((tmp_path / "a.parquet").read_bytes())
    assert (classes_of(found, tmp_path), findings.unit) == (ROWS, "row")
    table = pyarrow.table({"image": [{"bytes": PNG, "path": "a.png"}], "label": [1]})
    parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="holds the pictures themselves"):
        read((tmp_path / "b.parquet").read_bytes())
    with pytest.raises(DataError, match="the Parquet file cannot be read"):
        read((tmp_path / "a.parquet").read_bytes()[:60])


# Whatever it is


WORDS = r"path label a.jpg , ; \ / .. { } [ ] : 1 é ' https:// s3://b/ file:///"
TOKENS = st.sampled_from([*WORDS.split(" "), "file://[", "data:", "C:\\", '"', "\t", " ", "\n", "\r", "\0"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=120),
        st.lists(TOKENS, max_size=40).map("".join).map(str.encode),
        st.tuples(
            st.sampled_from([b"path,label\n", b"[", b'{"images": [', b"PAR1\x15", b"\x1f\x8b"]), st.binary()
        ).map(b"".join),
    ),
    root=st.sampled_from(["", "s3://b/", "/nowhere"]),
)
def test_any_bytes_are_pictures_or_one_error(tmp_path, content, root):
    (tmp_path / "any.csv").write_bytes(content)
    findings, faults = ListingFindings(), list[Fault]()
    found = list[Listed]()
    try:
        found = list(iter_listing(tmp_path / "any.csv", findings, root=root))
        findings.check(tmp_path / "any.csv")
    except ClassifoldError as error:
        faults.extend(error.faults)
    assert all(fault.what and fault.hint for fault in faults)
    assert all(one.class_name == one.key.partition("/")[0] for one in found)
    assert all("://" in one.source or os.path.isabs(one.source) for one in found)  # noqa: PTH117
