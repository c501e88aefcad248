"""Reads the JSON and CSV files of a run folder into checked, typed records."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from classifold import names
from classifold.errors import FILE_FAULT_LIMIT, Fault, RunError
from classifold.findings import Findings
from classifold.metrics import Metrics, Record
from classifold.run_folder import MAX_JSON_BYTES

_CURE = "copy or fetch the run folder again; if it was never complete, train again"
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class DataRecord(Record):
    """The pictures of the run: folder, fingerprint, and counts by set and class."""

    dir: str = ""
    fingerprint: str = ""
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)


class Environment(Record):
    """The content of environment.json: where, when and with which versions the run was trained."""

    format: Literal[1]
    classifold: str = ""
    python: str = ""
    platform: str = ""
    cpu_count: int | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    backend: str = ""
    num_hosts: int = 1
    backbone: dict[str, str | None] = Field(default_factory=dict)
    command: tuple[str, ...] = ()
    started: str = ""
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: float | None = None
    data: DataRecord = DataRecord()
    verification: dict[str, float | None] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epoch:
    """A row of history.csv; a number is None where the cell is empty or not finite.

    With a penalty it is no epoch: the head was computed under this strength of its regularization.
    """

    stage: str
    epoch: int
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float | None
    seconds: float | None
    best: bool
    penalty: float | None = None


@dataclass(frozen=True, slots=True)
class PredictedPicture:
    """A row of predictions.csv.

    Attributes:
        key: Path of the picture below the evaluation folder, with "/".
        true_class: Name of the true class.
        predicted_class: Name of the predicted class.
        confidence: Probability of the predicted class, 0..1.
        true_confidence: Probability of the true class, 0..1; None where the file does not have it.
        correct: True if the two classes are the same.
        unknown: The model would not answer; None where the run is of an earlier release.
        distance: How unlike the training pictures it is, 1 at the limit; None where there is none.
    """

    key: str
    true_class: str
    predicted_class: str
    confidence: float
    true_confidence: float | None
    correct: bool
    unknown: bool | None = None
    distance: float | None = None


@dataclass(frozen=True, slots=True)
class RunRecords:
    """The records of a run folder, except predictions.csv, which is read row by row.

    `findings` is what the data check found before the training; None where there was no check.
    """

    run_dir: Path
    metrics: Metrics
    history: tuple[Epoch, ...]
    settings: dict[str, Any]
    environment: Environment
    findings: Findings | None = None


def read_records(run_dir: Path) -> RunRecords:
    """Read and check the JSON files and history.csv of a run folder.

    Raises:
        RunError: Files are missing or damaged; with every such file.
    """
    if not run_dir.is_dir():
        hint = "give a run folder that `classifold train` made"
        raise RunError(Fault(str(run_dir), "no such run folder", hint))
    faults: list[Fault] = []
    metrics = _attempt(lambda: read_metrics(run_dir), faults)
    history = _attempt(lambda: _read_history(run_dir / names.HISTORY_CSV), faults)
    settings = _attempt(lambda: read_object(run_dir / names.CONFIG_JSON), faults)
    environment = _attempt(lambda: _read_model(run_dir / names.ENVIRONMENT_JSON, Environment), faults)
    check = run_dir / names.CHECK_JSON
    findings = _attempt(lambda: _read_model(check, Findings), faults) if check.exists() else None
    if not (run_dir / names.PREDICTIONS_CSV).is_file():
        faults.append(_missing(run_dir / names.PREDICTIONS_CSV))
    if faults or metrics is None or history is None or settings is None or environment is None:
        raise RunError(*faults)
    return RunRecords(run_dir, metrics, history, settings, environment, findings)


def read_metrics(run_dir: Path) -> Metrics:
    """Read and check metrics.json of a run folder.

    Raises:
        RunError: The file is missing or damaged.
    """
    return _read_model(run_dir / names.METRICS_JSON, Metrics)


def iter_predictions(run_dir: Path) -> Iterator[PredictedPicture]:
    """Yield the rows of predictions.csv one by one, since it may be larger than memory.

    Raises:
        RunError: A row is damaged.
    """
    for _, one, _ in iter_prediction_rows(run_dir):
        yield one


def iter_prediction_rows(run_dir: Path) -> Iterator[tuple[str, PredictedPicture, dict[str, str]]]:
    """Yield the rows of predictions.csv one by one: file and line, the picture, the cells by column.

    Raises:
        RunError: A row is damaged.
    """
    path = run_dir / names.PREDICTIONS_CSV
    for line, row in iter_rows(path, PREDICTION_COLUMNS):
        where = f"{path}, line {line}"
        yield where, parse_row(row, _parse_prediction, where=where), row


def _attempt(read: Callable[[], T], faults: list[Fault]) -> T | None:
    try:
        return read()
    except RunError as error:
        faults.extend(error.faults)
        return None


def _missing(path: Path) -> Fault:
    return Fault(str(path), "this file of the run folder is missing", _CURE)


def _damaged(where: Path | str, what: str) -> RunError:
    return RunError(Fault(str(where), what, _CURE))


def _check_ordinary(path: Path) -> None:
    """Refuse a pipe or a device, which could block or never end."""
    if path.exists() and not path.is_file():
        raise _damaged(path, "it is not an ordinary file")


def _read_text(path: Path) -> str:
    try:
        _check_ordinary(path)
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise _damaged(path, f"it has {size / 1e6:,.0f} MB, more than in any run")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(_missing(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"the file cannot be read ({error})") from error


def _read_model(path: Path, model: type[M]) -> M:
    text = _read_text(path)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors()[:FILE_FAULT_LIMIT]
        faults = [Fault(str(path), _problem_text(problem), _CURE) for problem in problems]
        raise RunError(*faults) from error


def _problem_text(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    return f"{place or 'the content'} is wrong: {problem['msg']}"


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run folder, such as config.json.

    Raises:
        RunError: The file is missing or damaged, or holds something else.
    """
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _damaged(path, "expected a JSON object")
    return content


