"""Builds the page's content from a run's records: which parts there are, and which pictures they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classifold import names
from classifold.counts import choose
from classifold.metrics import Metrics
from classifold.pictures.samples import SampleBits
from classifold.report import sentences
from classifold.report.confidence import build_calibration, build_coverage, build_unseen
from classifold.report.confidence_charts import draw_precision_recall
from classifold.report.confusion import LEGIBLE_CLASSES, build_confusion
from classifold.report.curves import ClassCurve, CurveTally
from classifold.report.data_check import build_check_rows, describe_check, describe_spoilers
from classifold.report.figures import write_moment
from classifold.report.gallery import Source, build_gallery
from classifold.report.learning import build_learning
from classifold.report.making import build_facts, build_sets, build_settings, build_times, describe_time
from classifold.report.picks import Picked, Picker, choose_cells
from classifold.report.records import RunRecords, iter_prediction_rows, parse_row
from classifold.report.scores import build_classes, build_score, build_tiles, find_weakness
from classifold.report.trust_view import CurvesPart, CurveTile
from classifold.report.usage import build_uses, read_card
from classifold.report.view import Fact, Page, PictureTile, Skipped
from classifold.trust.promise import build_promise

NUM_WRONG, NUM_SKIPPED = 12, 50
# Classes whose precision-recall curves are drawn, the weakest first.
_MOST_CURVES = 100


def build_page(
    records: RunRecords,
    *,
    data_dir: Path | None,
    max_pixels: int,
    follows_links: bool = False,
    earlier: Mapping[str, Mapping[str, str]] | None = None,
) -> Page:
    """Return the content of report.html.

    Args:
        records: The records of the run folder.
        data_dir: Folder of the evaluation pictures; None shows no pictures.
        max_pixels: Limit of the pixels; larger pictures are not shown.
        follows_links: True to follow links that lead out of `data_dir`.
        earlier: Thumbnails of the run's earlier report by size and key, for pictures that are not found.

    Raises:
        RunError: predictions.csv or classes.json is damaged.
    """
    metrics, environment = records.metrics, records.environment
    run_name = names.run_name(records.run_dir.resolve().name)
    card = read_card(records.run_dir)
    picked, curves = _read_predictions(records)
    source = Source(
        data_dir=data_dir,
        follows_links=follows_links,
        max_pixels=max_pixels,
        sample_bits=_read_sample_bits(records.settings),
        earlier=earlier or {},
    )
    gallery = build_gallery(picked, source, run_dir=records.run_dir, card=card)
    shown = [*gallery.wrong, *(tile for tiles in gallery.cells.values() for tile in tiles)]
    changed, others = build_settings(records.settings)
    calibration, coverage, curve_part = (
        build_calibration(metrics),
        build_coverage(metrics),
        build_curves(curves),
    )
    return Page(
        run_name=run_name,
        made=write_moment(environment.started),
        headline=sentences.build_headline(metrics),
        promise=build_promise(metrics),
        summary=sentences.build_summary(metrics),
        cautions=[*describe_spoilers(records.findings), *sentences.find_cautions(metrics)],
        tiles=build_tiles(metrics, environment),
        scores=[build_score(name, score, metrics) for name, score in metrics.scores.items()],
        classes=build_classes(metrics),
        confusion=build_confusion(metrics, gallery.cells),
        confusion_note=_describe_confusion(metrics),
        wrong=gallery.wrong,
        wrong_note=_describe_wrong(picked),
        pictures_note=_describe_absent(shown, data_dir),
        calibration=calibration,
        coverage=coverage,
        curves=curve_part,
        unseen=build_unseen(metrics.unseen),
        absent=_explain_absent(
            metrics,
            has_calibration=calibration is not None,
            has_coverage=coverage is not None,
            has_curves=curve_part is not None,
        ),
        learning=build_learning(records.history),
        check_rows=build_check_rows(records.findings),
        check_note=describe_check(records.findings),
        sets=build_sets(environment),
        skipped=[Skipped(item.path, item.reason) for item in metrics.unreadable[:NUM_SKIPPED]],
        num_skipped=len(metrics.unreadable),
        times=build_times(environment.seconds),
        time_note=describe_time(environment, records.settings),
        changed_settings=changed,
        other_settings=others,
        facts=build_facts(environment, records.settings),
        packages=[Fact(name, version) for name, version in sorted(environment.packages.items())],
        uses=build_uses(run_name, card),
        version=environment.classifold,
    )


def _read_predictions(records: RunRecords) -> tuple[Picked, list[ClassCurve]]:
    """Read predictions.csv once, for the pictures to show and the curves.

    Raises:
        RunError: A row is damaged.
    """
    metrics = records.metrics
    cells = choose_cells(metrics, with_right=len(metrics.class_names) <= LEGIBLE_CLASSES)
    picker = Picker(metrics.class_names, cells, num_wrong=NUM_WRONG)
    weakest = sorted(metrics.per_class, key=find_weakness)
    tally = CurveTally([one.class_name for one in weakest[:_MOST_CURVES]])
    for where, picture, row in iter_prediction_rows(records.run_dir):
        picker.offer(picture)
        parse_row(row, tally.add, where=where)
    return picker.build(), tally.build(metrics)


def build_curves(curves: Sequence[ClassCurve]) -> CurvesPart | None:
    """Return precision against recall by class, the lowest average first; None where there is no curve."""
    if not curves:
        return None
    order = sorted(curves, key=lambda one: (one.average, one.class_name))
    tiles = [
        CurveTile(one.class_name, f"{one.average:.2f}", draw_precision_recall(one, name=f"curve-{place}"))
        for place, one in enumerate(order)
    ]
    return CurvesPart(tiles)


def _read_sample_bits(settings: Mapping[str, Any]) -> SampleBits:
    """Return the run's SAMPLE_BITS, "auto" if it is not a valid number."""
    bits = settings.get("SAMPLE_BITS")
    return bits if isinstance(bits, int) and not isinstance(bits, bool) and 8 <= bits <= 16 else "auto"


