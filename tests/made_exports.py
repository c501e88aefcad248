"""The exports of one small run, made once for all tests that look at them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from made_runs import Finished

FORMATS = ("onnx-bytes", "savedmodel-bytes", "litert", "openvino", "tfjs", "int8", "triton")


@dataclass(frozen=True)
class Exports:
    """What `classifold export` wrote and printed."""

    run_dir: Path
    folder: Path
    answer: dict[str, dict[str, Any]]


def export_in_process(run: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `classifold export RUN WORDS --json` as a user would, in a process of its own."""
    command = [sys.executable, "-m", "classifold", "export", run, "--json", *words]
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
        cwd=run.parent,
    )


def as_options(formats: Sequence[str]) -> list[str]:
    return [word for name in formats for word in ("--to", name)]


@pytest.fixture(scope="session")
def exports(finished: Finished, make_once: Callable[..., Path]) -> Exports:
    """Every format of the small run, with 8 bits where there is a choice, and LiteRT in single precision."""

    def make(folder: Path) -> None:
        shutil.copytree(finished.run_dir, folder / "run")
        done = []
        for words in ([*as_options(FORMATS), "--int8"], ["--to", "litert"], ["--to", "openvino", "--half"]):
            one = export_in_process(folder / "run", *words, "--max-loss", "0.2")
            assert one.returncode in (0, 1), one.stderr
            done += json.loads(one.stdout)["exports"]
        (folder / "answer.json").write_text(json.dumps(done))

    folder = make_once("exports", make)
    done = json.loads((folder / "answer.json").read_text())
    return Exports(folder / "run", folder / "run-exports", {one["name"]: one for one in done})


@pytest.fixture
def copied_run(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the small run that a test may change, and export."""
    return shutil.copytree(finished.run_dir, tmp_path / "run")
