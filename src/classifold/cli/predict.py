"""`classifold predict`: its options, and how they reach the model."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.options import PATH, PLACE, chosen_max_pixels, load_settings, takes_settings
from classifold.cli.values import Number, OneOf, Share, WholeNumber
from classifold.errors import Fault, UsageError
from classifold.progress import is_terminal, say

if TYPE_CHECKING:
    from classifold.predict.answer_formats import OutputFormat


@click.command()
@click.argument("run", metavar="RUN", type=PLACE)
@click.argument("given", metavar="PATH...", nargs=-1, type=PLACE)
@click.option(
    "--every",
    type=Number(min=0, min_open=True),
    default=1.0,
    metavar="SECONDS",
    help="Time between two frames of a video (default: 1).",
)
@click.option(
    "--format",
    "output_format",
    type=OneOf(["text", "csv", "json", "jsonl", "parquet"]),
    help="Format of the answers (default: that of FILE's ending .csv, .json, .jsonl, .ndjson or .parquet, "
    "else text).",
)
@click.option(
    "--top-k",
    type=WholeNumber(min=1),
    metavar="K",
    help="Classes shown per picture, the most probable first (default: TOP_K).",
)
@click.option(
    "--output",
    "output_path",
    metavar="FILE",
    type=PATH,
    help="Write to FILE, which appears only once it is complete.",
)
@click.option(
    "--threshold",
    type=Share(),
    metavar="P",
    help="Minimum confidence: say unknown if the most probable class has a lower probability, such as 0.8 or "
    "80%.",
)
@click.option(
    "--error",
    "max_error",
    type=Share(is_open=True),
    metavar="E",
    help="Say unknown often enough that, on average, at most this share of the answers is wrong, such as "
    "0.01 or 1%. Assumes that new pictures come from the same source as the evaluation pictures.",
)
@click.option(
    "--explain",
    "explain_dir",
    metavar="DIR",
    type=PATH,
    help="Write a heat map of each picture, and its nearest training pictures, into DIR.",
)
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    type=PATH,
    help="With --explain: where the training pictures are now.",
)
@click.option(
    "--sort-into",
    "sort_dir",
    metavar="DIR",
    type=PATH,
    help="Copy each picture into the folder of its class in DIR, an unknown one into _unsure. Nothing in DIR "
    "is overwritten or removed.",
)
@click.option(
    "--link",
    "is_linking",
    is_flag=True,
    help="With --sort-into: link instead of copying. Symbolic links where DIR is on another disk.",
)
@click.option(
    "--watch",
    "watch_dir",
    metavar="DIR",
    type=PATH,
    help="Answer for the pictures in DIR and for those that arrive there, until Ctrl-C. With --output, the "
    "answers are appended to FILE, as csv or jsonl.",
)
@click.option("--new-only", is_flag=True, help="With --watch: only for those that arrive.")
@click.option("--always-answer", is_flag=True, help="Answer every picture, whatever it shows.")
@takes_settings
def predict(
    run: str,
    given: tuple[str, ...],
    every: float,
    output_format: OutputFormat | None,
    top_k: int | None,
    output_path: Path | None,
    threshold: float | None,
    max_error: float | None,
    explain_dir: Path | None,
    data_dir: Path | None,
    sort_dir: Path | None,
    is_linking: bool,
    watch_dir: Path | None,
    new_only: bool,
    always_answer: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Classify pictures with the model of a run.

    RUN is a run folder, the name of a run in RUNS_DIR, a model.onnx, or a model.tar.gz, also in S3. PATH...
    are files, folders, patterns such as 'photos/**/*.jpg', http, https and s3 addresses, videos, and - for
    standard input: names of pictures, one a line or each before a NUL character, or one picture.

    If a picture cannot be read, the others are still classified, and the exit code is 1. A picture
    with more pixels than the run's MAX_PIXELS is not read; set MAX_PIXELS to read it. With --output, the
    numbers of pictures that were classified, that are unknown and that could not be read are printed on
    standard error.

    A picture is unknown if it is unlike the training pictures, or if the model is too unsure; the class
    is then only its best guess. The rule stored in the model decides; --threshold, --error or
    --always-answer replaces it. With --threshold and --error, pictures too far from the training pictures
    stay unknown.

    --explain shows why: which places of a picture speak for its class, how faithful that heat map is, and
    its nearest training pictures, with index.html and explain.json. DIR must be new or empty, or be of
    an earlier --explain, which is replaced. It takes about two seconds of a core per picture.

    --sort-into copies the pictures, with their times, into one folder per class; unreadable ones stay where
    they are. A picture that is already there is left; where another one has its name, the copy gets a name of
    its own. After an interruption, run the command again.

    --watch answers for a picture once it is complete, and again if it changes. It lists DIR about every
    second, so it works on network disks too. Pictures that FILE has answers of are left out, unless they
    changed since. A --sort-into folder inside DIR is not watched. Ctrl-C or SIGTERM ends it with exit code 0.

    Exit codes: 0, every picture was answered, as unknown or not; 1, some could not be read or
    sorted, or the command could not start or go on, for instance because the run or something that PATH
    names is missing; 2, a mistake in the command line or the settings.
    """
    config = load_settings(config_path, overrides)
    options = {"--threshold": threshold, "--error": max_error, "--always-answer": always_answer}
    from classifold.cli.answers import print_notes, print_written
    from classifold.cli.predict_outputs import Sorting
    from classifold.cli.s3_places import LazyS3
    from classifold.cli.watching import Watching, check_watch
    from classifold.predict.answer_files import check_format, open_rows
    from classifold.predict.answer_formats import choose_format
    from classifold.predict.archives import open_run
    from classifold.predict.explanation import open_explaining
    from classifold.predict.explanation_target import INDEX_HTML
    from classifold.predict.inputs import Inputs, list_local
    from classifold.predict.output import write_rows
    from classifold.predict.output_check import check_answers_file
    from classifold.predict.predictor import load_predictor
    from classifold.trust.answering import check_one_option

    check_one_option("classifold predict", options)
    if data_dir is not None and explain_dir is None:
        raise UsageError(Fault("--data", "it is only for --explain", "add --explain DIR, or leave it out"))
    sorting = Sorting(sort_dir, is_linking=is_linking)
    sorting.check(pictures=[Path(one) for one in given if os.path.lexists(one)], explain_dir=explain_dir)
    chosen = choose_format(output_format, output_path)
    check_format(chosen, output_path)
    check_watch(watch_dir, paths=given, is_new_only=new_only, explain_dir=explain_dir)
    watching = None
    if watch_dir is not None:
        watching = Watching(watch_dir, new_only, output_path, chosen, top_k or config.TOP_K, sorting)
        watching.check()
    # After what can be refused without it, since a model may have to come from S3 first.
    s3 = LazyS3(config)
    run_dir = open_run(run, runs_dir=Path(config.RUNS_DIR), open_s3=s3.open)
    if output_path is not None:
        read = list_local(given) if watch_dir is None else [watch_dir]
        check_answers_file(output_path, run=run_dir, pictures=read, explain_dir=explain_dir)
    predictor = load_predictor(
        run_dir,
        max_pixels=chosen_max_pixels(config),
        threshold=threshold,
        max_error=max_error,
        always=always_answer,
    )
    inputs = Inputs(every=every, max_pixels=predictor.max_pixels, open_s3=s3.open, left_out=sort_dir)
    workers = None if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
    if watching is not None:
        watching.run(predictor, batch_size=config.batch_size, num_workers=workers)
        return 0
    answers: dict[str, Any] = {"class_names": predictor.class_names, "top_k": top_k or config.TOP_K}
    doing = "explaining" if explain_dir else "classifying"
    with contextlib.ExitStack() as stack:
        then = sorting.open(stack, predictor)
        if explain_dir is None:
            predictions = predictor.predict_paths(
                given, inputs=inputs, batch_size=config.batch_size, num_workers=workers, then=then
            )
        else:
            explaining = stack.enter_context(
                open_explaining(explain_dir, predictor, run_dir=run_dir, paths=given, data_dir=data_dir)
            )
            predictions = explaining.predict_paths(given, inputs=inputs, num_workers=workers, then=then)
            print_notes(explaining.notes)
        rows = stack.enter_context(
            open_rows(output_path, output_format=chosen, rule=predictor.rule, **answers)
        )
        is_shown = output_path is None and is_terminal(sys.stdout)
        written = write_rows(predictions, rows, doing=None if is_shown else doing, **answers)
    for line in inputs.passed.describe():
        say(line)
    if explain_dir is not None:
        say(f"the explanations are in {explain_dir / INDEX_HTML}")
    print_written(written, output_path, output_format=chosen)
    return 0 if sorting.describe() and not written.unreadable else 1
