"""The formats in which `predict` writes its answers, and which of them a file gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, get_args

from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking

TextFormat = Literal["text", "csv", "json", "jsonl"]
OutputFormat = TextFormat | Literal["parquet"]
TEXT_FORMATS: tuple[TextFormat, ...] = get_args(TextFormat)
OUTPUT_FORMATS: tuple[OutputFormat, ...] = (*TEXT_FORMATS, "parquet")

_ENDINGS: Mapping[str, OutputFormat] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


class Rows(Protocol):
    """What writes the answers in one format."""

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer.

        Args:
            prediction: Of one picture.
            ranking: Its classes, the most probable first; [] for an unreadable picture.
        """

    def close(self) -> None:
        """Write what stands at the end."""


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
