"""The command `export`, and how its answer is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.options import PATH, json_option, load_settings, takes_settings
from classifold.cli.values import OneOf, Share
from classifold.errors import Fault, UsageError
from classifold.exports.formats import (
    FORMAT_NAMES,
    FORMATS,
    check_packages,
    choose_targets,
    describe_precisions,
    list_missing,
)

if TYPE_CHECKING:
    from classifold.exports.export import Exported
    from classifold.exports.figures import Figures
    from classifold.exports.formats import Precision


@click.command()
@click.argument("run_dir", metavar="[RUN]", type=PATH, required=False)
@click.option(
    "--to",
    "formats",
    type=OneOf(FORMAT_NAMES),
    multiple=True,
    metavar="FORMAT",
    help=f"A format; may be repeated: {', '.join(FORMAT_NAMES)}.",
)
@click.option("--list", "is_list", is_flag=True, help="List the formats, and what each needs here.")
@click.option("--half", "is_half", is_flag=True, help="16-bit weights, for litert, openvino and tfjs.")
@click.option(
    "--int8", "is_int8", is_flag=True, help="8-bit weights and activations, for litert and openvino."
)
@click.option(
    "--output",
    metavar="DIR",
    type=PATH,
    help="Where the exports go, one folder each (default: RUN-exports beside the run).",
)
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    type=PATH,
    help="Where the run's three sets are now, or a folder of evaluation pictures.",
)
@click.option(
    "--max-loss",
    type=Share(),
    metavar="SHARE",
    default="0.01",
    show_default=True,
    help="The largest loss of accuracy that is accepted; an export that loses more is refused.",
)
@click.option(
    "--unchecked",
    "is_unchecked",
    is_flag=True,
    help="Keep exports unchecked if the evaluation pictures are not here.",
)
@click.option(
    "--tfjs-library",
    "library",
    metavar="FILE",
    type=PATH,
    help="The file tf.min.js of TensorFlow.js, for the page of --to tfjs.",
)
@json_option
@takes_settings
def export(
    run_dir: Path | None,
    formats: tuple[str, ...],
    is_list: bool,
    is_half: bool,
    is_int8: bool,
    output: Path | None,
    data_dir: Path | None,
    max_loss: float,
    is_unchecked: bool,
    library: Path | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Write the model for other runtimes.

    RUN is a run folder, the name of a run in RUNS_DIR, or a model.onnx. Each export and model.onnx classify
    the evaluation pictures. Agreement, accuracy, size and speed of both are printed, and written to
    export.json. An export whose accuracy is lower by more than --max-loss is refused: nothing of it
    is kept but these figures, and the exit code is 1.

    8-bit formats are calibrated with training pictures. For models that take pixels, the preprocessing
    code is written beside the model in Python, JavaScript, Swift and Kotlin.
    """
    config = load_settings(config_path, overrides)
    if is_list:
        _print_formats(as_json=as_json)
        return 0
    run_dir = _check_asked(run_dir, formats)
    targets = choose_targets(formats, precision=_choose_precision(is_half=is_half, is_int8=is_int8))
    _check_library(library, formats)
    check_packages(targets)
    from classifold.exports.export import Wishes, export_model
    from classifold.run_folder import find_run

    wishes = Wishes(
        output=output, data_dir=data_dir, max_loss=max_loss, is_unchecked=is_unchecked, library=library
    )
    done = export_model(find_run(run_dir, runs_dir=Path(config.RUNS_DIR)), targets, wishes)
    _print_exports(done, as_json=as_json)
    return 1 if any(one.refusal for one in done) else 0


def _check_asked(run_dir: Path | None, formats: Sequence[str]) -> Path:
    """Return RUN.

    Raises:
        UsageError: RUN or --to is missing.
    """
    if run_dir is None:
        raise UsageError(Fault("classifold export", "no run was named", "give a run folder, or --list"))
    if not formats:
        hint = f"add --to with one of {', '.join(FORMAT_NAMES)}; `classifold export --list` describes them"
        raise UsageError(Fault("classifold export", "no format was named", hint))
    return run_dir


