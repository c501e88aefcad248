"""An environment with a wheel and its base dependencies alone, without a download: those are linked."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def lay_base_install(folder: Path, wheel: Path, *, env: Mapping[str, str]) -> Path:
    """Make an environment as `pip install WHEEL` does, from the packages of this one; return its programs.

    What the wheel requires without an extra, and what that requires in turn, is linked from where it is
    installed. Whatever a wheel forgets to require is missing there, as it is for a user.

    Args:
        folder: The environment; it does not exist yet.
        wheel: Of this project.
        env: The environment of pip, with the user's own settings.
    """
    venv.create(folder, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    linked = set[str]()
    (found,) = metadata.distributions(path=[str(wheel)])
    waiting = [Requirement(one) for one in found.requires or ()] + [Requirement("pip")]
    while waiting:
        needed = waiting.pop()
        if needed.name in linked or not _applies(needed):
            continue
        linked.add(needed.name)
        distribution = metadata.distribution(needed.name)
        waiting += [Requirement(one) for one in distribution.requires or ()]
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(str(distribution.locate_file(name)))
    words = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", wheel]
    done = subprocess.run(
        list(map(str, words)), env=dict(env), capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder / "bin"


def _applies(requirement: Requirement) -> bool:
    """Tell whether a requirement holds on this system without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})
