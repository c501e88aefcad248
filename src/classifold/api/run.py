"""A finished run, read from its folder: scores, predictions, files, and the report."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.api.browser import open_page
from classifold.api.paths import PathLike, parse_path
from classifold.api.tables import read_history, read_predictions
from classifold.errors import ClassifoldError, Fault, RunError
from classifold.progress import say
from classifold.report.records import read_metrics, read_object
from classifold.run_folder import check_finished

if TYPE_CHECKING:
    from classifold.api.model import Model

_RESUME = "classifold.train(folder, resume=True)"


class Run:
    """A finished run: its folder, whether trained here or fetched from SageMaker.

    A notebook shows its scores and its report. Files are read when they are first asked for, as data: nothing
    is unpickled and no code is run, so a run from somebody else is safe to look at.

    Args:
        path: The run folder.

    Raises:
        ClassifoldError: There is no such folder, or it is no finished run.

    Example:
        >>> import classifold
        >>> run = classifold.Run("runs/first")
        >>> run
        Run('runs/first', accuracy 1.000)
        >>> run.accuracy
        1.0
        >>> run.class_names
        ('blue', 'green', 'red stripes')
        >>> run.load().predict("photo.jpg").label
        'green'
    """

    def __init__(self, path: PathLike) -> None:
        self._path = check_finished(parse_path(path, where="classifold.Run"), resume=_RESUME)

    def __repr__(self) -> str:
        try:
            score = f"accuracy {self.accuracy:.3f}"
        except Exception:  # a debugger or a log that shows the object must not fail, whatever the file holds
            score = "its scores cannot be read"
        return f"Run({str(self._path)!r}, {score})"

    def __fspath__(self) -> str:
        return str(self._path)

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._path

    @property
    def name(self) -> str:
        """The run's name, which is that of its folder."""
        return self._path.resolve().name

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json: scores with 95 % intervals, scores per class, confusion matrix.

        Raises:
            ClassifoldError: The file is missing or damaged.

        Example:
            >>> import classifold
            >>> classifold.Run("runs/first").metrics["scores"]["accuracy"]["value"]
            1.0
        """
        read_metrics(self._path)  # checks the keys that we use; below, keys of later releases are kept
        return read_object(self._path / names.METRICS_JSON)

    @property
    def accuracy(self) -> float:
        """Share of the evaluation pictures that were named correctly, 0..1."""
        return float(self.metrics["scores"]["accuracy"]["value"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return tuple(self.metrics["class_names"])

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, by name: the content of config.json."""
        return read_object(self._path / names.CONFIG_JSON)

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, times and the data's fingerprint: the content of environment.json."""
        return read_object(self._path / names.ENVIRONMENT_JSON)

    @functools.cached_property
    def predictions(self) -> Any:
        """One row for each evaluation picture: a DataFrame where pandas is installed, else a NumPy array.

        The columns are `path` (below the evaluation folder), `true_class` and `predicted_class` (text),
        `confidence` (the probability of the predicted class, float64), `correct` (bool), for each class
        `p:NAME`, its probability (float64), and in runs whose model measures distances `unknown` (bool) and
        `distance` (float64). Without pandas they are the fields of a structured array, read in
        the same way: `run.predictions["confidence"]`.

        Raises:
            ClassifoldError: The file is missing or damaged.

        Example:
            >>> import classifold
            >>> predictions = classifold.Run("runs/first").predictions
            >>> wrong = predictions[~predictions["correct"]]
            >>> len(predictions), len(wrong)
            (9, 0)
        """
        return read_predictions(self._path)

    @functools.cached_property
    def history(self) -> Any:
        """One row for each epoch of the training: a DataFrame where pandas is installed, else a NumPy array.

        The columns are those of history.csv; a missing number is nan.

        Raises:
            ClassifoldError: The file is missing or damaged.

        Example:
            >>> import classifold
            >>> history = classifold.Run("runs/first").history
            >>> set(history["stage"]) == {"head", "fine_tune"}
            True
        """
        return read_history(self._path)

    @property
    def paths(self) -> Mapping[str, Path]:
        """The path of each file of the run that exists, by its name.

        Example:
            >>> import classifold
            >>> classifold.Run("runs/first").paths["model.onnx"].as_posix()
            'runs/first/model.onnx'
        """
        files = (*names.RUN_FILES, names.MODEL_ARCHIVE)
        return {name: self._path / name for name in files if (self._path / name).exists()}

    @property
    def report_path(self) -> Path:
        """Path of the report, one page that opens offline in any browser."""
        return self._path / names.REPORT_HTML

    def open_report(self) -> Path:
        """Open the report in the browser of this machine, and return its path.

        Where there is no browser, as on a server, a line on standard error gives the report's path.

        Raises:
            ClassifoldError: The run folder has no report.

        Example:
            >>> import classifold
            >>> classifold.Run("runs/first").open_report().name
            'report.html'
        """
        if not self.report_path.is_file():
            hint = f"`classifold report {self._path}` writes it again"
            raise RunError(Fault(str(self.report_path), "there is no report in this run folder", hint=hint))
        if not open_page(self.report_path):
            say(f"no browser can be opened here; the report is {self.report_path.resolve()}")
        return self.report_path

    def load(
        self, *, threshold: float | None = None, error: float | None = None, always_answer: bool = False
    ) -> Model:
        """Load the run's model, as `classifold.load` does.

        Args:
            threshold: See `classifold.load`.
            error: See `classifold.load`.
            always_answer: See `classifold.load`.

        Raises:
            ClassifoldError: The model is missing or damaged.

        Example:
            >>> import classifold
            >>> classifold.Run("runs/first").load().predict("photo.jpg").label
            'green'
        """
        from classifold.api.model import load

        return load(self._path, threshold=threshold, error=error, always_answer=always_answer)

    def _repr_html_(self) -> str:
        from classifold.api.notebook import draw_error, draw_run

        try:
            return draw_run(self._path)
        except ClassifoldError as error:
            return draw_error(error)
