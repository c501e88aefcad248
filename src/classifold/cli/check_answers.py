"""Results of `classifold check`, printed for a person or as JSON for a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold.asking import ask_check, ask_train
from classifold.cli.answers import (
    Table,
    build_counts_table,
    print_json,
    print_notes,
    print_table,
    show,
    show_place,
    show_sentences,
)
from classifold.counts import choose, count_of
from classifold.dataset.check import STATUS_WORDS
from classifold.progress import say

if TYPE_CHECKING:
    from classifold.datacheck.apply import Applied, Undone
    from classifold.datacheck.check import Checked
    from classifold.datacheck.new_listing import NewListing

_UNKNOWN = "-"


@dataclass(frozen=True)
class CheckAnswer:
    """What the command has to say.

    Attributes:
        checked: The result of the check.
        reasons: Why --fail-on makes it fail; empty if it passes.
        page: Path of check.html; None if it was not written.
        plan: Path of the plan; None if none was asked for.
    """

    checked: Checked
    reasons: Sequence[str]
    page: Path | None
    plan: Path | None


def print_checked(answer: CheckAnswer, *, is_opened: bool, as_json: bool) -> None:
    """Print classes and sets, what was found, every fault, and the next step."""
    report, findings = answer.checked.report, answer.checked.findings
    if as_json:
        print_json(
            **findings.to_json(),
            classes=report.classes,
            counts=report.counts,
            split_notes=list(report.notes),
            faults=[{"where": one.where, "what": one.what, "hint": one.hint} for one in report.faults],
            failed=list(answer.reasons),
            page=None if answer.page is None else str(answer.page),
        )
        return
    print_notes([*report.notes, *findings.notes])
    # Without a single figure, as where the folder has one class only, a table would say nothing.
    if any(count is not None for row in report.classes.values() for count in row.values()):
        rows = [[name, *map(_show_count, row.values())] for name, row in report.classes.items()]
        print_table(Table(f"Pictures of {report.source}", ["class", *STATUS_WORDS.values()], rows))
        click.echo()
    if report.counts is not None:
        print_table(build_counts_table(report.counts, title="What split would make"))
        click.echo()
    if not answer.checked.is_empty:
        _print_findings(answer)
    _print_page(answer.page, is_opened=is_opened)
    _print_plan(answer)
    for fault in report.faults:
        for line in fault.format().split("\n"):
            say(line)
    for reason in answer.reasons:
        say(f"error: --fail-on {reason}")
    if report.faults:
        show(f"not ready: {count_of(len(report.faults), 'problem')}")
    else:
        show(f"ready: {ask_train()}")


def _print_findings(answer: CheckAnswer) -> None:
    from classifold.datacheck.summary import describe_findings

    findings = answer.checked.findings
    lines = describe_findings(findings)
    if lines:
        click.echo("What was found, the most harmful first:")
        for line in lines:
            show_sentences(f"- {line}")
    elif not findings.skipped:
        click.echo("Nothing was found that spoils the scores.")
    for reason, skipped in findings.skipped_parts.items():
        show_sentences(f"Not checked: {', '.join(skipped)}: {reason}")
    sets = findings.sets
    if sets.training_minutes is not None:
        there = "" if sets.job_minutes is None else f", on SageMaker about {sets.job_minutes:.0f} minutes"
        price = "" if sets.job_price is None else f" ({sets.job_price:.2f} US dollars)"
        show_sentences(
            f"Training takes about {max(sets.training_minutes, 1):.0f} minutes here{there}{price}."
        )
    click.echo()


def _print_page(page: Path | None, *, is_opened: bool) -> None:
    if page is None:
        return
    show_place("The findings with their pictures are in", page)
    if is_opened:
        _open(page)


def _print_plan(answer: CheckAnswer) -> None:
    if answer.plan is not None:
        show_place("The plan is in", answer.plan)
        show(f"edit it, then: {ask_check('--apply', str(answer.plan))}")
    elif any((answer.checked.findings.groups, answer.checked.findings.labels)):
        show(f"to fix it: {ask_check('--plan', 'plan.csv')}")


def _open(page: Path) -> None:
    from classifold.api.browser import open_page

    if not open_page(page):
        say(f"note: there is no browser here; open {page}")


def _show_count(count: int | None) -> str:
    return _UNKNOWN if count is None else f"{count:,}"


def print_applied(done: Applied, *, as_json: bool) -> None:
    """Print what a plan changed, and how to take it back."""
    if as_json:
        print_json(
            quarantined=done.num_quarantined,
            moved=done.num_moved,
            renamed=[list(pair) for pair in done.renamed],
            quarantine=str(done.quarantine),
            repeated=done.is_repeated,
        )
        return
    if done.is_repeated:
        click.echo("This plan was applied before; nothing was changed.")
        return
    for old, new in done.renamed:
        say(f"note: {old} is now {new}, since its name was taken")
    if not done.num_quarantined + done.num_moved:
        click.echo("This plan moves no picture; nothing was changed.")
        return
    finished = "The plan that was under way is finished: " if done.is_finished else ""
    show_sentences(
        f"{finished}{count_of(done.num_quarantined, 'picture')} "
        f"{choose(done.num_quarantined, 'was', 'were')} moved to {done.quarantine}, "
        f"{count_of(done.num_moved, 'picture')} to another class."
    )
    click.echo("To undo this, run the same command with `--undo` in place of `--apply FILE`.")


def print_undone(done: Undone, *, as_json: bool) -> None:
    """Print what was taken back, and whether there is more."""
    if as_json:
        print_json(
            plan=done.plan,
            files=done.num_files,
            left=done.num_left,
            next_plan=done.next_plan or None,
            next_files=done.next_files,
        )
        return
    if done.num_files:
        were = choose(done.num_files, "it was", "they were")
        moved = f"{count_of(done.num_files, 'picture')} of the plan {done.plan} moved back to where {were}."
    else:
        moved = f"The plan {done.plan} had moved no picture, so there was nothing to take back of it."
    show_sentences(moved)
    if done.num_left:
        show_sentences(
            f"{count_of(done.num_left, 'earlier plan')} can still be taken back: the next --undo takes back "
            f"{done.next_plan}, {count_of(done.next_files, 'picture')}."
        )


def print_new_listing(written: NewListing, *, as_json: bool) -> None:
    """Print where the new listing is."""
    if as_json:
        print_json(listing=str(written.path), removed=written.num_removed, changed=written.num_changed)
        return
    show_sentences(
        f"{count_of(written.num_removed, 'line')} left out, {written.num_changed} with another class; "
        "the old listing is as it was."
    )
    show_place("The new listing is in", written.path)
