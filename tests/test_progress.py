"""What is shown while work goes on: at once on a terminal, plainly in a log, never at the work's cost."""

from __future__ import annotations

import importlib.util
import logging
import os
import pty
import re
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.progress import PlainFormatter, is_terminal, say, show_progress


def run_on_terminal(code: str, *, cwd: Path, until: str | None = None, **environment: str) -> str:
    """Return what a Python program shows on a terminal, to its end or until a text was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ.update({"TERM": "xterm", **environment})
        os.execv(sys.executable, [sys.executable, "-P", "-c", code])
    shown, end = b"", time.monotonic() + 120
    try:
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                more = os.read(terminal, 65536)
            except OSError:  # the program has ended
                more = b""
            shown += more
            if not more or (until is not None and until.encode() in shown):
                break
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown.decode()


BAR = """
from classifold.progress import {names}
{before}
with show_progress("reading \\x1b[2Jx", 3) as advance:
    advance(3)
say("done\\x1b[2J")
"""


def test_a_terminal_gets_a_bar_and_names_cannot_steer_it(tmp_path: Path) -> None:
    shown = run_on_terminal(BAR.format(names="say, show_progress", before=""), cwd=tmp_path)
    assert "reading \\x1b[2Jx" in shown
    assert "\x1b[2Jx" not in shown
    assert shown.splitlines()[-1].endswith("done\\x1b[2J")


def test_plain_lines_are_all_that_a_container_shows_on_a_terminal(tmp_path: Path) -> None:
    names, before = "say, show_progress, use_plain_lines", "use_plain_lines()"
    assert run_on_terminal(BAR.format(names=names, before=before), cwd=tmp_path) == "done\\x1b[2J\r\n"


def test_the_container_shows_no_escape_sequence_on_a_terminal(tmp_path: Path) -> None:
    # A job whose pictures are missing: what it says of itself and of its end comes on the same way.
    (tmp_path / "ml" / "input" / "config").mkdir(parents=True)
    code = "import sys; from classifold.container.main import main; sys.exit(main())"
    shown = run_on_terminal(code, cwd=tmp_path, CLASSIFOLD_ML_DIR=str(tmp_path / "ml"))
    assert "classifold " in shown
    assert "error: " in shown
    assert "\x1b" not in shown


@pytest.mark.slow
def test_train_says_at_once_what_it_is_doing(project: Path, draw_colours: Callable[..., Path]) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    for name in ("training", "validation", "evaluation"):
        draw_colours(project / "sets" / name, count=2)
    (project / "container" / "modeling" / "config.py").write_text('SPLIT_LOCAL_DIR = "sets"\n')
    # The processor's time up to the first line is measured, since the machine may be busy with other things.
    code = (
        "import sys, time\n"
        "from classifold import progress\n"
        "plain = progress.say\n"
        "progress.say = lambda line: plain(f'{line} after {time.process_time():.2f} s')\n"
        "from classifold.cli.main import main; sys.argv = ['classifold', 'train']; sys.exit(main())\n"
    )
    shown = run_on_terminal(code, cwd=project, until="starting ")
    first = re.search(r"looking for the pictures in sets after ([0-9.]+) s", shown)
    assert first is not None, shown
    assert float(first[1]) < 1.0
    assert "starting TensorFlow" in shown or "starting JAX" in shown


def test_a_log_gets_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with show_progress("reading", 3) as advance:
        advance(3)
        advance.describe("still reading")
    assert capfd.readouterr().err == ""
    assert not is_terminal()


def test_a_stream_that_is_not_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_terminal()
    say("nobody reads this")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_remark_that_cannot_be_written_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("the first")
        say("the second")


def test_a_remark_that_nobody_reads_any_more_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(BrokenPipeError):
        say("a line")
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_line_of_a_log_cannot_steer_the_terminal() -> None:
    record = logging.LogRecord("classifold", logging.WARNING, "", 0, "%s\nand more", ("a\x1b[2J",), None)
    assert PlainFormatter().format(record) == "a\\x1b[2J\nand more"
