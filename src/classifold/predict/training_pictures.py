"""Finds the training pictures of a run on this machine, to show those nearest to a picture."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from classifold import names
from classifold.dataset.by_key import find_by_key, leads_into
from classifold.dataset.record import read_record_head
from classifold.dataset.scan import load_sets
from classifold.dataset.set_names import name_set
from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault
from classifold.run_folder import read_data_record


def find_training_pictures(
    run_dir: Path, keys: Collection[str], *, data_dir: Path | None = None
) -> dict[str, Picture]:
    """Return the training pictures with these keys that are on this machine.

    The run may come from somebody else, so its files must not choose pictures of this machine: the folder
    that it names is used only if it holds exactly the sets on which the run was trained.

    Args:
        run_dir: The run folder.
        keys: Keys of training pictures, `<class>/<file>`.
        data_dir: Folder of the three sets or of the training set; None means the one that the run names.

    Raises:
        DataError: `data_dir` is not a folder.
    """
    if data_dir is None:
        folder, fingerprint = read_data_record(run_dir)
        if folder is None or not fingerprint:
            return {}
        return _find_in_sets(folder, keys, fingerprint=fingerprint)
    if not data_dir.is_dir():
        hint = "give the folder that holds the training pictures, or leave it out"
        raise DataError(Fault(str(data_dir), "no such folder", hint))
    return _find_in_sets(data_dir, keys) or _find_files(data_dir, keys)


def _find_in_sets(folder: Path, keys: Collection[str], *, fingerprint: str = "") -> dict[str, Picture]:
    """Return training pictures of a folder of three sets; none if the fingerprint is of other sets."""
    try:
        head = read_record_head(folder / names.SPLIT_RECORD)
        sets = load_sets(folder)
    except (DataError, OSError, ValueError):
        return {}
    found = {sets.fingerprint, head.get("fingerprint") if head else None}
    if fingerprint and fingerprint not in found:
        return {}
    wanted = set(keys)
    return {one.key: one for one in sets.pictures[names.TRAINING] if one.key in wanted}


def _find_files(folder: Path, keys: Collection[str]) -> dict[str, Picture]:
    """Return the files with these keys below a folder, or below its folder of training pictures."""
    roots = [folder, *(one for one in sorted(folder.iterdir()) if name_set(one.name) == names.TRAINING)]
    found = find_by_key(keys, roots)
    # The keys come from the run: they must not choose pictures that are only linked into the folder.
    return {key: one for key, one in found.items() if leads_into(one.path, folder)}
