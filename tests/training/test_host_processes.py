"""Several hosts on this machine: the numbers of one, and an end with a reason whatever happens to one."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None, reason="several hosts train on JAX, which is not installed"
    ),
]

BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    for index, channels in enumerate((8, 12)):
        x = keras.layers.Conv2D(channels, 3, 2, padding="same", name=f"conv{index}")(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
    return keras.Model(pixels, x, name="tiny")
"""
SETTINGS = {
    "ALGORITHM_NAME": "tiny",
    "BACKBONE": "my_model.py:build",
    "BACKBONE_WEIGHTS": None,
    "IMAGE_SIZE": 24,
    "BATCH_SIZE": 8,
    "HEAD_PENALTIES": (0.1, 0.01),
    "EPOCHS": 2,
    "FINE_TUNE_SHARE": 0.5,
    "LEARNING_RATE": 3e-3,
    "DROPOUT": 0.2,
    "AUGMENTATION_VARIANTS": 2,
    "NUM_WORKERS": 1,
    "BOOTSTRAP_SAMPLES": 100,
    "EARLY_STOPPING_PATIENCE": 0,
    "CHECKPOINT_MINUTES": 0.001,
    "SPLIT_LOCAL_DIR": "sets",
    "CLASS_WEIGHTS": "balanced",
}
COLOURS = {"blue": (40, 40, 150), "red": (150, 40, 40), "yellow": (150, 150, 40)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings, network and pictures, one training picture among them that is none."""
    folder = tmp_path_factory.mktemp("project")
    generator = np.random.default_rng(0)
    for set_name, count in (("training", 11), ("validation", 5), ("evaluation", 3)):
        for name, colour in COLOURS.items():
            (folder / "sets" / set_name / name).mkdir(parents=True)
            for number in range(count + len(name)):
                pixels = generator.integers(0, 105, (30, 30, 3)) + np.array(colour)
                path = folder / "sets" / set_name / name / f"{number}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    (folder / "sets" / "training" / "red" / "4.png").write_bytes(b"no picture")
    (folder / "my_model.py").write_text(BACKBONE)
    values = {**SETTINGS, "UNREADABLE_PICTURES": "skip"}
    (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))
    return folder


class Train:
    """`classifold train` in the project, with everything that it says."""

    def __init__(
        self, project: Path, runs_dir: str, *options: str, num_devices: int = 1, **settings: Any
    ) -> None:
        given = [f"--set={name}={value}" for name, value in {**settings, "RUNS_DIR": runs_dir}.items()]
        words = [sys.executable, "-m", "classifold.cli.main", "train", "--config", "config.py", "--json"]
        self.runs_dir, self.log = project / runs_dir, project / f"{runs_dir}.txt"
        self.stderr = self.log.open("w")
        self.process = subprocess.Popen(
            [*words, *options, *given],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env={**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}"},
        )

    def finish(self, code: int = 0) -> Any:
        out, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == code, self.log.read_text()
        return json.loads(out) if code == 0 else self.log.read_text()

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 600
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def list_hosts(self) -> list[int]:
        """Return the processes of the hosts, the first one first."""
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                status = (entry / "status").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            is_child = f"\nPPid:\t{self.process.pid}\n" in status
            pids += [int(entry.name)] if is_child and b"host_processes" in command else []
        return sorted(pids)


@pytest.fixture
def train(project: Path) -> Iterator[Callable[..., Train]]:
    started: list[Train] = []

    def train(*words: Any, **settings: Any) -> Train:
        started.append(Train(project, *words, **settings))
        return started[-1]

    yield train
    for one in started:
        one.process.kill()
        one.process.wait()
        one.stderr.close()


def list_listening(pids: list[int]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses on which processes wait for connections, an IPv4 one as such."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(str(entry.readlink()))
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                # The kernel shows the words of an address in the byte order of the machine.
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [raw[start : start + 4] for start in range(0, len(raw), 4)]
                ordered = b"".join(one[::-1] if sys.byteorder == "little" else one for one in words)
                address = ipaddress.ip_address(ordered)
                found.append(getattr(address, "ipv4_mapped", None) or address)
    return found


@pytest.fixture(scope="module")
def frozen(project: Path) -> Iterator[Future[tuple[list[Any], float, str]]]:
    """A run whose second host falls silent, watched beside other tests: for a minute it only waits.

    Its result is where the hosts listened, the seconds until the end, and what was said.
    """
    one = Train(project, "frozen", "--hosts", "2", EPOCHS=100_000)

    def freeze() -> tuple[list[Any], float, str]:
        one.wait_for("\nfine-tuning epoch 2 of ")
        listening = list_listening(one.list_hosts())
        os.kill(one.list_hosts()[1], signal.SIGSTOP)
        since = time.monotonic()
        said = one.finish(1)
        return listening, time.monotonic() - since, said

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(freeze)
        one.process.kill()
    one.process.wait()
    one.stderr.close()


def read_rows(run_dir: str) -> list[dict[str, str]]:
    with (Path(run_dir) / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_two_and_four_hosts_and_three_devices_learn_the_same_to_a_hundred_thousandth(train, project):
    runs = {
        1: train("runs1", BACKEND="jax").finish(),
        2: train("runs2", "--hosts", "2").finish(),
        4: train("runs4", "--hosts", "4").finish(),
        # Three devices of one host, among which a batch of 8 cannot be shared evenly.
        3: train("runs3", BACKEND="jax", num_devices=3).finish(),
    }
    rows = {count: read_rows(project / run["run_dir"]) for count, run in runs.items()}
    assert [row["stage"] for row in rows[1]] == ["head", "head", "fine_tune", "fine_tune"]
    for count in (2, 4, 3):
        assert len(rows[count]) == 4
        for one, other in zip(rows[1], rows[count], strict=True):
            for name in ("loss", "val_loss"):
                assert float(other[name]) == pytest.approx(float(one[name]), abs=1e-5)
            for name in ("accuracy", "val_accuracy"):
                assert float(other[name]) == pytest.approx(float(one[name]), abs=1e-6)
        environment = json.loads((project / runs[count]["run_dir"] / "environment.json").read_text())
        assert environment["num_hosts"] == (1 if count == 3 else count)
        scores = [run["metrics"]["scores"]["accuracy"]["value"] for run in (runs[1], runs[count])]
        assert scores[0] == scores[1]
        assert sorted(path.name for path in (project / f"runs{count}").iterdir()) == [
            Path(runs[count]["run_dir"]).name
        ]
        log = (project / f"runs{count}.txt").read_text()
        # Whichever host has the picture that is none, it is told of once.
        assert log.count("training/red/4.png was left out") == 1
        assert log.count("\nfine-tuning epoch 1 of ") == 1


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_is_killed_ends_the_run_with_a_reason_and_any_number_goes_on(victim, train, project):
    killed = train(f"killed{victim}", "--hosts", "2", EPOCHS=400)
    killed.wait_for("\nfine-tuning epoch 4 of ")
    os.kill(killed.list_hosts()[victim], signal.SIGKILL)
    since = time.monotonic()
    said = killed.finish(1)
    assert time.monotonic() - since < 60
    assert f"error: host {victim + 1}: it was killed, most likely because the memory ran out" in said
    (state,) = killed.runs_dir.iterdir()
    name = state.name.removeprefix(".").removesuffix(".checkpoint")
    assert re.search(rf"classifold train .*--hosts 2 .*--config config.py .*--resume {name}\n", said)
    if victim:  # the first host lost nothing but the step under way
        assert "note: what was learned until " in said

    # With the same number of hosts or another one, stopped by Ctrl-C.
    number = 3 if victim else 2
    again = train(f"killed{victim}", "--resume", name, "--hosts", str(number), EPOCHS=400)
    again.wait_for("\nfine-tuning epoch ")
    again.process.send_signal(signal.SIGINT)
    since = time.monotonic()
    said = again.finish(130)
    assert time.monotonic() - since < 60
    assert "note: resumed from " in said
    assert ("the number of hosts is 3, and was 2 before" in said) == (number == 3)
    # Each of the same number has its pictures as it left them.
    assert said.count("what an earlier start computed from the pictures is used again") == (number == 2)
    assert "error: training: interrupted after " in said
    assert sorted(path.name for path in killed.runs_dir.iterdir()) == [state.name, f"{name}.interrupted"]


def test_a_host_that_falls_silent_ends_the_run_within_a_minute(frozen):
    listening, seconds, said = frozen.result()
    assert len(listening) >= 3  # where the hosts meet, and where each takes what the others send
    assert {one.is_loopback for one in listening} == {True}, listening
    assert seconds < 70
    assert "error: host 2: it did not answer the others any more, and was ended" in said
    assert " --resume tiny-" in said


def test_a_fault_of_another_hosts_pictures_is_the_reason_that_is_told(train):
    said = train("bad", "--hosts", "2", UNREADABLE_PICTURES="fail").finish(1)
    assert said.count("error:") == 1
    assert "error: training/red/4.png:" in said
    assert "set UNREADABLE_PICTURES = 'skip'" in said


def test_more_hosts_than_pictures_in_a_batch_and_another_engine_are_refused(train):
    said = train("many", "--hosts", "9").finish(2)
    assert "error: --hosts: more hosts than pictures in a batch, got 9" in said
    said = train("engine", "--hosts", "2", BACKEND="tensorflow").finish(2)
    assert "error: setting BACKEND: several hosts train together on JAX only" in said
