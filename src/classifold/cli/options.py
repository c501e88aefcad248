"""Options shared by several commands, and how the settings are loaded from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import names
from classifold.cli.values import WrongValue

if TYPE_CHECKING:
    from classifold.settings.config import Config


class _PathType(click.Path):
    """A path that must not be empty."""

    # An empty path, as from a shell variable that is not set, would mean the current folder.
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            raise WrongValue(value, "a path")
        return super().convert(value, param, ctx)


class _PlaceType(click.types.StringParamType):
    """A path, an address or another name of a place, as the user wrote it; it must not be empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        if value == "":
            raise WrongValue(value, "a path")
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)
# A path may also be an address, which a Path would change.
PLACE = _PlaceType()
# The parameters of `train` that say how a run begins; a hint that repeats the command sets them itself.
TRAIN_BEGINNINGS = ("resumed", "start")
folder_argument = click.argument("folder", metavar="[FOLDER]", required=False, type=PATH)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the two options that every command has."""
    set_option = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        help="Override a setting of the settings file; may be repeated.",
    )
    config_option = click.option(
        "--config",
        "config_path",
        type=PATH,
        metavar="PATH",
        help=f"The settings file (default: {names.CONFIG_FILE}).",
    )
    return config_option(set_option(command))


def load_settings(
    config_path: Path | None, overrides: tuple[str, ...], *, folder: Path | None = None
) -> Config:
    """Return the settings: those of the settings file if there is one, then FOLDER, then `--set`.

    Args:
        config_path: Value of `--config`; None for the default file, which need not exist.
        overrides: Values of `--set`, each NAME=VALUE.
        folder: Value of FOLDER; None if it is not given.
    """
    from classifold.settings.loader import load_config

    if not _has_settings_file(config_path):
        return check_settings(None, overrides, folder=folder)
    return load_config(config_path, overrides=overrides, folder=folder)


def load_project(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings of a command that works on AWS, where the project must have a name of its own.

    Raises:
        SettingsError: There is no settings file, and `--set` does not name the project. Its default name is
            that of an example, and buckets of this name may belong to anybody.
    """
    from classifold.errors import Fault, SettingsError

    config = load_settings(config_path, overrides)
    if not _has_settings_file(config_path) and "PROJECT_NAME" not in config.model_fields_set:
        what = "the settings file does not exist, so this project has no name on AWS"
        hint = "run the command in the project's folder; `classifold init` makes one"
        raise SettingsError(Fault(names.CONFIG_FILE, what, hint=hint))
    return config


def _has_settings_file(config_path: Path | None) -> bool:
    # A link that leads nowhere, or a folder in its place, is a mistake that load_config reports.
    return config_path is not None or os.path.lexists(names.CONFIG_FILE)


def check_settings(
    config_path: Path | None, overrides: tuple[str, ...], *, folder: Path | None = None
) -> Config:
    """Return the settings for a command that reads a settings file only if `--config` names one."""
    from classifold.settings.loader import load_config, override_config

    if config_path is not None:
        return load_config(config_path, overrides=overrides, folder=folder)
    return override_config(overrides, folder=folder)


def load_pictures_settings(
    command: str, folder: Path | None, config_path: Path | None, overrides: tuple[str, ...]
) -> Config:
    """Return the settings of a command that works on pictures, which FOLDER or a setting must name.

    Args:
        command: The command, for the message.
        folder: Value of FOLDER; None if it is not given.
        config_path: Value of `--config`; None for the default file.
        overrides: Values of `--set`, each NAME=VALUE.

    Raises:
        UsageError: There is no settings file, nothing else names the pictures, and the default folder is not
            there.
    """
    from classifold.errors import Fault, UsageError

    config = load_settings(config_path, overrides, folder=folder)
    named = {"DATA_LOCAL_DIR", "DATA_MANIFEST", "SPLIT_LOCAL_DIR"} & config.model_fields_set
    is_named = _has_settings_file(config_path) or named
    if not is_named and not Path(config.DATA_LOCAL_DIR).exists() and not config.split_dir.exists():
        hint = f"for instance: {command} my/pictures; it holds one sub-folder of pictures per class"
        raise UsageError(Fault(command, "no folder of pictures is named", hint=hint))
    return config


def chosen_max_pixels(config: Config) -> int | None:
    """Return MAX_PIXELS if the user set it, else None.

    With None the run's own MAX_PIXELS applies, but never more than the default.
    """
    return config.MAX_PIXELS if "MAX_PIXELS" in config.model_fields_set else None


def check_is_pictures(folder: Path | None, *, command: str) -> None:
    """Refuse a split or its shards where the pictures themselves are wanted.

    Args:
        folder: Value of FOLDER; None if it is not given.
        command: The command, for the message.

    Raises:
        UsageError: `classifold split` or `classifold shards` made the folder.
    """
    from classifold.errors import Fault, UsageError
    from classifold.settings.folder import is_made_by_split

    if folder is not None and is_made_by_split(folder):
        what = "expected a folder of pictures, got a split of one, or its shards"
        hint = f"name the folder of its pictures; to train on it as it is: classifold train {folder}"
        raise UsageError(Fault(f"{command} {folder}", what, hint=hint))


def list_given_options(context: click.Context, without: Collection[str]) -> list[str]:
    """Return the options of a command line as words, for a hint that repeats it.

    Args:
        context: The command's context.
        without: Names of parameters that are left out.
    """
    words = []
    for param in context.command.params:
        value = context.params.get(str(param.name))
        if not isinstance(param, click.Option) or param.name in without or value in (None, False, ()):
            continue
        if value is True:
            words.append(param.opts[0])
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [param.opts[0], f"{one:g}" if isinstance(one, float) else str(one)]
    return words


def check_train_options(*, in_docker: bool, resumed: str | None) -> None:
    """Refuse options of `train` that exclude each other.

    Args:
        in_docker: Whether `--docker` is given.
        resumed: Value of `--resume`; None if it is not given.

    Raises:
        UsageError: `--resume` is given together with `--docker`.
    """
    from classifold.errors import Fault, UsageError

    if resumed is not None and in_docker:
        hint = "--from starts a run in Docker from an earlier one's weights"
        what = "--resume works for runs without --docker only"
        raise UsageError(Fault("classifold train", what, hint=hint))


def choose_beginning(
    load: Callable[[tuple[str, ...]], Config],
    overrides: tuple[str, ...],
    *,
    resumed: str | None,
    start: str | None,
) -> tuple[Config, str | None]:
    """Return the settings of `train`, and the name of the run that it resumes; None for a new run.

    Args:
        load: Returns the settings for some values of `--set`.
        overrides: Values of `--set`, each NAME=VALUE.
        resumed: Value of `--resume`: a run's name, empty for the newest run, None if it is not given.
        start: Value of `--from`: a run's name or folder; None if it is not given.

    Raises:
        RunError: There is no such run.
    """
    from classifold.training.unfinished import find_start, find_unfinished

    config = load(overrides)
    runs_dir = Path(config.RUNS_DIR)
    if start is not None:
        weights = json.dumps(find_start(runs_dir, start), ensure_ascii=False)
        config = load((*overrides, f"BACKBONE_WEIGHTS={weights}"))
    return config, None if resumed is None else find_unfinished(runs_dir, resumed)
