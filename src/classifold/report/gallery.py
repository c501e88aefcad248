"""Builds the pictures of the page: the worst mistakes with their reasons, and those of the matrix's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from classifold.dataset.walk import Picture
from classifold.model_card import ModelCard
from classifold.names import EVALUATION, TRAINING
from classifold.pictures.samples import SampleBits
from classifold.report.picks import Picked, Place
from classifold.report.records import PredictedPicture
from classifold.report.sentences import percent
from classifold.report.thumbnails import find_pictures, make_thumbnails
from classifold.report.view import Neighbour, PictureTile
from classifold.report.why import Why, explain_mistakes

# Sides in pixels: twice what is shown, for sharp screens. The limits keep the page below 10 MB.
_LARGE_SIDE, _LARGE_BYTES = 320, 1_500_000
_SMALL_SIDE, _SMALL_BYTES = 176, 4_500_000
_NEAR_SIDE, _NEAR_BYTES = 144, 700_000
# Pictures of cells that are read, and names in a cell too harmless for pictures: reading more would make a
# report of large photographs slow.
_MOST_SMALL, _MOST_NAMES = 300, 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pictures are, and how they may be read.

    Attributes:
        data_dir: Folder of the evaluation set or of the three sets; None: no picture is found.
        follows_links: Whether links that lead out of it are followed.
        max_pixels: Limit of a picture's pixels.
        sample_bits: How 16-bit samples are read.
        earlier: Thumbnails of the run's earlier report by size and key, for pictures that are not found.
    """

    data_dir: Path | None
    follows_links: bool
    max_pixels: int
    sample_bits: SampleBits
    earlier: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def find(self, keys: Sequence[str], *, set_name: str = EVALUATION) -> dict[str, Picture]:
        """Return the pictures that exist, by key."""
        return find_pictures(
            keys, data_dir=self.data_dir, follows_links=self.follows_links, set_name=set_name
        )

    def make_thumbnails(
        self, keys: Sequence[str], found: Mapping[str, Picture], *, side: int, most_bytes: int, size: str
    ) -> dict[str, str]:
        """Return thumbnails by key; `size` is their name in an earlier report."""
        return make_thumbnails(
            keys,
            found,
            side=side,
            most_bytes=most_bytes,
            max_pixels=self.max_pixels,
            sample_bits=self.sample_bits,
            earlier=self.earlier.get(size),
        )


@dataclass(frozen=True, slots=True)
class Gallery:
    """The pictures of the page: the worst mistakes, the worst first, and those of each cell."""

    wrong: list[PictureTile]
    cells: dict[Place, list[PictureTile]]


def build_gallery(picked: Picked, source: Source, *, run_dir: Path, card: ModelCard | None) -> Gallery:
    """Return the pictures of the page.

    Args:
        picked: The rows of predictions.csv to show.
        source: Where their pictures are.
        run_dir: The run folder, whose model explains the worst mistakes.
        card: The model card; None explains nothing.
    """
    large = [row.key for row in picked.wrong]
    small = [row.key for rows in picked.cells.values() for row in rows][:_MOST_SMALL]
    found = source.find([*large, *small])
    why = explain_mistakes(
        run_dir,
        card,
        picked.wrong,
        found,
        max_pixels=source.max_pixels,
        sample_bits=source.sample_bits,
    )
    images = source.make_thumbnails(large, found, side=_LARGE_SIDE, most_bytes=_LARGE_BYTES, size="large")
    wrong = [_build_picture(row, images) for row in picked.wrong]
    if card is not None:
        wrong = _add_reasons(wrong, why, source, card.class_names)
    images = source.make_thumbnails(small, found, side=_SMALL_SIDE, most_bytes=_SMALL_BYTES, size="small")
    of_cells = set(small)
    return Gallery(
        wrong, {place: _build_cell(rows, images, of_cells) for place, rows in picked.cells.items()}
    )


def _add_reasons(
    tiles: Sequence[PictureTile], why: Mapping[str, Why], source: Source, class_names: Sequence[str]
) -> list[PictureTile]:
    keys = list(dict.fromkeys(one.key for reason in why.values() for one in reason.neighbours))
    found = source.find(keys, set_name=TRAINING)
    near = source.make_thumbnails(keys, found, side=_NEAR_SIDE, most_bytes=_NEAR_BYTES, size="near")
    explained = []
    for tile in tiles:
        reason = why.get(tile.key, Why())
        neighbours = [
            Neighbour(near.get(one.key), one.key, class_names[one.label], f"{one.distance:.2f}")
            for one in reason.neighbours
            # A reference set of another run may have more classes.
            if one.label < len(class_names)
        ]
        explained.append(replace(tile, heat=reason.heat, why=reason.note, neighbours=neighbours))
    return explained


def _build_cell(
    rows: Sequence[PredictedPicture], images: Mapping[str, str], of_cells: set[str]
) -> list[PictureTile]:
    """Return the pictures of a cell; a cell that is too harmless for pictures has a few names."""
    shown = [row for row in rows if row.key in of_cells]
    return [_build_picture(row, images, is_name=not shown) for row in shown or rows[:_MOST_NAMES]]


def _build_picture(row: PredictedPicture, images: Mapping[str, str], *, is_name: bool = False) -> PictureTile:
    return PictureTile(
        image=images.get(row.key),
        key=row.key,
        true_class=row.true_class,
        predicted_class=row.predicted_class,
        confidence=percent(row.confidence, decimals=0),
        true_confidence=percent(row.true_confidence, decimals=0) if row.true_confidence is not None else "",
        is_right=row.correct,
        is_unknown=row.unknown is True,
        is_name=is_name,
    )
