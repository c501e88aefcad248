from __future__ import annotations

import csv
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from made_models import COLOURS

Classifold = Callable[..., Any]


def save(path: Path, colour: str) -> Path:
    """Save a picture under its name when it is complete, as a browser does."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}")
    Image.new("RGB", (40, 30), COLOURS[colour]).save(partial, "PNG")
    return partial.rename(path)


class Started:
    """A process of `classifold predict --watch`, and its lines as they come."""

    def __init__(self, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "classifold", "predict", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.process.stderr is not None
        self.first_line = self.process.stderr.readline()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def end(self, number: signal.Signals) -> tuple[int, list[str]]:
        """Send a signal; return the exit code and the rest of standard error."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        err = self.process.stderr.read().splitlines()
        return self.process.wait(timeout=60), err


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """Return a function that starts watching, and is told so: `start(run, "--watch", folder)`."""
    started: list[Started] = []

    def call(*words: object) -> Started:
        started.append(Started(*words))
        assert started[-1].first_line.startswith("watching "), started[-1].first_line
        return started[-1]

    yield call
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        for stream in (one.process.stdout, one.process.stderr):
            if stream is not None:
                stream.close()


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def names_in(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [Path(json.loads(line)["path"]).name for line in path.read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_gets_each_answer_at_once_and_a_signal_ends_the_watch_with_code_0(
    start: Callable[..., Started], colour_run: Path, tmp_path: Path, number: signal.Signals
) -> None:
    watched = tmp_path / "in"
    save(watched / "red.png", "red")
    watch = start(colour_run, "--watch", watched, "--format", "csv", "--top-k", "1")
    lines = [watch.lines.get(timeout=60) for _ in range(2)]
    save(watched / "blue.png", "blue")
    lines.append(watch.lines.get(timeout=60))
    rows = list(csv.DictReader(io.StringIO("".join(lines))))
    assert [(Path(row["path"]).name, row["predicted_class"]) for row in rows] == [
        ("red.png", "red"),
        ("blue.png", "blue"),
    ]
    assert watch.end(number) == (0, ["2 pictures were classified"])


def test_a_killed_watch_answers_the_rest_when_it_is_started_again_and_nothing_twice(
    start: Callable[..., Started], colour_run: Path, tmp_path: Path
) -> None:
    watched, output = tmp_path / "in", tmp_path / "answers.jsonl"
    for number in range(200):
        os.link(save(watched / "red.png", "red"), watched / f"{number:03}.png")
    words = (colour_run, "--watch", watched, "--output", output, "--sort-into", watched / "sorted")
    first = start(*words)
    wait_for(lambda: len(names_in_whole_lines(output)) > 20)
    first.process.kill()
    first.process.wait()
    with output.open("ab") as file:
        file.write(b'{"path": "half an ans')  # as a kill within a write leaves it

    second = start(*words)
    save(watched / "blue.png", "blue")
    wait_for(lambda: len(names_in(output)) == 202)
    time.sleep(2)  # another look
    code, err = second.end(signal.SIGTERM)
    assert code == 0
    assert sorted(names_in(output)) == sorted(["blue.png", "red.png", *(f"{n:03}.png" for n in range(200))])
    assert len(list((watched / "sorted").glob("*/*.png"))) == 202
    assert err[0].endswith(f"were classified; the answers are in {output}")


def names_in_whole_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_a_rewritten_picture_is_answered_again_and_only_new_ones_where_that_is_asked(
    start: Callable[..., Started], colour_run: Path, tmp_path: Path
) -> None:
    watched = tmp_path / "in"
    save(watched / "a.png", "red")
    save(watched / "old.png", "red")
    watch = start(colour_run, "--watch", watched, "--new-only", "--format", "jsonl")
    time.sleep(1.5)
    save(watched / "a.png", "blue")
    answer = json.loads(watch.lines.get(timeout=60))
    assert (answer["path"], answer["predicted_class"]) == (str(watched / "a.png"), "blue")
    assert watch.end(signal.SIGINT) == (0, ["1 picture was classified"])
    assert watch.lines.empty()


def test_a_watch_whose_reader_leaves_ends_quietly(colour_run: Path, tmp_path: Path) -> None:
    watched = tmp_path / "in"
    save(watched / "a.png", "red")
    words = ["predict", str(colour_run), "--watch", str(watched), "--format", "jsonl"]
    command = [sys.executable, "-P", "-m", "classifold", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        save(watched / "b.png", "red")
        assert process.wait(timeout=60) == 0
        assert process.stderr.read().splitlines() == [f"watching {watched}; Ctrl-C ends it"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "classifold predict: no pictures were named"),
        (("--new-only", "a.jpg"), "--new-only: it is only for --watch"),
        (("--watch", ".", "a.jpg"), "--watch: it takes the place of PATH..., got a.jpg"),
        (("--watch", ".", "--explain", "why"), "--watch: the pages of --explain are written at the end"),
        (("--watch", ".", "--format", "json"), "--watch: the answers of --watch cannot be written as json"),
        (
            ("--watch", ".", "--output", "a.parquet"),
            "--watch: the answers of --watch cannot be written as p",
        ),
        (
            ("--watch", ".", "--output", "a.txt"),
            "--watch: the answers of --watch are appended to a file",
        ),
    ],
)
def test_what_does_not_go_together_with_watching_is_refused_before_the_work(
    classifold: Classifold, colour_run: Path, words: tuple[str, ...], error: str
) -> None:
    answer = classifold("predict", colour_run, *words)
    assert (answer.code, answer.out) == (2, "")
    assert f"error: {error}" in answer.err


@pytest.mark.parametrize("goal", ["in", "."])
def test_pictures_are_not_sorted_into_the_watched_folder(
    classifold: Classifold, colour_run: Path, tmp_path: Path, goal: str
) -> None:
    (tmp_path / "in").mkdir()
    answer = classifold("predict", colour_run, "--watch", tmp_path / "in", "--sort-into", tmp_path / goal)
    assert answer.code == 1
    assert "their sorted copies would be in one folder" in answer.err


def test_a_folder_that_is_not_there_cannot_be_watched(
    classifold: Classifold, colour_run: Path, tmp_path: Path
) -> None:
    answer = classifold("predict", colour_run, "--watch", tmp_path / "typo")
    assert answer.code == 1
    assert f"error: {tmp_path}/typo: there is no such folder" in answer.err
    assert "hint: name the folder in which pictures arrive" in answer.err


def test_a_file_of_another_program_is_not_appended_to(
    classifold: Classifold, colour_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    answer = classifold("predict", colour_run, "--watch", tmp_path, "--output", tmp_path / "mine.csv")
    assert answer.code == 1
    assert "mine.csv: line 1 is no answer of predict" in answer.err
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"


def test_a_full_disk_ends_the_watch_with_one_line_and_the_cut_answer_is_written_again(
    start: Callable[..., Started], colour_run: Path, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    watched, disk = tmp_path / "in", mount("size=8k")
    for number in range(60):
        save(watched / f"{number:02}.png", "red")
    (disk / "filling").write_bytes(b"\0" * 4096)
    watch = start(colour_run, "--watch", watched, "--output", disk / "answers.jsonl")
    assert watch.process.wait(timeout=60) == 1
    assert watch.process.stderr is not None
    assert watch.process.stderr.readline() == f"error: {disk}/answers.jsonl: the disk is full\n"
    assert not (disk / "answers.jsonl").read_bytes().endswith(b"\n")
    subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
    again = start(colour_run, "--watch", watched, "--output", disk / "answers.jsonl")
    wait_for(lambda: len(names_in_whole_lines(disk / "answers.jsonl")) == 60)
    assert again.end(signal.SIGTERM)[0] == 0
    assert sorted(names_in(disk / "answers.jsonl")) == [f"{number:02}.png" for number in range(60)]
