"""The data check from the pictures to the findings, from top to bottom."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.baseline import KINDS
from classifold.datacheck.effect import measure_effect
from classifold.datacheck.features import Network, compute_features, explain_missing
from classifold.datacheck.kinds import costs, find_odd_pictures, find_outliers
from classifold.datacheck.labels import check_labels, explain_few
from classifold.datacheck.measures import StoredPhotos, add_sketches, read_and_measure
from classifold.datacheck.out_of_fold import NUM_FOLDS
from classifold.datacheck.photo import Photo
from classifold.datacheck.plan import Step, build_plan, find_links
from classifold.datacheck.sets import EstimateJob, describe_sets, estimate_minutes
from classifold.datacheck.shortcuts import choose_for_background, find_shortcuts, judge_background
from classifold.datacheck.unreadable import find_unreadable
from classifold.dataset.check import CheckReport, Reading, check_data
from classifold.dataset.division import check_readable
from classifold.dataset.groups import GroupedPictures, find_groups
from classifold.dataset.index import SET_RANKS, count_sets
from classifold.dataset.keys import name_key
from classifold.dataset.near_copies import compare_pictures
from classifold.dataset.sources import describe_sources, hash_sources
from classifold.dataset.walk import Picture
from classifold.errors import ClassifoldError, RunError
from classifold.findings import Findings, PictureFinding
from classifold.kept_findings import find_kept, keep_findings
from classifold.likeness.description import describe
from classifold.machine import count_workers
from classifold.names import ENVIRONMENT_JSON, EVALUATION, PREDICTIONS_CSV
from classifold.report.records import read_metrics, read_object
from classifold.settings.config import Config

# Why parts of the check did not run, for `Findings.skipped`.
_QUICK = "left out by --quick"
# Parts of the findings for which features are needed; a quick check takes them from the whole check before.
_BY_FEATURES = ("labels", "estimate", "overlaps", "shortcuts", "effect")
_LISTED = "check does not open the pictures of a listing; `classifold split` reports the copies"
_UNREAD = "the pictures could not be read or divided; fix the reported errors first"


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        report: Classes, sets and faults: what split would do.
        findings: What is wrong with the pictures.
        paths: Path of each picture that the findings name, by its key.
    """

    report: CheckReport
    findings: Findings
    paths: Mapping[str, str]

    @property
    def plan(self) -> list[Step]:
        """Return what could be done about the findings."""
        return build_plan(self.findings, links=find_links(self.findings.source, self.paths))

    @property
    def is_empty(self) -> bool:
        """Return whether no picture could be looked at, as in a folder that has no classes."""
        return set(self.findings.skipped.values()) == {_UNREAD}


def choose_check_dir(config: Config) -> Path:
    """Return the folder for check.html and check.json: beside the pictures, their name with -check."""
    source = Path(config.DATA_MANIFEST or config.DATA_LOCAL_DIR).resolve()
    stem = source.name.partition(".")[0] if config.DATA_MANIFEST else source.name
    return source.with_name(f"{stem or 'pictures'}-check")


def find_newest_run(config: Config) -> Path | None:
    """Return the newest finished run in RUNS_DIR that was trained on the split of these pictures, if any."""
    try:
        finished = [one for one in Path(config.RUNS_DIR).iterdir() if (one / PREDICTIONS_CSV).is_file()]
        finished.sort(key=lambda one: (one / PREDICTIONS_CSV).stat().st_mtime_ns, reverse=True)
    except OSError:  # there are no runs, or they cannot be listed
        return None
    return next((one for one in finished if _is_of_split(one, config)), None)


def _is_of_split(run_dir: Path, config: Config) -> bool:
    try:
        data = read_object(run_dir / ENVIRONMENT_JSON).get("data")
    except ClassifoldError:
        return False
    folder = data.get("dir") if isinstance(data, dict) else None
    return isinstance(folder, str) and Path(folder).absolute() == config.split_dir.absolute()


def _read_accuracy(run_dir: Path | None) -> float | None:
    """Return the accuracy of a finished run on its evaluation set; None where it is not known."""
    if run_dir is None:
        return None
    with contextlib.suppress(RunError):  # a note says what is damaged, see `_Looked._look_at_run`
        return read_metrics(run_dir).scores["accuracy"].value
    return None


