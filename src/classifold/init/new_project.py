"""`classifold init`: writes the files of a new project, all of them or none, and replaces no file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import write_whole
from classifold.dataset.layout import find_own_split
from classifold.dataset.name_bytes import is_utf8
from classifold.dataset.walk import find_classes, find_loose_pictures
from classifold.errors import DataError, Fault, UsageError, disk_errors
from classifold.init.texts import build_ignored, build_readme, build_requirements, derive_data_name
from classifold.processes import expand_home
from classifold.project_files import locate_file
from classifold.settings.config import RECIPES, Config
from classifold.settings.loader import build_config
from classifold.settings.rules import derive_project_name
from classifold.settings.template import build_new_config_file

# Files that a project shares with the checkout.
_SHARED = ("data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE)
_REQUIREMENTS = "local_env_requirements.txt"
# Bucket names also contain account and region: a name of this length leaves room for any region.
_NAME_LIMIT = 24


@dataclass(frozen=True)
class NewProject:
    """A project's folder and what was done there.

    Attributes:
        folder: The project's folder, as the user named it.
        config: The settings of its settings file.
        written: Paths of the files that were written, below the folder.
        kept: Paths of the files that were there already, below the folder.
    """

    folder: Path
    config: Config
    written: tuple[str, ...]
    kept: tuple[str, ...]


def make_project(
    folder: Path,
    *,
    name: str = "",
    data_dir: Path | None = None,
    settings: Config | None = None,
    is_kept: bool = False,
) -> NewProject:
    """Write the files of a new project; a file that is there already stays as it is.

    Args:
        folder: The project's folder; it is created where it does not exist.
        name: PROJECT_NAME; empty to derive it from the folder's name.
        data_dir: The folder of pictures, one sub-folder per class; it may not exist yet. None for the
            default below the project's folder.
        settings: Further settings for the settings file; those that are not set keep their defaults.
        is_kept: True to leave existing files with another content as they are; False to refuse them.

    Raises:
        UsageError: Files with another content exist; or the folder is a file, or in that of the pictures.
        DataError: `data_dir` is a file, or its path is not UTF-8.
        SettingsError: The project's name or another setting is not valid.
        DiskError: The disk refuses to write.
    """
    with disk_errors(folder):
        place = folder.resolve()
        _check_place(folder, place, data_dir)
    config = _choose_settings(place, name=name, data_dir=data_dir, settings=settings)
    files = _build_files(config)
    kept = _find_kept(folder, files, is_kept=is_kept)
    written = tuple(name for name in files if name not in kept)
    with disk_errors(folder):
        _write_all(folder, {name: files[name] for name in written})
    return NewProject(folder, config, written, kept)


def _check_place(shown: Path, place: Path, data_dir: Path | None) -> None:
    """Refuse a project's folder that is the folder of the pictures, or lies in it.

    Its files would lie among the classes. If --data names another folder of pictures, it does not matter
    that this one looks like one.
    """
    if place.exists() and not place.is_dir():
        hint = "move the file away or choose another folder"
        raise UsageError(Fault(str(shown), "it is a file, not a folder", hint=hint))
    if data_dir is None:
        if place.is_dir() and _looks_like_pictures(place):
            what = "it holds folders of pictures, and a project's files do not belong among them"
            example = f"classifold init PROJECT --data {shlex.quote(str(place))}"
            hint = (
                f"name a new folder for the project, such as {example}; or say with --data "
                "which folder in it has the pictures"
            )
            raise UsageError(Fault(str(shown), what, hint=hint))
        return
    if data_dir.is_file():
        hint = f"for a table of pictures, set DATA_MANIFEST in {names.CONFIG_FILE}"
        raise DataError(
            Fault(str(data_dir), "--data takes the folder of pictures, and this is a file", hint=hint)
        )
    if not is_utf8(os.fspath(data_dir)):
        what, hint = "no settings file can hold this path, since it is not UTF-8", "rename the folder"
        raise DataError(Fault(str(data_dir), what, hint=hint))
    if place.is_relative_to(data_dir.resolve()):
        what = f"the project's folder lies in the folder of pictures {data_dir}"
        hint = "name a folder for the project that is outside"
        raise UsageError(Fault(str(shown), what, hint=hint))


def _looks_like_pictures(folder: Path) -> bool:
    """Return whether a folder holds class folders, or a split of the user's own."""
    try:
        classes = [path for _, path in find_classes(folder) if find_loose_pictures(path, limit=1)]
        return len(classes) > 1 or find_own_split(folder) is not None
    except DataError:  # raised only for a folder that looks like one of pictures, but has mistakes
        return True


