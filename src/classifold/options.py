"""The options that several commands have, and the settings that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import names

if TYPE_CHECKING:
    from classifold.config import Config

PATH = click.Path(path_type=Path)
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
    from classifold.config import load_config

    return load_config(config_path, overrides=overrides)


def check_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that works without a settings file, and so reads none unasked."""
    from classifold.config import load_config, override_config

    return load_config(config_path, overrides=overrides) if config_path else override_config(overrides)


def find_settings(config_path: Path | None, overrides: tuple[str, ...]) -> Config:
    """Return the settings for a command that uses a settings file where there is one."""
    from classifold.config import DEFAULT_CONFIG_PATH

    there = DEFAULT_CONFIG_PATH.is_file()
    return (load_settings if there else check_settings)(config_path, overrides)
