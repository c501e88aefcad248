"""What a check found, in a few lines: one for each kind of finding, the most harmful first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from classifold.counts import choose, count_of
from classifold.datacheck.plan import UNREADABLE_KINDS
from classifold.findings import Findings, Group, LabelSuspect
from classifold.names import EVALUATION
from classifold.report.data_check import count_leaked, describe_cost
from classifold.report.sentences import NBSP

# Examples that a line names.
_SHOWN = 3


def describe_findings(findings: Findings) -> list[str]:
    """Return what was found, one line for each kind, the most harmful first; empty if nothing was."""
    lines = [
        *_describe_leaks(findings),
        *_describe_conflicts(findings.conflicts),
        *_describe_labels(findings),
        *(f"shortcut: {one.reason or one.name}" for one in findings.shortcuts),
        *_describe_copies(findings.groups),
        *_describe_kinds(findings),
        *(f"drift: {one.reason or one.what}" for one in findings.sets.drift),
    ]
    overlaps = [
        f"{' and '.join(one.classes)} ({one.count}, {100 * one.share:.0f} %)"
        for one in findings.overlaps[:_SHOWN]
    ]
    if overlaps:
        lines.append(f"overlap: classes that are hard to tell apart: {'; '.join(overlaps)}")
    return lines


def describe_quickly(findings: Findings) -> str:
    """Return what a quick check found in one line, for commands that run it by themselves."""
    counts = [
        (
            len(findings.leaks),
            "group of copies across sets",
            "groups of copies across sets",
        ),
        (
            len(findings.conflicts),
            "picture in two classes",
            "pictures in two classes",
        ),
        (
            len(findings.copies),
            "group of copies within a set",
            "groups of copies within a set",
        ),
        (len(findings.labels), "label that may be wrong", "labels that may be wrong"),
        (len(findings.shortcuts), "shortcut", "shortcuts"),
        (len(findings.pictures), "unusual picture", "unusual pictures"),
    ]
    found = [f"{count:,} {choose(count, one, many)}" for count, one, many in counts if count]
    return "data check: " + (", ".join(found) or "nothing that spoils the scores")


def _describe_leaks(findings: Findings) -> list[str]:
    groups = sorted(findings.leaks, key=lambda one: EVALUATION not in one.across)
    bursts = [one for one in findings.bursts if one.across]
    lines = []
    if groups:
        count = count_leaked(groups)
        held_out = f"{count_of(count, 'evaluation picture')} {choose(count, 'has', 'have')} a copy elsewhere"
        what = held_out if count else f"{count_of(len(groups), 'group')} of copies in several sets"
        lines.append(f"leaks: {what}: {_list_groups(groups)}")
    if findings.effect is not None and findings.effect.num_leaks:
        lines.append(f"leaks, what they do: {findings.effect.reason}")
    if bursts:
        lines.append(f"bursts across sets: {count_of(len(bursts), 'scene')}: {_list_groups(bursts)}")
    return lines


def _describe_conflicts(found: Sequence[Group]) -> list[str]:
    count = count_of(len(found), "picture")
    return [f"two labels: {count} in more than one class: {_list_groups(found)}"] if found else []


def _describe_copies(groups: Sequence[Group]) -> list[str]:
    words = {"exact": "equal bytes or pixels", "near": "near copies", "burst": "bursts of one scene"}
    lines = []
    for kind, what in words.items():
        found = [one for one in groups if one.kind == kind and not one.across]
        if found:
            name = "bursts" if kind == "burst" else "copies"
            lines.append(f"{name}: {count_of(len(found), 'group')} ({what}): {_list_groups(found)}")
    return lines


def _list_groups(groups: Sequence[Group]) -> str:
    return "; ".join(map(_show_group, groups[:_SHOWN])) + _more(len(groups))


def _show_group(group: Group) -> str:
    """Return some files of a group: of each label and set the first comes before further ones."""
    seen: dict[tuple[str, str], int] = {}
    order = []
    for place, file in enumerate(group.files):
        kind = (group.labels[place], group.sets[place] if group.sets else "")
        seen[kind] = seen.get(kind, -1) + 1
        order.append((seen[kind], place, file))
    shown = [file for _, _, file in sorted(order)[:_SHOWN]]
    return " = ".join(shown) + _more(len(group.files))


def _describe_labels(findings: Findings) -> list[str]:
    if not findings.labels:
        return []
    count, estimate, about = len(findings.labels), findings.estimate, ""
    if estimate is not None:
        about = f" (about {estimate.value:.0f} are wrong, {estimate.low:.0f} to {estimate.high:.0f})"
    return [
        f"labels: {count_of(count, 'label')} may be wrong{about}: "
        f"{'; '.join(map(_show_suspect, findings.labels[:_SHOWN]))}{_more(count)}"
    ]


def _show_suspect(one: LabelSuspect) -> str:
    return f"{one.file} looks like {one.suggested} ({100 * one.certainty:.0f} %)"


def _describe_kinds(findings: Findings) -> list[str]:
    costs = {one.kind: one for one in findings.costs}
    examples: dict[str, list[str]] = {}
    for one in findings.pictures:
        examples.setdefault(one.kind, []).append(one.file)
    lines = []
    counts = Counter(one.kind for one in findings.pictures)
    # What cannot be read first, then the kinds with the most pictures.
    order = sorted(counts, key=lambda kind: (kind not in UNREADABLE_KINDS, -counts[kind], kind))
    for kind in order:
        count = counts[kind]
        cost = costs.get(kind)
        words = ""
        if cost is not None:
            words = f"; {describe_cost(cost)}".replace(NBSP, " ")
        shown = f"{', '.join(examples[kind][:_SHOWN])}{_more(count)}"
        lines.append(f"pictures: {kind} ({count:,}): {shown}{words}")
    return lines


def _more(count: int) -> str:
    return f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
