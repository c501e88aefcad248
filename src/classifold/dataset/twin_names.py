"""Finds class names that look the same to a person and differ for a computer, and says how they differ."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable

from classifold.counts import choose, count_of

# Invisible letters that Unicode does not class as format characters.
_BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
_VARIATIONS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Joints between letters, or a letter and a digit; not in -1, nor in 1-2, which differs from 12.
_JOINT = "[-_ \u2010-\u2015\u2212]+"
_JOINTS = re.compile(rf"(?<=[^\W_]){_JOINT}(?=[^\W\d_])|(?<=[^\W\d_]){_JOINT}(?=[^\W_])")
# Cyrillic and Greek small letters that look like Latin ones (from Unicode's confusables.txt).
_LOOKALIKES = str.maketrans("аеорсухіјѕԁһԛԝёαινορυ", "aeopcyxijsdhqwëaivopu")

_SHOWN = 10


def _drop_invisible(name: str) -> str:
    visible = (
        char for char in name if unicodedata.category(char) not in ("Cf", "Cc") and char not in _BLANK_LETTERS
    )
    return _VARIATIONS.sub("", "".join(visible))


def _trim_blanks(name: str) -> str:
    """Return the name without blanks at its ends, and with one blank in place of several."""
    return " ".join(name.split())


def _fold_capitals(name: str) -> str:
    """Return the name in lower case; the Turkish i without a dot and the I with one become an i."""
    return name.casefold().replace("i\u0307", "i").replace("\u0131", "i")


# Differences that people overlook, each with the step that removes it. Letters are composed (NFC) and their
# widths and ligatures resolved (NFKC) first, since later steps need plain letters.
_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("how Unicode spells them", lambda name: unicodedata.normalize("NFC", name)),
    ("full-width or other special letters", lambda name: unicodedata.normalize("NFKC", name)),
    ("invisible letters", _drop_invisible),
    ("blanks", _trim_blanks),
    ("hyphens, underscores or blanks", lambda name: _JOINTS.sub("", name)),
    ("dots at the end", lambda name: name.rstrip(".") or name),
    ("capitals", lambda name: unicodedata.normalize("NFC", _fold_capitals(name))),
    ("letters of another alphabet", lambda name: name.translate(_LOOKALIKES)),
)


def find_twins(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return pairs of names that look the same to a person as (name, other name, difference), sorted.

    Of three names that look the same, the first is compared with each of the others.
    """
    readings: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        readings.setdefault(_read(name), []).append(name)
    return [
        (names[0], other, _describe_difference(names[0], other))
        for names in readings.values()
        for other in names[1:]
    ]


def _read(name: str, *, without: Iterable[str] = ()) -> str:
    """Return the name after all steps except some."""
    for title, step in _STEPS:
        if title not in without:
            name = step(name)
    return name


def _describe_difference(one: str, other: str) -> str:
    """Return the fewest steps that make two names equal, such as "capitals and blanks"."""
    titles = [title for title, _ in _STEPS]
    for count in range(1, len(titles)):
        for kept in itertools.combinations(titles, count):
            without = set(titles) - set(kept)
            if _read(one, without=without) == _read(other, without=without):
                return " and ".join(kept)
    return " and ".join(titles)


def show_name(name: str) -> str:
    """Return a name in quotes, with invisible characters as escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if char in _BLANK_LETTERS or _VARIATIONS.match(char) else char
        for char in repr(name)
    )


def describe_twins(names: Iterable[str]) -> list[str]:
    """Return a line for each of the first pairs of class names that look the same to a person."""
    twins = find_twins(names)
    lines = [
        f"classes {show_name(one)} and {show_name(other)} differ only in {how}: are they the same?"
        for one, other, how in twins[:_SHOWN]
    ]
    more = len(twins) - len(lines)
    if not more:
        return lines
    return [*lines, f"{count_of(more, 'more pair')} of class names {choose(more, 'looks', 'look')} the same"]
