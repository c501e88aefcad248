"""A check says what split would do, writes nothing, and names what keeps it from that."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from classifold.dataset.check import STATUS_WORDS, check_data
from classifold.settings.loader import build_config


def test_what_a_check_promises_is_what_split_does(make_classes, split, tmp_path):
    folder = make_classes({"cat": 12, "dog": 9})
    first = min((folder / "cat").iterdir())
    shutil.copy(first, folder / "cat" / "copy.png")
    (folder / "dog" / "broken.png").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    report = check_data(build_config({"DATA_LOCAL_DIR": str(folder)}))
    assert sorted(tmp_path.rglob("*")) == before
    assert report.classes["cat"] == {"kept": 12, "copy": 1, "conflict": 0, "unreadable": 0}
    assert report.classes["dog"]["unreadable"] == 1
    assert (report.faults, report.counts) == ((), split(folder).counts)
    assert any("1 exact copy" in note for note in report.notes)


def test_a_check_of_a_listing_promises_what_its_split_does(tmp_path, split):
    listing = tmp_path / "list.csv"
    listing.write_text("".join(f"b,p/{'ab'[n % 2]}/{n}.jpg,{n % 30},,{n}\n" for n in range(60)))
    values = {"DATA_MANIFEST": str(listing)}
    report = check_data(build_config(values))
    assert report.counts == split(tmp_path, **values).counts
    assert sum(row["unreadable"] for row in report.classes.values()) == 2


@pytest.fixture
def check():
    """check(folder, PERCENTAGE_VAL=0.2) -> the report."""

    def check(folder, **settings):
        return check_data(build_config({"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings}))

    return check


def test_too_few_pictures_are_a_fault_and_everything_else_is_told_all_the_same(make_classes, check):
    folder = make_classes({"cat": 12, "dog": 2, "fox": 2})
    shutil.copy(min((folder / "cat").iterdir()), folder / "cat" / "copy.png")
    first = min((folder / "fox").iterdir())  # by its files fox has enough, by their contents not
    for name in ("x.png", "y.png"):
        shutil.copy(first, folder / "fox" / name)
    (folder / "dog" / "broken.png").write_bytes(b"")
    (folder / "cat" / "remarks.txt").write_text("none")
    report = check(folder, PERCENTAGE_VAL=0.2)
    assert [fault.where for fault in report.faults] == ["class 'dog'", "class 'fox'"]
    assert report.classes["cat"] == {"kept": 12, "copy": 1, "conflict": 0, "unreadable": 0}
    assert report.classes["dog"] == {"kept": 2, "copy": 0, "conflict": 0, "unreadable": 1}
    assert report.counts is None
    told = "\n".join(report.notes)
    assert "exact copies" in told
    assert "skipped" in told
    assert "dog/broken.png: the file is empty" in told


def test_what_was_not_read_is_not_told_as_zero(make_classes, check):
    folder = make_classes({"cat": 12, "dog": 9})
    name = os.fsdecode(b"fox \xff")
    try:
        (folder / name).mkdir()
    except OSError:
        pytest.skip("this disk takes no names that are not UTF-8")
    report = check(folder)
    assert report.faults
    assert report.counts is None
    assert all(set(row.values()) == {None} for row in report.classes.values())


def test_a_folder_around_the_classes_is_not_read(make_classes, check):
    make_classes({"cat": 3, "dog": 3}, "archive/pets")
    report = check(make_classes({}, "archive"))
    assert [fault.got for fault in report.faults] == ["only 'pets'"]
    assert report.classes == {"pets": dict.fromkeys(STATUS_WORDS)}
    assert report.counts is None


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"PERCENTAGE_VAL": 0.0}, "setting PERCENTAGE_VAL"),
        ({"UNREADABLE_PICTURES": "fail"}, "dog/broken.png"),
        ({"SPLIT_LOCAL_DIR": "pets/out"}, "pets/out"),
        ({"SPLIT_LOCAL_DIR": "foreign"}, "foreign"),
    ],
)
def test_any_fault_leaves_the_rest_of_the_look(make_classes, check, monkeypatch, tmp_path, settings, where):
    monkeypatch.chdir(tmp_path)
    make_classes({"cat": 12, "dog": 9})
    (tmp_path / "pets" / "dog" / "broken.png").write_bytes(b"")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("mine")
    shutil.copy(min((tmp_path / "pets" / "cat").iterdir()), tmp_path / "pets" / "cat" / "copy.png")
    report = check("pets", **settings)
    assert [fault.where for fault in report.faults] == [where]
    assert report.classes["cat"] == {"kept": 12, "copy": 1, "conflict": 0, "unreadable": 0}
    assert report.classes["dog"] == {"kept": 9, "copy": 0, "conflict": 0, "unreadable": 1}
    assert report.counts is None
    assert any("1 exact copy" in note for note in report.notes)


@pytest.mark.parametrize("extra", ["", "b,p/a/0.jpg,1,,another content\n"])
def test_a_listing_with_a_fault_is_looked_at_whole(tmp_path, check, extra):
    listing = tmp_path / "list.csv"
    lines = [f"b,p/{'ab'[n % 2]}/{n}.jpg,1,,{n % 40}\n" for n in range(60)]
    listing.write_text("".join(lines) + "b,p/c/x.jpg,1,,x\n" + extra)
    report = check(tmp_path, DATA_MANIFEST=str(listing))
    where = f"{listing}, line 62" if extra else "class 'c'"
    assert [fault.where for fault in report.faults] == [where]
    assert report.counts is None
    kept = 21 if extra else 20
    assert report.classes["a"] == {"kept": kept, "copy": 10, "conflict": 0, "unreadable": 0}
    assert any("exact copies" in note for note in report.notes)


def test_where_no_division_is_known_there_is_no_table_of_it_and_null_in_json(
    classifold, project, make_classes
):
    folder = make_classes({"cat": 12, "dog": 2})
    words = ["check", "--set", f"DATA_LOCAL_DIR={folder}"]
    answer = classifold(*words)
    assert answer.code == 1
    assert ["cat", "12", "0", "0", "0"] in [line.split() for line in answer.out.splitlines()]
    assert "-" not in answer.out.split()
    assert "What split would make" not in answer.out
    answer = classifold(*words, "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["counts"] is None


def test_the_command_ends_with_an_honest_code(classifold, project, draw_colours):
    folder = draw_colours(project / "colours")
    assert classifold("check", "--set", f"DATA_LOCAL_DIR={folder}").code == 0
    answer = classifold("check", "--json", "--set", "DATA_LOCAL_DIR=nowhere")
    assert answer.code == 1
    assert "there is no such folder" in answer.out
