"""The options that several commands have, and the settings that they lead to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import names
from classifold.cli.values import WrongValue

if TYPE_CHECKING:
    from classifold.settings.config import Config


class _PathType(click.Path):
    """A path that is not empty: an empty one, as of a variable that is not set, would be the folder here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            raise WrongValue(value, "a path")
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def takes_settings(command: Callable[..., Any]) -> Callable[..., Any]:
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
        type=PATH,
        metavar="PATH",
        help=f"The settings file (default: {names.CONFIG_FILE}).",
    )
    return config_option(set_option(command))


def load_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings: those of the file, with what `--set` says before it."""
    from classifold.settings.loader import load_config

    return load_config(config_path, overrides=overrides)


def check_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that works without a settings file, and so reads none unasked."""
    from classifold.settings.loader import load_config, override_config

    return load_config(config_path, overrides=overrides) if config_path else override_config(overrides)


def find_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that uses a settings file where there is one."""
    from classifold.settings.loader import DEFAULT_CONFIG_PATH

    there = DEFAULT_CONFIG_PATH.is_file()
    return (load_settings if there else check_settings)(config_path, overrides)


def chosen_max_pixels(config: Config) -> int | None:
    """Return MAX_PIXELS where somebody set it, and None where it has its default.

    A run says itself how large its pictures may be, but no more than the default without being asked.
    """
    return config.MAX_PIXELS if "MAX_PIXELS" in config.model_fields_set else None


def choose_beginning(
    config_path: Path | None,
    overrides: tuple[str, ...],
    *,
    in_docker: bool,
    resumed: str | None,
    start: str | None,
) -> tuple[Config, str | None]:
    """Return the settings of `train`, and the name of the run that it goes on with; None for a new one.

    Args:
        config_path: The settings file.
        overrides: What `--set` says.
        in_docker: Whether `--docker` is given.
        resumed: What `--resume` names, empty where it stands alone; None where it is not given.
        start: What `--from` names.

    Raises:
        UsageError: If `--resume` stands with `--docker`.
        RunError: If there is no such run.
    """
    from classifold.errors import Fault, UsageError
    from classifold.training.unfinished import find_start, find_unfinished

    if resumed is not None and in_docker:
        hint = "--from starts a run in Docker from an earlier one's weights"
        what = "--resume goes on with runs of this machine itself, not with those of --docker"
        raise UsageError(Fault("classifold train", what, hint=hint))
    config = load_settings(config_path, overrides)
    runs_dir = Path(config.RUNS_DIR)
    if start is not None:
        weights = json.dumps(find_start(runs_dir, start), ensure_ascii=False)
        config = load_settings(config_path, (*overrides, f"BACKBONE_WEIGHTS={weights}"))
    return config, None if resumed is None else find_unfinished(runs_dir, resumed)
