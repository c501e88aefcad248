"""Builds the page's content from a run's records: which numbers are shown, their format and their order."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from classifold import names
from classifold.counts import choose
from classifold.dataset.evaluation_size import FEW_PICTURES
from classifold.dataset.walk import Picture
from classifold.metrics import ClassScores, Metrics, Score
from classifold.pictures.samples import SampleBits
from classifold.report import charts, sentences
from classifold.report.data_check import build_check_rows, describe_check, describe_spoilers
from classifold.report.mistakes import Picked, find_pictures, pick_pictures, read_thumbnail
from classifold.report.records import (
    Environment,
    Epoch,
    PredictedPicture,
    RunRecords,
    iter_predictions,
    name_stage,
    number_epochs,
)
from classifold.report.sentences import NBSP, percent
from classifold.report.view import (
    BinRow,
    Cell,
    ClassRow,
    Confusion,
    ConfusionRow,
    EpochRow,
    Fact,
    Learning,
    Page,
    Pair,
    PictureTile,
    ScoreRow,
    SetRow,
    SettingRow,
    Skipped,
    Tile,
    TimeRow,
    TryRow,
)
from classifold.settings.config import RECIPES, Config

NUM_WRONG, NUM_UNSURE, NUM_SKIPPED, NUM_PAIRS = 24, 8, 50, 10
LEGIBLE_CLASSES = 30  # a matrix of more classes is drawn without numbers, beside its most frequent mistakes


def build_page(
    records: RunRecords,
    *,
    data_dir: Path | None,
    max_pixels: int,
    follows_links: bool = False,
    earlier: Mapping[str, str] | None = None,
) -> Page:
    """Return the content of report.html.

    Args:
        records: The records of the run folder.
        data_dir: Folder of the evaluation pictures; None shows no pictures.
        max_pixels: Limit of the pixels; larger pictures are not shown.
        follows_links: True to follow links that lead out of `data_dir`.
        earlier: Thumbnails of the run's earlier report by key, for pictures that are not found.

    Raises:
        RunError: predictions.csv is damaged.
    """
    metrics, environment = records.metrics, records.environment
    picked = pick_pictures(iter_predictions(records.run_dir), num_wrong=NUM_WRONG, num_unsure=NUM_UNSURE)
    keys = [row.key for row in (*picked.wrong, *picked.unsure)]
    found = find_pictures(keys, data_dir=data_dir, follows_links=follows_links)
    bits = _read_sample_bits(records.settings)
    wrong, unsure = (
        [_build_picture(row, found, earlier or {}, max_pixels=max_pixels, sample_bits=bits) for row in rows]
        for rows in (picked.wrong, picked.unsure)
    )
    changed, others = _build_settings(records.settings)
    return Page(
        run_name=names.run_name(records.run_dir.resolve().name),
        made=_format_moment(environment.started),
        headline=sentences.build_headline(metrics),
        summary=sentences.build_summary(metrics),
        cautions=[*describe_spoilers(records.findings), *sentences.find_cautions(metrics)],
        check_rows=build_check_rows(records.findings),
        check_note=describe_check(records.findings),
        tiles=_build_tiles(metrics, environment),
        scores=[build_score(name, score, metrics) for name, score in metrics.scores.items()],
        classes=[_build_class(row) for row in sorted(metrics.per_class, key=_weakness)],
        confusion=_build_confusion(metrics),
        reliability=_build_reliability(metrics),
        bins=_build_bins(metrics),
        learning=_build_learning(records.history),
        wrong=wrong,
        wrong_note=_describe_wrong(picked),
        unsure=unsure,
        pictures_note=_describe_absent([*wrong, *unsure], data_dir),
        times=_build_times(environment.seconds),
        time_note=_describe_time(environment),
        changed_settings=changed,
        other_settings=others,
        facts=_build_facts(environment),
        packages=[Fact(name, version) for name, version in sorted(environment.packages.items())],
        **_build_sets(environment),
        skipped=[Skipped(item.path, item.reason) for item in metrics.unreadable[:NUM_SKIPPED]],
        num_skipped=len(metrics.unreadable),
        version=environment.classifold,
    )


# Scores

_SHARES = {
    "accuracy": ("Accuracy", "pictures that were named correctly"),
    "balanced_accuracy": ("Balanced accuracy", "mean of the classes' recall: every class counts the same"),
    "macro_f1": ("Macro F1", "mean of the classes' F1, which combines recall and precision"),
    "top_k_accuracy": ("Top-{k} accuracy", "the true class is among the {k} most probable"),
    "calibration_error": (
        "Calibration error",
        "mean gap between confidence and the share that is right; 0 is best",
    ),
}


def build_score(name: str, score: Score, metrics: Metrics) -> ScoreRow:
    """Return a score in words and figures.

    Args:
        name: Name of the score in metrics.json.
        score: Its value and interval.
        metrics: The content of metrics.json.
    """
    if name in _SHARES:
        title, meaning = (part.format(k=metrics.top_k) for part in _SHARES[name])
        bar = charts.draw_interval(score.value, score.low, score.high)
        return ScoreRow(title, percent(score.value), _interval(score.low, score.high), bar, meaning)
    title, meaning = name.replace("_", " ").capitalize(), ""
    if name == "log_loss":
        even = math.log(len(metrics.class_names))
        meaning = f"penalty for wrong confidence; 0 is perfect, {even:.2f} is uniform guessing"
    known = score.low is not None and score.high is not None
    interval = f"{score.low:.3f} to {score.high:.3f}" if known else ""
    return ScoreRow(title, _number(score.value), interval, Markup(""), meaning)


def _build_tiles(metrics: Metrics, environment: Environment) -> list[Tile]:
    tiles = []
    for name, title in (
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced accuracy"),
        ("macro_f1", "Macro F1"),
    ):
        score = metrics.scores.get(name)
        if score and score.value is not None:
            interval = _interval(score.low, score.high)
            tiles.append(Tile(title, percent(score.value), f"95 %: {interval}" if interval else ""))
    classes = f"in {len(metrics.class_names)} classes"
    tiles.append(Tile("Evaluation pictures", f"{metrics.num_pictures:,}", classes))
    if total := sum(environment.seconds.values()):
        tiles.append(Tile("Time", _duration(total), f"on {environment.cpu_count or '?'} CPU cores"))
    return tiles


def _weakness(row: ClassScores) -> tuple[float, str]:
    """Return a sort key: the weakest classes first, those without a picture last."""
    return (2.0 if row.f1 is None or not row.support else row.f1, row.class_name)


def _build_class(row: ClassScores) -> ClassRow:
    return ClassRow(
        name=row.class_name,
        support=row.support,
        recall=percent(row.recall if row.support else None, decimals=0),
        interval=_interval(row.recall_low, row.recall_high, decimals=0) if row.support else "",
        bar=charts.draw_interval(row.recall, row.recall_low, row.recall_high) if row.support else Markup(""),
        precision=percent(row.precision, decimals=0),
        f1=percent(row.f1, decimals=0),
        is_small=row.support < FEW_PICTURES,
    )


def _build_confusion(metrics: Metrics) -> Confusion:
    class_names, matrix = metrics.class_names, metrics.confusion_matrix
    pairs = [
        Pair(
            pair.true_class, pair.predicted_class, pair.count, percent(pair.count / pair.support, decimals=0)
        )
        for pair in sentences.find_confused_pairs(metrics, limit=NUM_PAIRS)
    ]
    if len(class_names) > LEGIBLE_CLASSES:
        drawing = charts.draw_compact_heat_map(matrix, class_names=class_names, name="confusion-map")
        return Confusion(class_names, [], drawing, pairs)
    rows = [
        ConfusionRow(name, sum(counts), _build_cells(index, counts, class_names))
        for index, (name, counts) in enumerate(zip(class_names, matrix, strict=True))
    ]
    return Confusion(class_names, rows, None, pairs)


def _build_cells(row: int, counts: Sequence[int], class_names: Sequence[str]) -> list[Cell]:
    total = sum(counts)
    return [
        Cell(
            count=count,
            heat=charts.heat(count, total),
            is_right=row == column,
            tip=f"{class_names[row]} named {class_names[column]}: {count} of {total}",
        )
        for column, count in enumerate(counts)
    ]


def _build_reliability(metrics: Metrics) -> Markup | None:
    if not any(bin_.count for bin_ in metrics.reliability):
        return None
    return charts.draw_reliability(metrics.reliability, name="reliability-chart")


def _build_bins(metrics: Metrics) -> list[BinRow]:
    return [
        BinRow(
            range=f"{100 * bin_.low:.0f}{NBSP}to{NBSP}{percent(bin_.high, decimals=0)}",
            count=bin_.count,
            confidence=percent(bin_.confidence, decimals=0),
            right=percent(bin_.accuracy, decimals=0),
        )
        for bin_ in metrics.reliability
        if bin_.count
    ]


def _build_learning(history: Sequence[Epoch]) -> Learning:
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
            loss=_number(epoch.loss),
            val_loss=_number(epoch.val_loss),
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
            loss=_number(one.loss),
            val_loss=_number(one.val_loss),
            accuracy=percent(one.accuracy),
            val_accuracy=percent(one.val_accuracy),
            best=one is best,
        )
        for one in tries
    ]


# Pictures


def _read_sample_bits(settings: dict[str, Any]) -> SampleBits:
    """Return the run's SAMPLE_BITS, "auto" if it is not a valid number."""
    bits = settings.get("SAMPLE_BITS")
    return bits if isinstance(bits, int) and not isinstance(bits, bool) and 8 <= bits <= 16 else "auto"


