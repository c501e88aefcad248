"""Refuses a file for `predict --output` that would replace what the call reads or writes otherwise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from classifold.atomic import check_has_folder
from classifold.errors import DataError, Fault, UsageError
from classifold.pictures.formats import PICTURE_ENDINGS
from classifold.run_folder import check_output


def check_answers_file(
    path: Path, *, run: Path, pictures: Sequence[Path], explain_dir: Path | None = None
) -> None:
    """Refuse a file for the answers that would replace the model, a picture or the explanations.

    Args:
        path: The file.
        run: The run folder or the model.
        pictures: The pictures and folders of pictures that will be read.
        explain_dir: The folder of the explanations, if there will be one.

    Raises:
        DataError: It would replace one of these files, or is a folder.
        DiskError: Its folder does not exist.
        UsageError: It is in the folder of the explanations, which is replaced.
    """
    if explain_dir is not None and _resolve(path).is_relative_to(_resolve(explain_dir)):
        what = f"it is in the --explain folder {explain_dir}, which is replaced"
        raise UsageError(Fault("--output", what, "name a file beside that folder", got=str(path)))
    check_has_folder(path)
    check_output(path)
    if path.exists() and any(_is_read(path, one) for one in (run, *pictures)):
        raise DataError(Fault(str(path), "this file is read, and would be replaced", "name another file"))


def _is_read(path: Path, source: Path) -> bool:
    if source.is_dir():
        return path.suffix.lower() in PICTURE_ENDINGS and _resolve(path).is_relative_to(_resolve(source))
    return source.exists() and path.samefile(source)


def _resolve(path: Path) -> Path:
    """Return where a path leads; unlike Path.resolve, it does not fail at a link to itself."""
    return Path(os.path.realpath(path))
