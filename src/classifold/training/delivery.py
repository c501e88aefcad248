"""From the trained classifier to the whole run folder: every format, the evaluation, the verification."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import Fault, RunError
from classifold.processes import Module, explain_failure, run_module
from classifold.progress import show_progress
from classifold.settings.backbone_names import describe_licence
from classifold.settings.config import Config
from classifold.training.artefacts import build_environment, write_json, write_pickles
from classifold.training.data import label_pictures, open_reader
from classifold.training.journal import Clock, EpochRow, Notes, write_history
from classifold.training.verify import check_answers

# Evaluation pictures that every form of the model is asked about before the run is called done.
_SAMPLE_SIZE = 8
_SAMPLE, _ANSWER = "sample.npy", "sample.json"


def write_model(folder: Path, model: Any, rows: Sequence[EpochRow], *, card: str, config: Config) -> None:
    """Write the model, and what is known of it before it was evaluated."""
    from classifold.training.export import save_keras

    (folder / names.CLASSES_JSON).write_text(card, encoding="utf-8")
    (folder / names.CONFIG_JSON).write_text(config.to_json(), encoding="utf-8")
    save_keras(model, folder / names.MODEL_KERAS, card)
    write_history(rows, folder / names.HISTORY_CSV)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tell a converter's failure as one of this step."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise explain_failure("classifold.training.export", 1, f"{type(error).__name__}: {error}") from error


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

    def fill(self, *, model: Any, backend: str, started: datetime, num_hosts: int = 1) -> dict[str, Any]:
        """Export, evaluate and verify the model; return the metrics.

        A fresh process loads each form and asks it, while the next one is being written.

        Args:
            model: What model.keras holds.
            backend: Keras's engine in this process.
            started: When the run began.
            num_hosts: That trained together.

        Raises:
            RunError: If a form of the model fails, or gives other probabilities.
            DataError: If no picture of the evaluation set can be read.
        """
        from classifold.training.array_cache import ArrayCache

        cache = ArrayCache(self.config.CACHE_GB * 1e9, None)
        reader = open_reader(names.EVALUATION, self.sets, self.config, cache=cache, notes=self.notes)
        with contextlib.closing(reader):
            self._write_sample(reader)
            paths = (self.folder, self.folder / _SAMPLE, self.folder / _ANSWER)
            with Module("classifold.training.verify", *paths) as checker:
                self._export(model if backend == "tensorflow" else None, checker.tell)
                self.clock.end("export")
                metrics = self._evaluate(reader)
                self.clock.end("evaluate")
                with show_progress("checking that every format gives the same answers", None):
                    checker.finish()
        answers = json.loads((self.folder / _ANSWER).read_text(encoding="utf-8"))
        check_answers(answers)
        self.clock.end("verify")
        self._write_environment(answers, backend=backend, started=started, num_hosts=num_hosts)
        for scratch in (_SAMPLE, _ANSWER):
            (self.folder / scratch).unlink()
        return metrics

    def _write_sample(self, reader: Any) -> None:
        """Write the pixels of some pictures of the set, for the verification."""
        picked = np.linspace(0, len(reader) - 1, min(_SAMPLE_SIZE, len(reader))).astype(int)
        np.save(self.folder / _SAMPLE, reader.read(picked))

    def _export(self, model: Any, tell: Callable[[str], object]) -> None:
        """Write every form: here where Keras runs on TensorFlow, else in a process of its own."""
        from classifold.training.export import export_all

        if model is not None:
            with _explained():
                export_all(self.folder, model, tell=tell)
            return
        with show_progress("writing the model in every format", None):
            run_module("classifold.training.export", self.folder)
            for form in (names.MODEL_ONNX, names.MODEL_KERAS, names.MODEL_H5, names.CHECKPOINT_DIR):
                tell(form)

    def check_whole(self, *, has_report: bool, name: str) -> None:
        """Refuse a folder that lacks an artefact.

        Raises:
            RunError: Naming those that are missing.
        """
        expected = [one for one in names.ARTEFACTS if one != names.REPORT_HTML or has_report]
        missing = [one for one in expected if not (self.folder / one).exists()]
        if missing:
            raise RunError(Fault(name, f"the run did not write {', '.join(missing)}"))

    def _evaluate(self, reader: Any) -> dict[str, Any]:
        """Ask the exported model about the evaluation set, and write what it answered."""
        from classifold.training.evaluate import Answers, build_metrics, write_predictions_csv

        probabilities = self._ask(reader)
        given = Answers(
            labels=label_pictures(reader.pictures, self.sets.class_names),
            probabilities=probabilities.astype(np.float64),
            class_names=self.sets.class_names,
            keys=[picture.key for picture in reader.pictures],
        )
        with show_progress("computing the scores", None):
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
        """Return the probabilities (N, C) that model.onnx gives for a set."""
        from classifold.inference import open_session, run_session
        from classifold.training.array_cache import blocks

        session = open_session(self.folder / names.MODEL_ONNX)
        given = []
        with show_progress("evaluating", len(reader)) as advance:
            for indices in blocks(len(reader)):
                given.append(run_session(session, reader.read(indices)))
                advance(len(indices))
        return np.concatenate(given)

    def _write_environment(
        self, verification: dict[str, float], *, backend: str, started: datetime, num_hosts: int
    ) -> None:
        counts = {
            name: {**dict.fromkeys(self.sets.class_names, 0), **Counter(one.class_name for one in pictures)}
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
            backbone=_describe_backbone(self.config),
            num_hosts=num_hosts,
        )
        write_json(environment, self.folder / names.ENVIRONMENT_JSON)


def _describe_backbone(config: Config) -> dict[str, str | None]:
    """Return what the model was built on, with the licence of the weights that it started from."""
    name, weights = config.BACKBONE, config.BACKBONE_WEIGHTS
    return {"name": name, "weights": weights, "license": describe_licence(name, weights)}
