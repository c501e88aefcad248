"""`python -m classifold.exports.measure JOB.json` runs an export over the evaluation pictures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifold.errors import DataError, Fault
from classifold.exports.figures import Answers, Cost, Figures, Rate, compare_answers, find_broken
from classifold.exports.job import Job, keeping_faults, load_job
from classifold.exports.pictures import ExportPictures, ReadPicture, find_pictures, read_pictures
from classifold.exports.runners import Ask, Given, load_export, load_onnx
from classifold.pictures.decode import load_picture
from classifold.predict.predictor import Predictor, load_predictor
from classifold.progress import hide_progress

# Pictures that are timed, and those before them that are not: the first calls of a model take longer.
NUM_TIMED = 64
_NUM_WARM = 3
_RUN_BY_TENSORFLOW = ("savedmodel-bytes", "tfjs")


@dataclass
class _Collected:
    """What both models gave for the pictures so far."""

    labels: list[int] = field(default_factory=list)
    expected: list[Given] = field(default_factory=list)
    given: list[Given | None] = field(default_factory=list)
    timed: list[ReadPicture] = field(default_factory=list)
    num_unreadable: int = 0


def measure(job: Job) -> tuple[Figures, str]:
    """Return the figures of an export, and why it is broken, empty if it is not.

    Raises:
        DataError: No evaluation picture can be read.
    """
    predictor = load_predictor(job.model)
    pictures = find_pictures(job.model, predictor.class_names, job.data_dir)
    if pictures is None:
        raise DataError(Fault(str(job.model), "its evaluation pictures are no longer there"))
    takes_bytes = job.target.format.takes == "bytes"
    ask, ask_onnx = load_export(job, predictor.card), load_onnx(job.model, predictor.card)
    found = _collect(pictures, predictor, ask=ask, ask_onnx=ask_onnx, takes_bytes=takes_bytes)
    expected, given = _stack(found.expected, found.expected), _stack(found.given, found.expected)
    rate = _time(found.timed, predictor, ask=ask, ask_onnx=ask_onnx, takes_bytes=takes_bytes)
    cost = Cost(
        bytes_model_onnx=job.model.stat().st_size,
        bytes=count_bytes(job.model_path),
        rate=rate,
        num_unreadable=found.num_unreadable,
    )
    figures = compare_answers(expected, given, np.array(found.labels), predictor.rule, cost)
    return figures, find_broken(given)


def count_bytes(path: Path) -> int:
    """Return the size of a model: of its folder, or of the file and those that share its name."""
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    belonging = [path, path.with_suffix(".bin"), *path.parent.glob("group1-shard*.bin")]
    return sum(one.stat().st_size for one in belonging if one.is_file())


def _collect(
    pictures: ExportPictures, predictor: Predictor, *, ask: Ask, ask_onnx: Ask, takes_bytes: bool
) -> _Collected:
    found = _Collected()
    for one in read_pictures(pictures.evaluation, predictor):
        if one.pixels is None:
            found.num_unreadable += 1
            continue
        found.labels.append(one.label)
        found.expected.append(ask_onnx(one.pixels))
        found.given.append(_try(ask, one, takes_bytes=takes_bytes))
        if len(found.timed) < NUM_TIMED and found.given[-1] is not None:
            found.timed.append(one)
    if not found.labels:
        raise DataError(Fault(str(pictures.folder), "none of the evaluation pictures can be read"))
    return found


def _try(ask: Ask, picture: ReadPicture, *, takes_bytes: bool) -> Given | None:
    """Return an export's answer; None where it cannot read a file that we can."""
    if not takes_bytes:
        return ask(picture.pixels)
    try:
        return ask(picture.content)
    except Exception:  # what runtimes raise has no common base
        return None


def _stack(given: Sequence[Given | None], expected: Sequence[Given]) -> Answers:
    width, has_distance = len(expected[0].probabilities), expected[0].distance is not None
    nothing = Given(np.full(width, np.nan, np.float32), np.nan)
    rows = [nothing if one is None else one for one in given]
    distances = np.array([one.distance for one in rows], np.float32) if has_distance else None
    return Answers(np.stack([one.probabilities for one in rows]), distances)


def _time(
    pictures: Sequence[ReadPicture], predictor: Predictor, *, ask: Ask, ask_onnx: Ask, takes_bytes: bool
) -> Rate:
    """Ask both models about the same pictures in turn, so that what else the machine does meets both."""

    def read(content: bytes) -> NDArray[np.uint8]:
        card = predictor.card
        return load_picture(
            content, size=card.image_size, max_pixels=predictor.max_pixels, sample_bits=card.sample_bits
        )

    seconds = [0.0, 0.0]
    for turn, one in enumerate([*pictures[:_NUM_WARM], *pictures]):
        started = time.perf_counter()
        ask(one.content if takes_bytes else one.pixels)
        between = time.perf_counter()
        ask_onnx(read(one.content) if takes_bytes else one.pixels)
        ended = time.perf_counter()
        if turn >= _NUM_WARM:
            seconds[0] += between - started
            seconds[1] += ended - between
    count = len(pictures)
    export, model_onnx = (count / max(one, 1e-9) for one in seconds)
    return Rate(export=export, model_onnx=model_onnx, num_pictures=count)


def main() -> None:
    """Run the export that the job on the command line describes, and write its figures."""
    from classifold.processes import end_with_parent
    from classifold.training.export import quiet_export

    end_with_parent()
    hide_progress()  # what is printed here is shown only where this step fails
    job = load_job(Path(sys.argv[1]))
    if job.target.format.name in _RUN_BY_TENSORFLOW:
        from classifold.training.backend import start_keras

        start_keras("tensorflow", seed=0)
    with keeping_faults(job), quiet_export():
        figures, broken = measure(job)
        answer = {"figures": figures.model_dump(mode="json"), "broken": broken}
        job.answer.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
