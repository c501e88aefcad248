"""One folder for all examples: pictures, a settings file that trains in seconds, and a run trained there."""

from __future__ import annotations

import os
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
    paint("green", 9999).save(folder / "photo.jpg", quality=95)
    write_settings(folder / "settings.py", own_backbone)
    answer = run_python("-c", EXAMPLE, cwd=folder)
    assert answer.code == 0, answer.err
    (run_dir,) = (folder / "runs").iterdir()
    return Place(folder, run_dir.rename(run_dir.with_name("first")), answer.err, answer.out)


@pytest.fixture
def inside(place: Place) -> Iterator[Place]:
    """The same, made the current folder."""
    before = Path.cwd()
    os.chdir(place.folder)
    yield place
    os.chdir(before)
