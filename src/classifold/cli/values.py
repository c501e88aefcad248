"""The values that options take: as click's own types, whose refusals keep the value and what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click


class WrongValue(click.BadParameter):
    """An option does not take this value.

    Attributes:
        value: As the user wrote it.
        expected: What the option takes, as in "a whole number".
        choices: All values that it takes, where they can be listed.
    """

    def __init__(self, value: object, expected: str, *, choices: Sequence[str] = ()) -> None:
        super().__init__(f"expected {expected}")
        self.value, self.expected, self.choices = str(value), expected, choices


class WholeNumber(click.IntRange):
    """A whole number, in a range where one is given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number.

        Raises:
            WrongValue: It is no whole number, or out of range.
        """
        try:
            int(value)
        except ValueError:
            raise WrongValue(value, "a whole number") from None
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise WrongValue(value, f"a number in the range {_describe_range(self)}") from None


class Number(click.FloatRange):
    """A number, in a range where one is given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number.

        Raises:
            WrongValue: It is no number, or out of range.
        """
        try:
            float(value)
        except ValueError:
            raise WrongValue(value, "a number") from None
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            raise WrongValue(value, f"a number in the range {_describe_range(self)}") from None


class Share(click.FloatRange):
    """A share of a whole: a number from 0 to 1, or in percent such as "1%"; `is_open` refuses 0 and 1."""

    def __init__(self, *, is_open: bool = False) -> None:
        super().__init__(0, 1, min_open=is_open, max_open=is_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share, 0..1.

        Raises:
            WrongValue: It is no number, or out of range; where it was meant in percent, this is offered.
        """
        share = _parse_share(value)
        try:
            if not math.isnan(share):
                return super().convert(share, param, ctx)
        except click.BadParameter:
            pass
        expected = "a share between 0 and 1" if self.min_open else "a share from 0 to 1"
        in_percent = f"{value}%"
        choices = [in_percent] if 0 < _parse_share(in_percent) < 1 else []
        raise WrongValue(value, f"{expected}, such as 0.02 or 2%", choices=choices)


def _parse_share(value: Any) -> float:
    """Return the share that a text says, or a number not in percent; NaN if it says none."""
    text = str(value).strip()
    number = text.removesuffix("%")
    try:
        # Adding 0 turns -0 into 0.
        return (float(number) / 100 if number != text else float(number)) + 0.0
    except ValueError:
        return math.nan


class OneOf(click.Choice[str]):
    """One of some words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word.

        Raises:
            WrongValue: It is none of them.
        """
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = [str(one) for one in self.choices]
            raise WrongValue(value, f"one of {', '.join(map(repr, words))}", choices=words) from None


def _describe_range(kind: click.IntRange | click.FloatRange) -> str:
    """Return a range as the help shows it: `x>0` or `1<=x<=64`."""
    low = "" if kind.min is None else f"{kind.min}{'<' if kind.min_open else '<='}"
    high = "" if kind.max is None else f"{'<' if kind.max_open else '<='}{kind.max}"
    if high or kind.min is None:
        return f"{low}x{high}"
    return f"x{'>' if kind.min_open else '>='}{kind.min}"
