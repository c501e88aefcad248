"""The command that begins a project: `classifold init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold import names
from classifold.cli.options import PATH, check_settings, json_option, takes_settings

if TYPE_CHECKING:
    from classifold.init.new_project import NewProject


@click.command()
@click.argument("folder", metavar="[FOLDER]", type=PATH, default=".")
@click.option(
    "--data",
    "data_dir",
    type=PATH,
    metavar="DIR",
    help="The folder of pictures, one sub-folder per class; it may lie anywhere.",
)
@click.option(
    "--name", default="", metavar="NAME", help="The project's name (default: from the name of FOLDER)."
)
@click.option("--keep", "is_kept", is_flag=True, help="Leave existing files as they are, not refuse them.")
@json_option
@takes_settings
def init(
    folder: Path,
    data_dir: Path | None,
    name: str,
    is_kept: bool,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Make the folder of a new project.

    Writes settings file, scripts, job template, README and .gitignore into FOLDER, by default the current
    one: all of them or none. An existing file is never replaced. Settings given with --config and --set go
    into the new settings file.
    """
    settings = check_settings(config_path, overrides)
    from classifold.cli.answers import show
    from classifold.init.new_project import make_project
    from classifold.printable import format_json

    made = make_project(folder, name=name, data_dir=data_dir, settings=settings, is_kept=is_kept)
    if as_json:
        answer = {
            "project": str(made.folder),
            "name": made.config.PROJECT_NAME,
            "data": made.config.DATA_LOCAL_DIR,
            "written": list(made.written),
            "kept": list(made.kept),
        }
        click.echo(format_json(answer))
        return
    for word, files in (("wrote", made.written), ("kept", made.kept)):
        for one in files:
            show(f"{word} {made.folder / one}")
    show(f"The project {made.config.PROJECT_NAME} is in {made.folder}; its settings: {names.CONFIG_FILE}")
    _show_next(made)


def _show_next(made: NewProject) -> None:
    from classifold.cli.answers import show

    there = f"cd {shlex.quote(str(made.folder))} && " if made.folder.resolve() != Path.cwd() else ""
    data = made.config.DATA_LOCAL_DIR
    if made.config.DATA_MANIFEST or (made.folder / data).is_dir():
        show(f"Next: {there}classifold check")
    else:
        show(f"There is no {data} yet: put your pictures there, one sub-folder per class, or draw some:")
        show(f"{there}classifold example {shlex.quote(data)}")
