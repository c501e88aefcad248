"""Builds the section on how the model was made: pictures, time and cost, settings, environment."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from classifold import names
from classifold.report.drawing import draw_interval
from classifold.report.figures import write_duration
from classifold.report.records import Environment
from classifold.report.sentences import percent
from classifold.report.view import Fact, SetRow, Sets, SettingRow, TimeRow
from classifold.settings.config import RECIPES, Config


def build_times(seconds: Mapping[str, float]) -> list[TimeRow]:
    """Return a row for each phase of the run."""
    total = sum(seconds.values())
    return [
        TimeRow(
            phase=phase.replace("_", " "),
            duration=write_duration(value),
            share=percent(value / total, decimals=0),
            bar=draw_interval(value / total, None, None),
        )
        for phase, value in seconds.items()
        if total > 0
    ]


def describe_time(environment: Environment, settings: Mapping[str, Any]) -> str:
    """Return the time, the memory and the cost of the run in sentences."""
    total = sum(environment.seconds.values())
    words = [f"{write_duration(total)} in all"] if total else []
    if environment.peak_memory_mb:
        words.append(f"at most {environment.peak_memory_mb / 1000:.1f} GB of memory")
    if not words:
        return ""
    cost = "It was not trained on SageMaker, so AWS charged nothing for it."
    if PurePosixPath(environment.data.dir).is_relative_to(names.ML_DIR):
        machines = f"{environment.num_hosts} x {settings.get('INSTANCE_TYPE', 'unknown machine')}"
        cost = (
            f"It was trained on SageMaker ({machines}): AWS charges this time, and that of the job's start."
        )
    return f"{', '.join(words)}. {cost}"


def build_settings(settings: Mapping[str, Any]) -> tuple[list[SettingRow], list[SettingRow]]:
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


def build_facts(environment: Environment, settings: Mapping[str, Any]) -> list[Fact]:
    """Return what it takes to make the model again: command, versions, seeds."""
    pairs = (
        ("Command", shlex.join(environment.command)),
        ("Classifold", environment.classifold),
        ("Python", environment.python),
        ("Platform", environment.platform),
        ("CPU cores", str(environment.cpu_count or "")),
        ("Machines", str(environment.num_hosts) if environment.num_hosts > 1 else ""),
        ("Keras backend", environment.backend),
        ("Seed of the training", _setting_text(settings.get("RANDOM_SEED", ""))),
        ("Seed of the split", _setting_text(settings.get("SPLIT_SEED", ""))),
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
    return [Fact(name, value) for name, value in (*pairs, *checks) if value and value != '""']


def build_sets(environment: Environment) -> Sets:
    """Return the number of pictures of each class in each set."""
    counts = environment.data.counts
    order = [*(name for name in names.SETS if name in counts), *sorted(set(counts) - set(names.SETS))]
    class_names = sorted({name for per_class in counts.values() for name in per_class})
    rows = [SetRow(name, [counts[which].get(name, 0) for which in order]) for name in class_names]
    totals = [sum(counts[which].values()) for which in order]
    return Sets(order, rows, totals)
