"""The folder that `predict --explain` writes: pictures, index.html in parts of 200 pictures, explain.json."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from classifold.atomic import check_has_folder, is_mount_point, move_folder
from classifold.errors import DataError, DiskError, Fault, disk_errors
from classifold.model_card import ModelCard
from classifold.predict.explanation_page import PagePart, build_item, page_name, render_items, render_page
from classifold.predict.predictor import Prediction
from classifold.printable import format_json
from classifold.trust.explained import Explained

FORMAT: Final = 1
EXPLAIN_JSON, INDEX_HTML = "explain.json", "index.html"
PICTURES_DIR, NEIGHBOURS_DIR = "pictures", "neighbours"
PER_PAGE: Final = 200
# How explain.json begins, by which a folder of ours is known.
_MARK: Final = '{"format": 1, "made_by": "classifold predict --explain"'


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

    def __init__(self, folder: Path, card: ModelCard, rows: TextIO) -> None:
        self._folder, self._card, self._rows = folder, card, rows
        self._num_pictures = self._num_pages = 0
        self._before = "\n"
        self._items: list[str] = []
        self._part = PagePart()

    @classmethod
    @contextlib.contextmanager
    def open(cls, target: Path, *, paths: Sequence[Path], card: ModelCard) -> Iterator[ExplanationFiles]:
        """Yield a hidden folder to write to; at the end it is completed and renamed to `target`.

        Args:
            target: A new or empty folder, or one of an earlier call, which is replaced.
            paths: The pictures and folders to explain, in which `target` must not be.
            card: The model card.

        Raises:
            DataError: `target` is something else, or among the pictures.
            DiskError: The folder cannot be written.
        """
        check_target(target, paths)
        check_has_folder(target)
        place = Path(os.path.abspath(target))  # noqa: PTH100 - a link stays one; the work may change folders
        partial = place.with_name(f".{place.name[:100]}.{os.getpid()}-{secrets.token_hex(3)}.partial")
        with _cleaned(partial), disk_errors(target), _named_as(target, partial):
            for name in (PICTURES_DIR, NEIGHBOURS_DIR):
                (partial / name).mkdir(parents=True)
            with (partial / EXPLAIN_JSON).open("w", encoding="utf-8", newline="\n") as rows:
                files = cls(partial, card, rows)
                rows.write(f'{_MARK}, "model": {format_json(card.run)}, "pictures": [')
                yield files
                files.finish()
            _put(partial, place)

    def place(self, name: str) -> Path:
        """Return where a file of the folder is written."""
        return self._folder / name

    def add(self, prediction: Prediction, answered: Answered | None) -> None:
        """Write a picture's row into explain.json, and keep its item for the page."""
        self._num_pictures += 1
        row = build_row(prediction, answered, self._card)
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


def build_row(prediction: Prediction, answered: Answered | None, card: ModelCard) -> dict[str, Any]:
    """Return a picture's entry in explain.json."""
    row: dict[str, Any] = {
        "path": os.fsencode(prediction.path).decode("utf-8", "backslashreplace"),
        "predicted_class": None,
        "confidence": None,
        "unknown": None,
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


def check_target(target: Path, paths: Sequence[Path]) -> None:
    """Refuse a folder that holds anything but what an earlier `--explain` wrote, or is among the pictures.

    Raises:
        DataError: With the reason.
    """
    with disk_errors(target):
        if fault := _find_fault(target, paths):
            raise DataError(fault)


def _find_fault(target: Path, paths: Sequence[Path]) -> Fault | None:
    where, place = str(target), target.resolve()
    if any(path.is_dir() and place.is_relative_to(path.resolve()) for path in paths):
        what = "this folder is among the pictures, so the next call would classify the overlays too"
        return Fault(where, what, "name a folder beside them")
    if not target.exists():
        return None
    if not target.is_dir():
        return Fault(where, "it is a file, not a folder", "move it away or name another folder")
    if place == Path.cwd() or is_mount_point(place):
        hint = f"name a new folder inside it, for instance {target / 'why'}"
        return Fault(where, "the working folder or a whole disk cannot be replaced", hint)
    return None if _is_ours(place) else Fault(where, "the folder is not empty", "name a new folder")


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is empty, or has what an earlier call wrote and nothing else."""
    found = {entry.name for entry in folder.iterdir()}
    if not found:
        return True
    pages = {page_name(number) for number in range(1, len(found) + 1)}
    if found - pages - {EXPLAIN_JSON, PICTURES_DIR, NEIGHBOURS_DIR} or not (folder / EXPLAIN_JSON).is_file():
        return False
    inner = [
        entry
        for name in (PICTURES_DIR, NEIGHBOURS_DIR)
        if (folder / name).is_dir()
        for entry in (folder / name).iterdir()
    ]
    if any(entry.suffix != ".jpg" for entry in inner):
        return False
    with (folder / EXPLAIN_JSON).open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


def _put(partial: Path, place: Path) -> None:
    """Rename the finished folder; one of an earlier call is kept until then."""
    if not place.exists() or not any(place.iterdir()):
        move_folder(partial, place)
        return
    old = place.with_name(f".{place.name[:100]}.{secrets.token_hex(3)}.old")
    move_folder(place, old)
    try:
        move_folder(partial, place)
    except BaseException:
        move_folder(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _cleaned(partial: Path) -> Iterator[None]:
    try:
        yield
    finally:  # after success it is no longer there
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _named_as(target: Path, partial: Path) -> Iterator[None]:
    """Replace the hidden folder's path in the system's errors by the one that the user knows."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, DiskError) and str(partial) in str(error.filename):
            error.filename = str(target)
        raise
