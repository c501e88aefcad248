"""A process that lacks a standard stream or a home folder, and children that import nothing by accident."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold import __version__
from classifold.processes import PYTHON, isolated_children

NAMES = ("random", "copy", "calendar", "numpy", "keras", "queue", "secrets", "click")
MARK = "import pathlib; pathlib.Path({place!r}).touch(); raise SystemExit(1)\n"
# Started through a shell, which closes what `redirection` says.
CLOSED = (">&-", "2>&-", "<&-", "<&- >&- 2>&-")
FULL = (">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full")
# `python -m classifold`, where two processes draw as few as five pictures; at the end it says how many did.
DRAW_IN_PROCESSES = """
import multiprocessing.process, os, runpy, sys
from classifold.example import make
make.PICTURES_PER_PROCESS = 2
os.sched_getaffinity = lambda _: {0, 1}
try:
    runpy.run_module("classifold", run_name="__main__", alter_sys=True)
finally:
    print(next(multiprocessing.process._process_counter) - 1, file=sys.stderr)
"""


@pytest.fixture
def shadows(project: Path) -> Path:
    """The mark that a file or folder named like a module, in the working directory, leaves when it is run."""
    mark = project / "mark"
    for name in NAMES:
        (project / f"{name}.py").write_text(MARK.format(place=str(mark)))
    (project / "json").mkdir()
    (project / "json" / "__init__.py").write_text(MARK.format(place=str(mark)))
    return mark


def run_shell(redirection: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$@" {redirection}'
    return subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-P", "-m", "classifold", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        timeout=120,
        check=False,
    )


# Standard streams


@pytest.mark.parametrize("redirection", CLOSED)
def test_a_command_whose_streams_are_closed_does_its_work(
    redirection: str, project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "data" / "flowers", count=10)
    done = run_shell(redirection, "split", cwd=project)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stdout + done.stderr
    json.loads((project / "data" / "flowers-split" / "split.json").read_text())
    # Every picture is whole: none was opened in the place of a stream and written into.
    before, after = (
        sorted(path.read_bytes() for path in (project / "data" / name).rglob("*.png"))
        for name in ("flowers", "flowers-split")
    )
    assert before == after


def test_streams_that_are_closed_are_opened_before_any_file_is(tmp_path: Path) -> None:
    code = (
        "import os, sys; from classifold.processes import open_streams; open_streams();"
        f"file = open({str(tmp_path / 'data')!r}, 'w'); assert file.fileno() > 2, file.fileno();"
        "print('lost'); print('lost', file=sys.stderr); assert sys.stdin.read() == '';"
        "assert os.get_inheritable(1) and os.get_inheritable(2)"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=False, timeout=60
    )
    assert done.returncode == 0
    assert (tmp_path / "data").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("redirection", FULL)
@pytest.mark.parametrize("words", [["--version"], ["check"], ["check", "--json"]])
def test_an_answer_that_cannot_be_written_ends_with_1_and_a_remark_that_cannot_costs_nothing(
    redirection: str, words: list[str], project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "data" / "flowers", count=10)
    (project / "data" / "flowers" / "blue" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run_shell(redirection, *words, cwd=project)
    assert done.returncode == (1 if redirection.startswith(">") else 0)
    assert b"Traceback" not in done.stdout + done.stderr
    if redirection == ">/dev/full":
        assert b"error: classifold: the disk is full\n" in done.stderr
    if redirection == "2>/dev/full":
        assert done.stdout


# A home folder


@pytest.fixture
def stranger() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `classifold` without HOME, as a user whom the password file lacks."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root with setpriv can become a user without an entry")

    def call(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        become = ("setpriv", "--reuid", "4321", "--regid", "4321", "--clear-groups")
        # Read, but not write, what belongs to others: Python itself may stand in a home folder.
        rights = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
        return subprocess.run(
            [*become, *rights, sys.executable, "-P", "-m", "classifold", *map(str, words)],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return call


def test_a_tilde_without_a_home_folder_is_one_line_and_no_folder(
    stranger: Callable[..., Any], project: Path, tmp_path: Path
) -> None:
    os.chown(project, 4321, 4321)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    os.chown(temporary, 4321, 4321)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    words = ("check", "--set", "DATA_LOCAL_DIR=~/pictures", "--set", "RUNS_DIR=~nobody-of-that-name/runs")
    done = stranger(*words, cwd=project, TMPDIR=str(temporary))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: setting DATA_LOCAL_DIR: ~ means the home folder, and this process has none, got '~/pictures'",
        "hint: write the whole path, or set the environment variable HOME; a folder of that name is ./~",
        "error: setting RUNS_DIR: ~ means the home folder, and this process has none, "
        "got '~nobody-of-that-name/runs'",
        "hint: write the whole path, or set the environment variable HOME; a folder of that name is ./~",
    ]
    assert [path.name for path in project.iterdir()] == ["container"]
    assert list(temporary.iterdir()) == []


def test_a_borrowed_home_is_empty_and_goes_with_the_process(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    # An unknown user is played by a password file that knows nobody.
    code = (
        "import os, pwd\n"
        "def unknown(_): raise KeyError\n"
        "pwd.getpwuid = unknown; del os.environ['HOME']\n"
        "from classifold.processes import expand_home, has_home, prepare_process\n"
        "assert has_home(); prepare_process(); assert not has_home()\n"
        "print(os.environ['HOME'], os.listdir(os.environ['HOME']), expand_home('~/x'), expand_home('~'))\n"
    )
    answer = run_python("-c", code, env={"TMPDIR": str(tmp_path)})
    home, *rest = answer.out.split()
    assert Path(home).parent == tmp_path
    assert rest == ["[]", "~/x", "~"]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_home_is_not_the_root_folder(run_python: Callable[..., Any]) -> None:
    code = (
        "from classifold.processes import expand_home, prepare_process; prepare_process();"
        "print(expand_home('~/x'))"
    )
    assert run_python("-c", code, env={"HOME": ""}).out != "/x\n"


def test_no_place_for_temporary_files_is_one_line(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys, tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"
        "import os; from classifold import processes\n"
        "processes._borrow_home = tempfile.gettempdir\n"
        "from classifold.cli.main import main; sys.argv = ['classifold', '--version']; sys.exit(main())\n"
    )
    answer = run_python("-c", code)
    assert answer.code == 1
    assert answer.err == (
        "error: temporary files: there is no folder for them that can be written\n"
        "hint: set the environment variable TMPDIR to a folder that can be written\n"
    )


# Files of the project that are named like modules


def test_python_m_is_the_command_line(run_python: Callable[..., Any], tmp_path: Path) -> None:
    answer = run_python("-m", "classifold", "--version", cwd=tmp_path)
    assert (answer.code, answer.out) == (0, f"classifold {__version__}\n")
    assert run_python("-m", "classifold", "spilt", cwd=tmp_path).code == 2


@pytest.mark.parametrize("words", [["-m", "classifold"], ["data_handler.py"], ["project_manager.py"]])
def test_a_file_of_the_project_is_no_module_of_the_command_line(
    words: list[str], root: Path, run_python: Callable[..., Any], shadows: Path
) -> None:
    for door in ("data_handler.py", "project_manager.py"):
        shutil.copy(root / door, shadows.parent)
    answer = run_python(*words, "--help", cwd=shadows.parent)
    assert (answer.code, answer.err) == (0, "")
    assert not shadows.exists()


def test_a_file_of_the_project_is_no_module_of_the_children(
    run_python: Callable[..., Any], draw_colours: Callable[..., Path], shadows: Path
) -> None:
    # Processes of multiprocessing draw, and Dask's workers pack shards.
    drawn = run_python(
        "-P", "-c", DRAW_IN_PROCESSES, "example", "drawn", "--pictures-per-class", "1", cwd=shadows.parent
    )
    assert drawn.code == 0, drawn.err
    assert int(drawn.err.splitlines()[-1]) >= 2
    draw_colours(shadows.parent / "data" / "flowers", count=10)
    words = ("-P", "-m", "classifold")
    assert run_python(*words, "split", cwd=shadows.parent).code == 0
    packed = run_python(*words, "shards", "--workers", "2", cwd=shadows.parent)
    assert packed.code == 0, packed.err
    assert not shadows.exists()


def test_our_processes_do_not_search_the_working_directory(shadows: Path) -> None:
    code = "import random, sys; print(sys.flags.safe_path, random.__file__)"
    for command, around in ((PYTHON, None), ((sys.executable,), isolated_children())):
        with around or pytest.MonkeyPatch.context():
            said = subprocess.run(
                [*command, "-c", code], cwd=shadows.parent, capture_output=True, encoding="utf-8", check=True
            ).stdout
        assert said.startswith("True ")
        assert str(shadows.parent) not in said
    assert "PYTHONSAFEPATH" not in os.environ
