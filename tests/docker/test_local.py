"""`train --docker`: how the container is started, and real runs of the real image."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold import names
from classifold.docker.engine import find_docker
from classifold.docker.local import run_in_docker
from classifold.docker.start import Engine, Start, build_command
from classifold.errors import DataError, DockerError, JobError
from classifold.sagemaker.request import list_hyperparameters
from classifold.settings.config import Config
from classifold.settings.loader import build_config

# A tiny backbone of the user's own, which also looks around in the container.
BACKBONE = """
import contextlib, json, os, pathlib
import keras

PLACES = ("/", "/opt/classifold", "/etc", "/opt/ml/input/data/colours", "/opt/ml/model", "/tmp")


def try_to_write(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
        return True
    except OSError:
        return False


def build(image_size):
    status = pathlib.Path("/proc/self/status").read_text()
    seen = {
        "user": [os.getuid(), os.getgid()],
        "networks": sorted(os.listdir("/sys/class/net")),
        "host": os.uname().nodename,
        "capabilities": [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")],
        "no_new_privileges": "NoNewPrivs:\\t1" in status,
        "writable": [path for path in PLACES if try_to_write(path)],
        "job": os.environ["TRAINING_JOB_NAME"],
    }
    pathlib.Path("/opt/ml/model/probe").unlink(missing_ok=True)
    print("seen", json.dumps(seen))
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for index in range(2):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name=f"conv{index}")(x)
    return keras.Model(pixels, x, name="tiny")
"""

# As unfriendly as it gets: nobody's user, nothing to write to but /tmp, no permissions, no network.
CONFINED = (
    *("--user", "12345:54321", "--read-only", "--tmpfs", "/tmp", "--network", "none"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)


def start(**changes: Any) -> Start:
    given = {
        "name": "job-1",
        "image": "project:cpu-1",
        "ml_dir": Path("/runs/.job-1.docker/ml"),
        "scratch_dir": Path("/runs/.job-1.docker/tmp"),
        "data_dir": Path("/data/split"),
        "channel": "flowers",
    }
    return Start(**{**given, **changes})


def options(words: list[str]) -> dict[str, list[str]]:
    """Return the values of each option of `docker run`."""
    found: dict[str, list[str]] = {}
    for option, value in itertools.pairwise(words):
        if option.startswith("--"):
            found.setdefault(option, []).append(value)
    return found


# How it is started


def test_the_container_is_started_as_sagemaker_would_with_nothing_to_spare() -> None:
    words = build_command(start())
    given = options(words)
    assert words[0] == "run"
    assert words[-2:] == ["project:cpu-1", "train"]
    assert given["--network"] == ["none"]
    assert given["--user"] == [f"{os.getuid()}:{os.getgid()}"]
    assert given["--cap-drop"] == ["ALL"]
    assert given["--security-opt"] == ["no-new-privileges"]
    assert given["--platform"] == ["linux/amd64"]
    assert given["--hostname"] == ["algo-1"]
    assert given["--env"] == ["TRAINING_JOB_NAME=job-1"]
    assert given["--mount"] == [
        "type=bind,source=/runs/.job-1.docker/ml,target=/opt/ml",
        "type=bind,source=/runs/.job-1.docker/tmp,target=/tmp",
        "type=bind,source=/data/split,target=/opt/ml/input/data/flowers,readonly",
    ]
    assert "--read-only" in words
    assert "--rm" in words
    assert "--gpus" not in words


def test_without_isolation_there_is_a_network() -> None:
    assert "--network" not in build_command(start(is_isolated=False))


def test_one_of_several_hosts_has_its_own_name_on_their_network() -> None:
    words = build_command(start(host="algo-2", network="job-1-hosts"))
    given = options(words)
    assert given["--network"] == ["job-1-hosts"]
    assert given["--network-alias"] == given["--hostname"] == ["algo-2"]
    assert given["--name"] == ["job-1-algo-2"]
    assert given["--env"] == ["TRAINING_JOB_NAME=job-1"]


def test_a_gpu_image_on_a_machine_with_gpus_gets_them_all() -> None:
    assert options(build_command(start(has_gpus=True)))["--gpus"] == ["all"]


def test_a_rootless_engine_runs_as_the_root_that_is_this_user() -> None:
    assert options(build_command(start(engine=Engine(is_rootless=True))))["--user"] == ["0:0"]


def test_folders_stay_open_under_selinux() -> None:
    words = build_command(start(engine=Engine(has_selinux=True)))
    assert options(words)["--security-opt"] == ["no-new-privileges", "label=disable"]


def test_a_path_may_hold_commas_and_quotes() -> None:
    (row,) = csv.reader(
        io.StringIO(options(build_command(start(data_dir=Path('/a, "b"'))))["--mount"][2]), strict=True
    )
    assert row == ["type=bind", 'source=/a, "b"', "target=/opt/ml/input/data/flowers", "readonly"]


# Real runs


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("own") / "my_model.py"
    path.write_text(BACKBONE)
    return f"{path}:build"


@pytest.fixture(scope="module")
def image(training_image: Any, own_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The training image with the tiny backbone in it: one more layer on what is there."""
    from classifold.aws.image import build_image

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("image"))
        return build_image(build_config({"BACKBONE": own_model}), variant="cpu", tell=print).reference


