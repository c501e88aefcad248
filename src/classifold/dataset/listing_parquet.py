"""Reads listings in Parquet files with pyarrow, or pandas, if it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from classifold.dataset.listing_columns import Entries, fold_name
from classifold.errors import DataError, Fault, MissingExtraError

_BATCH = 4096


def iter_parquet(path: Path) -> Entries:
    """Yield the number and the values of each row by folded column name; with pyarrow memory stays flat.

    Raises:
        DataError: The file is damaged, or holds the pictures themselves.
        MissingExtraError: Neither pyarrow nor pandas with fastparquet is installed.
    """
    number = 0
    for batch in _iter_batches(path):
        for values in batch:
            number += 1
            if any(
                (isinstance(value, dict) and "bytes" in value) or isinstance(value, bytes)
                for value in values.values()
            ):
                what = "the Parquet file holds the pictures themselves, and only listings of files are read"
                hint = "write the pictures into one folder per class, and name the folder above"
                raise DataError(Fault(str(path), what, hint=hint))
            yield number, {fold_name(str(name)): value for name, value in values.items()}


def _iter_batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        yield from _iter_frames(path)
        return
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield batch.to_pylist()
    except DataError:
        raise
    except Exception as error:  # pyarrow's own errors have no common class below Exception
        raise _damage(path, error) from error


def _iter_frames(path: Path) -> Iterator[list[dict[str, Any]]]:
    try:
        from pandas import read_parquet

        frame = read_parquet(path)
    except ImportError as error:
        what = "reading a Parquet file needs pyarrow, which is not installed"
        hint = "install it with `pip install pyarrow`, or write the listing as CSV"
        raise MissingExtraError(Fault(str(path), what, hint=hint)) from error
    except Exception as error:  # as above
        raise _damage(path, error) from error
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        yield part.astype(object).where(part.notna(), None).to_dict("records")


def _damage(path: Path, error: Exception) -> DataError:
    what = f"the Parquet file cannot be read: {str(error).splitlines()[0] if str(error) else error!r:.200}"
    return DataError(Fault(str(path), what, hint="write the listing again, or write it as CSV"))
