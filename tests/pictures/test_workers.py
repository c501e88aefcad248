"""Files are read in processes of their own: what ends one of them costs one file, and all others are read."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from classifold.errors import RunError
from classifold.pictures import workers
from classifold.pictures.workers import start_workers
from classifold.processes import PYTHON

# Work for the processes, which import it by this module's name. A path is a command here: a real file that
# crashes a decoder would do so in one version only.
BROKEN = '''
"""Work that does what a path says, as a decoder would on a file made for it."""
import ctypes, os, signal, time
from pathlib import Path

from classifold.pictures.limits import check_size, taking_turns


def read(number: int, path: str) -> tuple[int, str, int]:
    if path == "crash":
        ctypes.string_at(0)
    if path == "abort":
        os.abort()
    if path == "memory":
        check_size(10, 10, max_pixels=1000)
        try:
            bytearray(3 * 2**30)
        except MemoryError:
            return number, "no memory", os.getpid()
    if path == "spin":
        while True:
            pass
    if path == "sleep":
        check_size(10, 10, max_pixels=1000)
        time.sleep(1000)
    if path == "killed once" and not Path(os.environ["MARK"]).exists():
        Path(os.environ["MARK"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "bug":
        raise ValueError("a bug of ours")
    if path == "print":
        print("noise of a library", flush=True)
        os.write(2, b"noise of a library")
    if path == "large":
        with taking_turns(10_000, 10_000):
            start = time.monotonic()
            time.sleep(0.2)
            return number, f"{start} {time.monotonic()}", os.getpid()
    return number, path, os.getpid()
'''


@pytest.fixture(autouse=True)
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_decoder.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    sys.modules.pop("broken_decoder", None)


def fail(number: int, reason: str) -> tuple[int, str, int]:
    return number, reason, 0


def read(paths: list[str], *, size: int = 4, num_workers: int = 2) -> list[tuple[int, str, int]]:
    from broken_decoder import read as work

    files = list(enumerate(paths))
    batches = [files[at : at + size] for at in range(0, len(files), size)]
    with start_workers(num_workers) as crew:
        return [one for found in crew.map(batches, work, failed=fail) for one in found]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("crash", "its decoder crashed (SIGSEGV); save it again with another program"),
        ("abort", "its decoder crashed (SIGABRT); save it again with another program"),
        ("killed", "the system ended its decoder, usually for lack of memory"),
    ],
)
def test_a_file_that_ends_its_process_is_named_and_all_others_are_read(command: str, reason: str) -> None:
    paths = [f"{number}" for number in range(40)]
    for at in (0, 5, 6, 39):
        paths[at] = command
    found = read(paths)
    assert [number for number, _, _ in found] == list(range(40))
    assert [text for _, text, _ in found if text.isdigit()] == [one for one in paths if one != command]
    assert all(text.startswith(reason) for _, text, _ in found if not text.isdigit())


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is kept on Linux only")
def test_a_small_picture_that_takes_gigabytes_gets_an_error_and_not_the_machine() -> None:
    assert [text for _, text, _ in read(["a", "memory", "b"])] == ["a", "no memory", "b"]


def test_a_decoder_that_never_returns_is_ended_after_the_time_that_the_size_calls_for() -> None:
    start = time.monotonic()
    found = read(["a", "spin", "b"])
    assert [text for _, text, _ in found] == [
        "a",
        "decoding it did not end in 5 s; save it again with another program",
        "b",
    ]
    assert time.monotonic() - start < 60


def test_a_decoder_that_waits_for_ever_is_ended_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 0.2)
    assert [text.partition(" did")[0] for _, text, _ in read(["sleep", "b"])] == ["decoding it", "b"]


def test_a_process_killed_by_somebody_else_costs_no_file() -> None:
    assert [text for _, text, _ in read(["a", "killed once", "b"])] == ["a", "killed once", "b"]


def test_a_bug_of_ours_is_raised_here_with_the_lines_where_it_happened() -> None:
    with pytest.raises(ValueError, match="a bug of ours") as caught:
        read(["a", "bug"])
    assert any("broken_decoder.py" in note for note in caught.value.__notes__)


def test_what_a_library_prints_reaches_neither_the_answers_nor_the_terminal(capfd) -> None:
    assert [text for _, text, _ in read(["print", "b"])] == ["print", "b"]
    assert capfd.readouterr() == ("", "")


def test_large_pictures_are_decoded_one_at_a_time_in_all_processes() -> None:
    found = read(["large"] * 4, size=1)
    assert len({process for _, _, process in found}) == 2
    times = sorted(tuple(map(float, text.split())) for _, text, _ in found)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_names_that_are_no_utf8_and_very_long_ones_arrive_as_they_are() -> None:
    names = ["\udcff", "x" * 4000, "line\nbreak", "ä"] * 30
    assert [text for _, text, _ in read(names, size=16)] == names


def test_few_files_start_few_processes() -> None:
    assert len({process for _, _, process in read(["a", "b", "c"], size=16, num_workers=8)}) == 1


def test_processes_that_cannot_start_are_an_error_with_what_they_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_MODULE", "classifold.no_such_module")
    with pytest.raises(RunError, match="No module named classifold"):
        read(["a"])


def test_no_process_is_left_when_the_caller_is_interrupted_or_killed() -> None:
    program = """
import sys, os, signal
from broken_decoder import read
from classifold.pictures.workers import start_workers
with start_workers(2) as crew:
    for found in crew.map([[(1, "a")], [(2, "b")], [(3, "spin")]], read, failed=lambda number, reason: None):
        print(found[0][2], flush=True)
        if found[0][0] == 2:
            os.kill(os.getpid(), int(sys.argv[1]))
"""
    for number in (signal.SIGKILL, signal.SIGINT):
        done = subprocess.run(
            [*PYTHON, "-c", program, str(int(number))],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == -number
        processes = [int(line) for line in done.stdout.split()]
        until = time.monotonic() + 10
        while any(map(is_alive, processes)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(is_alive, processes))


def is_alive(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def test_a_worker_imports_neither_the_training_extra_nor_boto3() -> None:
    program = "import sys, classifold.dataset.index, classifold.pictures.worker; print(*sys.modules)"
    done = subprocess.run([*PYTHON, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"keras", "tensorflow", "boto3", "sklearn", "scipy", "rich", "pydantic", "cv2"}
