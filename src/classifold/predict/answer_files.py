"""Where answers go: standard output, or a file that appears under its name once it is complete."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from classifold.atomic import write_whole
from classifold.errors import Fault, UsageError
from classifold.predict.answer_formats import OutputFormat, Rows
from classifold.predict.output import build_rows
from classifold.predict.parquet_rows import ParquetRows, check_parquet
from classifold.trust.answering import Rule


def check_format(chosen: OutputFormat, path: Path | None) -> None:
    """Refuse a format that cannot be written; worth asking before the work.

    Args:
        chosen: The format.
        path: The file to write; None for standard output.

    Raises:
        MissingExtraError: Parquet is asked for, and pyarrow is not installed.
        UsageError: Parquet is asked for on standard output.
    """
    if chosen != "parquet":
        return
    if path is None:
        what = "a Parquet file can only be read when it is complete, so it is not written to standard output"
        raise UsageError(Fault("--format parquet", what, "add --output FILE, or choose csv or jsonl"))
    check_parquet()


@contextlib.contextmanager
def open_rows(
    path: Path | None,
    *,
    output_format: OutputFormat,
    class_names: Sequence[str],
    top_k: int,
    rule: Rule | None = None,
) -> Iterator[Rows]:
    """Yield what writes answers to standard output, or to a file that appears when it is complete.

    Args:
        path: The file to create or replace; None for standard output.
        output_format: The format.
        class_names: Names of the classes, in the order of the probabilities.
        top_k: Number of classes per picture, from 1; at most all classes are written.
        rule: What decided which pictures are unknown, for the reasons in `text`.

    Raises:
        DiskError: The file cannot be written.
    """
    top_k = min(top_k, len(class_names))
    if path is None:
        if output_format == "parquet":
            raise ValueError("check_format refuses Parquet on standard output")
        yield build_rows(output_format, sys.stdout, class_names=class_names, top_k=top_k, rule=rule)
        sys.stdout.flush()
        return
    with write_whole(path) as partial:
        if output_format == "parquet":
            with partial.open("wb") as file:
                table = ParquetRows(file, top_k)
                try:
                    yield table
                finally:
                    table.release()
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                yield build_rows(output_format, stream, class_names=class_names, top_k=top_k, rule=rule)
