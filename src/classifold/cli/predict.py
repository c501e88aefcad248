"""`classifold predict`: its options, and how they reach the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold.cli.options import PATH, chosen_max_pixels, load_settings, takes_settings
from classifold.cli.values import OneOf, Share, WholeNumber

if TYPE_CHECKING:
    from classifold.predict.output import OutputFormat


@click.command()
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option(
    "--format",
    "output_format",
    type=OneOf(["text", "csv", "json"]),
    help="Format of the answers (default: that of FILE's ending .csv or .json, else text).",
)
@click.option(
    "--top-k",
    type=WholeNumber(min=1),
    metavar="K",
    help="Classes shown per picture, the most likely first (default: TOP_K).",
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
    help="Say unknown where the most likely class has less than this probability, such as 0.8 or 80%.",
)
@click.option(
    "--error",
    "max_error",
    type=Share(is_open=True),
    metavar="E",
    help="Answer only so often that at most this share of the answers is wrong, such as 0.01 or 1%; it "
    "holds for new pictures of the same kind as the validation pictures.",
)
@click.option("--always-answer", is_flag=True, help="Answer every picture, whatever it shows.")
@takes_settings
def predict(
    run_dir: Path,
    paths: tuple[Path, ...],
    output_format: OutputFormat | None,
    top_k: int | None,
    output_path: Path | None,
    threshold: float | None,
    max_error: float | None,
    always_answer: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Classify pictures with the model of a run.

    RUN is a run folder or a model.onnx, PATH... are pictures and folders of pictures. If a picture
    cannot be read, the others are still classified, and the exit code is 1. A picture with more pixels
    than the run's MAX_PIXELS is not read; set MAX_PIXELS to read it. With --output, the numbers of pictures
    that were classified, that are unknown and that could not be read are printed on standard error.

    A picture is unknown if it is unlike the training pictures, or if the model is too unsure; the class
    is then only its best guess. The model's own rule decides, or one of --threshold, --error and
    --always-answer. The first two keep the limit of the distance from the training pictures.
    """
    config = load_settings(config_path, overrides)
    wishes = {"--threshold": threshold, "--error": max_error, "--always-answer": always_answer}
    from classifold.cli.answers import open_answer, print_written
    from classifold.predict.output import choose_format, write_predictions
    from classifold.predict.predictor import load_predictor
    from classifold.trust.answering import check_one_wish

    check_one_wish("classifold predict", wishes)
    predictor = load_predictor(
        run_dir,
        max_pixels=chosen_max_pixels(config),
        threshold=threshold,
        max_error=max_error,
        always=always_answer,
    )
    workers = None if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
    predictions = predictor.predict_paths(paths, batch_size=config.batch_size, num_workers=workers)
    chosen = choose_format(output_format, output_path)
    with open_answer(output_path) as stream:
        written = write_predictions(
            predictions,
            output_format=chosen,
            top_k=top_k or config.TOP_K,
            class_names=predictor.class_names,
            stream=stream,
            rule=predictor.rule,
        )
    if output_path is not None:
        print_written(written, output_path, output_format=chosen)
    return 1 if written.unreadable else 0
