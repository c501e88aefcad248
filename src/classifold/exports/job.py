"""What the processes of an export are told: the model, the pictures, and where their results go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from classifold.errors import ClassifoldError, Fault, RunError
from classifold.exports.formats import Precision, Target, find_format


@dataclass(frozen=True)
class Job:
    """One export, for the process that writes it and the one that runs it.

    Attributes:
        target: The format and its precision.
        model: The run's model.onnx; other files of the run lie beside it.
        name: Name of the run.
        folder: The new folder that the export is written into.
        data_dir: Value of `--data`.
        answer: File that the process which runs the export writes.
    """

    target: Target
    model: Path
    name: str
    folder: Path
    data_dir: Path | None
    answer: Path

    @property
    def faults_path(self) -> Path:
        """File that a process writes where the user can do something about its failure."""
        return self.answer.with_name("faults.json")

    @property
    def model_path(self) -> Path:
        """Path of the exported model, a file or a folder."""
        return self.folder / self.target.format.model.format(name=self.name)


def save_job(job: Job, path: Path) -> None:
    """Write what `load_job` reads."""
    plain = {
        "format": job.target.format.name,
        "precision": job.target.precision,
        "model": str(job.model),
        "name": job.name,
        "folder": str(job.folder),
        "data_dir": None if job.data_dir is None else str(job.data_dir),
        "answer": str(job.answer),
    }
    path.write_text(json.dumps(plain), encoding="utf-8")


def load_job(path: Path) -> Job:
    """Read a job that this process's parent has written."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    precision: Precision = plain["precision"]
    return Job(
        target=Target(find_format(plain["format"]), precision),
        model=Path(plain["model"]),
        name=plain["name"],
        folder=Path(plain["folder"]),
        data_dir=None if plain["data_dir"] is None else Path(plain["data_dir"]),
        answer=Path(plain["answer"]),
    )


@contextlib.contextmanager
def keeping_faults(job: Job) -> Iterator[None]:
    """Write the faults of an error that the user can correct, for the process that waits for this one."""
    try:
        yield
    except ClassifoldError as error:
        plain = [asdict(fault) for fault in error.faults]
        job.faults_path.write_text(json.dumps(plain), encoding="utf-8")


def raise_faults(job: Job) -> None:
    """Raise what `keeping_faults` wrote, if it did.

    Raises:
        RunError: With those faults.
    """
    if job.faults_path.exists():
        plain = json.loads(job.faults_path.read_text(encoding="utf-8"))
        raise RunError(*(Fault(**one) for one in plain))
