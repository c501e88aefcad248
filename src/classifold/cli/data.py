"""The command on data alone that packs a split into shards."""

from __future__ import annotations

from pathlib import Path

import click

from classifold.cli.options import (
    json_option,
    load_settings,
    takes_settings,
)
from classifold.cli.values import WholeNumber


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
