"""The commands, in the order of the work: each reads the settings, calls one function, prints its answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import __version__, names
from classifold.command_line import OrderedGroup, run
from classifold.errors import ClassifoldError, Fault

if TYPE_CHECKING:
    from classifold.config import Config

_PATH = click.Path(path_type=Path)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def _takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the two options that every command has."""
    set_option = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting, before the settings file's; may be repeated.",
    )
    config_option = click.option(
        "--config",
        "config_path",
        type=_PATH,
        metavar="PATH",
        help=f"The settings file (default: {names.CONFIG_FILE}).",
    )
    return config_option(set_option(command))


def _load_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    from classifold.config import load_config

    return load_config(config_path, overrides=overrides)


def _check_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that works without a settings file, and so reads none unasked."""
    from classifold.config import load_config, override_config

    return load_config(config_path, overrides=overrides) if config_path else override_config(overrides)


@click.group(cls=OrderedGroup, invoke_without_command=True)
@click.version_option(__version__, message="classifold %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Make an image classifier from a folder of pictures, one sub-folder a class."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("target_dir", metavar="DIR", type=_PATH)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Another number, other pictures.",
)
@click.option("--pictures-per-class", type=click.IntRange(min=1), default=100, show_default=True, metavar="N")
@_takes_settings
def example(
    target_dir: Path, seed: int, pictures_per_class: int, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """Draw pictures of five kinds of flowers into DIR, as an example.

    DIR must not exist yet, or be empty. The same seed draws the same files, byte for byte.
    """
    _check_settings(config_path, overrides)
    from classifold.dataset.example import draw_example

    count = draw_example(target_dir, seed=seed, pictures_per_class=pictures_per_class)
    click.echo(f"{count} pictures of flowers are in {target_dir}")


@cli.command()
@_json_option
@_takes_settings
def split(as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Divide the pictures into training, validation, evaluation.

    Reads DATA_LOCAL_DIR, one sub-folder a class, and leaves three folders in SPLIT_LOCAL_DIR. Which set a
    picture belongs to follows from its content, so splitting again never moves one into training.
    """
    config = _load_settings(config_path, overrides)
    from classifold.answers import print_split
    from classifold.dataset.split import split_dataset

    print_split(split_dataset(config), as_json=as_json)


@cli.command()
@click.option("--archive", is_flag=True, help=f"Pack the run folder into {names.MODEL_ARCHIVE} as well.")
@_json_option
@_takes_settings
def train(archive: bool, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Train, evaluate and export: a run folder with everything.

    Reads the three sets that split made and leaves the model in every format, its scores and its report
    in RUNS_DIR. Ctrl-C keeps what was reached.
    """
    config = _load_settings(config_path, overrides)
    from classifold.answers import print_run
    from classifold.report.page import write_report
    from classifold.training.run import train_model

    print_run(train_model(config, archive=archive, add_report=write_report), as_json=as_json)


@cli.command()
@click.argument("run_dir", metavar="RUN", type=_PATH)
@click.option(
    "--data", "data_dir", metavar="DIR", type=_PATH, help="The evaluation pictures, where they have moved."
)
@_json_option
@_takes_settings
def report(
    run_dir: Path, data_dir: Path | None, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """Write a run's report anew: one page that opens offline.

    RUN is a run folder that train left.
    """
    _check_settings(config_path, overrides)
    from classifold.report.page import write_report

    page = write_report(run_dir, data_dir=data_dir)
    click.echo(json.dumps({"report": str(page)}) if as_json else page)


@cli.command()
@click.argument("run_dir", metavar="RUN", type=_PATH)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    metavar="K",
    help="Names a picture, the most likely first (default: TOP_K).",
)
@click.option(
    "--output", "output_path", metavar="FILE", type=_PATH, help="Write into FILE, whole or not at all."
)
@_takes_settings
def predict(
    run_dir: Path,
    paths: tuple[Path, ...],
    output_format: Any,
    top_k: int | None,
    output_path: Path | None,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Name pictures with the model of a run.

    RUN is a run folder or a model.onnx, PATH... are pictures and folders of pictures. Where a picture
    cannot be read, the others are named all the same, and the exit code is 1.
    """
    config = _check_settings(config_path, overrides)
    from classifold.answers import open_answer
    from classifold.serving.output import write_predictions
    from classifold.serving.predictor import load_predictor

    predictor = load_predictor(run_dir)
    workers = None if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
    predictions = predictor.predict_paths(paths, batch_size=config.BATCH_SIZE, num_workers=workers)
    with open_answer(output_path) as stream:
        unreadable = write_predictions(
            predictions,
            output_format=output_format,
            top_k=top_k or config.TOP_K,
            class_names=predictor.class_names,
            stream=stream,
        )
    return 1 if unreadable else 0


@click.command()
@click.option("--init_s3_buckets", is_flag=True, help="Make the buckets and upload the pictures.")
@click.option("--build_and_push_docker_image", is_flag=True, help="Build the training image and push it.")
@click.option("--launch_training", is_flag=True, help="Start the training job.")
@_takes_settings
def project_manager(
    init_s3_buckets: bool,
    build_and_push_docker_image: bool,
    launch_training: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Train on SageMaker, a step a flag.

    Flags that are given together run in the order below.
    """
    steps = {
        "--init_s3_buckets": init_s3_buckets,
        "--build_and_push_docker_image": build_and_push_docker_image,
        "--launch_training": launch_training,
    }
    if not any(steps.values()):
        click.echo(click.get_current_context().get_help())
        return
    _check_settings(config_path, overrides)
    what, hint = "the way to AWS is not there yet", "train on this machine: classifold train"
    raise ClassifoldError(*(Fault(step, what, hint=hint) for step, wanted in steps.items() if wanted))


def main() -> int:
    """Run `classifold` with the command line's arguments and return the exit code."""
    return run(cli, name="classifold")


def run_data_handler() -> int:
    """Run `python data_handler.py`, which is `classifold split`, and return the exit code."""
    return run(split, name="data_handler.py")


def run_project_manager() -> int:
    """Run `python project_manager.py` and return the exit code."""
    return run(project_manager, name="project_manager.py")


if __name__ == "__main__":
    sys.exit(main())
