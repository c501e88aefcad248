"""From the trained classifier to the whole run folder: every format, the evaluation, the verification."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.config import Config
from classifold.dataset.scan import Sets
from classifold.errors import Fault, RunError
from classifold.progress import show_progress
from classifold.training.artefacts import build_environment, write_json, write_pickles
from classifold.training.clock import Clock
from classifold.training.history import EpochRow, write_history
from classifold.training.learning import label_pictures, open_reader
from classifold.training.notes import Notes
from classifold.training.own_process import run_module

# Evaluation pictures that every form of the model is asked about before the run is called done.
_SAMPLE_SIZE = 16
_SAMPLE, _ANSWER = "sample.npz", "sample.json"


def write_model(
    folder: Path, classifier: Any, rows: Sequence[EpochRow], *, card: str, config: Config
) -> None:
    """Write the model, and what is known of it before it was evaluated."""
    from classifold.training.export import save_keras

    (folder / names.CLASSES_JSON).write_text(card, encoding="utf-8")
    (folder / names.CONFIG_JSON).write_text(config.to_json(), encoding="utf-8")
    save_keras(classifier.model, folder / names.MODEL_KERAS, card)
    write_history(rows, folder / names.HISTORY_CSV)


class Delivery:
    """Fills a folder that holds the model with everything else of a run.

    Args:
        folder: Holds what `write_model` writes.
        config: The settings.
        sets: The pictures.
        clock: Told when a phase ends.
        notes: Told of pictures that cannot be read.
    """

    def __init__(self, folder: Path, config: Config, sets: Sets, *, clock: Clock, notes: Notes) -> None:
        self.folder, self.config, self.sets = folder, config, sets
        self.clock, self.notes = clock, notes

    def fill(self, *, backend: str, started: datetime) -> dict[str, Any]:
        """Export, evaluate and verify the model; return the metrics.

        Raises:
            RunError: If a form of the model fails, or gives other probabilities.
            DataError: If no picture of the evaluation set can be read.
        """
        with show_progress("writing every format", None):
            run_module("classifold.training.export", self.folder)
        self.clock.end("export")
        metrics = self._evaluate()
        self.clock.end("evaluate")
        verification = self._verify()
        self.clock.end("verify")
        self._write_environment(verification, backend=backend, started=started)
        for scratch in (_SAMPLE, _ANSWER):
            (self.folder / scratch).unlink()
        return metrics

    def check_whole(self, *, has_report: bool, name: str) -> None:
        """Refuse a folder that lacks an artefact.

        Raises:
            RunError: Naming those that are missing.
        """
        expected = [one for one in names.ARTEFACTS if one != names.REPORT_HTML or has_report]
        missing = [one for one in expected if not (self.folder / one).exists()]
        if missing:
            raise RunError(Fault(name, f"the run did not write {', '.join(missing)}"))

    def _evaluate(self) -> dict[str, Any]:
        """Ask the exported model about the evaluation set, and write what it answered."""
        from classifold.training.evaluate import Answers, build_metrics, write_predictions_csv
        from classifold.training.pipeline import Storage

        storage = Storage(self.config.CACHE_GB * 1e9, None)
        reader = open_reader(names.EVALUATION, self.sets, self.config, storage=storage, notes=self.notes)
        with contextlib.closing(reader):
            probabilities = self._ask(reader)
        given = Answers(
            labels=label_pictures(reader.pictures, self.sets.class_names),
            probabilities=probabilities.astype(np.float64),
            class_names=self.sets.class_names,
            keys=[picture.key for picture in reader.pictures],
        )
        metrics = build_metrics(
            given,
            top_k=self.config.TOP_K,
            num_bins=self.config.CALIBRATION_BINS,
            num_samples=self.config.BOOTSTRAP_SAMPLES,
            seed=self.config.RANDOM_SEED,
        )
        metrics["unreadable"] = [{"path": key, "reason": reason} for key, reason in reader.unreadable]
        write_json(metrics, self.folder / names.METRICS_JSON)
        write_predictions_csv(given, self.folder / names.PREDICTIONS_CSV)
        write_pickles(self.folder, given, self.config)
        return metrics

    def _ask(self, reader: Any) -> NDArray[np.float32]:
        """Return the probabilities (N, C) of a set; some of its pictures are kept for the verification."""
        from classifold.inference import open_session, run_session
        from classifold.training.pipeline import blocks

        session = open_session(self.folder / names.MODEL_ONNX)
        picked = set(np.linspace(0, len(reader) - 1, min(_SAMPLE_SIZE, len(reader))).astype(int).tolist())
        sample, answers = [], []
        for indices in blocks(len(reader)):
            pixels = reader.read(indices)
            answers.append(run_session(session, pixels))
            sample += [pixels[i] for i, place in enumerate(indices.tolist()) if place in picked]
        probabilities = np.concatenate(answers)
        np.savez(self.folder / _SAMPLE, pixels=np.stack(sample), probabilities=probabilities[sorted(picked)])
        return probabilities

    def _verify(self) -> dict[str, float]:
        from classifold.training.verify import check_answers

        path = self.folder / _ANSWER
        with show_progress("checking every format", None):
            run_module("classifold.training.verify", self.folder, self.folder / _SAMPLE, path)
        answers = json.loads(path.read_text(encoding="utf-8"))
        check_answers(answers)
        return dict(answers)

    def _write_environment(self, verification: dict[str, float], *, backend: str, started: datetime) -> None:
        counts = {
            name: {
                class_name: sum(1 for picture in pictures if picture.class_name == class_name)
                for class_name in self.sets.class_names
            }
            for name, pictures in self.sets.pictures.items()
        }
        data = {
            "dir": str(self.config.split_dir),
            "fingerprint": self.sets.fingerprint,
            "counts": counts,
        }
        environment = build_environment(
            backend=backend,
            started=started.isoformat(timespec="seconds"),
            seconds=self.clock.seconds,
            data=data,
            verification=verification,
        )
        write_json(environment, self.folder / names.ENVIRONMENT_JSON)
