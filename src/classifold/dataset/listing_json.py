"""Reads JSON listings: JSON Lines, an array of objects, an object of names and classes, COCO annotations.

JSON Lines are read line by line. The others are one value, which is read whole.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold.counts import choose, count_of
from classifold.dataset.listing_columns import Entries, fold_name, has_picture_ending
from classifold.dataset.listing_text import iter_lines
from classifold.errors import DataError, Fault

# Limit in characters of a value that is read whole, since it takes several times as much memory.
_WHOLE_LIMIT = 2**30
_NAMED = 3
_HINT = 'write JSON Lines: one object per line, such as {"file_name": "a.jpg", "label": "cat"}'


def iter_json(file: io.TextIOWrapper, path: Path) -> tuple[str, Entries]:
    """Return the word for one entry, "line" or "entry", and the entries by number with folded names.

    Args:
        file: The listing, at its beginning.
        path: Path of the listing, for messages.

    Raises:
        DataError: The value is not a listing; says what it contains.
    """
    first = _read_first_line(file)
    file.seek(0)
    if isinstance(first, dict) and not _is_whole(first):
        return "line", _iter_json_lines(file, path)
    value = _read_whole(file, path)
    file.seek(0)
    if value is None:  # several values, or damage, which is then reported by line
        return "line", _iter_json_lines(file, path)
    return "entry", _iter_value(value, path)


def _read_first_line(file: io.TextIOWrapper) -> Any:
    """Return the JSON value of the first line, None if the line is not a whole value."""
    try:
        return json.loads(file.readline(_WHOLE_LIMIT))
    except (ValueError, RecursionError):
        return None


def _read_whole(file: io.TextIOWrapper, path: Path) -> Any:
    """Return the JSON value of the whole file, None if the file is not one value.

    Raises:
        DataError: It is too large.
    """
    text = file.read(_WHOLE_LIMIT)
    if len(text) == _WHOLE_LIMIT:
        raise DataError(Fault(str(path), "the JSON value is too large to be read whole", hint=_HINT))
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_whole(value: Mapping[str, Any]) -> bool:
    """Return whether an object is the whole listing, not its first line."""
    return _is_coco(value) or any(map(has_picture_ending, value))


def _is_coco(value: Mapping[str, Any]) -> bool:
    images = value.get("images")
    return isinstance(images, list) and all(isinstance(one, dict) for one in images[:1])


def _iter_json_lines(file: io.TextIOWrapper, path: Path) -> Entries:
    for number, line in enumerate(iter_lines(file, path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("another value")
        except (ValueError, RecursionError) as error:
            yield number, f"it is not a JSON object ({error})"
            continue
        yield number, _fold(values)


def _iter_value(value: Any, path: Path) -> Entries:
    if isinstance(value, list):
        return _iter_array(value)
    if isinstance(value, dict) and _is_coco(value):
        return _iter_coco(value, path)
    if isinstance(value, dict) and all(map(has_picture_ending, value)):
        pairs = ({"file_name": name, "label": label} for name, label in value.items())
        return enumerate(pairs, start=1)
    what = "the JSON value does not contain a list of pictures"
    raise DataError(Fault(str(path), what, hint=_HINT, got=f"{value!r:.80}"))


def _iter_array(entries: list[Any]) -> Entries:
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            yield number, _fold(entry)
        elif isinstance(entry, str):
            yield number, {"file_name": entry}
        elif isinstance(entry, list) and len(entry) == 2:
            yield number, {"file_name": entry[0], "label": entry[1]}
        else:
            yield number, f"it is not a JSON object ({entry!r:.40})"


def _fold(values: Mapping[str, Any]) -> dict[str, Any]:
    return {fold_name(name): value for name, value in values.items()}


def _iter_coco(value: Mapping[str, Any], path: Path) -> Entries:
    """Yield the images of a COCO file with the class of their annotations, None for those without any.

    Raises:
        DataError: Images have annotations of several classes, or the parts do not fit together.
    """
    try:
        names = {one["id"]: one["name"] for one in value.get("categories", ())}
        classes: dict[Any, set[str]] = {}
        for one in value.get("annotations", ()):
            classes.setdefault(one["image_id"], set()).add(names[one["category_id"]])
        images = [(one["id"], one["file_name"]) for one in value["images"]]
    except (KeyError, TypeError) as error:
        what = f"its images, annotations and categories do not fit together ({error!r:.80})"
        hint = "expected images with id and file_name, annotations with image_id and category_id, categories"
        raise DataError(Fault(str(path), what, hint=hint)) from error
    several = [name for number, name in images if len(classes.get(number, ())) > 1]
    if several:
        some = ", ".join(map(str, several[:_NAMED]))
        found = f"{count_of(len(several), 'image')} {choose(len(several), 'has', 'have')}"
        what = f"{found} annotations of several classes, and a picture can have only one"
        hint = "leave one class for each image, or cut the objects out into pictures of their own"
        raise DataError(Fault(str(path), what, hint=hint, got=f"{some:.200}"))
    return (
        (place, {"file_name": name, "label": min(classes[number])} if number in classes else None)
        for place, (number, name) in enumerate(images, start=1)
    )