def _choose_settings(place: Path, *, name: str, data_dir: Path | None, settings: Config | None) -> Config:
    """Return the project's settings; `model_fields_set` are those that differ from the defaults."""
    given = {} if settings is None else {one: getattr(settings, one) for one in settings.model_fields_set}
    # A recipe's values follow from RECIPE, and are not written beside it.
    recipe = RECIPES.get(given.get("RECIPE", ""), {})
    values: dict[str, Any] = {one: value for one, value in given.items() if recipe.get(one) != value}
    if name or "PROJECT_NAME" not in values:
        values["PROJECT_NAME"] = name or _derive_name(place)
    if data_dir is not None:
        values["DATA_LOCAL_DIR"] = _locate_data(data_dir, place)
        values.setdefault("DATA_NAME", derive_data_name(data_dir.resolve().name))
    values.setdefault("TAGS", {"Project": values["PROJECT_NAME"], "Service": "training"})
    # The other kind of bucket name is shared by all AWS accounts, so a short one is most likely taken.
    values.setdefault("BUCKET_NAMESPACE", "account-regional")
    return build_config(values)


def _derive_name(place: Path) -> str:
    """Return a project's name from its folder's name, or from the whole path where that has no letters."""
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()
    return derive_project_name(place.name, limit=_NAME_LIMIT) or f"pictures-{digest[:8]}"


def _locate_data(data_dir: Path, place: Path) -> str:
    """Return the path of the pictures as the commands in the project's folder need it.

    It is relative to the project's folder, unless the user gave an absolute path to a place outside it.
    """
    whole = Path(expand_home(os.fspath(data_dir)))
    resolved = whole.resolve()
    if whole.is_absolute() and not resolved.is_relative_to(place):
        return os.fspath(whole)
    return os.path.relpath(resolved, place)


def _build_files(config: Config) -> dict[str, bytes]:
    """Return the content of every file of the project, by its path below the project's folder."""
    values = {name: getattr(config, name) for name in config.model_fields_set}
    requirements = build_requirements()
    texts = {
        "README.md": build_readme(config, install=_REQUIREMENTS if requirements else ""),
        ".gitignore": build_ignored(config),
        names.CONFIG_FILE: build_new_config_file(values),
        **({_REQUIREMENTS: requirements} if requirements else {}),
    }
    files = {name: text.encode() for name, text in texts.items()}
    return files | {name: locate_file(name).read_bytes() for name in _SHARED}


def _find_kept(folder: Path, files: Mapping[str, bytes], *, is_kept: bool) -> tuple[str, ...]:
    """Return the files that exist already.

    Raises:
        UsageError: Some have another content, or something that is not a file has their name.
    """
    there = [name for name in files if os.path.lexists(folder / name)]
    other = [name for name in there if not _has_content(folder / name, files[name])]
    # Refused even with --keep: something else has the name of a file or folder of the project.
    blocked = [name for name in files if _is_blocked(folder, name)]
    if other and not is_kept:
        what = f"files of these names are there already, with another content: {', '.join(other)}"
        hint = "add --keep to leave them as they are, move them away, or choose another folder"
        raise UsageError(Fault(str(folder), what, hint=hint))
    if blocked:
        what = f"no file can be written there, since something else has the name: {', '.join(blocked)}"
        raise UsageError(Fault(str(folder), what, hint="move it away, or choose another folder"))
    return tuple(there)


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _is_blocked(folder: Path, name: str) -> bool:
    path = folder / name
    above = [folder / parent for parent in list(Path(name).parents)[:-1]]
    return any(os.path.lexists(one) and not one.is_dir() for one in above) or (
        os.path.lexists(path) and not path.is_file()
    )


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the missing files; after a failure or Ctrl-C, remove again what was written.

    Each file appears only once it is complete, so the next call can finish what a power cut interrupted.
    """
    with contextlib.ExitStack() as undo:
        for name, content in files.items():
            path = folder / name
            for parent in _list_missing(path.parent):
                parent.mkdir()
                undo.callback(_remove_quietly, parent)
            undo.callback(_remove_quietly, path)
            with write_whole(path) as partial:
                partial.write_bytes(content)
        undo.pop_all()


def _list_missing(folder: Path) -> Iterator[Path]:
    """Return the folders to make, from the outermost one."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    return reversed(missing)


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()
