"""The files of a new project that are not copied from a checkout: README, .gitignore, requirements."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from classifold import names
from classifold.printable import make_printable
from classifold.settings.config import Config

_PACKAGE = "classifold"
# Characters left for DATA_NAME in a channel's name, whose longest ending is that of a set.
_DATA_NAME_LIMIT = names.CHANNEL_NAME_LIMIT - max(len(names.set_channel("", one)) for one in names.SETS)

_README = """\
# {name}

Pictures: `{data}`, one sub-folder per class. Settings: `{config}`, or `--set NAME=VALUE`.

{install}- check the pictures, divide them into three sets: `classifold check`, `python data_handler.py`
- train on this machine: `classifold train`; `{runs}/` gets a folder with the model, its scores and its report
- train on SageMaker: `python project_manager.py` with `--init_s3_buckets`, `--build_and_push_docker_image`,
  `--launch_training`; then `classifold follow`, `classifold fetch`, and `classifold destroy` to remove it all
- every command and its options: `classifold --help`, `classifold COMMAND --help`
"""
_INSTALL = "- install, with Python 3.11, 3.12 or 3.13: `pip install -r {file}`\n"
_IGNORED = """\
# Pictures and results
{folders}
# Made by Classifold, safe to delete
/{state}/
/{request}

# Environments of Python, and secrets
__pycache__/
.venv/
.env
.aws/
*.pem
"""


def build_readme(config: Config, *, install: str) -> str:
    """Return README.md of a new project.

    Args:
        config: The project's settings.
        install: Name of the requirements file; empty if there is none.
    """
    return _README.format(
        name=config.PROJECT_NAME,
        data=make_printable(config.DATA_LOCAL_DIR),
        config=names.CONFIG_FILE,
        install=_INSTALL.format(file=install) if install else "",
        runs=make_printable(config.RUNS_DIR.rstrip("/")),
    )


def build_ignored(config: Config) -> str:
    """Return .gitignore of a new project: pictures, results, environments and secrets."""
    places = (
        config.DATA_LOCAL_DIR,
        os.fspath(config.split_dir),
        os.fspath(config.shards_dir),
        config.RUNS_DIR,
    )
    # data/ is the default for pictures; always ignored, since some may be put there later.
    folders = ["data", *(place for place in places if _is_inside(place) and not place.startswith("data/"))]
    lines = "".join(f"/{_escape(os.path.normpath(place))}/\n" for place in dict.fromkeys(folders))
    return _IGNORED.format(folders=lines, state=names.STATE_DIR, request=names.REQUEST_FILE)


def _is_inside(place: str) -> bool:
    """Return whether a path from the settings is below the project's folder and can stand in .gitignore."""
    path = Path(os.path.normpath(place))
    is_below = not path.is_absolute() and path.parts[:1] not in ((), ("..",))
    return is_below and make_printable(place) == place


def _escape(place: str) -> str:
    """Return a path for .gitignore, with wildcards and a trailing blank escaped."""
    escaped = re.sub(r"([\\*?\[\]])", r"\\\1", place)
    return re.sub(r" $", r"\\ ", escaped)


def derive_data_name(folder_name: str) -> str:
    """Return a DATA_NAME similar to the name of the folder of pictures."""
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", folder_name)[:_DATA_NAME_LIMIT].strip("-.")
    while near.endswith(".shards"):
        near = near.removesuffix(".shards")
    return near or "pictures"


def build_requirements() -> str:
    """Return a requirements file that installs this same version of Classifold with the extra `train`.

    Returns:
        The file's text; empty if no requirement can be written: the package is not installed, or its
        address has a query, which may hold a password.
    """
    try:
        installed = distribution(_PACKAGE)
    except PackageNotFoundError:
        return ""
    source = _find_source(installed)
    if source is None:
        return ""
    return f"# Classifold as `classifold init` found it installed, with what training needs.\n{source}\n"


def _find_source(installed: Distribution) -> str | None:
    """Return the requirement that installs the same package again: from an index, or from its address."""
    record = installed.read_text("direct_url.json")
    if record is None:
        return f"{_PACKAGE}[train]=={installed.version}"
    origin: dict[str, Any] = json.loads(record)
    url = str(origin["url"])
    if urlsplit(url).query or not url.isprintable():
        return None
    control = origin.get("vcs_info")
    if control:
        url = f"{control['vcs']}+{url}@{control['commit_id']}"
    marks = [f"subdirectory={origin['subdirectory']}"] if "subdirectory" in origin else []
    sha256 = origin.get("archive_info", {}).get("hashes", {}).get("sha256")
    marks += [f"sha256={sha256}"] if sha256 else []
    return f"{_PACKAGE}[train] @ {url}{'#' if marks else ''}{'&'.join(marks)}"
