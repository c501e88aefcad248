"""Compares finished runs: reads them, lays their predictions side by side, and says what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.comparison.alignment import Aligned, Answers, Overlap, align_predictions
from classifold.comparison.differences import (
    compare_data,
    compare_environments,
    compare_settings,
    describe_classes,
)
from classifold.comparison.result import ClassPair, ComparedRun, Comparison, Difference, Pair
from classifold.comparison.runs import OpenedRun, find_cost, find_model_mb, open_runs
from classifold.comparison.sentences import describe_pair, describe_time, find_cautions
from classifold.counts import count_of
from classifold.errors import Fault, RunError
from classifold.metrics import Metrics, Score, score_share
from classifold.paired import (
    MAX_CHANCE,
    correct_for_many,
    find_interval,
    find_mean_interval,
    find_p_value,
)
from classifold.trust.promise import build_promise

_NUM_PICTURES = 20


def compare_runs(
    sources: Sequence[Path],
    *,
    runs_dir: Path,
    only_common: bool = False,
    common_option: str = "--common",
    resume: str = "classifold train --resume",
) -> Comparison:
    """Compare finished runs on the same evaluation pictures, each with the first one.

    Args:
        sources: Run folders, or names of runs in `runs_dir`; at least two.
        runs_dir: RUNS_DIR.
        only_common: True to compare on the pictures that all runs have, where their sets differ.
        common_option: What the user gives for that, for a hint.
        resume: How an interrupted run is finished, for a hint.

    Raises:
        UsageError: Fewer than two different runs are given.
        RunError: A run is missing, damaged or not finished, or the evaluation pictures differ.
    """
    runs, notes = open_runs(sources, runs_dir=runs_dir, resume=resume)
    num_rows = sum(run.records.metrics.num_pictures for run in runs)
    aligned, answers = align_predictions([run.run_dir for run in runs], num_rows=num_rows)
    _check_metrics(runs, answers)
    _check_pictures(runs, aligned, only_common=only_common, common_option=common_option)
    is_partial = not all(overlap.is_complete for overlap in aligned.overlaps)
    compared = tuple(
        _build_run(run, right, losses, is_partial=is_partial)
        for run, right, losses in zip(runs, aligned.right, aligned.losses, strict=True)
    )
    pairs = _build_pairs(compared, aligned)
    settings, data = compare_settings(runs), compare_data(runs)
    sentences = [describe_pair(pair, num_pairs=len(pairs)) for pair in pairs]
    sentences += filter(None, (describe_time(run, compared[0]) for run in compared[1:]))
    notes += _describe_pictures(aligned, data, is_partial=is_partial)
    notes += describe_classes(runs)
    return Comparison(
        num_pictures=len(aligned.keys),
        is_common_only=is_partial,
        runs=compared,
        pairs=pairs,
        sentences=tuple(sentences),
        settings=settings,
        data=data,
        environment=compare_environments(runs),
        notes=(*notes, *find_cautions(compared, pairs)),
    )


# The pictures


def _check_metrics(runs: Sequence[OpenedRun], answers: Sequence[Answers]) -> None:
    """Refuse a run whose predictions.csv and metrics.json are not of the same evaluation.

    Raises:
        RunError: With every such run.
    """
    faults = []
    for run, found in zip(runs, answers, strict=True):
        metrics = run.records.metrics
        right = sum(row[place] for place, row in enumerate(metrics.confusion_matrix))
        if (found.num_rows, found.num_right) != (metrics.num_pictures, right):
            what = (
                f"it does not match {names.METRICS_JSON}: {found.num_right:,} of {found.num_rows:,} "
                f"right here, {right:,} of {metrics.num_pictures:,} there"
            )
            hint = "copy or fetch the run folder again"
            faults.append(Fault(str(run.run_dir / names.PREDICTIONS_CSV), what, hint))
    if faults:
        raise RunError(*faults)


def _check_pictures(
    runs: Sequence[OpenedRun], aligned: Aligned, *, only_common: bool, common_option: str
) -> None:
    """Refuse to compare runs over different evaluation pictures, unless that was asked for.

    Raises:
        RunError: With every run whose pictures are not those of the first one, or if none is common.
    """
    others = [pair for pair in zip(runs[1:], aligned.overlaps, strict=True) if not pair[1].is_complete]
    if not others or (only_common and aligned.keys):
        return
    if aligned.keys:
        hint = f"{common_option} compares on the {count_of(len(aligned.keys), 'picture')} that all runs have"
    else:
        hint = "no picture is in all of them: train the runs on the same split"
    raise RunError(*(_explain_overlap(run, runs[0], overlap, hint) for run, overlap in others))


def _explain_overlap(run: OpenedRun, first: OpenedRun, overlap: Overlap, hint: str) -> Fault:
    parts = [f"{count_of(overlap.common, 'picture')} in both"]
    parts += [f"{overlap.only_first:,} only in {first.name}"] if overlap.only_first else []
    parts += [f"{overlap.only_here:,} only here"] if overlap.only_here else []
    parts += [f"{overlap.other_class:,} in another class"] if overlap.other_class else []
    counts, examples = ", ".join(parts), ", ".join(overlap.examples)
    what = f"its evaluation pictures are not those of {first.name}: {counts} (such as {examples})"
    return Fault(str(run.run_dir), what, hint)


def _describe_pictures(aligned: Aligned, data: Sequence[Difference], *, is_partial: bool) -> list[str]:
    """Return notes on whether the pictures are really the same."""
    notes = []
    if is_partial:
        notes.append(
            f"Only the {count_of(len(aligned.keys), 'picture')} that all runs evaluated are compared; each "
            "run's own report has its scores on all of its pictures."
        )
    if any(one.name == "fingerprint" for one in data):
        notes.append(
            "The runs were trained on other data, or on another division of it. Their evaluation pictures "
            "have the same names; whether files were replaced under these names is not known."
        )
    return notes


# Runs and pairs


def _build_run(
    run: OpenedRun, right: NDArray[np.bool_], losses: NDArray[np.float32], *, is_partial: bool
) -> ComparedRun:
    metrics, environment = run.records.metrics, run.records.environment
    scores = _score_common(right, losses) if is_partial else _read_scores(metrics)
    cores = f"{environment.cpu_count or '?'} cores"
    machine = ", ".join([cores, environment.platform]) if environment.platform else ""
    return ComparedRun(
        letter=run.letter,
        name=run.name,
        path=str(run.run_dir),
        started=environment.started,
        num_classes=len(metrics.class_names),
        seconds=sum(environment.seconds.values()) or None,
        machine=machine,
        model_mb=find_model_mb(run),
        usd=find_cost(run),
        **scores,
    )


def _read_scores(metrics: Metrics) -> dict[str, Any]:
    """Return the run's own scores and promise, which are those on all of its evaluation pictures."""
    found: dict[str, Any] = {
        name: metrics.scores.get(name)
        for name in ("accuracy", "balanced_accuracy", "log_loss", "calibration_error")
    }
    if metrics.answers is not None:
        found |= {"coverage": metrics.answers.coverage, "answered_accuracy": metrics.answers.accuracy}
    if metrics.unseen is not None:
        found["unseen_refused"] = metrics.unseen.refused
    found["promise"] = tuple(build_promise(metrics))
    return {name: one for name, one in found.items() if one is not None}


