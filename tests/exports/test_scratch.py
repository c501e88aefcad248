"""What a killed `classifold export` leaves behind is mended by the next one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from classifold.exports.scratch import mend_exports, open_scratch, put_in_place

# Makes an export `triton` as the command does, and is killed at one of the moments.
KILLED = """
import os, signal, sys
from pathlib import Path
from classifold.exports import scratch
output, moment = Path(sys.argv[1]), sys.argv[2]
rename = Path.rename

def stop(when):
    if when == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def rename_and_stop(source, target):
    stop(f"before {source.name}")
    rename(source, target)
    stop(f"after {source.name}")

Path.rename = rename_and_stop
with scratch.open_scratch(output, "triton") as folder:
    (folder / "export" / "model.onnx").write_text("new")
    stop("unfinished")
    (folder / "export" / "export.json").write_text("new")
    scratch.put_in_place(folder / "export", output / "triton")
    stop("removing")
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder of exports with an earlier one."""
    folder = tmp_path / "run-exports"
    (folder / "triton").mkdir(parents=True)
    (folder / "triton" / "export.json").write_text("earlier")
    return folder


def kill(output: Path, moment: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, output, moment], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [one for one in output.iterdir() if one.name.startswith(".triton.partial-")]


@pytest.mark.parametrize(
    ("moment", "content"),
    [
        ("unfinished", "earlier"),
        ("before triton", "earlier"),
        ("after triton", "new"),
        ("before export", "new"),
        ("after export", "new"),
        ("removing", "new"),
    ],
)
def test_after_a_kill_at_any_moment_a_whole_export_is_in_its_place_and_nothing_else(
    output: Path, moment: str, content: str
) -> None:
    kill(output, moment)
    mend_exports(output)
    assert [one.name for one in output.iterdir()] == ["triton"]
    assert (output / "triton" / "export.json").read_text() == content


def test_an_export_that_is_put_back_is_said(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kill(output, "after triton")
    mend_exports(output)
    mend_exports(output)
    assert capsys.readouterr().err.count(f"{output / 'triton'} is back") == 1


def test_an_earlier_export_is_put_back_where_the_new_one_is_not_whole(output: Path) -> None:
    kill(output, "before export")
    (hidden,) = output.glob(".triton.partial-*")
    (hidden / "export" / "export.json").unlink()
    mend_exports(output)
    assert (output / "triton" / "export.json").read_text() == "earlier"


def test_an_export_that_is_being_made_is_left_alone(output: Path) -> None:
    with open_scratch(output, "triton") as folder:
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib; from classifold.exports.scratch import mend_exports; "
                "mend_exports(pathlib.Path(sys.argv[1]))",
                output,
            ],
            check=True,
        )
        (folder / "export" / "export.json").write_text("new")
        put_in_place(folder / "export", output / "triton")
    assert (output / "triton" / "export.json").read_text() == "new"
    assert [one.name for one in output.iterdir()] == ["triton"]


def test_what_only_looks_like_a_left_folder_stays(output: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (output / ".triton.partial-abcdefgh").symlink_to(tmp_path / "mine")
    (output / ".video.partial-abcdefgh").mkdir()
    (output / ".triton.partial-notes").mkdir()
    (output / ".int8.partial-abcdefgh").write_text("a file")
    before = sorted(output.iterdir())
    mend_exports(output)
    assert sorted(output.iterdir()) == before
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_without_locks_only_what_is_old_is_taken_for_left(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(output, "unfinished")
    (hidden,) = output.glob(".triton.partial-*")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))  # as a network disk without a lock service

    monkeypatch.setattr("fcntl.flock", refuse)
    mend_exports(output)
    assert hidden.exists()
    old = time.time() - 2 * 24 * 3600
    os.utime(hidden, (old, old))
    mend_exports(output)
    assert not hidden.exists()
