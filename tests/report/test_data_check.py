"""What the data check found stands in the report beside the scores that it spoils."""

from __future__ import annotations

import json

import pytest

from classifold.errors import RunError
from classifold.findings import (
    Effect,
    Findings,
    Group,
    Interval,
    KindCost,
    LabelSuspect,
    Overlap,
    PictureFinding,
    Shortcut,
)
from classifold.report.data_check import build_check_rows, count_leaked, describe_check, describe_spoilers
from classifold.report.page import write_report

LEAK = Group(
    kind="near",
    files=("a/1.jpg", "a/2.jpg"),
    labels=("a", "a"),
    sets=("training", "evaluation"),
    across=("training", "evaluation"),
)
CONFLICT = Group(kind="conflict", files=("a/3.jpg", "b/3.jpg"), labels=("a", "b"))
CONFLICT_ACROSS = Group(
    kind="conflict",
    files=("a/8.jpg", "b/8.jpg"),
    labels=("a", "b"),
    sets=("training", "evaluation"),
    across=("training", "evaluation"),
)
BURST = Group(
    kind="burst",
    files=("a/4.jpg", "a/5.jpg"),
    labels=("a", "a"),
    sets=("training", "evaluation"),
    across=("training", "evaluation"),
)


def found(**parts: object) -> Findings:
    return Findings(source="photos", num_pictures=1200, **parts)


def test_a_run_without_a_check_says_nothing_about_one():
    assert describe_check(None) == ""
    assert build_check_rows(None) == describe_spoilers(None) == []


def test_copies_with_two_labels_count_once_even_across_sets():
    across = CONFLICT.model_copy(
        update={"sets": ("training", "evaluation"), "across": ("training", "evaluation")}
    )
    assert [row.what for row in build_check_rows(found(groups=(across,)))] == [
        "The same picture in two classes"
    ]


def test_a_check_that_found_nothing_says_so():
    words = describe_check(found(skipped={"labels": "needs the extra train"}))
    assert "1,200" in words
    assert "Nothing was found" in words
    assert "labels (needs the extra train)" in words


def test_parts_that_were_not_checked_for_one_reason_are_named_together():
    words = describe_check(
        found(skipped={"labels": "by --quick", "sets": "unread", "shortcuts": "by --quick"})
    )
    assert words.endswith("Not checked: labels, shortcuts (by --quick); sets (unread).")


def test_evaluation_pictures_with_a_copy_are_counted_and_bursts_are_not():
    assert count_leaked(found(groups=(LEAK, BURST, CONFLICT, CONFLICT_ACROSS)).leaks) == 1
    (line, both) = describe_spoilers(found(groups=(LEAK, CONFLICT, BURST)))
    assert "1 evaluation picture has a copy" in line
    assert "2 pictures are in two classes" in both


def test_the_accuracy_without_leaks_is_told_where_it_is_known():
    effect = Effect(
        accuracy=Interval(value=0.96, low=0.9, high=0.98),
        without_leaks=Interval(value=0.88, low=0.8, high=0.93),
        num_leaks=41,
        num_evaluation=300,
        reason="a head on frozen features has an accuracy of 96 % on all evaluation pictures, and of 88 % "
        "without the 41 that have a copy in training or validation",
    )
    (line,) = describe_spoilers(found(groups=(LEAK,), effect=effect))
    assert line == f"Data check: {effect.reason}."


def test_each_kind_of_finding_has_a_row_and_the_cost_of_a_kind_stands_beside_it():
    findings = found(
        groups=(LEAK, CONFLICT, BURST),
        labels=(LabelSuspect(file="a/6.jpg", label="a", suggested="b", certainty=0.9),),
        estimate=Interval(value=4.0, low=2.0, high=7.0),
        overlaps=(Overlap(classes=("a", "b"), count=9, share=0.1),),
        shortcuts=(Shortcut(name="camera", accuracy=0.95, chance=0.5, p=0.001),),
        pictures=(PictureFinding(file="a/7.jpg", kind="blurred", reason="no fine detail"),),
        costs=(KindCost(kind="blurred", count=12, correct=4, others=0.91),),
    )
    rows = {row.what: row for row in build_check_rows(findings)}
    assert list(rows)[:3] == ["Copies across sets", "The same picture in two classes", "Bursts"]
    assert rows["Labels that may be wrong"].effect == "about 4 are wrong"
    assert rows["Overlap: a and b"].count == "9"
    assert rows["Shortcut: camera"].effect.startswith("chance is")
    assert "4 of 12" in rows["Pictures: blurred"].effect
    assert sum("labels are wrong (95 % interval 2 to 7)" in line for line in describe_spoilers(findings)) == 1


def test_the_page_shows_what_was_found_with_names_escaped(make_run):
    run_dir = make_run().run_dir
    hostile = LEAK.model_copy(update={"labels": ("<script>", "a")})
    overlap = Overlap(classes=("<script>alert(1)</script>", "b"), count=9, share=0.1)
    findings = found(groups=(hostile,), overlaps=(overlap,))
    (run_dir / "check.json").write_text(json.dumps(findings.to_json()))
    page = write_report(run_dir).read_text()
    assert 'id="data"' in page
    assert "has a copy in training" in page
    assert "<script>alert" not in page


def test_a_damaged_check_json_is_named(make_run):
    run_dir = make_run().run_dir
    (run_dir / "check.json").write_text("[]")
    with pytest.raises(RunError, match=r"check\.json"):
        write_report(run_dir)
