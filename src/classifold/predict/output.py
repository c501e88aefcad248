"""Writes predictions in the format that was asked for, as they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TextIO

from classifold.predict.answer_formats import Rows, TextFormat
from classifold.predict.csv_rows import CsvRows
from classifold.predict.json_rows import JsonLinesRows, JsonRows
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import rank_classes
from classifold.predict.text_rows import TextRows
from classifold.predict.written import Written
from classifold.progress import Advance, counting, is_terminal, show_progress
from classifold.trust.answering import Rule


def write_predictions(
    predictions: Iterable[Prediction],
    *,
    output_format: TextFormat,
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
    - `jsonl`: the same objects, one per line, each sent off at once; half a file can be read.

    Confidences are probabilities 0..1 with six significant digits; so is the distance, which is empty or null
    if the model measures none. An unknown picture's classes are the model's guess. Bytes of a path that are
    not UTF-8 are written as `\xNN`. In `text`, in `json` and `jsonl`, and in `csv` on a terminal, characters
    that cannot be printed are written as escapes; in `csv` elsewhere names are exact. A command that prints
    these should end with exit code 1 if some were unreadable.

    Args:
        predictions: The predictions, as `Predictor.predict_paths` yields them.
        output_format: `text`, `csv`, `json` or `jsonl`.
        top_k: Number of classes per picture, from 1; at most all classes are written.
        class_names: Names of the classes, in the order of the probabilities.
        stream: A text stream that accepts all of Unicode.
        rule: What decided which pictures are unknown, for the reasons in `text`; None: none is.
        doing: What is done with the pictures meanwhile, for the progress.
    """
    rows = build_rows(
        output_format, stream, class_names=class_names, top_k=min(top_k, len(class_names)), rule=rule
    )
    shown = None if is_terminal(stream) else doing
    written = write_rows(predictions, rows, class_names=class_names, top_k=top_k, doing=shown)
    stream.flush()
    return written


def write_rows(
    predictions: Iterable[Prediction],
    rows: Rows,
    *,
    class_names: Sequence[str],
    top_k: int,
    doing: str | None = None,
) -> Written:
    """Write predictions as they arrive, end what `rows` writes to, and return how many there were.

    Args:
        predictions: As `Predictor.predict_paths` yields them.
        rows: What writes one answer.
        class_names: Names of the classes, in the order of the probabilities.
        top_k: Number of classes per picture, from 1; at most all classes are written.
        doing: What is done with the pictures, for the progress; None to show none, as on a terminal that
            shows the answers as they come.
    """
    written = Written()
    with show_progress(doing, None) if doing else contextlib.nullcontext(Advance()) as advance:
        for prediction in counting(predictions, advance):
            written.add(prediction)
            rows.write(prediction, rank_classes(prediction, class_names, top_k=top_k))
        rows.close()
    return written


def build_rows(
    output_format: TextFormat,
    stream: TextIO,
    *,
    class_names: Sequence[str],
    top_k: int,
    rule: Rule | None = None,
) -> Rows:
    """Return what writes one answer after another to a stream of text; arguments as `write_predictions`."""
    if output_format == "text":
        return TextRows(stream, class_names, rule or Rule())
    if output_format == "csv":
        return CsvRows(stream, top_k)
    return JsonRows(stream) if output_format == "json" else JsonLinesRows(stream)