def _choose_precision(*, is_half: bool, is_int8: bool) -> Precision | None:
    if is_half and is_int8:
        hint = "export twice; each precision gets a folder of its own"
        raise UsageError(Fault("classifold export", "--half and --int8 exclude each other", hint))
    if is_half:
        return "float16"
    return "int8" if is_int8 else None


def _check_library(library: Path | None, formats: Sequence[str]) -> None:
    if library is None:
        return
    if "tfjs" not in formats:
        what = "it is only for --to tfjs"
        raise UsageError(Fault("--tfjs-library", what, "add --to tfjs, or leave it out"))
    if not library.is_file():
        hint = "it is dist/tf.min.js of the npm package @tensorflow/tfjs"
        raise UsageError(Fault(str(library), "no such file", hint))


def _print_formats(*, as_json: bool) -> None:
    from classifold.cli.answers import Table, print_json, print_table, show_sentences
    from classifold.names import install

    rows = [(one, list_missing(one)) for one in FORMATS]
    if as_json:
        plain = [
            {
                "name": one.name,
                "summary": one.summary,
                "takes": one.takes,
                "precisions": list(one.precisions),
                "missing": missing,
            }
            for one, missing in rows
        ]
        print_json(formats=plain)
        return
    print_table(Table("Formats", ("format", "for"), [[one.name, one.summary] for one, _ in rows]))
    cells = [
        [one.name, one.takes, describe_precisions(one), ", ".join(missing) or "nothing"]
        for one, missing in rows
    ]
    print_table(Table("What they take and need", ("format", "input", "precisions", "not installed"), cells))
    if any(missing for _, missing in rows):
        show_sentences(f"What is missing: {install('export')}")


def _print_exports(done: Sequence[Exported], *, as_json: bool) -> None:
    from classifold.cli.answers import print_json, show_place, show_sentences

    if as_json:
        print_json(exports=[_describe(one) for one in done])
        return
    _print_figures([(one.name, one.figures) for one in done if one.figures is not None])
    for one in done:
        if one.refusal:
            show_sentences(f"{one.name} was refused: {one.refusal}.")
            show_place("Its figures:", one.record)
        elif one.folder is not None:
            unchecked = "" if one.figures else " (not checked: there were no pictures)"
            show_place(f"{one.name}{unchecked}:", one.folder)


def _describe(one: Exported) -> dict[str, Any]:
    return {
        "name": one.name,
        "folder": None if one.folder is None else str(one.folder),
        "refusal": one.refusal or None,
        "record": str(one.record),
        "figures": None if one.figures is None else one.figures.model_dump(mode="json"),
    }


def _print_figures(found: Sequence[tuple[str, Figures]]) -> None:
    from classifold.cli.answers import Table, print_table, show_sentences
    from classifold.counts import count_of, write_percent

    if not found:
        return
    first = found[0][1]
    answers = [["model.onnx", f"{first.accuracy_model_onnx:.3f}", ""]]
    changes, costs = [], [["model.onnx", f"{first.bytes_model_onnx / 1e6:.1f} MB", "", ""]]
    for name, one in found:
        interval = f"({100 * one.low:+.1f} to {100 * one.high:+.1f})"
        answers.append([name, f"{one.accuracy:.3f}", f"{100 * one.difference:+.1f} % {interval}"])
        gap = f"{one.largest_probability_difference:.2g}"
        changes.append(
            [
                name,
                write_percent(one.agreement, decimals=1),
                gap,
                write_percent(one.unknown_changed, decimals=1),
            ]
        )
        rates = [f"{rate:.0f}" for rate in (one.rate.export, one.rate.model_onnx)]
        costs.append([name, f"{one.bytes / 1e6:.1f} MB", *rates])
    title = f"On {count_of(first.num_pictures, 'evaluation picture')}"
    print_table(Table(title, ("", "accuracy", "difference"), answers))
    header = ("", "same class", "probability", "unknown changed")
    print_table(Table("Beside model.onnx", header, changes))
    print_table(Table("Size and speed", ("", "size", "pictures/s", "model.onnx's"), costs))
    show_sentences(
        "Difference: of the accuracy, with its 95 % interval. Probability: the largest difference of one. "
        "Speed: on one core, one picture at a time, in turn with model.onnx; formats that take bytes read "
        "the picture as well, and so does model.onnx beside them."
    )
