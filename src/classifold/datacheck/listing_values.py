"""Changes the class in one entry of a listing, in whatever form the entry holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.dataset.listing_columns import fold_name
from classifold.errors import Fault, MissingExtraError


def set_class(
    values: Mapping[str, Any], column: str, name: str, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an entry with another class.

    Args:
        values: The entry by its own column names.
        column: Folded name of the class's column.
        name: The class.
        numbers: Number of each class, for augmented manifests, which hold the number and, in the metadata,
            the name.
    """
    changed = dict(values)
    for key, value in values.items():
        folded = fold_name(key)
        if folded == column:
            changed[key] = _like(value, numbers.get(name, name))
        elif folded == f"{column}_metadata" and isinstance(value, dict) and "class-name" in value:
            changed[key] = {**value, "class-name": name}
    return changed


def _like(value: Any, name: Any) -> Any:
    """Return a class in the form that it had: a number, or a list of one."""
    if isinstance(value, list | tuple):
        return [_like(value[0], name)] if value else [name]
    if type(value) is int and isinstance(name, str) and name.isdecimal():
        return int(name)
    return name


def write_parquet(source: Path, target: Path, changes: Mapping[int, str | None], *, column: str) -> None:
    """Write a Parquet file with rows changed or left out; its columns keep their types.

    Args:
        source: The file to read.
        target: The file to write.
        changes: New class of rows by number, from 1; None leaves the row out.
        column: Folded name of the class's column.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        what = "writing a Parquet file needs pyarrow, which is not installed"
        hint = "install it with `pip install pyarrow`, or write the listing as CSV"
        raise MissingExtraError(Fault(str(source), what, hint=hint)) from error
    table = parquet.read_table(source)
    for place, field in enumerate(table.schema):
        if fold_name(field.name) == column and any(changes.values()):
            values = table.column(place).to_pylist()
            for number, name in changes.items():
                if name is not None:
                    values[number - 1] = _like(values[number - 1], name)
            table = table.set_column(place, field, arrow.array(values, type=field.type))
    keep = [changes.get(number, "") is not None for number in range(1, table.num_rows + 1)]
    parquet.write_table(table.filter(arrow.array(keep, type=arrow.bool_())), target)
