"""Notes which process of a quick run starts what that leaves out: TensorFlow, Keras, Docker, a browser.

Python imports a module of this name at its start from any folder of PYTHONPATH: that is how the processes
which tests start come here. The file that QUICK_GUARD_NOTES names gets one line per fault.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

ENGINES = ("keras", "tensorflow", "tf_keras")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NOTES = "QUICK_GUARD_NOTES"
_noted = set[str]()


def look(event: str, arguments: tuple[Any, ...]) -> None:
    """Note an event of Python that a quick run must not have; an audit hook."""
    if event == "import":
        # Not every way of importing a package is an event, but what it imports of itself is one.
        package = arguments[0].partition(".")[0]
        if package in ENGINES:
            note(f"imports {package}")
    elif event == "subprocess.Popen":
        executable, words, _, environment = arguments
        name = os.fsdecode(executable or (words if isinstance(words, str | bytes) else words[0]))
        look_at_program(name, environment)
    elif event == "socket.connect" and str(arguments[1]).endswith("docker.sock"):
        note("connects to the Docker engine")


def look_at_program(name: str, environment: Any) -> None:
    """Note a browser and the real Docker; the tests' own programs of that name are scripts."""
    base = os.path.basename(name)  # noqa: PTH119 - a Path for each process is slow
    if base in BROWSERS or "playwright/driver" in name:
        note(f"starts {name}")
    elif base == "docker":
        found = shutil.which(name, path=(environment or os.environ).get("PATH"))
        if found and Path(found).read_bytes()[:4] == b"\x7fELF":
            note(f"starts {name}")


def note(what: str) -> None:
    """Write down what this process did, each thing once."""
    if what in _noted:
        return
    _noted.add(what)
    with Path(os.environ[NOTES]).open("a", encoding="utf-8") as notes:
        print(f"{' '.join(sys.orig_argv)[:300]!r} {what}", file=notes)


if os.environ.get(NOTES):
    sys.addaudithook(look)
