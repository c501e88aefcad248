"""Makes sure before training that the three sets exist: splits the pictures unless that is done already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.counts import count_of
from classifold.dataset.division import SplitSummary
from classifold.dataset.record import read_record_head
from classifold.dataset.scan import is_split_changed
from classifold.dataset.sources import MADE_FROM, describe_sources
from classifold.dataset.split import split_dataset
from classifold.dataset.split_place import check_same_source
from classifold.names import EVALUATION, SPLIT_RECORD, TRAINING, VALIDATION
from classifold.progress import say
from classifold.settings.config import Config


def ensure_split(config: Config, *, is_renewed: bool) -> SplitSummary | None:
    """Divide the pictures into the three sets, unless their split exists and is up to date.

    A split is up to date if the names, sizes and times of the pictures, or the content of the listing, are
    those that it was made from; no picture is opened.

    Args:
        config: The settings.
        is_renewed: Whether to split again if pictures or settings have changed since; if False, an existing
            split is used as it is.

    Returns:
        The result of splitting; None if the existing split is used.

    Raises:
        DataError: The pictures cannot be divided; see `split_dataset`.
    """
    split_dir = config.split_dir
    source = Path(config.DATA_MANIFEST or config.DATA_LOCAL_DIR)
    if not has_content(split_dir):
        return _split(config, f"dividing the pictures of {source} into three sets")
    head = read_record_head(split_dir / SPLIT_RECORD)
    check_same_source(config, head)
    if not is_renewed:
        return None
    if not source.exists() and head is not None:
        say(f"note: {source} is not there; its split in {split_dir} is used as it is")
        return None
    reason = _find_reason(config, head or {})
    if reason:
        return _split(config, f"{reason}: dividing again; no picture leaves evaluation for training")
    unseen = "; the files that it lists were not looked at" if config.DATA_MANIFEST else ""
    say(f"{split_dir} is the split of these pictures already{unseen}")
    return None


def has_content(folder: Path) -> bool:
    """Return whether there is anything at this path that splitting would have to replace."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def load_split_notes(split_dir: Path) -> list[str]:
    """Return the notes that were told when a split was made; none for sets of the user's own."""
    notes = (read_record_head(split_dir / SPLIT_RECORD) or {}).get("notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def describe_counts(summary: SplitSummary) -> str:
    """Return the number of classes, and of pictures in each set, as one line."""
    total = {name: sum(of_set.values()) for name, of_set in summary.counts.items()}
    num_classes = len({name for of_set in summary.counts.values() for name in of_set})
    return (
        f"{count_of(sum(total.values()), 'picture')} of {count_of(num_classes, 'class', 'classes')}: "
        f"{total[TRAINING]} for training, {total[VALIDATION]} for validation, "
        f"{total[EVALUATION]} for evaluation, in {summary.split_dir}"
    )


def _split(config: Config, line: str) -> SplitSummary:
    say(line)
    summary = split_dataset(config)
    for note in summary.notes:
        say(f"note: {note}")
    say(describe_counts(summary))
    return summary


def _find_reason(config: Config, head: Mapping[str, Any]) -> str:
    """Return why the existing split is out of date; empty if it is not.

    Args:
        config: The settings.
        head: Head of its split.json; empty if there is none.
    """
    if MADE_FROM not in head:  # of another origin, or of an earlier version: splitting says which
        return f"{config.split_dir} does not say which pictures it was made from"
    now = describe_sources(config)
    before = head[MADE_FROM]
    if before.get("pictures") != now["pictures"]:
        source = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
        return f"the pictures of {source} have changed since the last split"
    if before != now:
        return "the settings of the split have changed"
    # Splitting again puts missing files back, and refuses to lose those that the user added.
    is_changed = not config.DATA_MANIFEST and is_split_changed(config.split_dir)
    return f"the files in {config.split_dir} were changed since it was made" if is_changed else ""
