"""The folder that `predict --explain` writes: pictures, index.html in parts of 200 pictures, explain.json."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from classifold.model_card import ModelCard
from classifold.predict.explanation_page import PagePart, build_item, page_name, render_items, render_page
from classifold.predict.explanation_target import (
    EXPLAIN_JSON,
    MARK,
    NEIGHBOURS_DIR,
    PICTURES_DIR,
    open_target,
)
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import find_reason
from classifold.printable import format_json
from classifold.trust.answering import Rule
from classifold.trust.explained import Explained

PER_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """What explains one answer, with the names of its pictures in the folder.

    Attributes:
        file: The overlay; the picture itself where its heat map is not shown.
        size: Width and height of that file in pixels.
        explained: The heat map and the neighbours.
        thumbnails: File of each neighbour; None where the training picture is not on this machine.
    """

    file: str
    size: tuple[int, int]
    explained: Explained
    thumbnails: tuple[str | None, ...]


class ExplanationFiles:
    """A folder under construction. `place` may be called by any thread, `add` by one."""

    def __init__(self, folder: Path, card: ModelCard, rule: Rule, rows: TextIO) -> None:
        self._folder, self._card, self._rule, self._rows = folder, card, rule, rows
        self._num_pictures = self._num_pages = 0
        self._before = "\n"
        self._items: list[str] = []
        self._part = PagePart()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, target: Path, *, paths: Sequence[Path], card: ModelCard, rule: Rule
    ) -> Iterator[ExplanationFiles]:
        """Yield a hidden folder to write to; at the end it is completed and renamed to `target`.

        Args:
            target: A new or empty folder, or one of an earlier call, which is replaced.
            paths: The pictures and folders to explain, in which `target` must not be.
            card: The model card.
            rule: Which pictures are unknown.

        Raises:
            DataError: `target` is something else, or among the pictures.
            DiskError: The folder cannot be written.
        """
        with open_target(target, paths) as partial:
            for name in (PICTURES_DIR, NEIGHBOURS_DIR):
                (partial / name).mkdir()
            with (partial / EXPLAIN_JSON).open("w", encoding="utf-8", newline="\n") as rows:
                files = cls(partial, card, rule, rows)
                rows.write(f'{MARK}, "model": {format_json(card.run)}, "pictures": [')
                yield files
                files.finish()

    def place(self, name: str) -> Path:
        """Return where a file of the folder is written."""
        return self._folder / name

    def add(self, prediction: Prediction, answered: Answered | None) -> None:
        """Write a picture's row into explain.json, and keep its item for the page."""
        self._num_pictures += 1
        row = build_row(prediction, answered, self._card, self._rule)
        self._rows.write(self._before + format_json(row))
        self._before = ",\n"
        self._items.append(render_items([build_item(row)], self._num_pictures))
        self._part.count(row)
        if len(self._items) == PER_PAGE:
            self._keep_part()

    def _keep_part(self) -> None:
        self._num_pages += 1
        part = self._folder / f"{self._num_pages}.part"
        part.write_text("".join(self._items), encoding="utf-8", errors="backslashreplace")
        self._items = []

    def finish(self) -> None:
        """Complete explain.json, and write the pages, whose number is known only now."""
        self._rows.write("\n]}\n")
        if self._items or not self._num_pages:
            self._keep_part()
        for number in range(1, self._num_pages + 1):
            part = self._folder / f"{number}.part"
            text = render_page(
                part.read_text(encoding="utf-8"),
                number,
                self._num_pages,
                per_page=PER_PAGE,
                part=self._part,
                card=self._card,
            )
            (self._folder / page_name(number)).write_text(text, encoding="utf-8", newline="\n")
            part.unlink()


def build_row(
    prediction: Prediction, answered: Answered | None, card: ModelCard, rule: Rule
) -> dict[str, Any]:
    """Return a picture's entry in explain.json."""
    row: dict[str, Any] = {
        "path": prediction.name,
        "predicted_class": None,
        "confidence": None,
        "unknown": None,
        "reason": None,
        "min_confidence": None,
        "distance": None,
        "error": prediction.error or None,
        "file": None,
        "heat_map": None,
        "neighbours": [],
    }
    if answered is None or prediction.probabilities is None:
        return row
    heat_map = answered.explained.heat_map
    faithfulness = heat_map.faithfulness
    figures = ("deletion", "insertion", "random_deletion", "random_insertion")
    return row | {
        "predicted_class": card.class_names[heat_map.class_index],
        "confidence": _round(float(prediction.probabilities[heat_map.class_index])),
        "unknown": prediction.unknown,
        "reason": find_reason(prediction, rule) if prediction.unknown else None,
        "min_confidence": rule.min_confidence,
        "distance": None if prediction.distance is None else _round(prediction.distance),
        "file": answered.file,
        "width": answered.size[0],
        "height": answered.size[1],
        "heat_map": {
            "is_shown": heat_map.is_shown,
            "method": heat_map.method,
            **{name: _round(getattr(faithfulness, name)) for name in figures},
            "num_random": faithfulness.num_random,
            "num_beaten": faithfulness.num_beaten,
        },
        "neighbours": [
            {
                "key": one.key,
                "class_name": card.class_names[one.label],
                "distance": _round(one.distance),
                "file": file,
            }
            for one, file in zip(answered.explained.neighbours, answered.thumbnails, strict=True)
        ],
    }


def _round(number: float) -> float:
    return float(f"{number:.4g}")
