"""A run's tables: as a DataFrame where pandas is installed, else as a structured array of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifold import names
from classifold.report.records import (
    HISTORY_COLUMNS,
    PREDICTION_COLUMNS,
    iter_rows,
    parse_figure,
    parse_row,
    parse_truth,
)


def read_predictions(run_dir: Path) -> Any:
    """Return predictions.csv: one row for each evaluation picture.

    Raises:
        RunError: The file is missing or damaged.
    """
    return _read_table(run_dir / names.PREDICTIONS_CSV, PREDICTION_COLUMNS)


def read_history(run_dir: Path) -> Any:
    """Return history.csv: one row for each epoch.

    Raises:
        RunError: The file is missing or damaged.
    """
    return _read_table(run_dir / names.HISTORY_CSV, HISTORY_COLUMNS)


_TEXTS = ("path", "true_class", "predicted_class", "stage")


def _parse_number(cell: str) -> float:
    """Return the cell's number; nan for an empty cell."""
    number = parse_figure(cell)
    return math.nan if number is None else number


def _choose_parser(column: str) -> Callable[[str], Any]:
    if column in _TEXTS:
        return str
    if column in ("correct", "best", "unknown"):
        return parse_truth
    return int if column == "epoch" else _parse_number


def _read_table(path: Path, columns: Sequence[str]) -> Any:
    values: dict[str, list[Any]] = {}

    def add(row: dict[str, str]) -> None:
        for name, cell in row.items():
            values.setdefault(name, []).append(_choose_parser(name)(cell))

    for line, row in iter_rows(path, columns):
        parse_row(row, add, where=f"{path}, line {line}")
    return _build_table(values or {name: [] for name in columns})


def _build_table(columns: Mapping[str, Sequence[Any]]) -> Any:
    try:
        import pandas
    except ImportError:
        return _build_array(columns)
    return pandas.DataFrame(dict(columns))


def _build_array(columns: Mapping[str, Sequence[Any]]) -> Any:
    """Return a structured array with one field for each column."""
    import numpy as np

    arrays = {name: np.array(values) for name, values in columns.items()}
    table = np.empty(
        len(next(iter(arrays.values()))), dtype=[(name, one.dtype) for name, one in arrays.items()]
    )
    for name, one in arrays.items():
        table[name] = one
    return table
