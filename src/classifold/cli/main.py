"""The commands in the order of use: each reads the settings, calls one function and prints the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold import __version__, names
from classifold.asking import asked_for
from classifold.cli.batch import batch
from classifold.cli.check import check
from classifold.cli.cloud import (
    destroy,
    fetch,
    follow,
    image,
    jobs,
    launch,
    make_image,
    send_data,
    setup,
    start_job,
    stop,
    train_in_docker,
    upload,
)
from classifold.cli.compare import compare
from classifold.cli.data import shards
from classifold.cli.deploy import deploy, endpoints, undeploy
from classifold.cli.export import export
from classifold.cli.new_project import init
from classifold.cli.options import (
    PATH,
    TRAIN_BEGINNINGS,
    check_is_pictures,
    check_settings,
    check_train_options,
    choose_beginning,
    chosen_max_pixels,
    folder_argument,
    json_option,
    list_given_options,
    load_pictures_settings,
    load_project,
    load_settings,
    takes_settings,
)
from classifold.cli.predict import predict
from classifold.cli.runner import OrderedGroup, run
from classifold.cli.serve import serve
from classifold.cli.values import Number, WholeNumber

if TYPE_CHECKING:
    from classifold.settings.config import Config


@click.group(cls=OrderedGroup, invoke_without_command=True)
@click.version_option(__version__, message="classifold %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Make an image classifier from a folder of pictures, one sub-folder per class."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@click.command()
@click.argument("target_dir", metavar="DIR", type=PATH)
@click.option(
    "--seed",
    type=WholeNumber(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the drawings; the same seed draws the same pictures.",
)
@click.option(
    "--pictures-per-class",
    type=WholeNumber(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Number of pictures drawn for each class.",
)
@takes_settings
def example(
    target_dir: Path, seed: int, pictures_per_class: int, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """Draw pictures of five kinds of flowers into DIR, as an example.

    DIR must not exist yet, or be empty. The same seed draws the same files, byte for byte.
    """
    check_settings(config_path, overrides)
    from classifold.cli.answers import show
    from classifold.example.make import draw_example

    count = draw_example(target_dir, seed=seed, pictures_per_class=pictures_per_class)
    show(f"{count} pictures of flowers are in {target_dir}")


@click.command()
@folder_argument
@json_option
@takes_settings
def split(folder: Path | None, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Divide the pictures into training, validation and evaluation.

    Reads FOLDER (default: DATA_LOCAL_DIR), one sub-folder per class, and writes the three sets beside it, or
    to SPLIT_LOCAL_DIR. The set of a picture follows from its content, so splitting again never moves one from
    validation or evaluation into training. A listing, named as FOLDER or by DATA_MANIFEST, is divided in the
    same way, into one manifest per set; no picture is copied.
    """
    check_is_pictures(folder, command="classifold split")
    config = load_pictures_settings("classifold split", folder, config_path, overrides)
    from classifold.cli.answers import print_split
    from classifold.dataset.split import split_dataset

    print_split(split_dataset(config), as_json=as_json)


