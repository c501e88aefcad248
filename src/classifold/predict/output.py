"""Prints predictions: aligned text for a person, CSV for a spreadsheet, JSON for a script."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TextIO, get_args

import numpy as np
from numpy.typing import NDArray

from classifold.counts import choose, count_of
from classifold.predict.predictor import Prediction
from classifold.printable import format_json, make_printable
from classifold.progress import Advance, counting, is_terminal, show_progress
from classifold.trust.answering import Rule

OutputFormat = Literal["text", "csv", "json"]
OUTPUT_FORMATS: tuple[str, ...] = get_args(OutputFormat)

_UNREADABLE = "unreadable"
_EXAMPLES = 3
_ENDINGS: Mapping[str, OutputFormat] = {".csv": "csv", ".json": "json"}
Ranking = list[tuple[str, float]]


@dataclass
class Written:
    """What was written.

    Attributes:
        classified: Number of pictures that were classified.
        unknown: Number of these that are unknown.
        unreadable: Number of pictures that could not be read.
        examples: The first of these, each as name and reason.
    """

    classified: int = 0
    unknown: int = 0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)

    def add_unreadable(self, prediction: Prediction) -> None:
        """Count a picture that could not be read."""
        self.unreadable += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{prediction.name}: {prediction.error}")

    def describe(self, path: Path) -> list[str]:
        """Return lines that say what is in the file that was written.

        Args:
            path: The file.
        """
        unknown = f", {self.unknown:,} of them as unknown" if self.unknown else ""
        lines = [
            f"{count_of(self.classified, 'picture')} {choose(self.classified, 'was', 'were')} classified"
            f"{unknown}; the answers are in {path}"
        ]
        if self.unreadable:
            more = self.unreadable - len(self.examples)
            examples = "; ".join([*self.examples, *([f"and {more:,} more"] if more else [])])
            lines.append(f"{count_of(self.unreadable, 'picture')} could not be read: {examples}")
        return lines


def choose_format(given: OutputFormat | None, path: Path | None) -> OutputFormat:
    """Return the format that was asked for; without one, that of the file's ending, else text.

    Args:
        given: The format that the user named; None for none.
        path: The file to write; None for standard output.
    """
    return given or _ENDINGS.get("" if path is None else path.suffix.lower(), "text")


def describe_contradiction(chosen: OutputFormat, path: Path | None) -> str:
    """Return a note if a file's ending promises another format than it gets, else an empty text."""
    promised = None if path is None else _ENDINGS.get(path.suffix.lower())
    if promised in (None, chosen):
        return ""
    return f"{path} gets the format {chosen!r}, as --format says, although its ending is that of {promised!r}"


def write_predictions(
    predictions: Iterable[Prediction],
    *,
    output_format: OutputFormat,
    top_k: int,
    class_names: Sequence[str],
    stream: TextIO,
    rule: Rule | None = None,
    doing: str = "classifying",
) -> Written:
    r"""Write predictions to `stream` as they arrive, and return how many there were.

    - `text`: one line per picture: names and probabilities in percent, the best first, then the file. For an
      unknown picture, `unknown` with the best name in brackets stands first, and the reason last.
    - `csv`: a header and one row per picture: `path,predicted_class,confidence`, then
      `class_2,confidence_2` up to `class_K,confidence_K`, then `error,unknown,distance`. `unknown` is `true`
      or `false`. An unreadable picture's row has only `path` and `error`.
    - `json`: one array with one object per line: `path`, `predicted_class`, `confidence`, `classes` (a list
      of `class_name` and `confidence`, the best first), `error`, `unknown` and `distance`. For an unreadable
      picture `classes` is [], `error` the reason and the others null; else `error` is null. An array without
      its `]` was interrupted.

    Confidences are probabilities 0..1 with six significant digits; so is the distance, which is empty or null
    if the model measures none. An unknown picture's classes are the model's guess. Bytes of a path that are
    not UTF-8 are written as `\xNN`. In `text`, in `json`, and in `csv` on a terminal, characters that cannot
    be printed are written as escapes; in `csv` elsewhere names are exact. A command that prints these should
    end with exit code 1 if some were unreadable.

    Args:
        predictions: The predictions, as `Predictor.predict_paths` yields them.
        output_format: `text`, `csv` or `json`.
        top_k: Number of classes per picture, from 1; at most all classes are written.
        class_names: Names of the classes, in the order of the probabilities.
        stream: A text stream that accepts all of Unicode.
        rule: What decided which pictures are unknown, for the reasons in `text`; None: none is.
        doing: What is done with the pictures meanwhile, for the progress.
    """
    rows = _open_rows(
        output_format,
        stream,
        class_names=class_names,
        top_k=min(top_k, len(class_names)),
        rule=rule or Rule(),
    )
    written = Written()
    with _showing(stream, doing) as advance:
        for prediction in counting(predictions, advance):
            if prediction.probabilities is None:
                written.add_unreadable(prediction)
                rows.write_unreadable(prediction)
            else:
                written.classified += 1
                written.unknown += prediction.unknown
                rows.write_ranking(prediction, rank_classes(prediction, class_names, top_k=top_k))
        rows.close()
    stream.flush()
    return written


def _showing(stream: TextIO, doing: str) -> contextlib.AbstractContextManager[Advance]:
    """Show how many pictures are classified, unless the answers themselves are shown as they come."""
    if is_terminal(stream):
        return contextlib.nullcontext(Advance())
    return show_progress(doing, None)