def _build_picture(
    row: PredictedPicture,
    found: Mapping[str, Picture],
    earlier: Mapping[str, str],
    *,
    max_pixels: int,
    sample_bits: SampleBits,
) -> PictureTile:
    picture = found.get(row.key)
    image = None
    if picture is not None:
        image = read_thumbnail(picture, max_pixels=max_pixels, sample_bits=sample_bits)
    return PictureTile(
        image=image or earlier.get(row.key),
        key=row.key,
        true_class=row.true_class,
        predicted_class=row.predicted_class,
        confidence=percent(row.confidence, decimals=0),
        true_confidence=percent(row.true_confidence, decimals=0) if row.true_confidence is not None else "",
    )


def _describe_wrong(picked: Picked) -> str:
    if not picked.num_wrong:
        return "There are no mistakes to show."
    verb = choose(picked.num_wrong, "was", "were")
    wrong = f"{picked.num_wrong} of {picked.num_pictures} pictures {verb} named wrongly"
    if picked.num_wrong > len(picked.wrong):
        return f"{wrong}; these are the {len(picked.wrong)} with the highest confidence."
    return f"{wrong}, those with the highest confidence first."


def _describe_absent(tiles: Sequence[PictureTile], data_dir: Path | None) -> str:
    absent = sum(tile.image is None for tile in tiles)
    if not absent:
        return ""
    where = f" in {data_dir}" if data_dir else ""
    count = (
        "The picture files were"
        if absent == len(tiles)
        else f"{absent} of the picture files {choose(absent, 'was', 'were')}"
    )
    others = "or cannot be shown (damaged, larger than MAX_PIXELS, or a link out of the folder)"
    cure = "the option --data DIR of classifold report says where they are now"
    return f"{count} not found{where}, {others}; {cure}."


