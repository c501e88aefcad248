"""Opens the runs to compare: finds their folders, reads their records, and gives each a letter and a name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.counts import count_of
from classifold.errors import Fault, RunError, UsageError
from classifold.report.records import RunRecords, read_object, read_records
from classifold.run_folder import check_finished, find_run

_MOST_USD = 1e12


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run to compare.

    Attributes:
        letter: "A" for the first run, "B" for the second, "AA" after "Z".
        name: Name of its folder, with as much of the path as tells it from the others.
        run_dir: The run folder.
        records: What its files say, except predictions.csv.
    """

    letter: str
    name: str
    run_dir: Path
    records: RunRecords


def open_runs(sources: Sequence[Path], *, runs_dir: Path, resume: str) -> tuple[list[OpenedRun], list[str]]:
    """Find and read the runs; a run that is given several times counts once.

    Args:
        sources: Run folders, or names of runs in `runs_dir`.
        runs_dir: RUNS_DIR.
        resume: How an interrupted run is finished, for a hint.

    Returns:
        The runs in the order given, and notes for the user.

    Raises:
        UsageError: Fewer than two different runs are given.
        RunError: A folder is missing, damaged or no finished run; names every such folder.
    """
    folders = [find_run(source, runs_dir=runs_dir) for source in sources]
    unique = list({os.path.realpath(folder): folder for folder in reversed(folders)}.values())[::-1]
    if len(unique) < 2:
        what = "expected two runs or more" if len(folders) < 2 else "the same run is given several times"
        hint = "for instance: classifold compare runs/first runs/second"
        raise UsageError(Fault("classifold compare", what, hint, got=count_of(len(folders), "run")))
    repeated = len(folders) - len(unique)
    notes = [f"{count_of(repeated, 'run')} given more than once, and compared once"] if repeated else []
    faults: list[Fault] = []
    opened = []
    for place, (folder, name) in enumerate(zip(unique, name_folders(unique), strict=True)):
        try:
            records = read_records(check_finished(folder, resume=resume))
            opened.append(OpenedRun(letter_of(place), name, folder, records))
        except RunError as error:
            faults.extend(error.faults)
    if faults:
        raise RunError(*faults)
    return opened, notes


def letter_of(place: int) -> str:
    """Return the letter of a run: A for 0, Z for 25, AA for 26, as a sheet numbers its columns."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Return the shortest end of each path that no other one has, with a slash between its parts."""
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]
    found = []
    for own in parts:
        others = [one for one in parts if one != own]
        length = 1
        while length < len(own) and any(one[-length:] == own[-length:] for one in others):
            length += 1
        found.append("/".join((*own[-length:-1], names.run_name(own[-1]))))
    return found


def find_cost(run: OpenedRun) -> float | None:
    """Return what a job on SageMaker was billed for the run in US dollars; None for any other run.

    Raises:
        RunError: job.json is damaged.
    """
    path = run.run_dir / names.JOB_JSON
    usd = read_object(path).get("usd") if path.exists() else None
    if usd is None:
        return None
    # Whole numbers in JSON may be larger than a float can be.
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= _MOST_USD:
        hint = "copy or fetch the run folder again"
        raise RunError(Fault(str(path), "the file cannot be read (its usd is not a price)", hint))
    return float(usd)


def find_model_mb(run: OpenedRun) -> float | None:
    """Return the size of the run's model.onnx in MB; None where it is missing."""
    try:
        return (run.run_dir / names.MODEL_ONNX).stat().st_size / 1e6
    except OSError:
        return None
