"""Opens the templates of pages: every text in them is escaped, and a name that is missing is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifold.printable import without_control

if TYPE_CHECKING:
    from jinja2 import Environment


def open_templates(*packages: str) -> Environment:
    """Return the templates in the folders `templates` of packages.

    Args:
        packages: Names of the packages; of templates with the same name, the first package's is taken.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in packages]),
        autoescape=True,
        finalize=without_control,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
