"""From the trained classifier to the whole run folder: every format, the evaluation, the verification."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import Fault, RunError
from classifold.model_card import DISTANCE, parse_card
from classifold.processes import Module, explain_failure, run_module
from classifold.progress import show_progress
from classifold.settings.backbone_names import describe_licence
from classifold.settings.config import Config
from classifold.training.artefacts import build_environment, write_json, write_pickles
from classifold.training.calibrate import SetOutputs, Trust, build_trust
from classifold.training.converted import FEATURES, LOGITS
from classifold.training.data import label_pictures, open_reader
from classifold.training.journal import Clock, EpochRow, Notes, write_history
from classifold.training.network import Additions, complete_network
from classifold.training.verify import Difference, check_answers, load_answers
from classifold.trust.errors import note_few_pictures, note_missed_error
from classifold.trust.reference import save_reference

Floats = NDArray[np.float32]

# Evaluation pictures that every format of the model is asked about before the run is called done.
_SAMPLE_SIZE, _NOISE_SIZE = 8, 2
_SAMPLE, _ANSWER = "sample.npy", "sample.json"
# The converted network, from which model.onnx is made.
_NETWORK = "network.onnx"


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

        A fresh process loads each format and asks it, while the next one is being written.

        Args:
            model: What model.keras holds.
            backend: Keras's engine in this process.
            started: When the run began.
            num_hosts: That trained together.

        Raises:
            RunError: If a format of the model fails, or gives other probabilities.
            DataError: If no picture of the evaluation set can be read.
        """
        from classifold.training.array_cache import ArrayCache

        cache = ArrayCache(self.config.CACHE_GB * 1e9, None)
        reader = open_reader(names.EVALUATION, self.sets, self.config, cache=cache, notes=self.notes)
        with contextlib.closing(reader):
            self._write_sample(reader)
            paths = (self.folder, self.folder / _SAMPLE, self.folder / _ANSWER)
            with Module("classifold.training.verify", *paths) as checker:
                exported = model if backend == "tensorflow" else None
                self._convert(exported)
                self.clock.end("export")
                trust = build_trust(
                    self._network, self.sets, self.config, evaluation=reader, notes=self.notes
                )
                self._note_missed_error(trust)
                additions = self._keep_trust(trust, model, checker.tell)
                self.clock.end("calibrate")
                self._export(exported, checker.tell)
                self.clock.end("export")
                metrics = self._evaluate(reader, trust, additions)
                self.clock.end("evaluate")
                with show_progress("checking that every format gives the same answers", None):
                    checker.finish()
        answers = load_answers(self.folder / _ANSWER)
        check_answers(answers)
        self.clock.end("verify")
        self._write_environment(answers, backend=backend, started=started, num_hosts=num_hosts)
        for scratch in (_SAMPLE, _ANSWER, _NETWORK):
            (self.folder / scratch).unlink()
        return metrics

    def _note_missed_error(self, trust: Trust) -> None:
        """Tell that MAX_ERROR is not kept, unless that was known and told before the training."""
        wanted = self.config.MAX_ERROR
        if not note_few_pictures(wanted, len(self.sets.pictures[names.EVALUATION])):
            self.notes.tell_all(note_missed_error(wanted, trust.answering))

    def _write_sample(self, reader: Any) -> None:
        """Write the pixels of some pictures of the set and, as strange ones, of noise."""
        picked = np.linspace(0, len(reader) - 1, min(_SAMPLE_SIZE, len(reader))).astype(int)
        pixels = reader.read(picked)
        noise = np.random.default_rng(0).integers(0, 256, (_NOISE_SIZE, *pixels.shape[1:]), np.uint8)
        np.save(self.folder / _SAMPLE, np.concatenate([pixels, noise]))

    @property
    def _network(self) -> Path:
        return self.folder / _NETWORK

    def _convert(self, model: Any) -> None:
        """Convert the network: here where Keras runs on TensorFlow, else in a process of its own."""
        from classifold.training.export import export_network

        with show_progress(f"converting the model for predictions: {names.MODEL_ONNX}", None):
            if model is None:
                run_module("classifold.training.export", self.folder, self._network)
                return
            with _explained():
                export_network(model, self._network)

    def _keep_trust(self, trust: Trust, model: Any, tell: Callable[[str], object]) -> Additions:
        """Write what was found out: the card, reference.npz and, calibrated, model.onnx and model.keras."""
        from classifold.training.export import bake_calibrator, save_keras

        cards = self.folder / names.CLASSES_JSON
        card = trust.complete(parse_card(cards.read_text(encoding="utf-8"), where=cards), self._network)
        cards.write_text(card.to_json(), encoding="utf-8")
        save_reference(trust.reference, self.folder / names.REFERENCE_NPZ)
        kernel, _ = model.get_layer("logits").get_weights()
        additions = Additions(trust.calibrator, trust.reference, kernel)
        with _explained():
            content = complete_network(self._network, additions, card=card.to_json())
        (self.folder / names.MODEL_ONNX).write_bytes(content)
        tell(names.MODEL_ONNX)
        bake_calibrator(model, trust.calibrator)
        save_keras(model, self.folder / names.MODEL_KERAS, card.to_json())
        tell(names.MODEL_KERAS)
        return additions

    def _export(self, model: Any, tell: Callable[[str], object]) -> None:
        """Write the other formats: here where Keras runs on TensorFlow, else in a process of its own."""
        from classifold.training.export import export_forms

        if model is not None:
            with _explained():
                export_forms(self.folder, model, tell=tell)
            return
        with show_progress("writing the model in every format", None):
            run_module("classifold.training.export", self.folder)
            for form in (names.MODEL_H5, names.CHECKPOINT_DIR):
                tell(form)

    def check_whole(self, *, has_report: bool, name: str) -> None:
        """Refuse a folder that lacks an artefact.

        Raises:
            RunError: Naming those that are missing.
        """
        expected = [one for one in names.ARTEFACTS if one != names.REPORT_HTML or has_report]
        expected += [one for one in names.LATER_ARTEFACTS if one != names.MODEL_CARD_MD or has_report]
        missing = [one for one in expected if not (self.folder / one).exists()]
        if missing:
            raise RunError(Fault(name, f"the run did not write {', '.join(missing)}"))

    def _evaluate(self, reader: Any, trust: Trust, additions: Additions) -> dict[str, Any]:
        """Ask the exported model about the evaluation set, and write what it answered."""
        from classifold.training.evaluate import Answers, write_predictions_csv
        from classifold.training.measure import measure_run

        probabilities, distances, seen = self._ask(reader, additions)
        given = Answers(
            labels=seen.labels,
            probabilities=probabilities.astype(np.float64),
            class_names=self.sets.class_names,
            keys=seen.keys,
            distances=distances,
        )
        with show_progress("computing the scores", None):
            metrics = measure_run(given, self.config, trust=trust, seen=seen)
        unreadable = [{"path": key, "reason": reason} for key, reason in reader.unreadable]
        content = {**metrics.model_dump(mode="json"), "unreadable": unreadable}
        write_json(content, self.folder / names.METRICS_JSON)
        write_predictions_csv(given, trust.rule, self.folder / names.PREDICTIONS_CSV)
        write_pickles(self.folder, given, self.config)
        return content

    def _ask(self, reader: Any, additions: Additions) -> tuple[Floats, Floats, SetOutputs]:
        """Return model.onnx's probabilities (N, C) and distances (N,) of a set, and what the head saw."""
        from classifold.inference import open_session, run_outputs
        from classifold.training.array_cache import blocks

        card = (self.folder / names.CLASSES_JSON).read_text(encoding="utf-8")
        # model.onnx with two other outputs, so that nothing is computed twice.
        content = complete_network(self._network, additions, card=card, keep_inner=True)
        session, given = open_session(content), []
        with show_progress("evaluating", len(reader)) as advance:
            for indices in blocks(len(reader)):
                outputs = ("probabilities", DISTANCE, LOGITS, FEATURES)
                given.append(run_outputs(session, reader.read(indices), outputs))
                advance(len(indices))
        probabilities, distances, logits, features = map(np.concatenate, zip(*given, strict=True))
        keys = tuple(picture.key for picture in reader.pictures)
        labels = label_pictures(reader.pictures, self.sets.class_names)
        return probabilities, distances, SetOutputs(keys, labels, logits, features)

    def _write_environment(
        self, answers: Mapping[str, Difference | str], *, backend: str, started: datetime, num_hosts: int
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
            verification={
                form: one.probabilities for form, one in answers.items() if isinstance(one, Difference)
            },
            backbone=_describe_backbone(self.config),
            num_hosts=num_hosts,
        )
        write_json(environment, self.folder / names.ENVIRONMENT_JSON)


def _describe_backbone(config: Config) -> dict[str, str | None]:
    """Return what the model was built on, with the licence of the weights that it started from."""
    name, weights = config.BACKBONE, config.BACKBONE_WEIGHTS
    return {"name": name, "weights": weights, "license": describe_licence(name, weights)}
