"""What is shown while work goes on: at once on a terminal, sparsely in a log, never at the work's cost."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from classifold.progress import Board, PlainFormatter, counting, is_terminal, say
from made_terminal import run_on_terminal

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


# A log


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A board that shows steps in a log, with a clock of its own that ticks where the test says so."""

    def __init__(self) -> None:
        self.clock, self.stream = Clock(), io.StringIO()
        self.board = Board(self.clock, is_ticking=False)
        self.board.stream = self.stream

    def wait(self, seconds: float) -> list[str]:
        """Let so many seconds go by, ticking twice in each; return the lines that were written."""
        before = len(self.stream.getvalue())
        for _ in range(round(2 * seconds)):
            self.clock.now += 0.5
            self.board.tick()
        return self.stream.getvalue()[before:].splitlines()


def test_a_log_has_no_line_about_a_short_step() -> None:
    log = Log()
    with log.board.show("reading", 3) as advance:
        advance(3)
        advance.describe("still reading")
        assert log.wait(1.5) == []
    assert log.wait(60) == []


def test_a_log_has_a_line_about_a_step_after_two_seconds_and_then_each_fifteen() -> None:
    log = Log()
    with log.board.show("reading", 100) as advance:
        advance(8)
        assert log.wait(2) == ["reading: 8 of 100 pictures, 4.0/s, 23 s left"]
        assert log.wait(14.5) == []
        assert log.wait(0.5) == ["reading: 8 of 100 pictures, 28.2/min, 3 min 16 s left"]
        assert len(log.wait(60)) == 4


def test_a_log_of_many_short_steps_is_not_silent_and_of_long_ones_not_flooded() -> None:
    log = Log()
    lines: list[str] = []
    with log.board.show("evaluating", None):
        for _ in range(100):
            with log.board.show("reading", None):
                lines += log.wait(1)
    assert {line.partition(":")[0] for line in lines} == {"evaluating"}
    assert len(lines) == 7
    with log.board.show("training", None):
        assert len(log.wait(4 * 3600)) < 130
        before = log.clock.now
        while not log.wait(1):
            assert log.clock.now - before <= 300


def test_a_log_that_has_other_lines_gets_none_about_the_step() -> None:
    log = Log()
    with log.board.show("training", 1000) as advance:
        log.wait(2)
        for epoch in range(10):
            advance(10)
            log.board.say(f"epoch {epoch}")
            assert log.wait(14) == []
        assert len(log.wait(1)) == 1


def test_the_innermost_long_step_is_told_of() -> None:
    log = Log()
    with log.board.show("training", 1000):
        assert log.wait(2) == ["training: 0 of 1,000 pictures"]
        for version in (1, 2):
            with log.board.show(f"computing version {version}", 20):
                assert log.wait(14.5) == []
                assert log.wait(0.5) == [f"computing version {version}: 0 of 20 pictures"]
        assert log.wait(15) == ["training: 0 of 1,000 pictures"]


def test_the_number_of_units_may_change_on_the_way() -> None:
    log = Log()
    with log.board.show("training", 1000) as advance:
        advance.expect(500)
        assert log.wait(2) == ["training: 0 of 500 pictures"]


def test_hidden_steps_leave_the_lines_that_are_said() -> None:
    log = Log()
    log.board.is_hidden = True
    with log.board.show("training", 1000) as advance:
        advance(1)
        log.board.say("a line")
        assert log.wait(60) == []
    assert log.stream.getvalue() == "a line\n"


def test_steps_go_on_being_shown_while_a_library_is_kept_from_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, clock = io.StringIO(), Clock()
    monkeypatch.setattr(sys, "stderr", stream)
    board = Board(clock, is_ticking=False)
    with board.show("writing", None), contextlib.redirect_stderr(io.StringIO()) as chatter:
        print("chatter", file=sys.stderr)
        clock.now += 2
        board.tick()
    assert stream.getvalue() == "writing\n"
    assert chatter.getvalue() == "chatter\n"


def test_items_are_counted_as_they_pass() -> None:
    log = Log()
    with log.board.show("looking", None) as advance:
        assert list(counting("abcd", advance)) == list("abcd")
        assert log.wait(2) == ["looking: 4 pictures so far, 2.0/s"]


THREADS = """
import threading, time
from classifold.progress import say, show_progress

def work(name):
    for _ in range(20):
        with show_progress(name, 100) as advance:
            for _ in range(10):
                advance(10)
                time.sleep(0.001)
threads = [threading.Thread(target=work, args=(f"step {n}",)) for n in range(8)]
for one in threads: one.start()
for one in threads: one.join()
say("done")
"""