@pytest.fixture
def project(tmp_path: Path, own_model: str, draw_colours: Callable[..., Path]) -> Callable[..., Config]:
    """project(EPOCHS=3) -> settings of a quick run on made pictures."""
    for set_name, count in (("training", 8), ("validation", 3), ("evaluation", 4)):
        draw_colours(tmp_path / "sets" / set_name, count=count)

    def project(**settings: Any) -> Config:
        quick = {
            "ALGORITHM_NAME": "tiny", "DATA_NAME": "colours", "SPLIT_LOCAL_DIR": str(tmp_path / "sets"),
            "RUNS_DIR": str(tmp_path / "runs"), "BACKBONE": own_model, "BACKBONE_WEIGHTS": None,
            "HEAD_PENALTIES": (0.1,),
            "IMAGE_SIZE": 16, "BATCH_SIZE": 8, "HEAD_EPOCHS": 1, "EPOCHS": 1, "FINE_TUNE_SHARE": 1.0,
            "AUGMENTATION_VARIANTS": 1, "BOOTSTRAP_SAMPLES": 100, "EARLY_STOPPING_PATIENCE": 0,
        }  # fmt: skip
        return build_config({**quick, **settings})

    return project


def list_containers() -> set[str]:
    """Return the names of this file's containers: others may run at the same time."""
    asked = [find_docker(), "ps", "--all", "--format", "{{.Names}}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return {name for name in found if name.startswith("tiny-")}


@pytest.mark.slow
def test_the_image_trains_here_as_it_would_there(image: str, project, tmp_path: Path) -> None:
    lines: list[str] = []
    run_dir = run_in_docker(project(), image, tell=lines.append)
    assert run_dir.parent == (tmp_path / "runs").resolve()
    assert {path.name for path in run_dir.iterdir()} == {*names.ARTEFACTS, *names.LATER_ARTEFACTS}
    assert list(run_dir.parent.iterdir()) == [run_dir]
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in [run_dir, *run_dir.rglob("*")]}
    assert owners == {(os.getuid(), os.getgid())}
    (seen,) = [json.loads(line.removeprefix("seen ")) for line in lines if line.startswith("seen ")]
    assert seen == {
        "user": [os.getuid(), os.getgid()],
        "networks": ["lo"],
        "host": "algo-1",
        "capabilities": ["0000000000000000"],
        "no_new_privileges": True,
        "writable": ["/opt/ml/model", "/tmp"],
        "job": run_dir.name,
    }
    assert sum(line.startswith("head 1/1: regularization 0.1: ") for line in lines) == 1
    assert sum(line.startswith("fine-tuning epoch 1 of 1: ") for line in lines) == 1
    assert json.loads((run_dir / "config.json").read_text())["IMAGE_SIZE"] == 16
    assert run_dir.name not in list_containers()


