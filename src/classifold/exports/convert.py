"""`python -m classifold.exports.convert JOB.json` writes one export, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import DataError, Fault
from classifold.exports.formats import Target
from classifold.exports.job import Job, keeping_faults, load_job
from classifold.exports.pictures import find_pictures, read_calibration
from classifold.predict.predictor import Predictor, load_predictor
from classifold.progress import hide_progress


def convert(job: Job) -> None:
    """Write the model of an export and its classes.json; Keras must run on TensorFlow where it is needed.

    Raises:
        DataError: An 8-bit format needs training pictures that cannot be read.
        RunError: A file of the run is missing or damaged.
    """
    predictor = load_predictor(job.model)
    calibration = _read_calibration(job, predictor) if job.target.is_calibrated else []
    card = _write(job, predictor, calibration)
    (job.folder / names.CLASSES_JSON).write_text(card.to_json(), encoding="utf-8")


def _read_calibration(job: Job, predictor: Predictor) -> list[NDArray[np.uint8]]:
    found = find_pictures(job.model, predictor.class_names, job.data_dir)
    return read_calibration(found.training if found else (), predictor)


def check_calibration(targets: Sequence[Target], num_training: int) -> None:
    """Refuse 8-bit formats without training pictures, before any work.

    Raises:
        DataError: There are none.
    """
    wanting = [one.name for one in targets if one.is_calibrated]
    if wanting and not num_training:
        what = "an 8-bit format is calibrated with training pictures, and there are none"
        raise DataError(Fault(", ".join(wanting), what, "name the folder of the three sets with --data DIR"))


def _write(job: Job, predictor: Predictor, calibration: Sequence[NDArray[np.uint8]]) -> Any:
    """Write the model, and return the card that describes it."""
    card, path, run_dir = predictor.card, job.model_path, job.model.parent
    kind, precision = job.target.format.name, job.target.precision
    if kind == "onnx-bytes":
        from classifold.exports.onnx_bytes import write_onnx_bytes

        write_onnx_bytes(job.model, path, card=card)
    elif kind == "savedmodel-bytes":
        from classifold.exports.saved_model import write_saved_model

        write_saved_model(run_dir, path, card=card)
    elif kind == "litert":
        from classifold.exports.litert import write_litert

        write_litert(run_dir, path, card=card, precision=precision, calibration=calibration)
    elif kind == "tfjs":
        from classifold.exports.tfjs import write_tfjs

        write_tfjs(run_dir, path, card=card, precision=precision)
    else:
        return _write_onnx(job, predictor, calibration)
    # The same model, without the outputs that only model.onnx has.
    fewer = {"class_maps": ""} if kind == "onnx-bytes" else {"class_maps": "", "embedding": ""}
    return card.model_copy(update=fewer)


def _write_onnx(job: Job, predictor: Predictor, calibration: Sequence[NDArray[np.uint8]]) -> Any:
    from classifold.exports.onnx_files import strip_class_maps, write_int8, write_triton
    from classifold.exports.openvino_files import write_openvino

    card, path = predictor.card, job.model_path
    if job.target.format.name == "int8":
        return write_int8(job.model, path, card=card, calibration=calibration)
    if job.target.format.name == "triton":
        return write_triton(job.model, path, name=job.name, card=card)
    between = job.folder / ".between.onnx"
    if job.target.precision == "int8":
        kept = write_int8(job.model, between, card=card, calibration=calibration)
    else:
        content, kept = strip_class_maps(job.model, card)
        between.write_bytes(content)
    write_openvino(between, path, card=kept, precision=job.target.precision)
    between.unlink()
    return kept


def main() -> None:
    """Write the export that the job on the command line describes."""
    from classifold.processes import end_with_parent
    from classifold.training.backend import start_keras
    from classifold.training.export import quiet_export

    end_with_parent()
    hide_progress()  # what is printed here is shown only where this step fails
    job = load_job(Path(sys.argv[1]))
    if "tensorflow" in job.target.format.packages:
        start_keras("tensorflow", seed=0)
    with keeping_faults(job), quiet_export():
        convert(job)


if __name__ == "__main__":
    main()