def rank_classes(prediction: Prediction, class_names: Sequence[str], *, top_k: int) -> Ranking:
    """Return the `top_k` names with their probabilities, the largest first; equal ones in class order."""
    if prediction.probabilities is None:
        return []
    return rank_probabilities(prediction.probabilities, class_names, top_k=top_k)


def rank_probabilities(
    probabilities: NDArray[np.float32], class_names: Sequence[str], *, top_k: int
) -> Ranking:
    """Return the `top_k` names with their probabilities, the largest first; equal ones in class order.

    Args:
        probabilities: Of one picture, shape (C,), in the order of `class_names`.
        class_names: Names of the classes.
        top_k: Number of classes, from 1; at most all are returned.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(class_names[index], float(probabilities[index])) for index in order]


class _Rows(Protocol):
    """The interface of an output format."""

    def write_ranking(self, prediction: Prediction, ranking: Ranking) -> None: ...

    def write_unreadable(self, prediction: Prediction) -> None: ...

    def close(self) -> None: ...


class _TextRows:
    """Lines that are aligned without knowing later ones, since the path comes last."""

    def __init__(self, stream: TextIO, class_names: Sequence[str], rule: Rule) -> None:
        self._stream, self._rule = stream, rule
        self._width = max(_columns(make_printable(name)) for name in class_names)
        # The first column has room for "unknown (NAME?)" where there can be such lines.
        first = self._width if rule == Rule() else self._width + _columns(_mark_unknown(""))
        self._first_width = max(len(_UNREADABLE), first)
        self._width = max(len(_UNREADABLE), self._width)

    def write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
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

    def write_unreadable(self, prediction: Prediction) -> None:
        label = _pad(_UNREADABLE, self._first_width + 8)
        path = make_printable(prediction.name)
        self._stream.write(f"{label}   {path}: {make_printable(prediction.error)}\n")

    def close(self) -> None:
        pass


class _CsvRows:
    """Rows of a CSV file, all with the same number of cells; names are exact, except on a terminal."""

    def __init__(self, stream: TextIO, top_k: int) -> None:
        self._stream = stream
        self._top_k = top_k
        self._is_shown = stream.isatty()
        others = [name for rank in range(2, top_k + 1) for name in (f"class_{rank}", f"confidence_{rank}")]
        self._write(["path", "predicted_class", "confidence", *others, "error", "unknown", "distance"])

    def write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
        cells = [cell for name, share in ranking for cell in (name, f"{share:.6g}")]
        distance = _round(prediction.distance)
        ends = ["", str(prediction.unknown).lower(), "" if distance is None else f"{distance:.6g}"]
        self._write([prediction.name, *cells, *ends])

    def write_unreadable(self, prediction: Prediction) -> None:
        self._write([prediction.name, *[""] * (2 * self._top_k), prediction.error, *[""] * 2])

    def _write(self, cells: Sequence[str]) -> None:
        # The writer quotes a carriage return only if its line end contains one; ours is a line feed.
        line = io.StringIO(newline="")
        shown = map(make_printable, cells) if self._is_shown else cells
        csv.writer(line, lineterminator="\r\n").writerow(shown)
        self._stream.write(line.getvalue().removesuffix("\r\n") + "\n")

    def close(self) -> None:
        pass


class _JsonRows:
    """A JSON array that is written object by object."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
        classes = [{"class_name": name, "confidence": float(f"{share:.6g}")} for name, share in ranking]
        self._write(prediction, classes, None, unknown=prediction.unknown)

    def write_unreadable(self, prediction: Prediction) -> None:
        self._write(prediction, [], prediction.error, unknown=None)

    def _write(
        self,
        prediction: Prediction,
        classes: Sequence[Mapping[str, object]],
        error: str | None,
        *,
        unknown: bool | None,
    ) -> None:
        best: Mapping[str, object] = classes[0] if classes else {}
        row = {
            "path": prediction.name,
            "predicted_class": best.get("class_name"),
            "confidence": best.get("confidence"),
            "classes": list(classes),
            "error": error,
            "unknown": unknown,
            "distance": _round(prediction.distance),
        }
        self._stream.write(self._before + format_json(row))
        self._before = ",\n"

    def close(self) -> None:
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


def _open_rows(
    output_format: OutputFormat, stream: TextIO, *, class_names: Sequence[str], top_k: int, rule: Rule
) -> _Rows:
    if output_format == "text":
        return _TextRows(stream, class_names, rule)
    if output_format == "csv":
        return _CsvRows(stream, top_k)
    return _JsonRows(stream)


def _round(distance: float | None) -> float | None:
    """Return a distance with six significant digits; None for none, and where it is not a number."""
    return None if distance is None or not math.isfinite(distance) else float(f"{distance:.6g}")


def _mark_unknown(name: str) -> str:
    return f"unknown ({name}?)"


def find_reason(prediction: Prediction, rule: Rule) -> Literal["distance", "confidence"]:
    """Return what a picture is unknown for: its distance from the training pictures, or its confidence.

    Args:
        prediction: Of a picture that is unknown.
        rule: By which it is.
    """
    distance, limit = prediction.distance, rule.max_distance
    is_far = distance is not None and limit is not None and not distance <= limit
    return "distance" if is_far else "confidence"


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