def test_threads_share_a_terminal_and_leave_it_clean(tmp_path: Path) -> None:
    shown = run_on_terminal(THREADS, cwd=tmp_path)
    assert "step 3" in shown
    assert "Traceback" not in shown
    assert shown.splitlines()[-1].endswith("done")


def test_a_log_shows_steps_by_itself_as_time_goes_by(tmp_path: Path) -> None:
    code = (
        "import time\nfrom classifold import progress\n"
        "progress._FIRST_SECONDS = 0.0\n"
        "with progress.show_progress('reading', 3):\n    time.sleep(5)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr == "reading: 0 of 3 pictures\n"


# A notebook


class OutStream(io.StringIO):
    """Stands for the standard error of a cell; a kernel tells it by the module of its class."""

    __module__ = "ipykernel.iostream"


def show_written(text: str) -> list[str]:
    """Return the lines that a notebook shows of a text in which a carriage return goes back to the start."""
    lines = []
    for line in text.split("\n"):
        shown: list[str] = []
        for part in line.split("\r"):
            shown[: len(part)] = part
        lines.append("".join(shown).rstrip())
    return lines


def test_a_notebook_shows_one_line_that_changes_in_place_and_is_gone_at_the_end() -> None:
    log = Log()
    log.board.stream = log.stream = OutStream()
    with log.board.show("reading", 1000) as advance:
        log.wait(0.5)
        advance(500)
        log.wait(10)
        [line] = show_written(log.stream.getvalue())
        assert line.startswith("reading ━━━━━━━━╌╌╌╌╌╌╌╌ 500/1,000")
        log.board.say("note: a picture was left out")
        log.wait(1)
        note, line = show_written(log.stream.getvalue())
        assert note == "note: a picture was left out"
        assert line.startswith("reading ")
    assert show_written(log.stream.getvalue()) == ["note: a picture was left out", ""]


# A terminal

NARROW = """
import os, time
from classifold.progress import say, show_progress
with show_progress("computing features of the training pictures in /a/long/path", 20_000) as advance:
    advance(1000)
    with show_progress("reading " + "\u82b1" * 9, 5 * 10**9, unit="bytes") as more:
        for _ in range(6):
            more(10**7)
            time.sleep(0.1)
        say("note: a line in between")
        time.sleep(0.3)
"""


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_bars_fit_the_terminal_and_nothing_wraps(tmp_path: Path, columns: int) -> None:
    shown = run_on_terminal(NARROW, cwd=tmp_path, COLUMNS=str(columns))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert max(map(cell_len, lines)) < columns
    assert any(line.startswith("computing features") for line in lines)
    assert any(line.startswith("reading 花") for line in lines)
    assert "note: a line in between" in lines


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_long_line_breaks_at_blanks_on_a_terminal_and_a_command_not_at_all(
    tmp_path: Path, is_busy: bool
) -> None:
    command = "`classifold train photos --resume photos_2026-11-28_10-00-00 --set EPOCHS=3`"
    line = f"hint: [1] continue with the same settings: {command}"
    work = "with show_progress('reading', 3):\n    " if is_busy else ""
    code = f"from classifold.progress import say, show_progress\n{work}say({line!r})\n"
    shown = run_on_terminal(code, cwd=tmp_path, COLUMNS="40")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    at = lines.index("hint: [1] continue with the same")
    assert lines[at + 1 : at + 3] == ["  settings:", f"  {command}"]


def test_a_log_gets_a_long_line_in_one_piece(tmp_path: Path) -> None:
    code = f"from classifold.progress import say\nsay({'word ' * 60!r})\n"
    words = [sys.executable, "-P", "-c", code]
    environment = {**os.environ, "COLUMNS": "40"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stderr == "word " * 60 + "\n"


def test_what_goes_to_a_file_stays_out_of_the_terminal_while_a_bar_is_shown(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom classifold.progress import show_progress\n"
        "os.dup2(os.open('answer', os.O_CREAT | os.O_WRONLY), 1)\n"
        "with show_progress('reading', 3):\n    print('an answer')\n"
    )
    shown = run_on_terminal(code, cwd=tmp_path)
    assert "an answer" not in shown
    assert (tmp_path / "answer").read_text() == "an answer\n"


def test_a_terminal_without_colours_and_one_of_ascii_show_the_bar_too(tmp_path: Path) -> None:
    code = BAR.format(names="say, show_progress", before="")
    plain = run_on_terminal(code, cwd=tmp_path, NO_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*m", plain) is None
    ascii_only = run_on_terminal(code, cwd=tmp_path, PYTHONIOENCODING="ascii:backslashreplace")
    assert "reading " in ascii_only
    assert ascii_only.isascii()


# Standard error


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
