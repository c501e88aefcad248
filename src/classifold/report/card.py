"""Writes MODEL_CARD.md of a run folder: what a person should know before using the model, as Markdown."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import write_whole
from classifold.counts import count_of
from classifold.dataset.evaluation_size import FEW_PICTURES
from classifold.metrics import Calibration, ClassScores, Metrics, Score
from classifold.printable import make_printable
from classifold.report.data_check import build_check_rows, describe_check, describe_spoilers
from classifold.report.records import Environment, RunRecords
from classifold.report.scores import build_score, find_weakness
from classifold.report.sentences import (
    build_headline,
    build_summary,
    find_cautions,
    find_confused_pairs,
    percent,
)
from classifold.report.usage import read_card
from classifold.settings.config import LEARNING_SETTINGS, RECIPES, Config
from classifold.trust.promise import build_promise

_MOST_CLASSES, _MOST_NAMED, _MOST_PAIRS = 200, 30, 5
# What Markdown, its tables, and the emoji and formulas of git hosts give a meaning inside a line.
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&$#]|:(?=[\w+-]+:)")


def write_model_card(records: RunRecords) -> Path:
    """Write MODEL_CARD.md into the run folder, and return its path.

    It names no path of this machine: it is meant to be passed on with the model.

    Raises:
        DiskError: The file cannot be written.
        RunError: classes.json is damaged.
    """
    path = records.run_dir / names.MODEL_CARD_MD
    with write_whole(path) as partial:
        text = build_model_card(records)
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def build_model_card(records: RunRecords) -> str:
    """Return the card as Markdown with a YAML head, as Hugging Face reads it and GitHub shows it."""
    run_name = names.run_name(records.run_dir.resolve().name)
    parts = [
        _HEAD,
        f"# {escape_markdown(run_name)}\n",
        escape_markdown(f"{build_headline(records.metrics)} {build_summary(records.metrics)}"),
        "",
        *_describe_model(records),
        *_describe_scores(records),
        *_describe_answers(records.metrics),
        *_describe_data(records),
        *_describe_limits(records),
        _describe_use(records),
        *_describe_licences(records.environment),
        *_describe_making(records),
    ]
    return "\n".join(parts)


def escape_markdown(text: str) -> str:
    """Return a name as Markdown that shows it as it is, in one line, also inside a table."""
    # Python treats blanks of other widths as not printable; the report's figures use them.
    shown = "".join(char if unicodedata.category(char) == "Zs" else make_printable(char) for char in text)
    return _SPECIAL.sub(r"\\\g<0>", shown)


_HEAD = """---
# Add `license:` once you have chosen one; see "Licences" below.
pipeline_tag: image-classification
tags:
- image-classification
- classifold
- onnx
- keras
metrics:
- accuracy
---
"""
_USE = """
## How to use it

`RUN` is the folder that holds this file. On the command line:

```sh
classifold predict RUN photo.jpg
```

In Python:

```python
import classifold

print(classifold.load("RUN").predict("photo.jpg"))
```

With ONNX Runtime, NumPy and Pillow alone:

```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("RUN/model.onnx")
card = json.loads(session.get_modelmeta().custom_metadata_map["classifold"])
size = (card["image_size"], card["image_size"])
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
pixels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR), np.float32)[None]
{lines}
```

