"""Answers as a Parquet file for a data frame or a database, with pyarrow from the extra `parquet`."""

from __future__ import annotations

import contextlib
from typing import Any, BinaryIO, Final

from classifold.errors import Fault, MissingExtraError
from classifold.names import install
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking

# One row group is held in memory: at most this many class entries, and at most this many rows.
_GROUP_CLASSES: Final = 65_536
_MOST_ROWS: Final = 8_192


def check_parquet() -> None:
    """Refuse to write Parquet where pyarrow is missing; worth asking before the work.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - asked only whether it can be imported
    except ImportError as error:
        what = "writing a Parquet file needs pyarrow, which is not installed"
        hint = f"install it with `{install('parquet')}`, or choose --format csv or jsonl"
        raise MissingExtraError(Fault("pyarrow", what, hint=hint)) from error


class ParquetRows:
    """Rows of a Parquet file, written in groups, so that memory does not grow with their number.

    Confidences and the distance are float32, as the model computed them. `classes` is a list of
    (`class_name`, `confidence`), the best first. What there is not is null.

    Args:
        file: A file open for writing; it is complete after `close`, which leaves it open.
        top_k: Number of classes per picture.
    """

    def __init__(self, file: BinaryIO, top_k: int) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        name, share = pa.string(), pa.float32()
        self._schema = pa.schema(
            [
                pa.field("path", name, nullable=False),
                pa.field("predicted_class", name),
                pa.field("confidence", share),
                pa.field("classes", pa.list_(pa.struct({"class_name": name, "confidence": share}))),
                pa.field("error", name),
                pa.field("unknown", pa.bool_()),
                pa.field("distance", share),
            ]
        )
        self._table: Any = pa.Table
        self._writer = ParquetWriter(file, self._schema, compression="zstd")
        self._limit = max(1, min(_MOST_ROWS, _GROUP_CLASSES // top_k))
        self._rows: list[dict[str, object]] = []

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        best, confidence = ranking[0] if ranking else (None, None)
        self._rows.append(
            {
                "path": prediction.name,
                "predicted_class": best,
                "confidence": confidence,
                "classes": [{"class_name": name, "confidence": share} for name, share in ranking],
                "error": None if ranking else prediction.error,
                "unknown": prediction.unknown if ranking else None,
                "distance": prediction.distance,
            }
        )
        if len(self._rows) >= self._limit:
            self._write_group()

    def close(self) -> None:
        """Write the rest and the file's end, without which it cannot be read."""
        self._write_group()
        self._writer.close()

    def release(self) -> None:
        """Let go of the file, also after an error; else pyarrow would write to it once more, and complain."""
        with contextlib.suppress(Exception):
            self._writer.close()
        self._writer.is_open = False

    def _write_group(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()