def _score_common(right: NDArray[np.bool_], losses: NDArray[np.float32]) -> dict[str, Any]:
    """Return the scores on the common pictures, as far as predictions.csv tells them."""
    known = losses[~np.isnan(losses)].astype(np.float64)
    found = {"accuracy": score_share(int(right.sum()), len(right))}
    if len(known) == len(losses):
        found["log_loss"] = Score(value=float(known.mean()))
    return found


def _build_pairs(runs: Sequence[ComparedRun], aligned: Aligned) -> tuple[Pair, ...]:
    first = aligned.right[0]
    p_values = [
        find_p_value(int((own & ~first).sum()), int((first & ~own).sum())) for own in aligned.right[1:]
    ]
    corrected = correct_for_many(p_values)
    return tuple(
        _build_pair(runs, aligned, place, p_value=p_value, corrected=value)
        for place, (p_value, value) in enumerate(zip(p_values, corrected, strict=True), start=1)
    )


def _build_pair(
    runs: Sequence[ComparedRun], aligned: Aligned, place: int, *, p_value: float, corrected: float
) -> Pair:
    first, own = aligned.right[0], aligned.right[place]
    better, worse = own & ~first, first & ~own
    num_better, num_worse = int(better.sum()), int(worse.sum())
    low, high = find_interval(num_better, num_worse, len(own))
    return Pair(
        letter=runs[place].letter,
        against=runs[0].letter,
        both_right=int((own & first).sum()),
        better=num_better,
        worse=num_worse,
        both_wrong=int((~own & ~first).sum()),
        accuracy=Score(value=(num_better - num_worse) / len(own), low=low, high=high),
        log_loss=_compare_losses(aligned.losses[0], aligned.losses[place]),
        p_value=p_value,
        corrected_p_value=corrected,
        can_be_chance=corrected >= MAX_CHANCE,
        classes=_compare_classes(aligned, first, own),
        better_pictures=_pick(aligned.keys, better),
        worse_pictures=_pick(aligned.keys, worse),
    )


def _compare_losses(first: NDArray[np.float32], own: NDArray[np.float32]) -> Score | None:
    differences = own.astype(np.float64) - first
    if np.isnan(differences).any():  # a model does not know the class of one of the pictures
        return None
    found = find_mean_interval(differences)
    return None if found is None else Score(value=found[0], low=found[1], high=found[2])


def _compare_classes(
    aligned: Aligned, first: NDArray[np.bool_], own: NDArray[np.bool_]
) -> tuple[ClassPair, ...]:
    def count(chosen: NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(aligned.labels[chosen], minlength=len(aligned.class_names)).tolist()
        return counts

    columns = (np.ones(len(own), bool), first, own, own & ~first, first & ~own)
    rows = [
        ClassPair(
            class_name=name, num_pictures=total, right_before=before, right=after, better=up, worse=down
        )
        for name, total, before, after, up, down in zip(
            aligned.class_names, *map(count, columns), strict=True
        )
        if total
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.better + row.worse), row.class_name)))


def _pick(keys: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(keys[place] for place in np.flatnonzero(chosen)[:_NUM_PICTURES].tolist())
