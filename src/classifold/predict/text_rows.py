"""Answers as aligned text for a person."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TextIO

from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking, find_reason
from classifold.printable import make_printable
from classifold.trust.answering import Rule

_UNREADABLE = "unreadable"


class TextRows:
    """Lines that are aligned without knowing later ones, since the path comes last."""

    def __init__(self, stream: TextIO, class_names: Sequence[str], rule: Rule) -> None:
        self._stream, self._rule = stream, rule
        self._width = max(_columns(make_printable(name)) for name in class_names)
        # The first column has room for "unknown (NAME?)" where there can be such lines.
        first = self._width if rule == Rule() else self._width + _columns(_mark_unknown(""))
        self._first_width = max(len(_UNREADABLE), first)
        self._width = max(len(_UNREADABLE), self._width)

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        if prediction.probabilities is None:
            self._write_unreadable(prediction)
        else:
            self._write_ranking(prediction, ranking)

    def _write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
        names = [make_printable(name) for name, _ in ranking]
        if prediction.unknown:
            names[0] = _mark_unknown(names[0])
        widths = [self._first_width] + [self._width] * (len(names) - 1)
        cells = [
            f"{_pad(name, width)} {_percent(share)}"
            for name, width, (_, share) in zip(names, widths, ranking, strict=True)
        ]
        reason = f": {_explain_unknown(prediction, self._rule)}" if prediction.unknown else ""
        path = make_printable(prediction.name)
        self._stream.write(f"{'   '.join([*cells, path])}{reason}\n")

    def _write_unreadable(self, prediction: Prediction) -> None:
        label = _pad(_UNREADABLE, self._first_width + 8)
        path = make_printable(prediction.name)
        self._stream.write(f"{label}   {path}: {make_printable(prediction.error)}\n")

    def close(self) -> None:
        """Nothing stands at the end."""


def _mark_unknown(name: str) -> str:
    return f"unknown ({name}?)"


def _explain_unknown(prediction: Prediction, rule: Rule) -> str:
    """Return why a picture is unknown, in a few words."""
    if find_reason(prediction, rule) == "distance":
        return f"unlike the training pictures (distance {prediction.distance:.3g})"
    return f"unsure (below {100 * rule.min_confidence:.4g} %)"


def _percent(share: float) -> str:
    return f"{100 * share:5.1f} %"


def _columns(text: str) -> int:
    """Return the width of `text` in columns: two for wide characters, none for combining ones."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))
