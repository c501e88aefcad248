"""File names are UTF-8 under every locale."""

from __future__ import annotations

import json

import pytest

LEGACY = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def pets(tmp_path, draw_colours):
    folder = draw_colours(tmp_path / "pets", count=4)
    (folder / "red").rename(folder / "na\u00efve \u732b")
    return folder


def test_a_locale_without_utf8_splits_as_any_other(pets, project, run_python):
    words = ("-m", "classifold.cli.main", "split", "--json", "--set", f"DATA_LOCAL_DIR={pets}")
    for options in ((), ("-I",)):  # isolated, Python looks at no variable
        done = run_python(*options, *words, cwd=project, env=LEGACY)
        assert (done.code, done.err) == (0, "")
        assert "na\u00efve \u732b" in json.loads(done.out)["counts"]["training"]
    folders = sorted(path.name for path in (pets.with_name("pets-split") / "training").iterdir())
    assert folders == ["blue", "green", "na\u00efve \u732b"]


def test_arguments_arrive_as_they_were(project, run_python):
    done = run_python(
        "-m", "classifold.cli.main", "check", "--set", "DATA_LOCAL_DIR=\u732b", cwd=project, env=LEGACY
    )
    assert done.code == 1
    assert "error: \u732b: there is no such folder" in done.err


CHILD = """
import sys
from classifold.processes import ensure_utf8_mode
ensure_utf8_mode()
import subprocess
child = "import sys; print(sys.getfilesystemencoding())"
print(sys.getfilesystemencoding(), subprocess.check_output([sys.executable, "-c", child], text=True).strip())
"""


@pytest.mark.parametrize("environment", [LEGACY, {"LC_ALL": "C.UTF-8"}], ids=["legacy", "utf8"])
def test_child_processes_are_in_utf8_mode_too(run_python, environment):
    done = run_python("-c", CHILD, env=environment)
    assert (done.out, done.err) == ("utf-8 utf-8\n", "")
