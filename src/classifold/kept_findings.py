"""Keeps what a check found in the user's cache, by fingerprint: the same pictures are checked once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from classifold.atomic import write_whole
from classifold.errors import ClassifoldError
from classifold.findings import Findings, read_findings
from classifold.user_cache import find_cache_dir

# Files that are kept; the oldest go first. One has some kB for each hundred findings.
_MOST_KEPT = 200


def keep_findings(findings: Findings, *, kind: str) -> None:
    """Keep what a check found; without a cache folder that can be written, nothing is kept.

    Args:
        findings: What was found; without a fingerprint it is not kept.
        kind: "full" or "quick": what was checked.
    """
    path = _find_path(findings.fingerprint, kind)
    if path is None:
        return
    # A cache that cannot be written costs time later and is no reason to stop.
    with contextlib.suppress(OSError, ClassifoldError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as partial:
            partial.write_text(json.dumps(findings.to_json()), encoding="utf-8")
        _drop_oldest(path.parent)


def find_kept(fingerprint: str, *, kind: str) -> Findings | None:
    """Return what was found before in the same pictures, by the same version; None if nothing is kept.

    Args:
        fingerprint: The pictures' fingerprint.
        kind: "full" or "quick".
    """
    from classifold import __version__

    path = _find_path(fingerprint, kind)
    if path is None or not path.exists():
        return None
    try:
        found = read_findings(path)
    except ClassifoldError:  # a damaged file of the cache is as good as none
        return None
    return found if (found.fingerprint, found.classifold) == (fingerprint, __version__) else None


def _find_path(fingerprint: str, kind: str) -> Path | None:
    folder = find_cache_dir("checks")
    if folder is None or not fingerprint:
        return None
    return folder / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:32]}-{kind}.json"


def _drop_oldest(folder: Path) -> None:
    with os.scandir(folder) as entries:
        found = sorted((one.stat().st_mtime_ns, one.path) for one in entries if one.is_file())
    for _, path in found[:-_MOST_KEPT]:
        Path(path).unlink(missing_ok=True)
