"""What the data check found, as the report tells it beside the scores that it spoils."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from classifold.counts import choose, count_of
from classifold.findings import Findings, Group, KindCost
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
    elif leaked := count_leaked(findings.leaks):
        lines.append(
            f"{count_of(leaked, 'evaluation picture')} {choose(leaked, 'has', 'have')} a copy in training or "
            "validation: the model may have learned the answers by heart, so the scores are too high."
        )
    if both := sum(len(group.files) for group in findings.conflicts):
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


def count_leaked(leaks: Sequence[Group]) -> int:
    """Return the number of evaluation pictures that have a copy in another set.

    Args:
        leaks: As in `Findings.leaks`.
    """
    return sum(one == EVALUATION for group in leaks for one in group.sets)


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
    rows = [*_build_group_rows(findings), *_build_label_rows(findings)]
    rows += [
        CheckRow(f"Shortcut: {one.name}", percent(one.accuracy), f"chance is {percent(one.chance)}")
        for one in findings.shortcuts[:_SHOWN]
    ]
    costs = {one.kind: one for one in findings.costs}
    for kind, count in Counter(one.kind for one in findings.pictures).most_common(_SHOWN):
        cost = costs.get(kind)
        effect = "" if cost is None else describe_cost(cost)
        rows.append(CheckRow(f"Pictures: {kind}", f"{count:,}", effect))
    return rows


def describe_cost(cost: KindCost) -> str:
    """Return how a model does on pictures of one kind and on all others, without a capital and full stop."""
    share = percent(cost.others, decimals=0)
    return f"the model gets {cost.correct:,} of {cost.count:,} right, and {share} of the other pictures"


def _build_group_rows(findings: Findings) -> list[CheckRow]:
    kinds = (
        ("Copies across sets", findings.leaks, "scores are too high"),
        ("The same picture in two classes", findings.conflicts, "at most one label is right"),
        ("Copies within a set", findings.copies, "they count more than once"),
        ("Bursts", findings.bursts, "fewer different scenes than pictures"),
    )
    return [CheckRow(name, count_of(len(found), "group"), effect) for name, found, effect in kinds if found]


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
