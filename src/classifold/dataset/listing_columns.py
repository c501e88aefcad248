"""Finds the columns of a listing by their usual names: the picture, its class, and its set."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from classifold.dataset.listing_text import recode
from classifold.pictures.formats import PICTURE_ENDINGS

# The most reliable name first. Case, blanks, `-`, `_`, and a plural's s make no difference.
_PICTURE = (
    *("sourceref", "key", "filename", "filepath", "imagepath", "imgpath", "imagefilename", "imagefile"),
    *("imagefilepath", "imagename", "imgname", "picturepath", "picturename", "photopath", "path", "file"),
    *("image", "img", "picture", "photo", "fname", "uri", "url", "imageurl", "imageuri"),
    *("imageid", "imgid", "fileid", "pictureid", "photoid", "name", "id"),
)
_CLASS = (
    *("classname", "labelname", "categoryname", "speciesname", "class", "label", "category", "classes"),
    *("categories", "species", "breed", "target", "tag", "groundtruth", "classlabel", "y"),
)
_SET = ("split", "set", "subset", "partition", "dataset", "datasplit")
PICTURE_HINT = (
    "call the picture's column file_name, path, image or key, and write the names in the first line"
)


# An entry of a listing: its number, and its values by folded column name. The values are a text if they
# cannot be read, which says why, and None for an entry that is left out because it has no class.
Entries = Iterator[tuple[int, dict[str, Any] | str | None]]


class Columns(NamedTuple):
    """The columns of a listing by folded name; "" where there is no such column.

    Attributes:
        pictures: Columns that may name the picture, the most likely first.
        class_name: Column of the class.
        set_name: Column of the set, of the user's own split.
    """

    pictures: tuple[str, ...]
    class_name: str
    set_name: str

    def find_picture(self, rows: Iterable[Mapping[str, Any]]) -> str:
        """Return the column that names the picture in these rows, "" if there is none."""
        if len(self.pictures) < 2 or self.pictures[0] in ("source_ref", "key"):
            return self.pictures[0] if self.pictures else ""
        rows = list(rows)
        named = (one for one in self.pictures if any(has_picture_ending(row.get(one)) for row in rows))
        return next(named, self.pictures[0])


NO_COLUMNS = Columns((), "", "")


@functools.lru_cache(maxsize=256)
def find_columns(names: tuple[str, ...], class_column: str = "") -> Columns:
    """Find the columns of the picture, the class and the set.

    Args:
        names: The folded names of all columns.
        class_column: The folded name of the column that the user set for the class, "" for none.
    """
    others = [name for name in names if name != class_column]
    pictures = tuple(_find(others, _PICTURE))
    rest = [name for name in others if name not in pictures[:1]]
    class_name = class_column or next(iter(_find(rest, _CLASS)), "")
    return Columns(pictures, class_name, next(iter(_find(rest, _SET)), ""))


def fold_name(name: str) -> str:
    """Return a column's name in lower case, with blanks and hyphens as underscores."""
    folded = re.sub(r"[-\s]+", "_", recode(name).strip().lower())
    return "etag" if folded == "e_tag" else folded


def has_picture_ending(value: object) -> bool:
    """Return whether a text has the file extension of a picture."""
    return isinstance(value, str) and os.path.splitext(value.strip())[1].lower() in PICTURE_ENDINGS  # noqa: PTH122


def looks_like_path(value: str) -> bool:
    """Return whether a text could be a picture's path: it has a picture's file extension or has folders."""
    return has_picture_ending(value) or "/" in value or "\\" in value


def _find(names: Iterable[str], known: tuple[str, ...]) -> list[str]:
    """Return the names that are known, in the order of `known`."""
    plain: dict[str, str] = {}
    for name in names:
        squashed = re.sub(r"[\s_.\-]+", "", name)
        plain.setdefault(squashed, name)
        if squashed.endswith("s"):
            plain.setdefault(squashed[:-1], name)
    found = [plain[one] for one in known if one in plain]
    return list(dict.fromkeys(found))
