"""Writes what a check leaves in a folder: check.html for a person, and check.json for a script."""

from __future__ import annotations

import json
from pathlib import Path

from classifold.atomic import write_whole
from classifold.datacheck.check import Checked
from classifold.datacheck.page import write_check_page
from classifold.errors import DiskError, Fault
from classifold.names import CHECK_HTML, CHECK_JSON
from classifold.settings.config import Config


def write_output(checked: Checked, config: Config, folder: Path) -> Path:
    """Write check.html and check.json into a folder, and return the page's path; other files there stay.

    Args:
        checked: The result of the check.
        config: The settings.
        folder: The folder, which is made if it is not there.

    Raises:
        DiskError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name another folder with --output"
        raise DiskError(
            Fault(str(folder), f"the folder cannot be made: {error.strerror}", hint=hint)
        ) from error
    with write_whole(folder / CHECK_JSON) as partial:
        text = json.dumps(checked.findings.to_json(), indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    page = folder / CHECK_HTML
    write_check_page(
        page,
        checked.findings,
        paths=checked.paths,
        max_pixels=config.MAX_PIXELS,
        sample_bits=config.SAMPLE_BITS,
    )
    return page
