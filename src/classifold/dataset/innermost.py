"""Nested class folders: the innermost one becomes the class if CLASS_FOLDER says so, else a note."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from classifold.counts import choose, count_of
from classifold.dataset.division import group_unit
from classifold.dataset.index import together
from classifold.dataset.layout import DATE, name_some
from classifold.dataset.set_names import is_auxiliary, is_filler
from classifold.errors import DataError, Fault, limit_faults

# A key's folder with a slash at its end: all but a slash is stripped from the right.
_FOLDER = "RTRIM(key, REPLACE(key, '/', ''))"


def name_innermost(index: sqlite3.Connection, *, pattern: str) -> list[str]:
    """Make the innermost folder of every picture in the index its class, and let its key begin with that.

    Args:
        index: The pictures, before they are read; their keys are paths below the outermost folders.
        pattern: The setting SPLIT_GROUP_PATTERN, which is compared with the new keys.

    Returns:
        Notes for the user, one line each.

    Raises:
        DataError: Two folders would give classes of one name.
    """
    folders = [folder[:-1] for (folder,) in index.execute(f"SELECT DISTINCT {_FOLDER} FROM picture")]  # noqa: S608
    class_names = choose_names(folders)
    group = re.compile(pattern) if pattern else None
    index.create_function("group_unit", 1, lambda key: group_unit(group, key) if group else None)
    index.execute("CREATE TEMP TABLE folder (path TEXT PRIMARY KEY, class_name TEXT NOT NULL) WITHOUT ROWID")
    with together(index):
        index.executemany(
            "INSERT INTO folder VALUES (?, ?)", ((f"{one}/", class_names[one]) for one in folders)
        )
        index.execute(
            f"""UPDATE picture SET class_name = folder.class_name,
                key = folder.class_name || '/' || SUBSTR(key, LENGTH(folder.path) + 1)
                FROM folder WHERE folder.path = {_FOLDER}"""  # noqa: S608 - ours
        )
        # A picture without a group is a unit by its content, which is not known before a file is read.
        content = "IIF(hash IS NULL, NULL, 'h:' || HEX(hash))"
        index.execute(f"UPDATE picture SET unit = COALESCE(group_unit(key), {content})")  # noqa: S608 - ours
    index.execute("DROP TABLE folder")
    return _describe_names(class_names)


def choose_names(folders: Collection[str]) -> dict[str, str]:
    """Return the class of each folder: its own name, or its path where several folders have this name.

    A path is joined by underscores, Fruit_Apple_Golden, so that the name can be a folder's, part of an S3 key
    and one word of a table.

    Args:
        folders: Paths of the folders that hold pictures, below the data folder.

    Raises:
        DataError: Two folders would give classes of one name.
    """
    counts = Counter(folder.rpartition("/")[2] for folder in folders)
    names, owners = dict[str, str](), defaultdict[str, list[str]](list)
    for folder in sorted(folders):
        name = folder.rpartition("/")[2]
        names[folder] = name if counts[name] == 1 else folder.replace("/", "_")
        owners[names[folder]].append(folder)
    faults = [
        Fault(
            f"class {name!r}",
            f"several folders would give a class of this name: {', '.join(paths)}",
            hint=_HINT,
        )
        for name, paths in owners.items()
        if len(paths) > 1
    ]
    if faults:
        raise DataError(*limit_faults(faults))
    return names


_HINT = 'rename one of them, or set CLASS_FOLDER = "outermost"'


def _describe_names(class_names: Mapping[str, str]) -> list[str]:
    """Return notes on classes that are named by their path, and on classes that hold other classes."""
    lines = []
    long = [name for folder, name in class_names.items() if name != folder.rpartition("/")[2]]
    if long:
        lines.append(
            f"{count_of(len(long), 'folder')} {choose(len(long), 'has', 'have')} the same name as another "
            f"folder, so {choose(len(long), 'its class is', 'their classes are')} named by the path: "
            f"{name_some(long)}"
        )
    above = {folder[:end] for folder in class_names for end, char in enumerate(folder) if char == "/"}
    if outer := sorted(class_names[folder] for folder in above & class_names.keys()):
        lines.append(
            f"{count_of(len(outer), 'class', 'classes')} {choose(len(outer), 'has', 'have')} only the "
            "pictures directly in their own folder, since the folders inside it are classes too: "
            f"{name_some(outer)}"
        )
    return lines


def describe_nested(index: sqlite3.Connection) -> list[str]:
    """Return a note on folders below the class folders that may be the classes the user means, if any.

    Folders that only divide a class, by date or as images and masks, are none.
    """
    query = f"SELECT DISTINCT {_FOLDER} FROM picture WHERE key LIKE '%/%/%' ORDER BY 1"  # noqa: S608 - ours
    folders = [folder[:-1] for (folder,) in index.execute(query)]
    nested = [folder for folder in folders if not any(map(_is_part, folder.split("/")[1:]))]
    if not nested:
        return []
    folders_of = f"{count_of(len(nested), 'folder')} inside the class folders ({name_some(nested)})"
    return [
        f"pictures in {folders_of} count as pictures of the outer class; "
        'CLASS_FOLDER = "innermost" makes the inner folders the classes'
    ]


def _is_part(name: str) -> bool:
    return bool(DATE.fullmatch(name)) or is_filler(name) or is_auxiliary(name)
