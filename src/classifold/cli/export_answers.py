"""What `classifold export` prints: the formats, and how good the exports are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from classifold.cli.answers import Table, print_json, print_notes, print_table, show_place, show_sentences
from classifold.counts import count_of, write_percent
from classifold.exports.figures import MOST_UNKNOWN_DIFFERENCE, UNDECIDED_GAP, Figures, find_allowed
from classifold.exports.formats import ADDED_HINT, FORMATS, describe_precisions, list_missing
from classifold.names import install

if TYPE_CHECKING:
    from classifold.exports.export import Exported

# A probability that moves so far can cross a limit that a program has set on it.
_NOTABLE_MOVE: Final = 0.1


def print_formats(*, as_json: bool) -> None:
    """Print the formats, what each is for, and what it lacks here."""
    rows = [(one, list_missing(one)) for one in FORMATS]
    if as_json:
        plain = [
            {
                "name": one.name,
                "summary": one.summary,
                "takes": one.takes,
                "precisions": list(one.precisions),
                "missing": missing,
                "added": one.added or None,
            }
            for one, missing in rows
        ]
        print_json(formats=plain)
        return
    print_table(Table("Formats", ("format", "for"), [[one.name, one.summary] for one, _ in rows]))
    cells = []
    for one, missing in rows:
        lacking = ", ".join(filter(None, [*missing, one.added])) or "-"
        cells.append([one.name, one.takes, describe_precisions(one), lacking])
    print_table(Table("What they take and need", ("format", "input", "precisions", "missing here"), cells))
    if any(missing for _, missing in rows):
        show_sentences(f"Missing packages: {install('export')}")
    for one, _ in rows:
        if one.added:
            show_sentences(f"{one.added}, for the page of {one.name}: {ADDED_HINT}.")


def print_exports(done: Sequence[Exported], *, max_loss: float, as_json: bool) -> None:
    """Print how good the exports are, which were refused, and where the others lie."""
    if as_json:
        print_json(exports=[_describe(one) for one in done])
    else:
        _print_figures([(one.name, one.figures) for one in done if one.figures is not None], max_loss)
        for one in done:
            if one.refusal:
                show_sentences(f"{one.name} was refused: {one.refusal}.")
                show_place("Its figures:", one.record)
            elif one.folder is not None:
                unchecked = "" if one.figures else " (not checked: there were no pictures)"
                show_place(f"{one.name}{unchecked}:", one.folder)
    print_notes([note for one in done for note in one.notes])


def _describe(one: Exported) -> dict[str, Any]:
    return {
        "name": one.name,
        "folder": None if one.folder is None else str(one.folder),
        "refusal": one.refusal or None,
        "record": str(one.record),
        "notes": list(one.notes),
        "figures": None if one.figures is None else one.figures.model_dump(mode="json"),
    }


def _print_figures(found: Sequence[tuple[str, Figures]], max_loss: float) -> None:
    if not found:
        return
    for table in build_tables(found, max_loss=max_loss):
        print_table(table)
    for line in explain_figures(found):
        show_sentences(line)


def build_tables(found: Sequence[tuple[str, Figures]], *, max_loss: float) -> list[Table]:
    """Return what is printed about exports, each beside model.onnx.

    Args:
        found: Name and figures of each export, at least one.
        max_loss: Value of `--max-loss`, 0..1.
    """
    first = found[0][1]
    answers = [["model.onnx", f"{first.accuracy_model_onnx:.3f}", "", ""]]
    costs = [["model.onnx", f"{first.bytes_model_onnx / 1e6:.1f} MB", "1.00", "", ""]]
    changes = []
    for name, one in found:
        interval = f"({100 * one.low:+.1f} to {100 * one.high:+.1f})"
        lost = f"{one.num_lost} / {find_allowed(one, max_loss=max_loss)}"
        answers.append([name, f"{one.accuracy:.3f}", f"{100 * one.difference:+.1f} {interval}", lost])
        unknown = " to ".join(
            write_percent(share, decimals=1) for share in (one.unknown_model_onnx, one.unknown)
        )
        same, changed = (write_percent(share, decimals=1) for share in (one.agreement, one.unknown_changed))
        changes.append([name, same, f"{one.largest_probability_difference:.2g}", unknown, changed])
        export, model_onnx = one.rate.export, one.rate.model_onnx
        rates = [f"{export / model_onnx:.2f}", f"{export:.0f}", f"{model_onnx:.0f}"]
        costs.append([name, f"{one.bytes / 1e6:.1f} MB", *rates])
    title = f"On {count_of(first.num_pictures, 'evaluation picture')}"
    return [
        Table(title, ("", "accuracy", "difference", "lost / allowed"), answers),
        Table("Beside model.onnx", ("", "same class", "probability", "unknown", "changed"), changes),
        Table("Size and speed", ("", "size", "times as fast", "pictures/s", "model.onnx's"), costs),
    ]


def explain_figures(found: Sequence[tuple[str, Figures]]) -> Iterator[str]:
    """Yield what the tables mean, and what is worth a remark; arguments as for `build_tables`."""
    for name, one in found:
        if uncounted := one.num_worse_undecided + one.num_better_undecided:
            lost, won = count_of(one.num_worse, "right answer"), f"{one.num_better:,}"
            yield (
                f"{name}: {lost} of model.onnx lost, {won} won; not counted: {uncounted:,}, as model.onnx is "
                f"undecided there: its two most probable classes are less than {100 * UNDECIDED_GAP:g} "
                "percentage points apart."
            )
        if one.largest_probability_difference >= _NOTABLE_MOVE:
            yield (
                f"{name}: a probability differs by {one.largest_probability_difference:.2g}. If your program "
                "compares probabilities with a limit of its own, choose that limit with this export."
            )
    yield (
        "Difference: of the accuracies, in percentage points, with its 95 % interval. Lost: right answers "
        "of model.onnx that the export loses, less those that it wins; an export that loses more than is "
        "allowed is refused (--max-loss)."
    )
    yield (
        "Probability: the largest difference of one. Unknown: the share of pictures that model.onnx calls "
        f"unknown, and the export; they may differ by {100 * MOST_UNKNOWN_DIFFERENCE:g} percentage points, "
        "or by one picture. Changed: the share that only one of them calls unknown."
    )
    yield (
        "Times as fast: pictures per second beside those of model.onnx, on one core, one picture at a "
        "time, both in turn. Compare exports by it, since each was timed at another moment. Formats that "
        "take bytes read the picture as well, and so does model.onnx beside them."
    )
