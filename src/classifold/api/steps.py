"""The steps of the work as functions: check the pictures, split them, train."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold.api.paths import PathLike, parse_path
from classifold.api.run import Run
from classifold.asking import asked_for
from classifold.counts import count_of
from classifold.errors import Fault, Interrupted, UsageError
from classifold.findings import Findings
from classifold.names import SETS
from classifold.settings.config import RECIPES, Config
from classifold.settings.folder import is_made_by_split
from classifold.settings.loader import choose_config
from classifold.settings.words import shorten

if TYPE_CHECKING:
    from classifold.datacheck.check import Checked


@dataclass(frozen=True, repr=False)
class Check:
    """What `check` found.

    Attributes:
        source: Path of the folder or listing that was checked.
        classes: Number of pictures by class and status: "kept", "copy", "conflict" (in two classes) and
            "unreadable"; None for a class whose pictures were not all read.
        counts: Number of pictures by set and class after a split; None where splitting would fail.
        notes: Remarks on the pictures, one sentence each.
        faults: Reasons why splitting would fail, each with its cure; empty if it would succeed.
        findings: What spoils the scores: copies and leaks, wrong labels, shortcuts, unusual pictures, the
            sets; the content of check.json, with the same names. docs/check.md describes it.

    Example:
        >>> import classifold
        >>> found = classifold.check("photos", quick=True)
        >>> found.classes["green"]["kept"]
        20
    """

    source: Path
    classes: Mapping[str, Mapping[str, int | None]]
    counts: Mapping[str, Mapping[str, int]] | None
    notes: Sequence[str]
    faults: Sequence[str]
    findings: Findings
    _checked: tuple[Checked, Config]

    @property
    def is_ready(self) -> bool:
        """Whether the pictures can be split and trained on."""
        return not self.faults

    def write_page(self, folder: PathLike) -> Path:
        """Write check.html, which shows the pictures that were found, and check.json; return the page's path.

        Args:
            folder: The folder to write to; it is made if it is not there.

        Raises:
            ClassifoldError: The folder cannot be written.

        Example:
            >>> import classifold
            >>> classifold.check("photos", quick=True).write_page("photos-check").name
            'check.html'
        """
        from classifold.datacheck.output import write_output

        return write_output(*self._checked, parse_path(folder, where="folder"))

    def write_plan(self, path: PathLike) -> Path:
        """Write a plan that fixes what was found, as CSV, and return its path; docs/check.md describes it.

        Args:
            path: The file to create or to replace.

        Raises:
            ClassifoldError: The file cannot be written.

        Example:
            >>> import classifold
            >>> classifold.check("photos", quick=True).write_plan("plan.csv").name
            'plan.csv'
        """
        from classifold.datacheck.plan import write_plan

        chosen = parse_path(path, where="path")
        write_plan(chosen, self._checked[0].plan)
        return chosen

    def __repr__(self) -> str:
        state = "ready" if self.is_ready else count_of(len(self.faults), "problem")
        return f"Check({str(self.source)!r}, {count_of(len(self.classes), 'class', 'classes')}, {state})"


@dataclass(frozen=True, repr=False)
class Split:
    """What `split` did.

    Attributes:
        path: Folder of the three sets.
        counts: Number of pictures by set ("training", "validation", "evaluation") and class.
        unreadable: Pictures that were left out, each with the reason.
        notes: Remarks on the split, one sentence each.

    Example:
        >>> import classifold
        >>> done = classifold.split("photos")
        >>> sorted(done.counts["training"])
        ['blue', 'green', 'red stripes']
    """

    path: Path
    counts: Mapping[str, Mapping[str, int]]
    unreadable: Mapping[str, str]
    notes: Sequence[str]

    def __repr__(self) -> str:
        totals = ", ".join(f"{name} {sum(self.counts.get(name, {}).values())}" for name in SETS)
        return f"Split({str(self.path)!r}, {totals})"


def check(
    folder: PathLike,
    *,
    config: Config | PathLike | None = None,
    quick: bool = False,
    run: PathLike | Run | None = None,
    **settings: Any,
) -> Check:
    """Check a folder of pictures for what spoils the scores, and return what `split` would do.

    No picture is changed, and no page is written; `Check.write_page` writes it. Labels and shortcuts are
    checked where the extra `train` is installed; `Check.findings.skipped` says what was left out, and why.

    Args:
        folder: The folder, with one sub-folder of pictures per class, or with sets of your own; or a listing
            of pictures.
        config: A `Config`, or the path of a settings file, which is run as Python; None for the defaults.
        quick: Leave out labels and shortcuts, which need features of every picture.
        run: A finished run on these pictures, to tell what each kind of picture costs it; None: the newest
            one in RUNS_DIR, if any.
        settings: Settings by name that override those of `config`, such as `PERCENTAGE_EVAL=0.2`.

    Raises:
        ClassifoldError: A setting is wrong. Mistakes in the pictures are in `Check.faults` instead.

    Example:
        >>> import classifold
        >>> found = classifold.check("photos", quick=True)
        >>> found
        Check('photos', 3 classes, ready)
        >>> found.findings.groups
        ()
        >>> print(classifold.check("no/such/folder").faults[0])
        error: no/such/folder: there is no such folder
        hint: ...
    """
    source = _find_pictures(folder, "check")
    chosen = _choose_settings(source, config, settings)
    from classifold.datacheck.check import check_pictures, find_newest_run

    run_dir = find_newest_run(chosen) if run is None else parse_path(run, where="run")
    checked = check_pictures(chosen, is_quick=quick, run_dir=run_dir)
    report = checked.report
    faults = [fault.format() for fault in report.faults]
    found = checked.findings
    kept = (checked, chosen)
    return Check(source, report.classes, report.counts, list(report.notes), faults, found, kept)


def split(folder: PathLike, *, config: Config | PathLike | None = None, **settings: Any) -> Split:
    """Divide a folder of pictures into training, validation and evaluation, in a folder beside it.

    `train` does this by itself. The set of a picture follows from its content, so splitting again after
    adding or renaming pictures never moves one from evaluation into training.

    Args:
        folder: The folder, with one sub-folder of pictures per class, or with sets of your own; or a listing
            of pictures.
        config: A `Config`, or the path of a settings file, which is run as Python; None for the defaults.
        settings: Settings by name that override those of `config`, such as `PERCENTAGE_EVAL=0.2`.

    Raises:
        ClassifoldError: A setting is wrong, or the pictures cannot be divided; names every mistake.

    Example:
        >>> import classifold
        >>> classifold.split("photos", PERCENTAGE_VAL=0.15, PERCENTAGE_EVAL=0.15)
        Split('photos-split', training ..., validation ..., evaluation ...)
    """
    source = _find_pictures(folder, "split")
    chosen = _choose_settings(source, config, settings)
    from classifold.dataset.split import split_dataset

    done = split_dataset(chosen)
    unreadable = {one.key: one.reason for one in done.unreadable}
    return Split(done.split_dir, done.counts, unreadable, list(done.notes))


def train(
    folder: PathLike,
    *,
    config: Config | PathLike | None = None,
    resume: bool | str | None = None,
    start: PathLike | Run | None = None,
    archive: bool = False,
    time_limit: float | None = None,
    **settings: Any,
) -> Run:
    """Train, evaluate and export a classifier of the pictures in a folder, as `classifold train` does.

    The pictures are checked and divided into three sets beside the folder, unless that is done already.
    Ctrl-C saves the state of the training and raises KeyboardInterrupt; the same call with `resume=True`
    resumes it, with the result of an uninterrupted run. Needs the extra `train`.

    Args:
        folder: The folder, with one sub-folder of pictures per class, or with sets that are divided already;
            or a listing of pictures.
        config: A `Config`, or the path of a settings file, which is run as Python; None for the defaults.
        resume: True to resume the newest interrupted run, or a run's name; the settings must be the same.
        start: A run from whose weights the new run starts: a Run, its folder, or its name; its classes may
            differ.
        archive: Also write `model.tar.gz` into the run folder.
        time_limit: Minutes within which the model must be finished; pictures and epochs are planned for it.
        settings: Settings by name that override those of `config`, such as `EPOCHS=5`; docs/settings.md lists
            them.

    Raises:
        ClassifoldError: A setting is wrong, the pictures cannot be used, or the extra `train` is missing.
        KeyboardInterrupt: After Ctrl-C, once the state is saved; its text says how to resume.

    Example:
        >>> import classifold
        >>> run = classifold.train("photos", config="settings.py", EPOCHS=2)
        >>> run.accuracy > 0.5
        True
        >>> run.paths["model.onnx"].exists()
        True
    """
    source = _parse_folder(folder, "train")
    options = _list_arguments(config, settings, archive=archive, time_limit=time_limit)
    if time_limit is not None:
        _check_time_limit(time_limit, settings)
        settings["TIME_LIMIT"] = time_limit
    begun = None if start is None else parse_path(start, where="start")
    with asked_for(os.fsdecode(folder), in_python=True, options=options, start=begun):
        chosen, name = _choose_beginning(source, config, settings, resume=resume, start=start)
        try:
            return _train(chosen, source, name=name, archive=archive)
        except Interrupted as ending:
            # Not one of our errors: `except ClassifoldError` in a loop over settings must not catch Ctrl-C.
            text = "; ".join(filter(None, (part for one in ending.faults for part in (one.what, one.hint))))
            raise KeyboardInterrupt(text) from None


def _train(config: Config, source: Path, *, name: str | None, archive: bool) -> Run:
    from classifold.api.prepare import prepare_sets
    from classifold.datacheck.quick import tell_quick_check, with_findings
    from classifold.report.page import write_report_of_training
    from classifold.training.backend import check_engine, choose_backend
    from classifold.training.run import train_model

    check_engine(choose_backend(config))  # before the pictures are divided, which may take long
    config = prepare_sets(config, folder=source, is_resumed=name is not None)
    add_report = with_findings(tell_quick_check(config), write_report_of_training)
    summary = train_model(config, archive=archive, add_report=add_report, name=name, is_resumable=True)
    if summary is None:
        raise RuntimeError("a run of one host has a result")
    return Run(summary.run_dir)


def _choose_beginning(
    source: Path,
    config: Config | PathLike | None,
    settings: Mapping[str, Any],
    *,
    resume: bool | str | None,
    start: PathLike | Run | None,
) -> tuple[Config, str | None]:
    """Return the settings of a training, and the name of the run that it resumes; None for a new run."""
    from classifold.training.unfinished import find_start, find_unfinished

    chosen = _choose_settings(source, config, settings)
    runs_dir = Path(chosen.RUNS_DIR)
    if start is not None:
        if "BACKBONE_WEIGHTS" in settings:
            what = "start and BACKBONE_WEIGHTS both name the weights to start from"
            raise UsageError(Fault("classifold.train", what, hint="leave one out"))
        weights = find_start(runs_dir, str(parse_path(start, where="start")))
        chosen = _choose_settings(source, config, {**settings, "BACKBONE_WEIGHTS": weights})
    if resume is None or resume is False:
        return chosen, None
    return chosen, find_unfinished(
        runs_dir, "" if resume is True else str(parse_path(resume, where="resume"))
    )


def _list_arguments(
    config: Config | PathLike | None, settings: Mapping[str, Any], *, archive: bool, time_limit: float | None
) -> list[str]:
    """Return the arguments of a call of `train` as Python text, for a hint that repeats it."""
    words = []
    if isinstance(config, Config):
        recipe = RECIPES.get(config.RECIPE, {})
        chosen = config.model_dump(exclude_unset=True).items()
        own = [_show_argument(name, one) for name, one in chosen if name not in recipe or one != recipe[name]]
        words.append(f"config=classifold.Config({', '.join(own)})")
    elif config is not None:
        words.append(_show_argument("config", config))
    if archive:
        words.append("archive=True")
    if time_limit is not None:
        words.append(_show_argument("time_limit", time_limit))
    return [*words, *(_show_argument(name, one) for name, one in settings.items())]


def _show_argument(name: str, value: object) -> str:
    # A Path is shown as its text, since the user's program may not have imported Path.
    shown = os.fspath(value) if isinstance(value, os.PathLike) else value
    return f"{name}={shown!r}"


def _choose_settings(folder: Path, config: Config | PathLike | None, settings: Mapping[str, Any]) -> Config:
    _refuse_dict(config)
    given = config if config is None or isinstance(config, Config) else parse_path(config, where="config")
    return choose_config(given, settings, folder=folder)


def _refuse_dict(config: object) -> None:
    if isinstance(config, Mapping):
        hint = "classifold.Config(**values) makes one of a dict, and every setting is also a keyword argument"
        raise UsageError(Fault("config", "expected a Config or the path of a file", got="a dict", hint=hint))


def _check_time_limit(minutes: object, settings: Mapping[str, Any]) -> None:
    """Refuse a limit that is no time, or given twice; the setting's own limits are checked with the others.

    Raises:
        UsageError: It is 0 or less, which the setting takes for no limit; or TIME_LIMIT is given as well.
    """
    if "TIME_LIMIT" in settings:
        got = f"time_limit={shorten(minutes)} and TIME_LIMIT={shorten(settings['TIME_LIMIT'])}"
        what = "the time limit is given twice"
        raise UsageError(Fault("classifold.train", what, got=got, hint="leave one out"))
    if isinstance(minutes, int | float) and not isinstance(minutes, bool) and minutes <= 0:
        hint = "leave it out for no limit"
        raise UsageError(Fault("time_limit", "expected minutes above 0", got=repr(minutes), hint=hint))


def _find_pictures(folder: PathLike, function: str) -> Path:
    """Return the path of a folder of pictures.

    Raises:
        UsageError: It is a split already, or its name is empty.
    """
    source = _parse_folder(folder, function)
    if is_made_by_split(source):
        what = "expected a folder of pictures, got a split of one, or its shards"
        hint = f"name the folder of its pictures; to train on it as it is: classifold.train({str(source)!r})"
        raise UsageError(Fault(f"classifold.{function}", what, hint=hint))
    return source


def _parse_folder(folder: PathLike, function: str) -> Path:
    if folder == "":
        hint = "name the folder of your pictures; the current one is '.'"
        raise UsageError(Fault(f"classifold.{function}", "the folder's name is empty", hint=hint))
    return parse_path(folder, where=f"classifold.{function}")
