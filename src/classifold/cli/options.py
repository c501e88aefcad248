"""Options shared by several commands, and how the settings are loaded from them."""

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
    """A path that must not be empty."""

    # An empty path, as from a shell variable that is not set, would mean the current folder.
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


def load_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings of the file, overridden by `--set`."""
    from classifold.settings.loader import load_config

    return load_config(config_path, overrides=overrides)


def check_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that reads a settings file only if `--config` names one."""
    from classifold.settings.loader import load_config, override_config

    return load_config(config_path, overrides=overrides) if config_path else override_config(overrides)


def find_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that uses the default settings file if it exists."""
    from classifold.settings.loader import DEFAULT_CONFIG_PATH

    has_file = DEFAULT_CONFIG_PATH.is_file()
    return (load_settings if has_file else check_settings)(config_path, overrides)


def chosen_max_pixels(config: Config) -> int | None:
    """Return MAX_PIXELS if the user set it, else None.

    With None the run's own MAX_PIXELS applies, but never more than the default.
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
    """Return the settings of `train`, and the name of the run that it resumes; None for a new run.

    Args:
        config_path: The settings file; None for the default one.
        overrides: Values of `--set`, each NAME=VALUE.
        in_docker: Whether `--docker` is given.
        resumed: Value of `--resume`: a run's name, empty for the newest run, None if it is not given.
        start: Value of `--from`: a run's name or folder; None if it is not given.

    Raises:
        UsageError: `--resume` is given together with `--docker`.
        RunError: There is no such run.
    """
    from classifold.errors import Fault, UsageError
    from classifold.training.unfinished import find_start, find_unfinished

    if resumed is not None and in_docker:
        hint = "--from starts a run in Docker from an earlier one's weights"
        what = "--resume works for runs without --docker only"
        raise UsageError(Fault("classifold train", what, hint=hint))
    config = load_settings(config_path, overrides)
    runs_dir = Path(config.RUNS_DIR)
    if start is not None:
        weights = json.dumps(find_start(runs_dir, start), ensure_ascii=False)
        config = load_settings(config_path, (*overrides, f"BACKBONE_WEIGHTS={weights}"))
    return config, None if resumed is None else find_unfinished(runs_dir, resumed)