`model.onnx` takes RGB pixels 0 to 255 as float32, shape (pictures, {side}, {side}, 3), under the name
`pixels`, and gives `probabilities` in the order of the classes in `classes.json`{rule}.
"""
_ANSWER = """\
probabilities = session.run(["probabilities"], {"pixels": pixels})[0][0]
print(card["class_names"][probabilities.argmax()], probabilities.max())"""
_ANSWER_OR_UNKNOWN = """\
outputs = session.run(["probabilities", "distance"], {"pixels": pixels})
probabilities, distance = outputs[0][0], outputs[1][0]
rule = card["answering"]
is_unknown = probabilities.max() < rule["min_confidence"] or not distance <= rule["max_distance"]
print("unknown" if is_unknown else card["class_names"][probabilities.argmax()], probabilities.max())"""
_RULE = """. Its second
output, `distance`, says how unlike the training pictures a picture is. The rule for "unknown" is in
`classes.json` under `answering`: a picture is unknown where the highest probability is below `min_confidence`
or the distance is not at most `max_distance`"""


def _describe_use(records: RunRecords) -> str:
    card = read_card(records.run_dir)
    # All models have a distance since there is a rule; the lines must not name an output that is not there.
    can_refuse = card is not None and card.answering is not None and card.distance == "distance"
    return _USE.format(
        side=_find_side(records),
        lines=_ANSWER_OR_UNKNOWN if can_refuse else _ANSWER,
        rule=_RULE if can_refuse else "",
    )


def _describe_model(records: RunRecords) -> Iterator[str]:
    metrics, environment = records.metrics, records.environment
    shown = ", ".join(escape_markdown(name) for name in metrics.class_names[:_MOST_NAMED])
    more = len(metrics.class_names) - _MOST_NAMED
    classes = f"{shown} and {more:,} more" if more > 0 else shown
    backbone = _name_backbone(records)
    count = count_of(len(metrics.class_names), "class", "classes")
    made = f" on {escape_markdown(environment.started[:10])}" if environment.started else ""
    yield "## What it is\n"
    yield (
        f"An image classifier. It tells {count} apart: {classes}. It was made{made} with Classifold "
        f"{escape_markdown(environment.classifold)}{f' on the backbone {backbone}' if backbone else ''}.\n"
    )


def _describe_scores(records: RunRecords) -> Iterator[str]:
    metrics = records.metrics
    yield "## How good it is\n"
    yield "On the evaluation pictures, which were not used in training, with 95 % intervals:\n"
    rows = [build_score(name, score, metrics) for name, score in metrics.scores.items()]
    cells = [[row.name, row.value, row.interval, row.meaning] for row in rows]
    yield _draw_table(["score", "value", "95 % interval", "meaning"], cells)
    cautions = [*describe_spoilers(records.findings), *find_cautions(metrics)]
    yield "\n".join(f"- {escape_markdown(caution)}" for caution in cautions)
    if metrics.calibration is not None:
        yield f"\n{_describe_calibration(metrics.calibration, metrics.scores.get('calibration_error'))}\n"


def _describe_calibration(calibration: Calibration, now: Score | None) -> str:
    if calibration.method == "none":
        return "The probabilities are not calibrated: a temperature did not improve them in cross-validation."
    by = "with a factor and a shift for each class"
    if calibration.temperature is not None:
        by = f"with the temperature {calibration.temperature:.3f}"
    before = percent(calibration.calibration_error.value)
    after = percent(now.value if now else None)
    fitted = count_of(calibration.num_pictures, "validation picture")
    return (
        f"The probabilities are calibrated {by}, fitted on {fitted}: "
        f"the calibration error was {before} before and is {after} now."
    )


def _describe_answers(metrics: Metrics) -> Iterator[str]:
    yield "\n## When it does not answer\n"
    if metrics.answers is None:
        yield (
            "It always answers: a picture of something else gets one of the classes too, perhaps with a high "
            "probability.\n"
        )
        return
    answers = metrics.answers
    yield f"{escape_markdown(' '.join(build_promise(metrics)))}\n"
    reasons = [f"the confidence is below {answers.min_confidence:.3g}"] if answers.min_confidence else []
    reasons.append(f"the distance from the training pictures is above {answers.max_distance:.3g}")
    yield f"A picture is called unknown where {', or '.join(reasons)}.\n"


def _describe_data(records: RunRecords) -> Iterator[str]:
    metrics, data = records.metrics, records.environment.data
    sets = [name for name in names.SETS if name in data.counts]
    yield "## Data\n"
    totals = ", ".join(f"{sum(data.counts[name].values()):,} for {name}" for name in sets)
    if totals:
        yield f"Pictures: {totals}.\n"
    rows = []
    for scores in sorted(metrics.per_class, key=find_weakness)[:_MOST_CLASSES]:
        counts = [f"{data.counts[name].get(scores.class_name, 0):,}" for name in sets]
        rows.append([scores.class_name, *counts, *_class_cells(scores)])
    yield _draw_table(["class", *sets, "recall", "95 % interval", "precision", "F1"], rows)
    if (more := len(metrics.per_class) - _MOST_CLASSES) > 0:
        yield f"The {count_of(more, 'class', 'classes')} with better scores are in `metrics.json`.\n"
    if metrics.unreadable:
        yield f"{count_of(len(metrics.unreadable), 'evaluation picture')} could not be read.\n"
    if check := describe_check(records.findings):
        yield f"{escape_markdown(check)}\n"
        if found := build_check_rows(records.findings):
            yield _draw_table(
                ["what the check found", "how many", "effect"],
                [[one.what, one.count, one.effect] for one in found],
            )
    if data.fingerprint:
        yield f"Fingerprint of the pictures and their division: `{_code(data.fingerprint)}`.\n"


def _class_cells(row: ClassScores) -> list[str]:
    interval = ""
    if row.support and row.recall_low is not None and row.recall_high is not None:
        interval = f"{percent(row.recall_low, decimals=0)} to {percent(row.recall_high, decimals=0)}"
    recall = percent(row.recall if row.support else None, decimals=0)
    return [recall, interval, percent(row.precision, decimals=0), percent(row.f1, decimals=0)]


def _describe_limits(records: RunRecords) -> Iterator[str]:
    metrics, counts = records.metrics, records.environment.data.counts.get(names.TRAINING, {})
    yield "## Limits\n"
    total = f"{sum(counts.values()):,} training pictures" if counts else "its training pictures"
    lines = [
        f"It learned from {total}. On pictures of another kind (other cameras, light, backgrounds, places) "
        "it can be worse than the scores above say; measure it on your own first.",
        "It was not made or tested for decisions about people's health, safety or rights.",
    ]
    if metrics.answers is None:
        lines.append("It only knows its classes: a picture of anything else gets one of them, too.")
    few = [name for name, count in counts.items() if count < FEW_PICTURES]
    if few:
        shown = ", ".join(few[:_MOST_NAMED]) + (" and others" if len(few) > _MOST_NAMED else "")
        lines.append(f"Fewer than {FEW_PICTURES} training pictures: {shown}.")
    lines += [
        f"It took {pair.true_class} for {pair.predicted_class} in {pair.count:,} of "
        f"{count_of(pair.support, 'evaluation picture')}."
        for pair in find_confused_pairs(metrics, limit=_MOST_PAIRS)
    ]
    yield "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _name_backbone(records: RunRecords) -> str:
    """Return the backbone's name; of a file or folder of one's own, the last part of the path alone."""
    name = str(records.environment.backbone.get("name") or records.settings.get("BACKBONE") or "")
    return escape_markdown(name.rstrip("/").rpartition("/")[2])


def _find_side(records: RunRecords) -> str:
    side = records.settings.get("IMAGE_SIZE")
    return str(side) if isinstance(side, int) else "side"


def _describe_licences(environment: Environment) -> Iterator[str]:
    licence = environment.backbone.get("license") or "not known"
    yield "## Licences\n"
    lines = [
        f"The weights that the training started from: {escape_markdown(licence)}.",
        "The training pictures: not known to Classifold. Look it up before you pass the model on.",
        "Classifold, which made the model: Apache-2.0.",
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _describe_making(records: RunRecords) -> Iterator[str]:
    environment, settings = records.environment, records.settings
    seeds = [
        f"`{name}` = {_code(json.dumps(settings[name]))}"
        for name in ("RANDOM_SEED", "SPLIT_SEED")
        if name in settings
    ]
    yield "\n## How it was made\n"
    seconds = sum(environment.seconds.values())
    lines = [f"Seeds: {', '.join(seeds)}."] if seeds else []
    if seconds:
        cores = f" on {count_of(environment.cpu_count, 'CPU core')}" if environment.cpu_count else ""
        lines.append(f"Time: {seconds:,.0f} seconds{cores}.")
    changed = ", ".join(_list_changes(settings)) or "none that change the model"
    lines.append(f"Settings that differ from the defaults: {changed}.")
    versions = [
        f"Python {environment.python}",
        *(f"{name} {one}" for name, one in sorted(environment.packages.items())),
    ]
    lines.append(f"Versions: {', '.join(map(escape_markdown, versions))}.")
    yield "\n".join(f"- {line}" for line in lines) + "\n"


def _list_changes(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield RECIPE, if it is not the default, and the settings that change the model."""
    by_recipe = RECIPES.get(str(settings.get("RECIPE")), {})
    for name in ("RECIPE", *LEARNING_SETTINGS):
        # The backbone's may be paths of this machine.
        if name not in settings or name in ("BACKBONE", "BACKBONE_WEIGHTS"):
            continue
        value = json.dumps(settings[name], ensure_ascii=False)
        if value != json.dumps(Config.model_fields[name].get_default(), default=list, ensure_ascii=False):
            is_by_recipe = name in by_recipe and json.dumps(by_recipe[name]) == value
            yield f"`{name}` = `{_code(value)}`{' (by RECIPE)' if is_by_recipe else ''}"


def _code(text: str) -> str:
    """Return text for a span of code, which has no escapes: it must not hold a backquote or a line break."""
    return make_printable(text).replace("`", "'")


def _draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([escape_markdown(cell) or " " for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
