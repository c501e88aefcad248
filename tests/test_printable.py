"""Names cannot steer a terminal, and what is escaped still says the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.printable import format_json, make_lines_printable, make_printable

TEXTS = st.text(st.characters(), max_size=30)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("a\rb\tc\x7f", "a\\rb\\tc\\x7f"),
        ("\x9b2J", "\\x9b2J"),
        ("gpj.\u202etac", "gpj.\\u202etac"),
        ("\u2066x\u2069\u200b", "\\u2066x\\u2069\\u200b"),
        ("a\u2028b\x85c", "a\\u2028b\\x85c"),
        ("\udcff", "\\udcff"),
        ("Blüte 花 T-shirt/top", "Blüte 花 T-shirt/top"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_as_an_escape(name: str, shown: str) -> None:
    assert make_printable(name) == shown


@given(TEXTS)
def test_a_line_stays_one_line_and_is_escaped_once(text: str) -> None:
    line = make_printable(text)
    assert line.isprintable()
    assert make_printable(line) == line
    assert len(line.splitlines()) <= 1


def test_the_lines_of_a_longer_text_stay_apart() -> None:
    assert make_lines_printable("a\tb\n\x1bc\n") == "a       b\n\\x1bc\n"


@given(st.dictionaries(TEXTS, st.lists(TEXTS, max_size=3), max_size=3))
def test_json_says_the_same_and_holds_nothing_that_steers(answer: dict[str, list[str]]) -> None:
    text = format_json(answer, indent=2)
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == answer
    text.encode("utf-8")
