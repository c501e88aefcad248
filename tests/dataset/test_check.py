"""A check says what split would do, writes nothing, and names what keeps it from that."""

from __future__ import annotations

import shutil

from classifold.dataset.check import check_data
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
    assert any("exact copies" in note for note in report.notes)


def test_a_check_of_a_listing_promises_what_its_split_does(tmp_path, split):
    listing = tmp_path / "list.csv"
    listing.write_text("".join(f"b,p/{'ab'[n % 2]}/{n}.jpg,{n % 30},,{n}\n" for n in range(60)))
    values = {"DATA_MANIFEST": str(listing)}
    report = check_data(build_config(values))
    assert report.counts == split(tmp_path, **values).counts
    assert sum(row["unreadable"] for row in report.classes.values()) == 2


def test_too_few_pictures_are_a_fault_and_the_classes_are_told_all_the_same(make_classes):
    report = check_data(build_config({"DATA_LOCAL_DIR": str(make_classes({"cat": 12, "dog": 2}))}))
    assert [fault.where for fault in report.faults] == ["class 'dog'"]
    assert report.classes["cat"]["kept"] == 12
    assert report.counts == {}


def test_the_command_ends_with_an_honest_code(classifold, project, draw_colours):
    folder = draw_colours(project / "colours")
    assert classifold("check", "--set", f"DATA_LOCAL_DIR={folder}").code == 0
    answer = classifold("check", "--json", "--set", "DATA_LOCAL_DIR=nowhere")
    assert answer.code == 1
    assert "there is no such folder" in answer.out