def check_pictures(
    config: Config,
    *,
    is_quick: bool = False,
    run_dir: Path | None = None,
    estimate_job: EstimateJob | None = None,
) -> Checked:
    """Check DATA_LOCAL_DIR or DATA_MANIFEST for what spoils the score of a model.

    Args:
        config: The settings.
        is_quick: Compute no features of the pictures: labels, shortcuts and the effect of leaks are those of
            the whole check of the same pictures before; they are left out if there was none.
        run_dir: A finished run on these pictures, to tell what each kind of picture costs it; None: none.
            Where its predictions cannot be read, a note says so.
        estimate_job: Time and price of a job on the configured machine; None: they are not reported.

    Raises:
        DiskError: There is no room for the index.
    """
    looked = _Looked(config, is_quick=is_quick, run_dir=run_dir, estimate_job=estimate_job)
    reading = Reading(_measure, _complete, looked.examine)
    report = check_data(config, reading)
    findings = Findings(
        source=report.source,
        fingerprint=find_fingerprint(config),
        num_pictures=sum(count or 0 for row in report.classes.values() for count in row.values()),
        skipped=looked.skipped,
        notes=tuple(looked.notes),
        **looked.found,
    )
    if not report.faults:
        keep_findings(findings, kind="quick" if is_quick or looked.skipped else "full")
    return Checked(report, findings, looked.paths)


def find_fingerprint(config: Config) -> str:
    """Return the hash of the pictures' names, sizes and times, and of the settings that divide them.

    It is empty if the pictures cannot be listed.
    """
    with contextlib.suppress(ClassifoldError, OSError):  # of a folder that cannot be read there is none
        return hash_sources(describe_sources(config))
    return ""


def _measure(index: sqlite3.Connection, config: Config) -> None:
    """Read and measure every picture, and add what near copies are found by."""
    total = index.execute("SELECT COUNT(*) FROM picture").fetchone()[0]
    read_and_measure(
        index,
        total=total,
        num_workers=count_workers(config.NUM_WORKERS),
        max_pixels=config.MAX_PIXELS,
        sample_bits=config.SAMPLE_BITS,
        describe=describe,
    )
    index.execute(
        """INSERT INTO likeness (id, description, taken)
           SELECT id, description, taken FROM photo WHERE description NOT NULL"""
    )
    check_readable(index, config)


def _complete(index: sqlite3.Connection, config: Config) -> None:
    add_sketches(index, num_workers=count_workers(config.NUM_WORKERS), max_pixels=config.MAX_PIXELS)


