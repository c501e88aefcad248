"""Builds the confusion matrix: its cells, the same in words, and the pictures behind each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classifold.counts import count_of
from classifold.metrics import Metrics
from classifold.report.confusion_map import draw_compact_matrix, heat
from classifold.report.picks import Place
from classifold.report.sentences import find_confused_pairs, percent
from classifold.report.view import Cell, CellPictures, Confusion, ConfusionRow, Pair, PictureTile

LEGIBLE_CLASSES = 30  # a matrix of more classes is drawn without numbers, beside its mistakes in words
_MOST_PAIRS = 200


def build_confusion(metrics: Metrics, tiles: Mapping[Place, Sequence[PictureTile]]) -> Confusion:
    """Return the confusion matrix as the page shows it.

    Args:
        metrics: The content of metrics.json.
        tiles: The pictures to show, by cell, the most harmful cell first.
    """
    class_names, matrix = metrics.class_names, metrics.confusion_matrix
    pairs = _build_pairs(metrics, tiles)
    num_pairs = sum(
        bool(count) and row != column
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
    )
    pictures = [_build_pictures(place, shown, metrics) for place, shown in tiles.items()]
    if len(class_names) > LEGIBLE_CLASSES:
        drawing = draw_compact_matrix(matrix, class_names=class_names, targets=tiles, name="confusion-map")
        return Confusion(class_names, [], drawing, pairs, num_pairs, pictures)
    rows = [
        ConfusionRow(name, sum(matrix[place]), _build_cells(place, metrics, tiles))
        for place, name in enumerate(class_names)
    ]
    return Confusion(class_names, rows, None, pairs, num_pairs, pictures)


def _build_pairs(metrics: Metrics, tiles: Mapping[Place, Sequence[PictureTile]]) -> list[Pair]:
    index = {name: place for place, name in enumerate(metrics.class_names)}
    return [
        Pair(
            true_class=one.true_class,
            predicted_class=one.predicted_class,
            count=one.count,
            support=one.support,
            share=percent(one.count / one.support, decimals=0),
            target=_name_target((index[one.true_class], index[one.predicted_class]), tiles),
        )
        for one in find_confused_pairs(metrics, limit=_MOST_PAIRS)
    ]


def _build_cells(row: int, metrics: Metrics, tiles: Mapping[Place, Sequence[PictureTile]]) -> list[Cell]:
    counts = metrics.confusion_matrix[row]
    return [
        Cell(
            count=count,
            heat=heat(count, sum(counts)),
            is_right=row == column,
            tip=_describe_cell((row, column), metrics),
            place=f"{row}-{column}",
            target=_name_target((row, column), tiles),
        )
        for column, count in enumerate(counts)
    ]


def _name_target(place: Place, tiles: Mapping[Place, Sequence[PictureTile]]) -> str:
    return f"cell-{place[0]}-{place[1]}" if tiles.get(place) else ""


def _describe_cell(place: Place, metrics: Metrics) -> str:
    row, column = place
    counts = metrics.confusion_matrix[row]
    times = f"{counts[column]:,} of {count_of(sum(counts), 'time')}"
    name = metrics.class_names[row]
    if row == column:
        return f"{name} is recognised {times}"
    return f"{name} is taken for {metrics.class_names[column]} {times}"


def _build_pictures(place: Place, tiles: Sequence[PictureTile], metrics: Metrics) -> CellPictures:
    row, column = place
    count, kind = metrics.confusion_matrix[row][column], "least sure" if row == column else "most confident"
    rest = ""
    if count > len(tiles):
        rest = f"The {count_of(len(tiles), f'{kind} picture')} of {count:,}; predictions.csv lists all."
    return CellPictures(
        target=_name_target(place, {place: tiles}),
        place=f"{row}-{column}",
        title=_describe_cell(place, metrics),
        tiles=tiles,
        rest=rest,
    )
