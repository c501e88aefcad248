"""Counts in sentences: "1 picture is", "2 pictures are"."""

from __future__ import annotations


def count_of(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as "1 picture", "1,200 pictures", "2 classes".

    Args:
        count: How many there are.
        noun: What one of them is called.
        plural: What several are called, where the rules of English do not give it.
    """
    return f"{count:,} {choose(count, noun, plural or _pluralize(noun))}"


def choose(count: int, one: str, several: str) -> str:
    """Return the word that fits the count, such as a verb: "is" for 1, "are" for any other."""
    return one if count == 1 else several


def write_percent(share: float, *, decimals: int = 0) -> str:
    """Return a share, 0 to 1, as a percentage with a blank before its sign, as the SI has it."""
    return f"{100 * share:.{decimals}f} %"


def _pluralize(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
