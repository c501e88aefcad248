"""What a check found fits into a few lines, the most harmful first."""

from __future__ import annotations

import pytest

from classifold.datacheck.baseline import find_reasons
from classifold.datacheck.cases import build_cases
from classifold.datacheck.summary import describe_findings, describe_quickly
from classifold.findings import (
    Drift,
    Effect,
    Findings,
    Group,
    GroupKind,
    Interval,
    KindCost,
    LabelSuspect,
    Overlap,
    PictureFinding,
    SetFindings,
    Shortcut,
)
from classifold.report.data_check import build_check_rows, describe_spoilers
from made_findings import make_findings


def group(kind: GroupKind, *files: str, across: tuple[str, ...] = ()) -> Group:
    labels = tuple(file.split("/")[-2] for file in files)
    sets = tuple(file.split("/")[0] for file in files) if across else ()
    return Group(kind=kind, files=files, labels=labels, sets=sets, across=across)


LEAK = group("near", "evaluation/a/1.jpg", "training/a/2.jpg", across=("training", "evaluation"))
OTHER_LEAK = group("exact", "validation/a/3.jpg", "training/a/4.jpg", across=("training", "validation"))
CONFLICT = group("conflict", "a/5.jpg", "b/6.jpg")
EXACT, NEAR, BURST = (
    group(kind, f"a/{kind} 1.jpg", f"a/{kind} 2.jpg") for kind in ("exact", "near", "burst")
)
SUSPECT = LabelSuspect(file="a/7.jpg", label="a", suggested="b", certainty=0.91)


def found(**parts: object) -> Findings:
    return Findings(source="photos", **parts)


def test_nothing_gives_no_lines():
    assert describe_findings(found()) == []
    assert describe_quickly(found()) == "data check: nothing that spoils the scores"


def test_the_lines_come_in_the_order_of_harm(tmp_path):
    findings = make_findings(tmp_path)[0]
    starts = [line.partition(":")[0] for line in describe_findings(findings)]
    assert starts == [
        "leaks",
        "leaks, what they do",
        "labels",
        "shortcut",
        "copies",
        "pictures",
        "pictures",
        "overlap",
    ]


def test_leaks_of_the_evaluation_set_are_counted_and_shown_before_others():
    (line,) = describe_findings(found(groups=(OTHER_LEAK, LEAK)))
    assert line == (
        "leaks: 1 evaluation picture has a copy elsewhere: evaluation/a/1.jpg = training/a/2.jpg; "
        "validation/a/3.jpg = training/a/4.jpg"
    )


def test_leaks_that_leave_the_evaluation_set_alone_are_not_said_to_be_of_it():
    (line,) = describe_findings(found(groups=(OTHER_LEAK,)))
    assert line.startswith("leaks: 1 group of copies in several sets: validation/a/3.jpg")


def test_what_leaks_do_to_the_accuracy_is_told():
    interval = Interval(value=0.9, low=0.8, high=1)
    effect = Effect(
        accuracy=interval,
        without_leaks=interval,
        num_leaks=2,
        num_evaluation=9,
        reason="accuracy 90.0 %; ...",
    )
    assert "leaks, what they do: accuracy 90.0 %; ..." in describe_findings(found(effect=effect))


def test_bursts_are_not_called_copies():
    across = BURST.model_copy(update={"across": ("training", "evaluation")})
    assert describe_findings(found(groups=(across,))) == [
        "bursts across sets: 1 scene: a/burst 1.jpg = a/burst 2.jpg"
    ]
    assert describe_findings(found(groups=(BURST,)))[0].startswith("bursts: 1 group (bursts of one scene)")


def test_each_kind_of_copies_within_a_set_has_its_line():
    assert describe_findings(found(groups=(CONFLICT, EXACT, NEAR))) == [
        "two labels: 1 picture in more than one class: a/5.jpg = b/6.jpg",
        "copies: 1 group (equal bytes or pixels): a/exact 1.jpg = a/exact 2.jpg",
        "copies: 1 group (near copies): a/near 1.jpg = a/near 2.jpg",
    ]


def test_of_many_findings_three_are_named_and_the_rest_counted():
    many = [SUSPECT.model_copy(update={"file": f"a/{number}.jpg"}) for number in range(1203)]
    (line,) = describe_findings(found(labels=many, estimate=Interval(value=90, low=80, high=100)))
    assert line.startswith("labels: 1,203 labels may be wrong (about 90 are wrong, 80 to 100): ")
    assert line.endswith("a/2.jpg looks like b (91 %) and 1,200 more")


def test_unusual_pictures_are_told_by_kind_with_what_they_cost_a_run():
    pictures = [PictureFinding(file=f"a/{n}.jpg", kind="blurred", reason="") for n in range(2)]
    pictures.append(PictureFinding(file="a/3.jpg", kind="unusual colour profile", reason=""))
    costs = (KindCost(kind="blurred", count=12, correct=4, others=0.91),)
    assert describe_findings(found(pictures=pictures, costs=costs)) == [
        "pictures: blurred (2): a/0.jpg, a/1.jpg; "
        "the model gets 4 of 12 right, and 91 % of the other pictures",
        "pictures: unusual colour profile (1): a/3.jpg",
    ]


def test_pictures_that_cannot_be_read_come_before_more_that_are_only_unusual():
    kinds = ("grey", "grey", "blurred", "cut short")
    pictures = [PictureFinding(file=f"a/{n}.jpg", kind=kind, reason="") for n, kind in enumerate(kinds)]
    starts = [line.partition(" (")[0] for line in describe_findings(found(pictures=pictures))]
    assert starts == ["pictures: cut short", "pictures: grey", "pictures: blurred"]


def test_shortcuts_drift_and_overlaps_are_told():
    shortcut = Shortcut(name="size", accuracy=0.9, chance=0.5, p=0.001, reason="size tells b from a")
    drift = Drift(set_name="evaluation", what="size", p=0.001, reason="evaluation pictures are smaller")
    overlap = Overlap(classes=("a", "b"), count=26, share=0.13)
    lines = describe_findings(
        found(shortcuts=(shortcut,), sets=SetFindings(drift=(drift,)), overlaps=(overlap,))
    )
    assert lines == [
        "shortcut: size tells b from a",
        "drift: evaluation pictures are smaller",
        "overlap: classes that are hard to tell apart: a and b (26, 13 %)",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_quick_check_says_all_in_one_line_with_the_right_number(count):
    line = describe_quickly(found(groups=[LEAK, CONFLICT, NEAR] * count, labels=[SUSPECT] * count))
    words = {
        1: "1 group of copies across sets, 1 picture in two classes, 1 group of copies within a set, "
        "1 label that may be wrong",
        2: "2 groups of copies across sets, 2 pictures in two classes, 2 groups of copies within a set, "
        "2 labels that may be wrong",
    }
    assert line == f"data check: {words[count]}"


def test_one_picture_in_two_classes_and_two_sets_is_counted_once_as_a_conflict():
    sets = ("training", "evaluation")
    conflict = group("conflict", "evaluation/a/1.jpg", "training/b/2.jpg", across=sets)
    findings = found(groups=(conflict,))
    assert [row.what for row in build_check_rows(findings)] == ["The same picture in two classes"]
    assert describe_quickly(findings) == "data check: 1 picture in two classes"
    assert [len(describe(findings)) for describe in (describe_spoilers, describe_findings)] == [1, 1]
    assert [case.kind for case in build_cases(findings)] == ["conflict"]
    failing = [kind for kind in ("leaks", "conflicts", "copies") if find_reasons(findings, [kind])]
    assert failing == ["conflicts"]
