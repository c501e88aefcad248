"""Makes the settings file of a new project and docs/settings.md from Config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic.fields import FieldInfo

from classifold.settings.config import RECIPES, Config, Group, find_group
from classifold.settings.words import describe_field

_LINE_LENGTH = 110
_FILE_HEAD = '''"""The settings of this project{example}: edit what is yours.

A setting that is left out keeps its default; those behind a # follow from RECIPE unless you set them.
{page} says which values each one accepts.
On the command line --set NAME=VALUE overrides this file. A constant of your own begins with _.
"""
'''
_PAGE_HEAD = """# Settings

Settings are constants in `container/modeling/config.py`; one that is left out keeps its default.
`--set NAME=VALUE` on any command overrides the file. All errors are reported together, with what was
expected.

Lists and dicts on the command line are written as in Python or JSON: `--set 'HEAD_LAYERS=[256, 64]'`.
"""


def build_config_file() -> str:
    """Return the settings file of the checkout: every setting at its default, in groups, with its remark."""
    return _format_file(
        {}, _FILE_HEAD.format(example=", with flowers as the example", page="docs/settings.md")
    )


def build_new_config_file(values: Mapping[str, object]) -> str:
    """Return the settings file of a new project: as that of the checkout, with some settings at other values.

    Args:
        values: Valid values by the setting's name; the others keep their defaults.
    """
    return _format_file(values, _FILE_HEAD.format(example="", page="Classifold's docs/settings.md"))


def _format_file(values: Mapping[str, object], head: str) -> str:
    parts = [head]
    for title, group in _iter_groups():
        parts.append(f"\n# {title}\n")
        parts += [_format_constant(name, field, values) for name, field in group]
    return "".join(parts)


def build_settings_page() -> str:
    """Return docs/settings.md: one table per group with name, default, values and meaning of each setting."""
    parts = [_PAGE_HEAD]
    for title, group in _iter_groups():
        parts.append(f"\n## {title}\n\n| setting | default | takes | what it is |\n|---|---|---|---|\n")
        for name, field in group:
            default = (
                json.dumps(field.default) if isinstance(field.default, str | dict) else repr(field.default)
            )
            cells = (f"`{name}`", f"`{default}`", describe_field(field), field.description or "")
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return "".join(parts)


def _iter_groups() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """Yield each group's title with its settings, both in the order of Config."""
    for group in Group:
        fields = Config.model_fields.items()
        yield group.value, [(name, field) for name, field in fields if find_group(field) is group]


def _format_constant(name: str, field: FieldInfo, values: Mapping[str, object]) -> str:
    """Return the line `NAME = value  # remark`, with the remark above where the line would be too long."""
    # Settings that a recipe may change are commented out, else the file would override the recipe.
    by_recipe = name not in values and any(name in recipe for recipe in RECIPES.values())
    line = f"{'# ' if by_recipe else ''}{name} = {_format_value(values.get(name, field.default))}"
    remark = f"# {field.description}"
    if "\n" in line or len(line) + 2 + len(remark) > _LINE_LENGTH:
        return f"{remark}\n{line}\n"
    return f"{line}  {remark}\n"


def _format_value(value: object) -> str:
    """Return the value as a person writes it: double quotes, 10_000, a dict on several lines."""
    if isinstance(value, dict):
        rows = "".join(f"    {_format_value(key)}: {_format_value(item)},\n" for key, item in value.items())
        return f"{{\n{rows}}}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:_}"
    return repr(value)
