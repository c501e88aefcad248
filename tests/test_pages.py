"""Templates of pages: what a page holds cannot break it."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from classifold.pages import open_templates


def test_texts_are_escaped_and_control_characters_made_visible() -> None:
    templates = open_templates("classifold.report")
    assert templates.from_string("{{ text }}").render(text="<b>\x1b") == "&lt;b&gt;\\x1b"


def test_a_name_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        open_templates("classifold.report").from_string("{{ text }}").render()


def test_of_templates_with_the_same_name_the_first_packages_is_taken() -> None:
    first, second = (open_templates(name) for name in ("classifold.predict", "classifold.report"))
    both = open_templates("classifold.predict", "classifold.report")
    assert both.get_template("explain.html.j2").filename == first.get_template("explain.html.j2").filename
    assert both.get_template("report.html.j2").filename == second.get_template("report.html.j2").filename