@click.command()
@folder_argument
@click.option("--open", "is_opened", is_flag=True, help="Open the report in the browser at the end.")
@click.option("--archive", is_flag=True, help=f"Pack the run folder into {names.MODEL_ARCHIVE} as well.")
@click.option("--docker", "in_docker", is_flag=True, help="Train in the image that SageMaker would run.")
@click.option(
    "--resume",
    "resumed",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Resume an interrupted run, bit for bit; without RUN, the newest one.",
)
@click.option(
    "--from",
    "start",
    metavar="RUN",
    help="Start from the weights of an earlier or interrupted run; its classes may differ.",
)
@click.option(
    "--time-limit",
    type=Number(min=0, min_open=True),
    metavar="MINUTES",
    help="Finish the model within this time; pictures and epochs are planned for it.",
)
@click.option(
    "--hosts",
    "num_hosts",
    type=WholeNumber(1, 64),
    metavar="N",
    help="Train as on N machines: with N processes here, or with --docker in N containers.",
)
@json_option
@takes_settings
def train(
    folder: Path | None,
    is_opened: bool,
    archive: bool,
    in_docker: bool,
    num_hosts: int | None,
    resumed: str | None,
    start: str | None,
    time_limit: float | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Train, evaluate, export: from pictures to a run folder.

    FOLDER holds one sub-folder of pictures per class, or three sets made before; it may also be a listing.
    The pictures are checked and divided into three sets beside it, unless that is done already. Without
    FOLDER, the settings name the pictures. Writes the model in every format, its scores and its report to
    RUNS_DIR.

    Ctrl-C saves the state of training, and --resume continues from there with the same settings. After a
    crash or a power cut, --resume continues from the last checkpoint.
    """
    check_train_options(in_docker=in_docker, resumed=resumed)
    context = click.get_current_context()
    context.with_resource(
        asked_for(folder, options=list_given_options(context, TRAIN_BEGINNINGS), start=start)
    )
    if time_limit is not None:
        overrides = (*overrides, f"TIME_LIMIT={time_limit:g}")

    def load(given: tuple[str, ...]) -> Config:
        return load_pictures_settings("classifold train", folder, config_path, given)

    config, name = choose_beginning(load, overrides, resumed=resumed, start=start)
    from classifold.api.prepare import prepare_sets
    from classifold.cli.answers import print_run
    from classifold.dataset.ready import load_split_notes

    if not in_docker and num_hosts in (None, 1):
        from classifold.training.backend import check_engine, choose_backend

        check_engine(choose_backend(config))  # before the pictures are divided, which may take long
    split_dir = config.split_dir  # of a listing, training reads shards in another folder
    config = prepare_sets(config, folder=folder, is_resumed=resumed is not None)
    if in_docker:
        train_in_docker(
            config, is_archived=archive, is_opened=is_opened, as_json=as_json, num_hosts=num_hosts or 1
        )
        return
    if num_hosts is not None and num_hosts > 1:
        from classifold.training.host_processes import train_on_hosts

        print_run(
            train_on_hosts(config, num_hosts, archive=archive, name=name),
            split_notes=load_split_notes(split_dir),
            is_opened=is_opened,
            as_json=as_json,
        )
        return
    from classifold.datacheck.quick import tell_quick_check, with_findings
    from classifold.report.page import write_report_of_training
    from classifold.training.run import train_model

    add_report = with_findings(tell_quick_check(config), write_report_of_training)
    summary = train_model(config, archive=archive, add_report=add_report, name=name, is_resumable=True)
    if summary is not None:
        print_run(summary, split_notes=load_split_notes(split_dir), is_opened=is_opened, as_json=as_json)


@click.command()
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.option(
    "--data", "data_dir", metavar="DIR", type=PATH, help="The folder where the evaluation pictures are now."
)
@json_option
@takes_settings
def report(
    run_dir: Path, data_dir: Path | None, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """Write a run's report again: one page that opens offline.

    RUN is a run folder that train wrote, or the name of one in RUNS_DIR. Pictures come from the folder that
    it was trained on, or from this project's, if that holds exactly the sets of the run; --data names another
    folder. Pictures that are not found are taken from the report that is there already; a note says how many
    are missing, and why.
    """
    config = load_settings(config_path, overrides)
    from classifold.cli.answers import print_report
    from classifold.report.page import write_report
    from classifold.run_folder import find_run

    notes: list[str] = []
    page = write_report(
        find_run(run_dir, runs_dir=Path(config.RUNS_DIR)),
        data_dir=data_dir,
        home_dir=config.split_dir,
        max_pixels=chosen_max_pixels(config),
        tell=notes.append,
    )
    print_report(page, notes=notes, as_json=as_json)


@click.command()
@click.option("--init_s3_buckets", is_flag=True, help="Make the buckets and upload the pictures.")
@click.option("--build_and_push_docker_image", is_flag=True, help="Build the training image and push it.")
@click.option("--launch_training", is_flag=True, help="Start the training job.")
@takes_settings
def project_manager(
    init_s3_buckets: bool,
    build_and_push_docker_image: bool,
    launch_training: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Train on SageMaker, one flag per step.

    Several flags together run in the order below.
    """
    if not (init_s3_buckets or build_and_push_docker_image or launch_training):
        click.echo(click.get_current_context().get_help())
        return
    config = load_project(config_path, overrides)
    if init_s3_buckets:
        send_data(config)
    if build_and_push_docker_image:
        make_image(config)
    if launch_training:
        start_job(config)


for _command in (
    *(init, example, check, split, shards, train),
    *(setup, upload, image, launch, jobs, follow, stop, fetch),
    *(report, compare, predict, serve, export, deploy, batch, endpoints, undeploy, destroy),
):
    cli.add_command(_command)


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