@pytest.mark.slow
def test_a_job_on_a_terminal_prints_plain_lines_and_leaves_nothing_of_its_own_in_the_home(
    image: str, project, tmp_path: Path
) -> None:
    # As AWS's own SDK runs an image in its local mode, which gives the container a terminal.
    ml_dir, home = tmp_path / "ml", tmp_path / "home"
    home.mkdir()
    (ml_dir / "input" / "data").mkdir(parents=True)
    (tmp_path / "sets").rename(ml_dir / "input" / "data" / "colours")
    for name in ("model", "output", "checkpoints", "input/config"):
        (ml_dir / name).mkdir(parents=True)
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"]}
    for name, content in (
        ("hyperparameters", list_hyperparameters(project())),
        ("inputdataconfig", {"colours": channel}),
        ("resourceconfig", hosts),
    ):
        (ml_dir / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    for path in (home, ml_dir, *ml_dir.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    places = ("--volume", f"{home}:/home", "--env", "HOME=/home", "--volume", f"{ml_dir}:/opt/ml")
    job = ("--env", "TRAINING_JOB_NAME=terminal")
    command = ["docker", "run", "--rm", *CONFINED, "--tty", *job, *places, image, "train"]
    # As bytes: reading text would take each return of the cursor for the end of a line.
    done = subprocess.run(command, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert (ml_dir / "model" / "model.onnx").is_file()
    said = done.stdout.decode().replace("\r\n", "\n")
    assert re.search(r"^head (1/\d+: regularization|epoch 1 of) ", said, re.MULTILINE)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)
    # ONNX Runtime would write an identifier of the machine there.
    assert [str(path.relative_to(home)) for path in home.rglob("*") if ".keras" not in path.parts] == []


@pytest.mark.slow
def test_pictures_behind_links_are_there_in_the_container_too(image: str, project, tmp_path: Path) -> None:
    (tmp_path / "sets" / "training" / "red").rename(tmp_path / "elsewhere")
    (tmp_path / "sets" / "training" / "red").symlink_to(tmp_path / "elsewhere")
    lines: list[str] = []
    # A fault in the container ends it early: what it counted before that is enough.
    for path in (tmp_path / "sets" / "validation").rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(JobError):
        run_in_docker(project(UNREADABLE_PICTURES="fail"), image, tell=lines.append)
    assert "3 classes; 24 training, 9 validation" in "\n".join(lines)


def test_what_the_job_says_of_its_failure_is_the_error_with_the_users_own_paths(
    image: str, project, tmp_path: Path
) -> None:
    for path in (tmp_path / "sets" / "training").rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(JobError) as caught:
        run_in_docker(project(), image, tell=lambda _: None)
    (fault,) = caught.value.faults
    assert fault.where == f"{(tmp_path / 'sets').resolve()}/training"
    assert fault.what.startswith("none of its pictures can be read; of ")
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_image_that_is_not_here_is_named_with_the_command_that_builds_it(
    docker_engine: str, project, tmp_path: Path
) -> None:
    with pytest.raises(DockerError, match="classifold image --no-push"):
        run_in_docker(project(), "classifold-test:none", tell=print)
    assert not (tmp_path / "runs").exists()


def test_sets_that_cannot_be_trained_on_are_refused_before_anything_is_started(
    project, tmp_path: Path
) -> None:
    (tmp_path / "sets" / "validation").rename(tmp_path / "away")
    with pytest.raises(DataError, match="no validation pictures"):
        run_in_docker(project(), "classifold-test:none", tell=print)


SCRIPT = """
import json, signal, sys
from classifold.settings.loader import build_config
from classifold.errors import ClassifoldError
from classifold.docker.local import run_in_docker

signal.signal(signal.SIGINT, signal.default_int_handler)
config = build_config({name: value for name, value in json.loads(sys.argv[1]).items() if value != []})
try:
    run_in_docker(config, sys.argv[2], tell=lambda line: print(line, flush=True))
except ClassifoldError as error:
    print(type(error).__name__, error)
"""


@contextlib.contextmanager
def training(config: Config, image: str):
    """Train in Docker in a process of its own, for signals."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, config.to_json(), image], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"ended without {words!r}")


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_model_so_far(image: str, project, tmp_path: Path) -> None:
    with training(project(EPOCHS=100_000), image) as process:
        read_until(process, "fine-tuning epoch 3 of ")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(60) == 0
    assert "stopping: the job has 120 s" in said
    (kept,) = (tmp_path / "runs").iterdir()
    assert kept.name.endswith(".interrupted")
    assert f"Interrupted error: the job in Docker: stopped; the best model so far is in {kept}" in said
    assert {"model.keras", "classes.json", "config.json", "history.csv"} == {p.name for p in kept.iterdir()}
    assert kept.name.removesuffix(".interrupted") not in list_containers()


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_container_at_once(image: str, project, tmp_path: Path) -> None:
    before = list_containers()
    # At this point it imports, and answers a signal only some seconds later.
    with training(project(EPOCHS=100_000), image) as process:
        read_until(process, "classes; ")
        process.send_signal(signal.SIGINT)
        read_until(process, "stopping: ")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(60) == 0
    assert "Interrupted error: the job in Docker: stopped before the end of the first epoch" in said
    assert list((tmp_path / "runs").iterdir()) == []
    assert list_containers() <= before


def test_ctrl_c_is_heard_also_before_the_job_listens(image: str, project, tmp_path: Path) -> None:
    before = list_containers()
    with training(project(EPOCHS=100_000), image) as process:
        end = time.monotonic() + 60
        while list_containers() <= before:
            assert time.monotonic() < end
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(60) == 0
    # The first signal may come before anything in the container can hear it. It is sent again every few
    # seconds, in which so small a job may have come to its first epochs: what they reached is kept then.
    assert "Interrupted error: the job in Docker: stopped" in said
    kept = [path.name for path in (tmp_path / "runs").iterdir()]
    assert bool(kept) == ("stopped before the end of the first epoch" not in said)
    assert all(name.endswith(".interrupted") for name in kept)
    assert list_containers() <= before


# Several hosts


@pytest.fixture(scope="module")
def hosts_image(docker_engine: str, own_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that has JAX, with the tiny backbone in it."""
    from classifold.aws.image import build_image

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("image"))
        return build_image(build_config({"BACKBONE": own_model}), variant="hosts", tell=print).reference


def list_networks() -> set[str]:
    asked = [find_docker(), "network", "ls", "--format", "{{.Name}}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return {name for name in found if name.startswith("tiny-")}


@pytest.mark.slow
def test_two_containers_train_together_without_rights_or_a_way_out(
    hosts_image: str, project, tmp_path: Path
) -> None:
    lines: list[str] = []
    run_dir = run_in_docker(project(), hosts_image, tell=lines.append, num_hosts=2)
    assert {path.name for path in run_dir.iterdir()} == {*names.ARTEFACTS, *names.LATER_ARTEFACTS}
    assert list(run_dir.parent.iterdir()) == [run_dir]
    seen = [json.loads(line.partition("seen ")[2]) for line in lines if "seen " in line]
    assert sorted(one["host"] for one in seen) == ["algo-1", "algo-2"]
    for one in seen:
        assert (one["user"], one["capabilities"]) == ([os.getuid(), os.getgid()], ["0000000000000000"])
        assert one["writable"] == ["/opt/ml/model", "/tmp"]
    # Each reads its half, the first one alone tells of an epoch.
    assert "reading 12 training pictures" in lines
    assert "algo-2: reading 12 training pictures" in lines
    told = [line.partition(":")[0] for line in lines if "head 1/1: regularization " in line]
    assert told == ["head 1/1"]
    (told,) = [line for line in lines if re.search(r"(?<!kept )fine-tuning epoch \d+ of ", line)]
    assert told.startswith("fine-tuning epoch 1 of 1: ")
    assert not any(name.startswith(run_dir.name) for name in list_containers() | list_networks())


@pytest.mark.slow
def test_a_container_that_dies_ends_the_others_with_the_reason(
    hosts_image: str, project, tmp_path: Path
) -> None:
    killed, before = list[float](), list_networks()

    def tell(line: str) -> None:
        if "fine-tuning epoch 2 of " in line and not killed:
            (name,) = [one for one in list_containers() if one.endswith("-algo-2")]
            killed.append(time.monotonic())
            subprocess.run([find_docker(), "kill", name], capture_output=True, check=True)

    with pytest.raises(JobError) as caught:
        run_in_docker(project(EPOCHS=100_000), hosts_image, tell=tell, num_hosts=2)
    assert time.monotonic() - killed[0] < 60
    told = [(fault.where, fault.what) for fault in caught.value.faults]
    assert told == [("host algo-2", "it was killed, most likely because the memory ran out")]
    assert list((tmp_path / "runs").iterdir()) == []
    assert list_networks() <= before
