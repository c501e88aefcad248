"""What makes a check fail in CI, and what a baseline lets pass."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck.baseline import KINDS, find_reasons, parse_fail_on
from classifold.errors import UsageError
from classifold.findings import Drift, Findings, Group, LabelSuspect, PictureFinding, SetFindings
from made_findings import make_findings


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return make_findings(tmp_path_factory.mktemp("own"))[0]


def group(kind: str, *files: str, across: tuple[str, ...] = ()) -> Group:
    return Group.model_validate(
        {"kind": kind, "files": files, "labels": ["a"] * len(files), "across": across}
    )


def test_the_sorts_are_read_in_any_order_and_a_wrong_one_is_named() -> None:
    assert parse_fail_on("Labels, leaks") == ("leaks", "labels")
    assert parse_fail_on("all") == KINDS
    with pytest.raises(UsageError) as caught:
        parse_fail_on("leak,nonsense")
    assert [fault.hint.split(",")[0] for fault in caught.value.faults] == [
        "did you mean leaks?",
        "name some of leaks",
    ]
    with pytest.raises(UsageError, match="it names nothing"):
        parse_fail_on(" , ")


def test_only_the_sorts_that_were_asked_for_count(found: Findings) -> None:
    assert find_reasons(found, ["conflicts", "bursts"]) == []
    assert find_reasons(found, ["leaks", "pictures"]) == [
        "leaks: 1 finding: near: training/daisy/0.jpg, evaluation/daisy/7.jpg",
        "pictures: 2 findings: training/rose/4.jpg: blurred; training/rose/5.jpg: unreadable",
    ]


def test_what_the_baseline_knows_does_not_count(found: Findings) -> None:
    assert find_reasons(found, KINDS, baseline=found) == []
    assert len(find_reasons(found, KINDS, baseline=Findings(source="empty"))) == 6


def test_a_group_that_grew_is_new_and_one_that_shrank_is_known() -> None:
    old = Findings(source="x", groups=(group("near", "a/1", "a/2", "a/3"),))
    less = Findings(source="y", groups=(group("near", "a/3", "a/1"),))
    more = Findings(source="y", groups=(group("near", "a/4", "a/1", "a/2", "a/3"),))
    assert find_reasons(less, ["copies"], baseline=old) == []
    assert find_reasons(more, ["copies"], baseline=old) == [
        "copies: 1 new finding: near: a/4, a/1, a/2 and 1 more"
    ]


def test_copies_that_became_a_leak_are_new() -> None:
    old = Findings(source="x", groups=(group("near", "a/1", "a/2"),))
    new = Findings(source="x", groups=(group("near", "a/1", "a/2", across=("training", "evaluation")),))
    assert len(find_reasons(new, ["leaks", "copies"], baseline=old)) == 1


def test_a_part_that_was_not_checked_fails_too() -> None:
    findings = Findings(source="x", skipped={"labels": "They need the train extra."})
    assert find_reasons(findings, KINDS) == ["labels: not checked: They need the train extra."]


def test_sets_are_known_by_class_and_difference() -> None:
    drift = Drift(set_name="evaluation", what="brightness", p=0.001)
    old = Findings(source="x", sets=SetFindings(few={"rose": 3}))
    new = Findings(source="x", sets=SetFindings(few={"rose": 2, "daisy": 4}, drift=(drift,)))
    assert find_reasons(new, ["sets"], baseline=old) == [
        "sets: 2 new findings: daisy has only 4 pictures; evaluation differs in brightness"
    ]


names = st.lists(st.sampled_from([f"a/{n}" for n in range(8)]), min_size=2, max_size=5, unique=True)


@given(
    groups=st.lists(st.tuples(st.sampled_from(["exact", "near", "burst", "conflict"]), names), max_size=6),
    suspects=st.lists(st.sampled_from([f"a/{n}" for n in range(8)]), unique=True),
    seed=st.integers(0, 1000),
)
def test_the_order_of_findings_and_files_makes_no_difference(
    groups: list[tuple[str, list[str]]], suspects: list[str], seed: int
) -> None:
    labels = tuple(LabelSuspect(file=f, label="a", suggested="b", certainty=0.9) for f in suspects)
    pictures = tuple(PictureFinding(file=file, kind="blurred", reason="") for file in suspects)
    one = Findings(
        source="x", groups=tuple(group(k, *f) for k, f in groups), labels=labels, pictures=pictures
    )
    chance = random.Random(seed)
    mixed = [(kind, chance.sample(files, len(files))) for kind, files in chance.sample(groups, len(groups))]
    other = Findings(
        source="y",
        groups=tuple(group(k, *f) for k, f in mixed),
        labels=tuple(chance.sample(labels, len(labels))),
        pictures=tuple(chance.sample(pictures, len(pictures))),
    )
    assert find_reasons(one, KINDS, baseline=other) == []
    assert find_reasons(other, KINDS, baseline=one) == []
