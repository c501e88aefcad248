"""Write the files that follow from the code: the settings file, docs/settings.md and docs/commands.md.

    python docs/refresh.py

A test says when one of them is out of date.
"""

from __future__ import annotations

from pathlib import Path

import click

from classifold import names
from classifold.cli import cli, project_manager, split
from classifold.command_line import CONTEXT
from classifold.config_template import build_config_file, build_settings_page

ROOT = Path(__file__).parents[1]
COMMANDS_HEAD = """# Commands

In the order of the work. A command ends with exit code 0 when it is done, 1 for a mistake in data, run or
machine, 2 for one in settings or usage, 130 after Ctrl-C or SIGTERM.
"""


def build_commands_page() -> str:
    """Return docs/commands.md: what `--help` says, of every command and of the template's two scripts."""
    parts = [COMMANDS_HEAD, _build_section(cli, "classifold")]
    parts += [_build_section(command, f"classifold {name}") for name, command in cli.commands.items()]
    parts.append(_build_section(split, "python data_handler.py"))
    parts.append(_build_section(project_manager, "python project_manager.py"))
    return "".join(parts)


def _build_section(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=80, **CONTEXT)
    return f"\n## {name}\n\n```\n{command.get_help(context).strip()}\n```\n"


def build_files() -> dict[Path, str]:
    """Return the text that each file should have."""
    return {
        ROOT / names.CONFIG_FILE: build_config_file(),
        ROOT / "docs" / "settings.md": build_settings_page(),
        ROOT / "docs" / "commands.md": build_commands_page(),
    }


if __name__ == "__main__":
    for path, text in build_files().items():
        path.write_text(text, encoding="utf-8")
