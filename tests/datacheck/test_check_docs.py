"""docs/check.md names the columns, the kinds and every field of check.json as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from classifold import findings
from classifold.datacheck.baseline import KINDS
from classifold.datacheck.plan import COLUMNS, SURE
from classifold.datacheck.thumbnails import MAX_BYTES, MAX_NUMBER

PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
# The section of check.json that describes each type.
SECTIONS = {
    "The whole": findings.Findings,
    "groups": findings.Group,
    "labels": findings.LabelSuspect,
    "neighbours of a label": findings.Neighbour,
    "estimate, and the accuracies of effect": findings.Interval,
    "overlaps": findings.Overlap,
    "shortcuts": findings.Shortcut,
    "pictures": findings.PictureFinding,
    "costs": findings.KindCost,
    "sets": findings.SetFindings,
    "drift of the sets": findings.Drift,
    "effect": findings.Effect,
}


def first_cells(title: str) -> list[str]:
    """Return the first column of the table below a heading."""
    section = re.split(r"^##+ ", PAGE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("title", SECTIONS)
def test_the_documented_fields_are_those_of_the_code(title: str) -> None:
    assert first_cells(title) == list(SECTIONS[title].model_fields)


def test_every_type_of_check_json_is_documented() -> None:
    types = {
        value
        for value in vars(findings).values()
        if isinstance(value, type)
        and issubclass(value, findings.Findings.__base__)
        and value.__name__[0] != "_"
    }
    assert types - {findings.BaseModel} == set(SECTIONS.values())


def test_the_documented_columns_and_kinds_are_those_of_the_code() -> None:
    assert tuple(first_cells("The plan")) == COLUMNS
    assert tuple(first_cells("In continuous integration")) == KINDS


def test_the_documented_numbers_are_those_of_the_code() -> None:
    assert f"at most {MAX_NUMBER:,} thumbnails and {MAX_BYTES // 10**6} MB" in PAGE
    assert f"a certainty of at least {SURE}" in PAGE
