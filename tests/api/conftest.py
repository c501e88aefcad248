"""One folder for all examples: pictures, a settings file that trains in seconds, and a run trained there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from made_photos import Place, draw_photos, write_settings
from made_runs import paint

# The example in the docstring of `train`, run in a process of its own, as a user has it.
EXAMPLE = """
import doctest, classifold
test = doctest.DocTestParser().get_doctest(classifold.train.__doc__, {}, "train", None, None)
doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
"""


@pytest.fixture(scope="session")
def place(
    tmp_path_factory: pytest.TempPathFactory, own_backbone: str, run_python: Callable[..., Any]
) -> Place:
    """The folder of the examples, with the run of the example of `classifold.train`."""
    folder = tmp_path_factory.mktemp("examples")
    draw_photos(folder / "photos")
    # Colours at full resolution: halved, as JPEG has them by default, its noise is unlike that of photos/.
    paint("green", 9999).save(folder / "photo.jpg", quality=95, subsampling=0)
    write_settings(folder / "settings.py", own_backbone)
    answer = run_python("-c", EXAMPLE, cwd=folder)
    assert answer.code == 0, answer.err
    (run_dir,) = (folder / "runs").iterdir()
    first = run_dir.rename(run_dir.with_name("first"))
    # For the examples of `compare`; nothing but the report would tell it from a second training.
    shutil.copytree(first, first.with_name("second"))
    return Place(folder, first, answer.err, answer.out)


@pytest.fixture
def ordinary_python() -> Callable[[str, Path], str]:
    """Return a function that runs code, in a folder, as a user to whom file modes apply; root is none."""
    rights = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    if rights and not shutil.which("setpriv"):
        pytest.skip("root without setpriv may read everything")

    def call(code: str, folder: Path) -> str:
        command = [*rights, sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture
def inside(place: Place) -> Iterator[Place]:
    """The same, made the current folder."""
    before = Path.cwd()
    os.chdir(place.folder)
    yield place
    os.chdir(before)
