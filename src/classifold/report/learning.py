"""Builds the section on the learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from classifold.report import charts, sentences
from classifold.report.figures import write_number
from classifold.report.records import Epoch, name_stage, number_epochs
from classifold.report.sentences import percent
from classifold.report.view import EpochRow, Learning, TryRow


def build_learning(history: Sequence[Epoch]) -> Learning:
    """Return the training over its epochs, and the search for the head before them."""
    epochs = [epoch for epoch in history if epoch.penalty is None]
    drawings = []
    for figure in ("accuracy", "loss") if epochs else ():
        title = figure.capitalize()
        drawings.append(
            charts.draw_learning_curve(epochs, figure=figure, title=title, name=f"{figure}-chart")
        )
    rows = [
        EpochRow(
            epoch=number,
            stage=name_stage(epoch.stage),
            loss=write_number(epoch.loss),
            val_loss=write_number(epoch.val_loss),
            accuracy=percent(epoch.accuracy),
            val_accuracy=percent(epoch.val_accuracy),
            learning_rate="-" if epoch.learning_rate is None else f"{epoch.learning_rate:.2g}",
            best=epoch.best,
        )
        for number, epoch in zip(number_epochs(epochs), epochs, strict=True)
    ]
    return Learning(sentences.describe_history(history), drawings, rows, _build_tries(history))


def _build_tries(history: Sequence[Epoch]) -> list[TryRow]:
    """Return the search for the regularization of the head."""
    tries = [epoch for epoch in history if epoch.penalty is not None]
    best = sentences.find_best_try(tries)
    return [
        TryRow(
            penalty=f"{one.penalty:g}",
            loss=write_number(one.loss),
            val_loss=write_number(one.val_loss),
            accuracy=percent(one.accuracy),
            val_accuracy=percent(one.val_accuracy),
            best=one is best,
        )
        for one in tries
    ]
