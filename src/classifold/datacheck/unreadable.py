"""Files that cannot be read: each with its kind and reason, and how much of a cut JPEG can still be shown."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable

import simplejpeg

from classifold.datacheck.measures import iter_paths
from classifold.dataset.keys import name_key
from classifold.findings import PictureFinding
from classifold.pictures.limits import check_size, read_bytes
from classifold.pictures.workers import start_workers

_CUT = "cut short"


def find_unreadable(index: sqlite3.Connection, *, num_workers: int, max_pixels: int) -> list[PictureFinding]:
    """Return a finding for every file of the index that cannot be read, sorted by kind and key.

    JPEGs that are cut short are decoded as far as that goes.

    Args:
        index: The pictures, read.
        num_workers: Number of processes.
        max_pixels: A larger picture is not decoded.
    """
    reasons = read_reasons(index)
    measure = functools.partial(_measure_shown, max_pixels=max_pixels)
    index.execute("CREATE TEMP TABLE cut_short AS SELECT id FROM picture WHERE reason LIKE ?", (f"%{_CUT}%",))
    query = index.execute("SELECT id, key, given FROM temp.cut_short JOIN picture USING (id)")
    keys = {number: name_key(key, given) for number, key, given in query}
    with start_workers(num_workers) as workers:
        for found in workers.map(iter_paths(index, "temp.cut_short"), measure, failed=_fail_to_measure):
            for number, share in found:
                if share is not None:
                    reasons[keys[number]] += f"; {_say_share(share)}"
    return explain_unreadable(reasons.items())


def read_reasons(index: sqlite3.Connection) -> dict[str, str]:
    """Return why files of the index cannot be read, by their key."""
    query = index.execute("SELECT key, given, reason FROM picture WHERE reason NOT NULL")
    return {name_key(key, given): reason for key, given, reason in query}


def explain_unreadable(files: Iterable[tuple[str, str]]) -> list[PictureFinding]:
    """Return findings for files that cannot be read, sorted by kind and key.

    Args:
        files: Key, and the reason why it cannot be read, as the index has it.
    """
    found = [PictureFinding(file=key, kind=_kind_of(reason), reason=reason) for key, reason in files]
    return sorted(found, key=lambda one: (one.kind, one.file))


def _kind_of(reason: str) -> str:
    if _CUT in reason:
        return "cut short"
    if "MAX_PIXELS" in reason and "more than" in reason:
        return "too large"
    return "wrong file type" if reason.startswith("the file holds") else "unreadable"


def _measure_shown(number: int, path: str, *, max_pixels: int) -> tuple[int, float | None]:
    """Return the number, and the share of a cut JPEG that a lenient decoder shows, None for nothing."""
    try:
        data = read_bytes(path, max_pixels=max_pixels)
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        check_size(width, height, max_pixels=max_pixels)
        pixels = simplejpeg.decode_jpeg(data, "GRAY", strict=False)
    except Exception:  # simplejpeg raises KeyError, too, for a damaged header
        return number, None
    # The decoder fills what is missing with one colour.
    varied = (pixels != pixels[:, -1:]).any(axis=(1, 2)).nonzero()[0]
    return number, float(varied[-1] + 1) / height if len(varied) else None


def _fail_to_measure(number: int, _: str) -> tuple[int, float | None]:
    return number, None


def _say_share(share: float) -> str:
    if share > 0.99:
        return "all of it can be shown, less sharp"
    return f"about {100 * share:.0f} % of it can be shown"