def _describe_wrong(picked: Picked) -> str:
    if not picked.num_wrong:
        return "There are no mistakes to show."
    verb = choose(picked.num_wrong, "was", "were")
    wrong = f"{picked.num_wrong:,} of {picked.num_pictures:,} pictures {verb} named wrongly"
    if picked.num_wrong > len(picked.wrong):
        return f"{wrong}; these are the {len(picked.wrong)} with the highest confidence."
    return f"{wrong}, those with the highest confidence first."


def _describe_absent(tiles: Sequence[PictureTile], data_dir: Path | None) -> str:
    absent = sum(tile.image is None and not tile.is_name for tile in tiles)
    if not absent:
        return ""
    where = f" in {data_dir}" if data_dir else ""
    count = (
        "The picture files were"
        if not any(tile.image for tile in tiles)
        else f"{absent} of the picture files {choose(absent, 'was', 'were')}"
    )
    others = "or cannot be shown (damaged, larger than MAX_PIXELS, or a link out of the folder)"
    cure = "the option --data DIR of classifold report says where they are now"
    return f"{count} not found{where}, {others}; {cure}."


# Parts without data


def _describe_confusion(metrics: Metrics) -> str:
    if metrics.answers is None:
        return ""
    return "Every picture is counted here, including those that are unknown."


def _explain_absent(
    metrics: Metrics, *, has_calibration: bool, has_coverage: bool, has_curves: bool
) -> list[str]:
    """Return a sentence for each part that the page leaves out, with the reason."""
    early = "this run was made before Classifold measured it; train again to see it"
    lines = []
    if not has_calibration:
        lines.append("Calibration: the run has no table of confidence and accuracy.")
    if not has_coverage:
        never = "no evaluation picture is answered at any minimum confidence"
        lines.append(f"Coverage against accuracy: {early if metrics.answers is None else never}.")
    if metrics.unseen is None:
        why = early if metrics.answers is None else "there are too few classes or pictures to leave some out"
        lines.append(f"Pictures of unknown classes: {why}.")
    if not has_curves:
        lines.append("Precision against recall: predictions.csv lacks the probability of every class.")
    return lines
