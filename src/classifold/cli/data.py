"""The commands on data alone: check it before it is split, and pack a split into shards."""

from __future__ import annotations

from pathlib import Path

import click

from classifold.asking import asked_for
from classifold.cli.options import (
    check_is_pictures,
    folder_argument,
    json_option,
    list_given_options,
    load_pictures_settings,
    load_settings,
    takes_settings,
)
from classifold.cli.values import WholeNumber


@click.command()
@folder_argument
@json_option
@takes_settings
def check(folder: Path | None, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> int:
    """Check the pictures, and show what split would do.

    Reads FOLDER (default: DATA_LOCAL_DIR), or a listing, named as FOLDER or by DATA_MANIFEST, and writes
    nothing. Shows classes, copies, unreadable and skipped files, and every reason why the data cannot be
    split; if there is one, the exit code is 1. The last line says whether the data is ready, and the command
    that trains on it.
    """
    check_is_pictures(folder, command="classifold check")
    config = load_pictures_settings("classifold check", folder, config_path, overrides)
    from classifold.cli.answers import print_check
    from classifold.dataset.check import check_data

    report = check_data(config)
    context = click.get_current_context()
    with asked_for(folder, options=list_given_options(context, ("as_json",))):
        print_check(report, as_json=as_json)
    return 1 if report.faults else 0


def _parse_share(_context: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int]:
    """Return (2, 5) for "2/5"."""
    if text is None:
        return 1, 1
    number, slash, total = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and total.isascii() and total.isdigit()):
        raise click.BadParameter("expected K/N, for instance 1/4")
    if not 1 <= int(number) <= int(total):
        raise click.BadParameter("expected K from 1 to N")
    return int(number), int(total)


@click.command()
@click.option(
    "--workers",
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that pack side by side; more than one needs Dask.",
)
@click.option(
    "--share",
    metavar="K/N",
    callback=_parse_share,
    help="Pack only part K of N, without the index.",
)
@json_option
@takes_settings
def shards(
    workers: int, share: tuple[int, int], as_json: bool, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """Pack the three sets into plain tar files.

    Reads what split left, files or manifests, and writes shards of SHARD_MB beside it. The bytes are the same
    for any number of workers. Pictures stay in their shards, and only shards that change are written. The
    same command resumes an interrupted run. After --share on each of N machines, the same command without it
    adds the index.
    """
    config = load_settings(config_path, overrides)
    from classifold.aws.s3_reader import S3Reader
    from classifold.cli.answers import print_shards
    from classifold.dataset.split_listing import list_roots
    from classifold.packing.pack import pack_sets

    summary = pack_sets(
        config.split_dir,
        config.shards_dir,
        shard_mb=config.SHARD_MB,
        num_workers=workers,
        share=share,
        reader=S3Reader(config),
        roots=list_roots(config),
        max_pixels=config.MAX_PIXELS,
    )
    if summary is not None:
        print_shards(summary, as_json=as_json)
    elif not as_json:
        click.echo(f"Share {share[0]} of {share[1]} is packed; run without --share once all are")
