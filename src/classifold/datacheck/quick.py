"""The quick part of the check, which `train`, `upload` and `launch` run first."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from classifold.datacheck.check import find_fingerprint
from classifold.datacheck.sets import describe_sets
from classifold.datacheck.summary import describe_quickly
from classifold.datacheck.unreadable import explain_unreadable, read_reasons
from classifold.dataset.check import Reading, check_data
from classifold.dataset.groups import find_groups, read_groups
from classifold.dataset.index import count_sets
from classifold.dataset.layout import find_own_split
from classifold.dataset.record import read_record_head, read_record_list
from classifold.dataset.sources import MADE_FROM, hash_sources
from classifold.errors import ClassifoldError
from classifold.findings import Findings, Group
from classifold.kept_findings import find_kept, keep_findings
from classifold.names import CHECK_JSON, SPLIT_RECORD
from classifold.progress import say
from classifold.settings.config import Config

_CLOSELY = dict.fromkeys(("labels", "shortcuts", "pictures"), "only `classifold check` looks for these")


def check_quickly(config: Config) -> Findings | None:
    """Return what is known, or quickly found, about the sets in `config.split_dir`.

    What `classifold check` found in the same pictures is used as it is. Of a split by classifold the record
    says which pictures are copies; of the user's own sets every picture is read once, and what was found is
    kept for the next time.

    Args:
        config: The settings.

    Returns:
        None if there are no sets in files, such as where they are packed into shards.
    """
    record = config.split_dir / SPLIT_RECORD
    try:
        if record.is_file():
            return _read_record(record, config)
        return _look_at_own(config) if find_own_split(config.split_dir) is not None else None
    except (ClassifoldError, OSError, ValueError):
        # What is wrong with the sets is reported by the command itself, which reads them next.
        return None


def tell_quick_check(config: Config) -> Findings | None:
    """Run the quick check, and say in one line what it found; None if there was nothing to check."""
    findings = check_quickly(config)
    if findings is not None:
        say(describe_quickly(findings))
    return findings


def with_findings(findings: Findings | None, add_report: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """Return a function that puts check.json into a run folder and then adds the report, which shows it.

    Args:
        findings: What the check found; None: the run gets no check.json.
        add_report: Adds the report to a run folder.
    """

    def add(run_dir: Path) -> Path:
        if findings is not None:
            text = json.dumps(findings.to_json(), ensure_ascii=False)
            (run_dir / CHECK_JSON).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        return add_report(run_dir)

    return add


def _read_record(record: Path, config: Config) -> Findings:
    """Return what a split's record says, and what the whole check found in the same pictures."""
    head = read_record_head(record) or {}
    made_from = head.get(MADE_FROM)
    fingerprint = hash_sources(made_from) if isinstance(made_from, dict) else ""
    groups = read_groups(record)
    if isinstance(made_from, dict) and made_from.get("NEAR_COPIES") == "ignore":
        groups = _look_at_own(config).groups  # the split did not look for near copies
    counts = head.get("counts") or {}
    if (kept := find_kept(fingerprint, kind="full")) is not None:
        # The check divided the pictures as it would then; the record knows how they are divided.
        effect = kept.effect if groups == kept.groups else None
        return kept.model_copy(update={"groups": groups, "sets": describe_sets(counts), "effect": effect})
    unreadable = [(one["key"], one["reason"]) for one in read_record_list(record, "unreadable")]
    return _build_findings(config, fingerprint, counts=counts, groups=groups, unreadable=unreadable)


def _build_findings(
    config: Config,
    fingerprint: str,
    *,
    counts: Mapping[str, Mapping[str, int]],
    groups: tuple[Group, ...],
    unreadable: Iterable[tuple[str, str]],
) -> Findings:
    """Return the findings of a quick check.

    Args:
        config: The settings.
        fingerprint: The pictures' fingerprint.
        counts: Number of pictures by set and class.
        groups: Copies, conflicts and bursts.
        unreadable: Key of each picture that cannot be read, and the reason.
    """
    return Findings(
        source=str(config.split_dir),
        fingerprint=fingerprint,
        num_pictures=sum(sum(of_set.values()) for of_set in counts.values()),
        groups=groups,
        pictures=tuple(explain_unreadable(unreadable)),
        sets=describe_sets(counts),
        skipped=_CLOSELY,
    )


def _look_at_own(config: Config) -> Findings:
    """Return the findings of sets of the user's own."""
    values = {"DATA_LOCAL_DIR": str(config.split_dir), "DATA_MANIFEST": "", "SPLIT_LOCAL_DIR": ""}
    own = config.model_copy(update=values)
    fingerprint = find_fingerprint(own)
    # A check looks for near copies even if the split ignores them; the pictures are read for that.
    own = own.model_copy(update={"NEAR_COPIES": "together"})
    for kind in ("full", "quick"):
        if (kept := find_kept(fingerprint, kind=kind)) is not None:
            return kept
    looked: list[Findings] = []

    def examine(index: sqlite3.Connection, _: Config) -> None:
        findings = _build_findings(
            config,
            fingerprint,
            counts=count_sets(index),
            groups=find_groups(index).groups,
            unreadable=read_reasons(index).items(),
        )
        looked.append(findings)

    check_data(own, Reading(examine=examine))
    keep_findings(looked[0], kind="quick")
    return looked[0]
