"""The pictures of the README are what a terminal shows: nothing lost, nothing that was drawn over left."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PICTURES = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "pictures.py"))


def show(text: str) -> list[str]:
    """Return what a screen shows after `text`, without colours."""
    screen = PICTURES["Screen"]()
    screen.feed(text)
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.lines()]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("10 %\r\x1b[2K100 %\r\n", ["100 %"]),
        ("bar\r\n\x1b[1A\x1b[2Kdone\r\n", ["done"]),
        ("\x1b[?25lhidden cursor\x1b[?25h\r\n", ["hidden cursor"]),
        ("abcdef\rxy\x1b[K\r\n", ["xy"]),
        ("\x1b]0;title\x07text\r\n", ["text"]),
        ("x" * 95 + "\r\n", ["x" * 90, "x" * 5]),
        ("x" * 90 + "\r\x1b[2Kdone\r\n", ["done"]),
        ("a  \r\n\r\nb\r\n\r\n", ["a", "", "b"]),
    ],
)
def test_a_screen_shows_what_a_terminal_would(written: str, shown: list[str]) -> None:
    assert show(written) == shown


def test_colours_are_kept_and_end_where_they_end() -> None:
    screen = PICTURES["Screen"]()
    screen.feed("\x1b[1mbold\x1b[0m plain")
    assert screen.lines() == ["\x1b[0m\x1b[1mbold\x1b[0m plain"]


def test_a_command_runs_in_a_terminal_of_ninety_columns(tmp_path: Path) -> None:
    code = "import os, sys; print(os.get_terminal_size().columns, sys.stdout.isatty(), 'ä')"
    lines = PICTURES["run_in_terminal"]([sys.executable, "-c", code], folder=tmp_path)
    assert lines == ["90 True ä"]


def test_a_command_that_fails_ends_the_work_with_what_it_said(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "print('so much was said'); raise SystemExit(3)"]
    with pytest.raises(SystemExit, match=r"(?s)exit code 3.*so much was said"):
        PICTURES["run_in_terminal"](words, folder=tmp_path)


def test_of_a_long_answer_both_ends_are_drawn_and_the_gap_is_said() -> None:
    lines = PICTURES["shorten"]([str(number) for number in range(100)], first=16, last=8)
    assert (lines[15], lines[17], lines[-1]) == ("15", "92", "99")
    assert "76 lines are left out here" in lines[16]
    assert PICTURES["shorten"](["1", "2"], first=1, last=0) == ["1", "2"]
    assert PICTURES["shorten"](["1", "2", "3"], first=1, last=0)[0] == "1"
    assert len(PICTURES["shorten"](["1", "2", "3"], first=1, last=0)) == 2


@pytest.fixture
def draw() -> Callable[..., str]:
    function: Any = PICTURES["draw_session"]
    return lambda *parts: function(parts)


def test_a_session_is_drawn_with_the_fonts_of_the_reader_and_asks_nothing_of_a_server(
    draw: Callable[..., str],
) -> None:
    drawn = draw(("classifold check photos/", ["\x1b[1mall\x1b[0m right", "x" * 90]))
    assert "classifold" in drawn
    assert "font-face" not in drawn
    assert re.findall(r"https?://[^\"]+", drawn) == ["http://www.w3.org/2000/svg"]
    assert "<title>" in drawn
