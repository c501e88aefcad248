"""The plan: what it proposes, and that it comes back from a spreadsheet as it was written."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck.plan import (
    COLUMNS,
    SURE,
    Step,
    build_plan,
    escape_cell,
    find_links,
    read_plan,
    write_plan,
)
from classifold.errors import DataError
from classifold.findings import Findings, Group, LabelSuspect, PictureFinding


def plan_of(**found: object) -> dict[str, Step]:
    return {step.file: step for step in build_plan(Findings.model_validate({"source": "x", **found}))}


def group(kind: str, *files: str, labels: str = "", sets: str = "", changes: str = "") -> Group:
    return Group.model_validate(
        {
            "kind": kind,
            "files": files,
            "labels": labels.split() or ["a"] * len(files),
            "sets": sets.split(),
            "across": sorted(set(sets.split())) if len(set(sets.split())) > 1 else [],
            "changes": changes.split(),
        }
    )


def test_of_exact_copies_all_but_the_first_go_to_quarantine() -> None:
    plan = plan_of(groups=[group("exact", "a/1", "a/2", "a/3")])
    assert [plan[name].action for name in ("a/1", "a/2", "a/3")] == ["keep", "quarantine", "quarantine"]
    assert plan["a/2"].reason == "exact copy of a/1"
    assert plan["a/2"].certainty == 1


def test_near_copies_stay_unless_they_leak_into_another_set() -> None:
    within = plan_of(groups=[group("near", "a/1", "a/2", changes="original cropped")])
    assert {step.action for step in within.values()} == {"keep"}
    assert within["a/2"].reason == "near copy of a/1 (cropped)"
    sets = "training training evaluation"
    across = plan_of(groups=[group("near", "training/a/1", "training/a/2", "evaluation/a/3", sets=sets)])
    assert [step.action for step in across.values()] == ["keep", "keep", "quarantine"]


def test_a_person_decides_about_two_labels_and_bursts() -> None:
    plan = plan_of(groups=[group("conflict", "a/1", "b/1", labels="a b"), group("burst", "a/2", "a/3")])
    assert {(step.file, step.action) for step in plan.values()} == {("a/1", "keep"), ("b/1", "keep")}
    assert plan["a/1"].reason == "the same picture is under a and b"


def test_all_files_of_a_conflict_stay_also_where_a_label_is_surely_wrong() -> None:
    sure = LabelSuspect(file="a/1", label="a", suggested="b", certainty=0.99)
    plan = plan_of(groups=[group("conflict", "a/1", "a/2", "b/1", labels="a a b")], labels=[sure])
    assert {step.action for step in plan.values()} == {"keep"}
    assert (plan["a/1"].to, plan["a/1"].certainty) == ("b", 0.99)


def test_links_and_their_copies_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/2").write_text("")
    (tmp_path / "a/1").symlink_to("2")
    (tmp_path / "b").symlink_to("a")
    paths = {name: tmp_path / name for name in ("a/1", "a/2", "b/2")}
    links = find_links(str(tmp_path), paths)
    assert links == {"a/1", "b/2"}
    assert find_links(str(tmp_path / "listing.csv"), paths) == set()
    sure = LabelSuspect(file="a/2", label="a", suggested="b", certainty=0.99)
    groups = (group("exact", "a/1", "a/2"), group("exact", "c/1", "c/2"))
    steps = build_plan(Findings(source="x", groups=groups, labels=(sure,)), links=links)
    assert [(one.file, one.action) for one in steps if one.action != "keep"] == [("c/2", "quarantine")]
    assert steps[0].reason.endswith("; it is a link")


def test_only_a_label_that_is_surely_wrong_is_changed_and_others_carry_the_suggestion() -> None:
    sure = LabelSuspect(file="a/1", label="a", suggested="b", certainty=SURE)
    unsure = LabelSuspect(file="a/2", label="a", suggested="c", certainty=0.7)
    plan = plan_of(labels=[sure, unsure])
    assert plan["a/1"] == Step("a/1", "move", "b", "labelled a, probably b", SURE)
    assert plan["a/2"] == Step("a/2", "keep", "c", "labelled a, probably c", 0.7)


def test_a_picture_has_one_row_with_the_strongest_action_and_every_reason() -> None:
    plan = plan_of(
        groups=[group("exact", "a/1", "a/2")],
        labels=[LabelSuspect(file="a/2", label="a", suggested="b", certainty=0.99)],
        pictures=[
            PictureFinding(file="a/2", kind="blurred", reason="little detail"),
            PictureFinding(file="a/9", kind="unreadable", reason="the file ends too early"),
        ],
    )
    assert len(plan) == 3
    assert plan["a/2"].action == "quarantine"
    assert plan["a/2"].to == ""
    assert plan["a/2"].reason == "exact copy of a/1; labelled a, probably b; blurred: little detail"
    assert plan["a/9"].action == "quarantine"


# No NUL and no half characters: neither can be in a key.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.one_of(
    text, st.sampled_from(["=1+1", "+a", "-b", "@c", "'d", "''", "\ue000", "a\nb", "a\r\nb", 'q"'])
)


@given(st.lists(st.tuples(names.filter(bool), text, names), max_size=5, unique_by=lambda one: one[0]))
def test_any_names_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    path = tmp_path_factory.getbasetemp() / "plan.csv"
    steps = [Step(file, "move", to, reason, 0.5) for file, reason, to in rows if (file + to + reason).strip()]
    write_plan(path, steps)
    back = read_plan(path)
    assert [(one.file, one.action, one.to, one.reason, one.certainty) for one in back] == [
        (one.file, one.action, one.to, one.reason, one.certainty) for one in steps
    ]


def test_no_cell_of_a_plan_is_a_formula(tmp_path: Path) -> None:
    evil = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", " =1", "\uff1d1"]
    write_plan(tmp_path / "plan.csv", [Step(name, "keep", name, name) for name in evil])
    raw = (tmp_path / "plan.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbffile,action,to,reason,certainty\r\n")
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    assert all(cell[0] == "'" for row in rows[1:] for cell in (row[0], row[2], row[3]))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_save_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = [
        ["Action", "note", "File", "to", "certainty"],
        ["Move ", "x", "a/é;,1.jpg", "b", "0,93"],
        [""] * 5,
    ]
    rows.append(["", "", "a/2.jpg", "", ""])
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows(rows)
    (tmp_path / "plan.csv").write_bytes(out.getvalue().encode(encoding))
    first, second = read_plan(tmp_path / "plan.csv")
    assert (first.file, first.action, first.to, first.certainty) == ("a/é;,1.jpg", "move", "b", 0.93)
    assert (second.file, second.action, second.row) == ("a/2.jpg", "keep", 4)


def test_every_wrong_row_is_named_with_its_cure(tmp_path: Path) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text("file,action\na/1,quarantin\n,move\na/2,delete\na/3,keep\na/3,move\n")
    with pytest.raises(DataError) as caught:
        read_plan(plan)
    told = [(fault.where.rpartition(", ")[2], fault.what, fault.hint) for fault in caught.value.faults]
    assert told == [
        ("row 2", "the action is not known", "did you mean quarantine?"),
        ("row 3", "it names no file", "name the file, or delete the row"),
        ("row 4", "the action is not known", "write keep, quarantine or move"),
        ("row 6", "it names the same file as row 5", "keep one of the two rows"),
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "its first line does not name the column file"),
        (b"file,to\na,b\n", "its first line does not name the column action"),
        ("file,action\ncafé,keep\n".encode("cp1252"), "the plan is not UTF-8"),
        (b"PK\x03\x04\xff\xfe", "the plan is not UTF-8"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "plan.csv").write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_plan(tmp_path / "plan.csv")


@pytest.mark.parametrize(
    "text", ['file,action\na/1,move\n"a/2,move\na/3,move\n', 'file,action\na,b\n"a"b,c\n']
)
def test_a_quotation_mark_that_is_not_closed_is_named_with_its_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.csv").write_text(text)
    with pytest.raises(DataError, match="a quotation mark in this row") as caught:
        read_plan(tmp_path / "plan.csv")
    assert caught.value.faults[0].where.endswith("plan.csv, row 3")


def test_a_line_that_names_the_separator_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("sep=;\r\nfile;action\r\na,b,c/1;move\r\n")
    assert [(one.file, one.row) for one in read_plan(tmp_path / "plan.csv")] == [("a,b,c/1", 2)]


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.csv", [Step("a/1", "keep", reason="x" * 200_000)])
    assert len(read_plan(tmp_path / "plan.csv")[0].reason) == 200_000
    assert csv.field_size_limit() == 131_072


def test_a_pipe_is_no_plan(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.csv")
    with pytest.raises(DataError, match="the plan is not a file"):
        read_plan(tmp_path / "plan.csv")


def test_a_plan_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_plan(tmp_path / "plan.csv")


def test_the_columns_are_those_that_the_documentation_names() -> None:
    assert COLUMNS == ("file", "action", "to", "reason", "certainty")
    assert escape_cell("plain") == "plain"
