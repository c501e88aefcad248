"""Decides for CI whether a check fails: which findings count, and which of them a baseline knows already."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from classifold.counts import count_of
from classifold.errors import Fault, UsageError
from classifold.findings import Findings, Group

# What --fail-on can name; the first four are the groups of the properties of `Findings` with these names.
KINDS = ("leaks", "conflicts", "copies", "bursts", "labels", "shortcuts", "pictures", "sets")
_SHOWN = 3


def parse_fail_on(text: str) -> tuple[str, ...]:
    """Return the kinds of findings that `--fail-on` names, in the order of `KINDS`.

    Args:
        text: Names separated by commas, or "all".

    Raises:
        UsageError: A name is not known.
    """
    named = [name.strip().casefold() for name in text.split(",") if name.strip()]
    if named == ["all"]:
        return KINDS
    faults = []
    for name in named:
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"name some of {', '.join(KINDS)}, or all"
            faults.append(Fault("--fail-on", "there is no such kind of finding", hint=hint, got=repr(name)))
    if not named:
        faults.append(Fault("--fail-on", "it names nothing", hint=f"name some of {', '.join(KINDS)}, or all"))
    if faults:
        raise UsageError(*faults)
    return tuple(kind for kind in KINDS if kind in named)


def find_reasons(
    findings: Findings, fail_on: Sequence[str], *, baseline: Findings | None = None
) -> list[str]:
    """Return why a check fails, one sentence for each kind of finding; empty if it passes.

    A kind that was asked for and not checked is a reason too: a check that did not run shows nothing.

    Args:
        findings: What was found now.
        fail_on: Names of `KINDS`.
        baseline: What an earlier check found: only what is new since then counts. A finding is known by its
            files and kind, in whatever order; a group that has lost pictures is known, one that has gained
            pictures is new. A renamed file is a new one.
    """
    reasons = []
    for kind in fail_on:
        if kind in findings.skipped:
            reasons.append(f"{kind}: not checked: {findings.skipped[kind]}")
            continue
        named = _FINDERS[kind](findings)
        known = {} if baseline is None else _FINDERS[kind](baseline)
        new = _leave_out_known(named, known)
        if new:
            word = "" if baseline is None else "new "
            more = f" and {len(new) - _SHOWN:,} more" if len(new) > _SHOWN else ""
            count = count_of(len(new), f"{word}finding")
            reasons.append(f"{kind}: {count}: {'; '.join(new[:_SHOWN])}{more}")
    return reasons


# A finding's identity with the words for it; that of a group is the set of its files.
_Named = Mapping[Any, str]


def _leave_out_known(named: _Named, known: _Named) -> list[str]:
    """Return the words for the findings that the baseline does not hold, not even as part of a group."""
    holders: dict[str, list[frozenset[str]]] = {}
    for other in known:
        if isinstance(other, frozenset):
            for file in other:
                holders.setdefault(file, []).append(other)
    return [
        words
        for key, words in named.items()
        if key not in known
        and not (isinstance(key, frozenset) and any(key <= other for other in holders.get(min(key), ())))
    ]


def _groups(choose: Callable[[Findings], Sequence[Group]]) -> Callable[[Findings], _Named]:
    def find(findings: Findings) -> _Named:
        return {
            frozenset(group.files): f"{group.kind}: {', '.join(group.files[:_SHOWN])}"
            + (f" and {len(group.files) - _SHOWN:,} more" if len(group.files) > _SHOWN else "")
            for group in choose(findings)
        }

    return find


def _find_labels(findings: Findings) -> _Named:
    return {
        (one.file, one.label): f"{one.file} is labelled {one.label}, probably {one.suggested}"
        for one in findings.labels
    }


def _find_shortcuts(findings: Findings) -> _Named:
    return {one.name: f"{one.name} tells the class ({one.accuracy:.0%})" for one in findings.shortcuts}


def _find_pictures(findings: Findings) -> _Named:
    return {(one.file, one.kind): f"{one.file}: {one.kind}" for one in findings.pictures}


def _find_sets(findings: Findings) -> _Named:
    few = {
        ("few", name): f"{name} has only {count_of(count, 'picture')}"
        for name, count in findings.sets.few.items()
    }
    drift = {(one.set_name, one.what): f"{one.set_name} differs in {one.what}" for one in findings.sets.drift}
    return {**few, **drift}


_FINDERS: Mapping[str, Callable[[Findings], _Named]] = {
    "leaks": _groups(lambda findings: findings.leaks),
    "conflicts": _groups(lambda findings: findings.conflicts),
    "copies": _groups(lambda findings: findings.copies),
    "bursts": _groups(lambda findings: findings.bursts),
    "labels": _find_labels,
    "shortcuts": _find_shortcuts,
    "pictures": _find_pictures,
    "sets": _find_sets,
}