def _read_history(path: Path) -> tuple[Epoch, ...]:
    return tuple(
        parse_row(row, _parse_epoch, where=f"{path}, line {line}")
        for line, row in iter_rows(path, HISTORY_COLUMNS)
    )


PREDICTION_COLUMNS = ("path", "true_class", "predicted_class", "confidence", "correct")
HISTORY_COLUMNS = ("stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "best")


def iter_rows(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells by column of every row of a CSV file."""
    try:
        _check_ordinary(path)
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise _damaged(path, f"the file has no column {', '.join(absent)}")
            for row in reader:
                if None in row or None in row.values():
                    raise _damaged(
                        f"{path}, line {reader.line_num}", "the row does not have one cell per column"
                    )
                yield reader.line_num, row
    except FileNotFoundError:
        raise RunError(_missing(path)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, f"the file cannot be read ({error})") from error


def parse_row(row: dict[str, str], parse: Callable[[dict[str, str]], T], *, where: str) -> T:
    """Return what `parse` makes of a row.

    Raises:
        RunError: `parse` raised a ValueError; says where the row is.
    """
    try:
        return parse(row)
    except ValueError as error:
        raise _damaged(where, f"a cell is damaged ({error})") from error


def _parse_prediction(row: dict[str, str]) -> PredictedPicture:
    share = row.get(f"p:{row['true_class']}")
    return PredictedPicture(
        key=row["path"],
        true_class=row["true_class"],
        predicted_class=row["predicted_class"],
        confidence=_parse_confidence(row["confidence"]),
        true_confidence=_parse_share(share) if share else None,
        correct=parse_truth(row["correct"]),
        unknown=parse_truth(row["unknown"]) if row.get("unknown") else None,
        distance=parse_figure(row.get("distance", "")),
    )


def _parse_epoch(row: dict[str, str]) -> Epoch:
    return Epoch(
        stage=row["stage"],
        epoch=int(row["epoch"]),
        loss=parse_figure(row["loss"]),
        accuracy=_parse_share(row["accuracy"]),
        val_loss=parse_figure(row["val_loss"]),
        val_accuracy=_parse_share(row["val_accuracy"]),
        learning_rate=parse_figure(row.get("learning_rate", "")),
        seconds=parse_figure(row.get("seconds", "")),
        best=parse_truth(row["best"]),
        # A head that is trained step by step has 0 there, and a run of an older version no such column.
        penalty=parse_figure(row.get("penalty") or "") or None,
    )


def number_epochs(history: Sequence[Epoch]) -> list[int]:
    """Return the number of each epoch within its stage, from 1, as training told it."""
    seen: Counter[str] = Counter()
    numbers = []
    for epoch in history:
        seen[epoch.stage] += 1
        numbers.append(seen[epoch.stage])
    return numbers


def name_stage(stage: str) -> str:
    """Return the name of a stage for a person: "head" or "fine-tuning"."""
    return "fine-tuning" if stage == "fine_tune" else stage.replace("_", "-")


def parse_figure(cell: str) -> float | None:
    """Return the cell's number; None for an empty cell, and for nan and inf of a training that diverged."""
    if not cell.strip():
        return None
    number = float(cell)
    return number if math.isfinite(number) else None


def _parse_share(cell: str) -> float | None:
    share = parse_figure(cell)
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {cell[:40]!r}")
    return share


def _parse_confidence(cell: str) -> float:
    share = _parse_share(cell)
    if share is None:
        raise ValueError(f"expected a share from 0 to 1, got {cell[:40]!r}")
    return share


def parse_truth(cell: str) -> bool:
    """Return the truth of a cell that is "true" or "false", in any case.

    Raises:
        ValueError: It is something else.
    """
    if cell.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, got {cell!r}")
    return cell.lower() == "true"
