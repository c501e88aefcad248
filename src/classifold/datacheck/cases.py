"""The findings as cases: what check.html shows side by side, one after another, the most harmful first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from classifold.datacheck.plan import UNREADABLE_KINDS
from classifold.findings import Findings, Group, LabelSuspect, PictureFinding

# Kinds of cases that are no kinds of pictures, in order of harm, with the title of their filter.
TITLES = {
    "leak": "Copies across sets",
    "conflict": "One picture, two labels",
    "label": "Labels that are probably wrong",
    "exact": "Exact copies",
    "near": "Near copies",
    "burst": "Bursts",
}


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A picture of a case.

    Attributes:
        key: Its key.
        label: Its class, "" where it is not known.
        set_name: Its set, "" where it is not known.
        note: What is said of it beside the others, such as "cropped".
    """

    key: str
    label: str = ""
    set_name: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to look at.

    Attributes:
        kind: A key of `TITLES`, or the kind of an unusual picture.
        title: What was found, in a few words.
        reason: One sentence on it.
        files: The pictures that it is about, for which something can be done.
        beside: Pictures that are shown for comparison only.
    """

    kind: str
    title: str
    reason: str
    files: Sequence[CaseFile]
    beside: Sequence[CaseFile] = ()


def build_cases(findings: Findings) -> list[Case]:
    """Return all cases, the most harmful first.

    Copies across sets come before pictures under two labels, wrong labels, unreadable pictures, copies within
    a set, unusual pictures, and bursts.
    """
    known = _Known(findings)
    groups = [_build_group(one) for one in findings.groups]
    unreadable = [one for one in findings.pictures if one.kind in UNREADABLE_KINDS]
    unusual = [one for one in findings.pictures if one.kind not in UNREADABLE_KINDS]
    return [
        *(one for one in groups if one.kind == "leak"),
        *(one for one in groups if one.kind == "conflict"),
        *(_build_label(one, known) for one in findings.labels),
        *(_build_picture(one, known) for one in unreadable),
        *(one for one in groups if one.kind in ("exact", "near")),
        *(_build_picture(one, known) for one in unusual),
        *(one for one in groups if one.kind == "burst"),
    ]


class _Known:
    """The class and set of pictures, as far as the findings say them.

    Args:
        findings: What was found.
    """

    def __init__(self, findings: Findings) -> None:
        self._sets = set(findings.sets.counts)
        self._classes = {name for counts in findings.sets.counts.values() for name in counts}
        self._found: dict[str, tuple[str, str]] = {}
        for group in findings.groups:
            sets = group.sets or ("",) * len(group.files)
            self._found.update(zip(group.files, zip(group.labels, sets, strict=False), strict=False))

    def find(self, key: str, label: str = "") -> tuple[str, str]:
        """Return the class and the set of a picture; where no group has it, as its key's folders say."""
        if key in self._found:
            known = self._found[key]
            return label or known[0], known[1]
        parts = key.split("/")
        in_set = parts[0] if len(parts) > 2 and parts[0] in self._sets else ""
        folder = parts[1] if in_set else parts[0]
        return label or (folder if folder in self._classes or len(parts) > 1 else ""), in_set


def _build_group(group: Group) -> Case:
    sets = group.sets or ("",) * len(group.files)
    changes = [*group.changes, *[""] * len(group.files)]
    files = [
        CaseFile(key, label, set_name, change)
        for key, label, set_name, change in zip(group.files, group.labels, sets, changes, strict=False)
    ]
    # Every picture must be there, even where a file from elsewhere has fewer labels than files.
    files += [CaseFile(key) for key in group.files[len(files) :]]
    count = f"{len(group.files):,} pictures"
    if group.kind == "conflict":
        return Case("conflict", f"{count}: {' or '.join(sorted(set(group.labels)))}?", group.reason, files)
    if group.kind == "burst":
        spread = f" in {' and '.join(group.across)}" if group.across else ""
        return Case("burst", f"Burst of {count}{spread}", group.reason, files)
    kind = {"exact": "Exact", "near": "Near"}[group.kind]
    if group.is_leak:
        return Case("leak", f"{kind} copies in {' and '.join(group.across)}", group.reason, files)
    return Case(group.kind, f"{kind} copies: {count}", group.reason, files)


def _build_label(suspect: LabelSuspect, known: _Known) -> Case:
    _, set_name = known.find(suspect.file)
    title = f"{suspect.label}, or {suspect.suggested}?"
    reason = f"The label is wrong with a probability of {100 * suspect.certainty:.0f} %."
    beside = [
        CaseFile(one.file, one.label, known.find(one.file)[1], f"similarity {one.similarity:.2f}")
        for one in suspect.neighbours
    ]
    return Case("label", title, reason, [CaseFile(suspect.file, suspect.label, set_name)], beside)


def _build_picture(found: PictureFinding, known: _Known) -> Case:
    label, set_name = known.find(found.file)
    return Case(found.kind, found.kind.capitalize(), found.reason, [CaseFile(found.file, label, set_name)])


def count_kinds(cases: Iterable[Case]) -> dict[str, int]:
    """Return how many cases there are of each kind, in the order of the cases."""
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.kind] = counts.get(case.kind, 0) + 1
    return counts


def title_of(kind: str) -> str:
    """Return the title of a kind's filter."""
    return TITLES.get(kind) or kind.capitalize()
