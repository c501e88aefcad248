"""No command but those on AWS opens a connection, looks a name up, or leaves more than a cache in the home.

Every command runs under strace, which writes down its calls to the network and those of its children.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="conv")(pixels)
    return keras.Model(pixels, x, name="tiny")
"""
SETTINGS = """
DATA_LOCAL_DIR = "pictures"
BACKBONE = "my_model.py:build"
BACKBONE_WEIGHTS = None
IMAGE_SIZE = 16
BATCH_SIZE = 4
HEAD_EPOCHS = 1
HEAD_PENALTIES = ()
EPOCHS = 0
AUGMENTATION_VARIANTS = 1
BOOTSTRAP_SAMPLES = 100
"""
# Addresses and names as strace shows them in a call.
_ADDRESS = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_LOOPBACK = ("127.", "::1", "::ffff:127.")


class Watched:
    """Runs commands in a project with an empty home folder, and knows what each did on the network."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.calls = folder, folder / "home", folder / "calls.txt"
        self.home.mkdir()

    def run(self, *words: object, code: str | None = None) -> None:
        command = ["-c", code] if code else ["-m", "classifold", *map(str, words)]
        done = subprocess.run(
            [
                *(
                    "strace",
                    *("--follow-forks", "--seccomp-bpf"),  # other calls run at full speed
                    "--quiet=all",
                    "--trace=connect,bind,listen,sendto,sendmsg,sendmmsg",
                    "--output",
                    self.calls,
                ),
                *(sys.executable, "-P", *command),
            ],
            cwd=self.folder,
            # Variables that would keep a dependency silent by chance, such as CI, are left out.
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            encoding="utf-8",
            timeout=900,
            check=False,
        )
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("this system lets no process be watched")
        assert done.returncode == 0, done.stderr

    def list_foreign(self) -> list[str]:
        """Return the calls that name another machine, or that could ask for a name."""
        lines = self.calls.read_text(errors="replace").splitlines()
        return [
            line
            for line in lines
            # The kernel itself is asked through netlink for the machine's own addresses.
            if "AF_NETLINK" not in line
            if any(not one.startswith(_LOOPBACK) for one in _ADDRESS.findall(line)) or "htons(53)" in line
        ]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A project that is divided, with a run that was trained, all of it watched."""
    folder = tmp_path_factory.mktemp("watched")
    generator = np.random.default_rng(0)
    for name in ("dark", "light"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 99, (20, 20, 3)) + (150 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / name / f"{number}.png")
    (folder / "my_model.py").write_text(BACKBONE)
    (folder / "container" / "modeling").mkdir(parents=True)
    (folder / "container" / "modeling" / "config.py").write_text(SETTINGS)
    return Watched(folder)


def test_a_connection_elsewhere_would_be_seen(watched: Watched) -> None:
    watched.run(code="import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.7', 443))")
    assert any("192.0.2.7" in line for line in watched.list_foreign())
    (watched.home / "kept").touch()
    with pytest.raises(AssertionError):
        check(watched)
    (watched.home / "kept").unlink()


CACHES = (".cache/classifold/checks/", ".cache/classifold/features/")


def check(watched: Watched) -> None:
    assert watched.list_foreign() == []
    files = [path.relative_to(watched.home).as_posix() for path in watched.home.rglob("*") if path.is_file()]
    # What a check finds and the features that it computes are kept for the next one; docs/check.md says so.
    assert [name for name in files if not name.startswith(CACHES)] == []


@pytest.fixture(scope="module")
def run_dir(watched: Watched) -> Path:
    """The run folder of a training that was watched; its calls are kept beside it."""
    watched.run("split")
    check(watched)
    watched.run("train")
    check(watched)
    (found,) = (watched.folder / "runs").iterdir()
    return found


def test_split_and_train_ask_nobody_and_keep_nothing(run_dir: Path) -> None:
    assert (run_dir / "model.onnx").is_file()


COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "help": lambda run_dir: ("train", "--help"),
    "example": lambda run_dir: ("example", f"drawn{os.urandom(4).hex()}", "--pictures-per-class", "2"),
    "check": lambda run_dir: ("check",),
    "shards": lambda run_dir: ("shards",),
    "predict": lambda run_dir: ("predict", run_dir, "pictures"),
    "report": lambda run_dir: ("report", run_dir),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asks_nobody_and_keeps_nothing(name: str, watched: Watched, run_dir: Path) -> None:
    watched.run(*COMMANDS[name](run_dir))
    check(watched)


def test_workers_of_shards_talk_on_this_machine_alone(watched: Watched, run_dir: Path) -> None:
    pytest.importorskip("distributed")
    shutil.rmtree(watched.folder / "pictures-split-shards", ignore_errors=True)
    watched.run("shards", "--workers", "2")
    check(watched)


def test_hosts_of_one_machine_listen_and_talk_on_this_machine_alone(watched: Watched, run_dir: Path) -> None:
    pytest.importorskip("jax")
    watched.run("train", "--hosts", "2", "--set", "RUNS_DIR=runs of hosts")
    assert watched.calls.read_text(errors="replace").count(" listen(") >= 2
    check(watched)


def test_onnx_runtime_in_a_users_own_program_keeps_nothing(watched: Watched, run_dir: Path) -> None:
    model = str(run_dir / "model.onnx")
    watched.run(
        code=f"import classifold, onnxruntime, time; onnxruntime.InferenceSession({model!r}); time.sleep(1)"
    )
    check(watched)
