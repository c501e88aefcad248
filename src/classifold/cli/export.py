"""The command `export`: its options, and how they reach the exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold.cli.options import PATH, json_option, load_settings, takes_settings
from classifold.cli.values import OneOf, Share
from classifold.errors import Fault, UsageError
from classifold.exports.formats import FORMAT_NAMES, check_packages, choose_targets

if TYPE_CHECKING:
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
    help="Refuse an export that loses right answers on more than this share of the evaluation pictures. "
    "Answers that it wins make up for others, and pictures about which model.onnx is undecided do not count. "
    "One lost answer is always accepted, except with 0.",
)
@click.option(
    "--unchecked",
    "is_unchecked",
    is_flag=True,
    help="Keep exports unchecked if the evaluation pictures are not here.",
)
@click.option(
    "--tfjs-library",
    "tfjs_script",
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
    tfjs_script: Path | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Write the model for other runtimes.

    RUN is a run folder, the name of a run in RUNS_DIR, or a model.onnx. Each export and model.onnx classify
    the evaluation pictures. Agreement, accuracy, size and speed of both are printed, and written to
    export.json. An export that loses more right answers than --max-loss allows is refused: nothing of
    it is kept but these figures, and the exit code is 1.

    8-bit formats are calibrated with training pictures. For models that take pixels, the preprocessing
    code is written beside the model in Python, JavaScript, Swift and Kotlin.
    """
    from classifold.cli.export_answers import print_exports, print_formats

    config = load_settings(config_path, overrides)
    if is_list:
        print_formats(as_json=as_json)
        return 0
    run_dir = _check_asked(run_dir, formats)
    targets = choose_targets(formats, precision=_choose_precision(is_half=is_half, is_int8=is_int8))
    _check_tfjs_script(tfjs_script, formats)
    check_packages(targets)
    from classifold.exports.export import Wishes, export_model
    from classifold.run_folder import find_run

    wishes = Wishes(
        output=output,
        data_dir=data_dir,
        max_loss=max_loss,
        is_unchecked=is_unchecked,
        tfjs_script=tfjs_script,
    )
    done = export_model(find_run(run_dir, runs_dir=Path(config.RUNS_DIR)), targets, wishes)
    print_exports(done, max_loss=max_loss, as_json=as_json)
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


def _check_tfjs_script(tfjs_script: Path | None, formats: Sequence[str]) -> None:
    if tfjs_script is None:
        return
    if "tfjs" not in formats:
        what = "it is only for --to tfjs"
        raise UsageError(Fault("--tfjs-library", what, "add --to tfjs, or leave it out"))
    if not tfjs_script.is_file():
        hint = "it is dist/tf.min.js of the npm package @tensorflow/tfjs"
        raise UsageError(Fault(str(tfjs_script), "no such file", hint))
