"""Long lines on a terminal are broken at blanks; what is copied stays in one piece."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from classifold.wrapping import find_width, wrap_line

NOTE = "note: 3 pictures cannot be read and are in no set: rose/x.jpg: it ends in the middle of the picture"


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_line_is_broken_at_blanks_and_continued_with_an_indent(width: int) -> None:
    first, *rest = wrap_line(NOTE, width)
    assert max(map(cell_len, [first, *rest])) < width
    assert all(line.startswith("  ") for line in rest)
    assert " ".join([first, *(line.strip() for line in rest)]) == NOTE


def test_a_line_that_fits_stays_as_it_is() -> None:
    assert wrap_line("Report:     photos-runs/a/report.html ", 60) == [
        "Report:     photos-runs/a/report.html "
    ]
    assert wrap_line("", 60) == [""]
    assert wrap_line("Report:     a/report.html ", 60) == ["Report:     a/report.html "]


def test_a_command_between_backquotes_and_a_long_name_stay_whole_on_a_line_of_their_own() -> None:
    command = "`classifold train photos --resume photos_2026-11-28_10-00-00 --set EPOCHS=3`"
    path = "/data/" + "a" * 70
    lines = wrap_line(f"hint: to resume, run {command}, or look at the pictures in {path} first", 60)
    assert lines == [
        "hint: to resume, run",
        f"  {command},",
        "  or look at the pictures in",
        f"  {path}",
        "  first",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert wrap_line("花花花 花花花", 12) == ["花花花", "  花花花"]


def test_the_width_is_that_of_columns_or_80_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "57")
    assert find_width(io.StringIO()) == 57
    monkeypatch.setenv("COLUMNS", "0")
    assert find_width(io.StringIO()) == 80