# How the run was made


def _build_times(seconds: dict[str, float]) -> list[TimeRow]:
    total = sum(seconds.values())
    return [
        TimeRow(
            phase=phase.replace("_", " "),
            duration=_duration(value),
            share=percent(value / total, decimals=0),
            bar=charts.draw_interval(value / total, None, None),
        )
        for phase, value in seconds.items()
        if total > 0
    ]


def _describe_time(environment: Environment) -> str:
    total = sum(environment.seconds.values())
    words = [f"{_duration(total)} in all"] if total else []
    if environment.peak_memory_mb:
        words.append(f"at most {environment.peak_memory_mb / 1000:.1f} GB of memory")
    return f"{', '.join(words)}." if words else ""


def _build_settings(settings: dict[str, Any]) -> tuple[list[SettingRow], list[SettingRow]]:
    """Return the settings that differ from the defaults, and the others."""
    recipe = RECIPES.get(str(settings.get("RECIPE")), {})
    changed, others = [], []
    for name, value in settings.items():
        field = Config.model_fields.get(name)
        default = "" if field is None else _setting_text(field.get_default())
        text = _setting_text(value)
        if field is None or text == default:
            others.append(SettingRow(name, text, ""))
        else:
            is_by_recipe = name in recipe and _setting_text(recipe[name]) == text
            changed.append(SettingRow(name, f"{text} (by RECIPE)" if is_by_recipe else text, default))
    return changed, others


def _setting_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _build_facts(environment: Environment) -> list[Fact]:
    pairs = (
        ("Command", shlex.join(environment.command)),
        ("Classifold", environment.classifold),
        ("Python", environment.python),
        ("Platform", environment.platform),
        ("CPU cores", str(environment.cpu_count or "")),
        ("Keras backend", environment.backend),
        ("Backbone", environment.backbone.get("name")),
        ("Licence of its weights", environment.backbone.get("license")),
        ("Pictures", environment.data.dir),
        ("Fingerprint of the pictures", environment.data.fingerprint),
    )
    checks = [
        (f"{name} agrees within", f"{value:.1e}")
        for name, value in environment.verification.items()
        if value is not None
    ]
    return [Fact(name, value) for name, value in (*pairs, *checks) if value]


def _build_sets(environment: Environment) -> dict[str, Any]:
    counts = environment.data.counts
    order = [*(name for name in names.SETS if name in counts), *sorted(set(counts) - set(names.SETS))]
    class_names = sorted({name for per_class in counts.values() for name in per_class})
    rows = [SetRow(name, [counts[which].get(name, 0) for which in order]) for name in class_names]
    totals = [sum(counts[which].values()) for which in order]
    return {"set_names": order, "set_rows": rows, "set_totals": totals}


# Words for figures


def _interval(low: float | None, high: float | None, *, decimals: int = 1) -> str:
    if low is None or high is None:
        return ""
    return f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f}{NBSP}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest:02}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60:02}{NBSP}min"


def _format_moment(started: str) -> str:
    """Return an ISO time in words, and any other text unchanged."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{moment.day} {moment:%B %Y, %H:%M}"