@dataclass
class _Looked:
    """A check in progress.

    Attributes:
        config: The settings.
        is_quick: Whether parts that need features are left out.
        run_dir: A finished run; None: none.
        estimate_job: Time and price of a job; None: they are not reported.
        found: Values of `Findings` by name, as far as they were found.
        skipped: Parts that did not run, each with the reason and the cure.
        notes: Remarks for the user.
        paths: Path of each picture that the findings name, by its key.
    """

    config: Config
    is_quick: bool
    run_dir: Path | None
    estimate_job: EstimateJob | None
    found: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)

    def examine(self, index: sqlite3.Connection, config: Config) -> None:
        """Look at all pictures of an index, in which their measures are."""
        if config.DATA_MANIFEST:
            self.skipped = dict.fromkeys(("leaks", "conflicts", "copies", "bursts"), _LISTED)
            self.skipped |= dict.fromkeys(("labels", "shortcuts", "pictures"), _LISTED)
            self.found["sets"] = describe_sets(count_sets(index), estimate_job=self.estimate_job)
            return
        if not _has_measures(index):
            self.skipped = dict.fromkeys(KINDS, _UNREAD)
            return
        if config.NEAR_COPIES == "ignore":  # else they are known since before the pictures were divided
            compare_pictures(index, config)
        stored, groups = StoredPhotos(index), find_groups(index)
        self.found["groups"] = groups.groups
        pictures = [
            *find_unreadable(
                index, num_workers=count_workers(config.NUM_WORKERS), max_pixels=config.MAX_PIXELS
            ),
            *find_odd_pictures(stored, image_size=config.IMAGE_SIZE),
        ]
        pictures += self._look_closely(stored, groups, counts=count_sets(index))
        self.found["pictures"] = tuple(sorted(pictures, key=lambda one: (one.kind, one.file)))
        if self.run_dir is not None:
            self._look_at_run(pictures, self.run_dir, places=_find_places(index))
        self.paths = _find_paths(index, self._list_named())

    def _look_closely(
        self, stored: StoredPhotos, groups: GroupedPictures, *, counts: Mapping[str, Mapping[str, int]]
    ) -> list[PictureFinding]:
        """Look at sets, labels, shortcuts and leaks; return the outliers of the classes."""
        accuracy = _read_accuracy(self.run_dir)
        reason = _QUICK if self.is_quick else explain_missing(self.config)
        if not reason:
            sizes = Counter(one.class_name for one in stored).values()
            enough = [size for size in sizes if size >= NUM_FOLDS]
            reason = explain_few(len(enough), sum(enough))
        if reason:
            if self.is_quick and (kept := find_kept(find_fingerprint(self.config), kind="full")) is not None:
                self.found |= {name: getattr(kept, name) for name in _BY_FEATURES}
            else:
                self.skipped |= dict.fromkeys(("labels", "shortcuts"), reason)
            self.found["sets"] = describe_sets(counts, stored, accuracy=accuracy)
            return []
        photos, rows, backgrounds, seconds = _compute(self.config, list(stored))
        minutes = None if seconds is None else estimate_minutes(counts, self.config, seconds_each=seconds)
        self.found["sets"] = describe_sets(
            counts, photos, accuracy=accuracy, training_minutes=minutes, estimate_job=self.estimate_job
        )
        numbers = groups.number([one.key for one in photos])
        self._look_at_labels(photos, rows, numbers)
        self._look_for_shortcuts(photos, rows, backgrounds, numbers)
        copies = groups.number([one.key for one in photos], is_copies=True)
        self.found["effect"] = measure_effect(photos, rows, groups=copies, seed=self.config.RANDOM_SEED)
        return find_outliers([one.key for one in photos], [one.class_name for one in photos], rows)

    def _look_at_labels(
        self, photos: Sequence[Photo], rows: NDArray[np.float32], groups: Sequence[Sequence[int]]
    ) -> None:
        checked = check_labels(photos, rows, groups=groups, seed=self.config.RANDOM_SEED)
        self.notes += checked.notes
        if checked.skipped:
            self.skipped["labels"] = checked.skipped
            return
        self.found |= {"labels": checked.suspects, "overlaps": checked.overlaps, "estimate": checked.estimate}

    def _look_for_shortcuts(
        self,
        photos: Sequence[Photo],
        rows: NDArray[np.float32],
        backgrounds: Backgrounds,
        groups: Sequence[Sequence[int]],
    ) -> None:
        seed = self.config.RANDOM_SEED
        found = list(find_shortcuts(photos, groups=groups, seed=seed))
        chosen, places = backgrounds.rows, backgrounds.places
        order = {place: number for number, place in enumerate(places.tolist())}
        within = [tuple(order[one] for one in group if one in order) for group in groups]
        behind = judge_background(
            [photos[place] for place in places],
            rows[places],
            chosen,
            groups=[group for group in within if len(group) > 1],
            seed=seed,
        )
        if behind is not None:
            found.append(behind)
        self.found["shortcuts"] = tuple(found)

    def _look_at_run(
        self, pictures: Sequence[PictureFinding], run_dir: Path, *, places: Mapping[str, str]
    ) -> None:
        try:
            self.found["costs"] = tuple(costs(pictures, run_dir, places=places))
        except RunError as error:  # the rest of the check is of use without it
            why = f"{error.faults[0].where}: {error.faults[0].what}"
            self.notes.append(f"what each kind of picture costs a run is not known: {why}")

    def _list_named(self) -> set[str]:
        """Return the keys of all pictures that the findings name."""
        named = {key for group in self.found.get("groups", ()) for key in group.files}
        named |= {one.file for one in self.found.get("pictures", ())}
        for suspect in self.found.get("labels", ()):
            named |= {suspect.file, *(one.file for one in suspect.neighbours)}
        return named


@dataclass(frozen=True)
class Backgrounds:
    """Features of pictures with the middle blanked.

    Attributes:
        rows: Shape (n, F).
        places: Indices of these pictures among all, (n,), rising.
    """

    rows: NDArray[np.float32]
    places: NDArray[np.intp]


def _compute(
    config: Config, photos: Sequence[Photo]
) -> tuple[list[Photo], NDArray[np.float32], Backgrounds, float | None]:
    """Return the pictures that have features, these, those of backgrounds, and the seconds of a picture."""
    network = Network(config)
    pictures = [Picture(Path(one.path), one.class_name, one.key) for one in photos]
    features = compute_features(pictures, network)
    kept = [photos[place] for place in features.places]
    labels = np.unique([one.class_name for one in kept], return_inverse=True)[1]
    chosen = choose_for_background(np.asarray(labels, np.intp), seed=config.RANDOM_SEED)
    behind = compute_features([pictures[features.places[one]] for one in chosen], network, is_blanked=True)
    return kept, features.rows, Backgrounds(behind.rows, chosen[behind.places]), features.seconds_each


def _has_measures(index: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'photo'"
    return index.execute(query).fetchone() is not None


def _find_places(index: sqlite3.Connection) -> dict[str, str]:
    """Return the keys below the evaluation folder of pictures whose key in the split differs, by key."""
    query = "SELECT key, given, place FROM picture WHERE place NOT NULL AND rank = ?"
    rank = SET_RANKS.index(EVALUATION)
    return {name_key(key, given): place for key, given, place in index.execute(query, (rank,))}


def _find_paths(index: sqlite3.Connection, keys: Collection[str]) -> dict[str, str]:
    named = set(keys)
    query = index.execute("SELECT key, given, path FROM picture")
    found = ((name_key(key, given), path) for key, given, path in query)
    return {key: os.fsdecode(path) for key, path in found if key in named}
