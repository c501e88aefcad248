"""The model that is served, and the change to a new one without losing a request."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from classifold.predict.predictor import Predictor, load_predictor
from classifold.run_folder import find_run
from classifold.serve.options import ServeOptions


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A model in memory, loaded and checked.

    Attributes:
        predictor: The model, its classes and the rule on which pictures it answers.
        name: What clients call it; the same for each model that a server takes over.
        run: Name of the run.
        sha256: Of model.onnx, in hexadecimal.
        path: The file model.onnx.
        loaded_at: When it was loaded, in seconds since 1970.
    """

    predictor: Predictor
    name: str
    run: str
    sha256: str
    path: Path
    loaded_at: float


def load_model(options: ServeOptions, *, name: str | None = None) -> ServedModel:
    """Load the model that the options name, as it is now.

    Args:
        options: The options of the server.
        name: What clients call it already; None: by the option, else by what RUN says, else by the run.

    Raises:
        RunError: There is none, or it is damaged.
        UsageError: It cannot promise so small an error.
    """
    predictor = load_predictor(
        find_run(options.run, runs_dir=options.runs_dir),
        max_pixels=options.max_pixels,
        threshold=options.threshold,
        max_error=options.error,
        always=options.always_answer,
    )
    path = predictor.path
    if path is None:
        # Only a model from memory has none, and RUN always names a file.
        raise TypeError("expected a model in a file")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # In a container the folder has the same name for every model.
    run = predictor.card.run or path.resolve().parent.name
    return ServedModel(predictor, name or options.served_name or run, run, digest, path, time.time())


class ModelSlot:
    """Holds the model that is served; each request takes the current one and keeps it to its end."""

    def __init__(self, options: ServeOptions) -> None:
        self._options, self._lock = options, threading.Lock()
        self.current = load_model(options)

    def reload(self) -> ServedModel:
        """Load the model that RUN names now, check it, and serve it from the next request on.

        RUN is looked up again, so that a link or a name may lead to another run now. It may be called from
        any thread; two calls take turns.

        Raises:
            ClassifoldError: The new model cannot be loaded; the current one is still served.
        """
        with self._lock:
            # Under the same name, or clients of the protocol V2 would ask for a model that is gone.
            self.current = load_model(self._options, name=self.current.name)
            return self.current
