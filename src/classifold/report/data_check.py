"""What the data check found, as the report tells it beside the scores that it spoils."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from classifold.counts import choose, count_of
from classifold.findings import Findings, Group
from classifold.names import EVALUATION
from classifold.report.sentences import percent
from classifold.report.view import CheckRow

# Shortcuts and kinds of pictures that are listed, the strongest and the most frequent first.
_SHOWN = 8


def describe_spoilers(findings: Findings | None) -> list[str]:
    """Return a warning for each finding that makes the scores look better or worse than they are.

    Args:
        findings: What the check found; None where there was no check.
    """
    if findings is None:
        return []
    lines = []
    if findings.effect is not None and findings.effect.num_leaks:
        lines.append(f"Data check: {findings.effect.reason}.")
    elif leaked := count_leaked(findings.groups):
        lines.append(
            f"{count_of(leaked, 'evaluation picture')} {choose(leaked, 'has', 'have')} a copy in training or "
            "validation: the model may have learned the answers by heart, so the scores are too high."
        )
    if both := sum(len(group.files) for group in findings.groups if group.kind == "conflict"):
        lines.append(
            f"{count_of(both, 'picture')} {choose(both, 'is', 'are')} in two classes at once: no model can "
            "name them all correctly."
        )
    if findings.estimate is not None and findings.estimate.low >= 1:
        one = findings.estimate
        lines.append(
            f"About {one.value:.0f} labels are wrong (95 % interval {one.low:.0f} to {one.high:.0f}): a "
            "correct answer counts as a mistake on those in the evaluation set."
        )
    lines += [
        f"The class can be told without the subject: {one.reason or one.name}." for one in findings.shortcuts
    ]
    return lines


def count_leaked(groups: Sequence[Group]) -> int:
    """Return the number of evaluation pictures that have a copy in another set."""
    return sum(
        one == EVALUATION for group in groups if group.across and group.kind != "burst" for one in group.sets
    )


def describe_check(findings: Findings | None) -> str:
    """Return the sentence above the table of what was found; empty where there was no check."""
    if findings is None:
        return ""
    skipped = "; ".join(f"{', '.join(parts)} ({reason})" for reason, parts in findings.skipped_parts.items())
    words = [f"The pictures were checked before the training ({findings.num_pictures:,} in all)."]
    if not build_check_rows(findings):
        words.append("Nothing was found that spoils the scores.")
    if skipped:
        words.append(f"Not checked: {skipped}.")
    return " ".join(words)


def build_check_rows(findings: Findings | None) -> list[CheckRow]:
    """Return a row for each kind of finding that there is, the most harmful first."""
    if findings is None:
        return []
    rows = [*_build_group_rows(findings.groups), *_build_label_rows(findings)]
    rows += [
        CheckRow(f"Shortcut: {one.name}", percent(one.accuracy), f"chance is {percent(one.chance)}")
        for one in findings.shortcuts[:_SHOWN]
    ]
    costs = {one.kind: one for one in findings.costs}
    for kind, count in Counter(one.kind for one in findings.pictures).most_common(_SHOWN):
        cost = costs.get(kind)
        effect = "" if cost is None else describe_cost(cost.correct, cost.count, cost.others)
        rows.append(CheckRow(f"Pictures: {kind}", f"{count:,}", effect))
    return rows


def describe_cost(correct: int, count: int, others: float) -> str:
    """Return how a model does on pictures of one kind, beside all others.

    Args:
        correct: Pictures of the kind that the model names correctly.
        count: All pictures of the kind.
        others: Accuracy on all other pictures, 0 to 1.
    """
    return f"the model names {correct} of {count} correctly, and {percent(others)} of the other pictures"


def _build_group_rows(groups: Sequence[Group]) -> list[CheckRow]:
    kinds = (
        (
            "Copies across sets",
            [one for one in groups if one.across and one.kind in ("exact", "near")],
            "scores are too high",
        ),
        (
            "The same picture in two classes",
            [one for one in groups if one.kind == "conflict"],
            "at most one label is right",
        ),
        (
            "Copies within a set",
            [one for one in groups if one.kind in ("exact", "near") and not one.across],
            "they count more than once",
        ),
        ("Bursts", [one for one in groups if one.kind == "burst"], "fewer different scenes than pictures"),
    )
    return [
        CheckRow(name, count_of(len(of_kind), "group"), effect) for name, of_kind, effect in kinds if of_kind
    ]


def _build_label_rows(findings: Findings) -> list[CheckRow]:
    rows = []
    if findings.labels:
        estimate = findings.estimate
        wrong = f"about {estimate.value:.0f} are wrong" if estimate is not None else "look at them"
        rows.append(CheckRow("Labels that may be wrong", f"{len(findings.labels):,}", wrong))
    rows += [
        CheckRow(
            f"Overlap: {' and '.join(one.classes)}", f"{one.count:,}", f"{percent(one.share)} are mixed up"
        )
        for one in findings.overlaps[:_SHOWN]
    ]
    return rows
