"""The way to SageMaker as a user walks it: typed words, a real image, a real registry, real runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pytest
from PIL import Image

from chaos import compare

if TYPE_CHECKING:
    from lab.cloud import Cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REGION = "eu-west-1"
# A run that shows everything and learns little: the example's flowers, few of them.
SETTINGS = """
INSTANCE_TYPE = "ml.m5.xlarge"
EPOCHS = 1
HEAD_PENALTIES = ()
HEAD_EPOCHS = 3
AUGMENTATION_VARIANTS = 1
FINE_TUNE_SHARE = 0.05
BOOTSTRAP_SAMPLES = 100
"""
FLAGS = ("--init_s3_buckets", "--build_and_push_docker_image", "--launch_training")

READING = r"reading (\d+) training pictures"


class Shell:
    """Runs commands in the project's folder as typed, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str, *, code: int = 0) -> str:
        """Run a line, check its exit code and return what it printed, standard error included."""
        done = subprocess.run(
            self._words(line),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=1500,
            check=False,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}"
        return done.stdout

    def start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._words(line),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def _words(self, line: str) -> list[str]:
        program, *words = line.split()
        module = ["-m", "classifold.cli.main"] if program == "classifold" else [program]
        return [sys.executable, *module, *words]


@pytest.fixture(scope="module")
def flowers(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project's folder with made flowers in it, drawn once."""
    folder = tmp_path_factory.mktemp("flowers") / "project"
    folder.mkdir()
    for name in ("data_handler.py", "project_manager.py", "training-job-config-template.json"):
        shutil.copy(root / name, folder)
    shutil.copytree(root / "container", folder / "container")
    settings = folder / "container" / "modeling" / "config.py"
    settings.write_text(settings.read_text() + SETTINGS)
    shell = Shell(folder)
    shell("classifold example data/flowers --pictures-per-class 12")
    shell("data_handler.py")
    return folder


# A network of few weights, so that two machines on one computer train in seconds.
BACKBONE = """
import keras


def build(image_size):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for index in range(2):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name=f"conv{index}")(x)
    return keras.Model(pixels, x, name="tiny")
"""
SEVERAL_SETTINGS = """
INSTANCE_TYPE = "ml.m5.xlarge"
INSTANCE_COUNT = 2
UPLOAD_AS = "shards"
SHARD_MB = 1
INPUT_DISTRIBUTION = "ShardedByS3Key"
BACKBONE = "my_model.py:build"
BACKBONE_WEIGHTS = None
IMAGE_SIZE = 16
BATCH_SIZE = 8
HEAD_PENALTIES = (0.1,)
FINE_TUNE_SHARE = 1.0
EPOCHS = 2
EARLY_STOPPING_PATIENCE = 0
AUGMENTATION_VARIANTS = 2
BOOTSTRAP_SAMPLES = 100
CHECKPOINT_MINUTES = 0.001
NUM_WORKERS = 1
"""


@pytest.fixture(scope="module")
def noise(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project for two machines: its 24 training pictures fill three shards."""
    folder = tmp_path_factory.mktemp("noise") / "project"
    generator = np.random.default_rng(0)
    for set_name, count in (("training", 8), ("validation", 3), ("evaluation", 3)):
        for place, name in enumerate(("blue", "green", "red")):
            (folder / "data" / set_name / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 200, (200, 200, 3), np.uint8)
                pixels[..., place] += 55
                Image.fromarray(pixels).save(folder / "data" / set_name / name / f"{number}.png")
    shutil.copy(root / "training-job-config-template.json", folder)
    shutil.copytree(root / "container", folder / "container")
    (folder / "my_model.py").write_text(BACKBONE)
    settings = folder / "container" / "modeling" / "config.py"
    settings.write_text(f'{settings.read_text()}{SEVERAL_SETTINGS}SPLIT_LOCAL_DIR = "data"\n')
    return folder


@pytest.fixture
def shell(lab: Cloud, flowers: Path) -> Iterator[Shell]:
    """Return what runs commands in the project's folder, over an empty account."""
    yield Shell(flowers)
    for path in (flowers / "runs", flowers / ".classifold"):
        shutil.rmtree(path, ignore_errors=True)


def describe(name: str) -> dict[str, Any]:
    return boto3.client("sagemaker", region_name=REGION).describe_training_job(TrainingJobName=name)


def wait_for(done: Callable[[], bool], what: str, *, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come in {seconds} s")


def newest(shell: Shell) -> str:
    return str(json.loads(shell("classifold jobs --json"))[0]["name"])


def log_of(name: str) -> str:
    logs = boto3.client("logs", region_name=REGION)
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return ""
    lines = []
    for stream in streams:
        page = logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )
        lines += [event["message"] for event in page["events"]]
    return "\n".join(lines)


def test_the_readme_as_typed_from_the_split_to_a_prediction(shell: Shell, lab: Cloud) -> None:
    assert "made" in shell(f"project_manager.py {FLAGS[0]}")
    assert "@sha256:" in shell(f"project_manager.py {FLAGS[1]}")
    dry = shell("classifold launch --dry-run")
    assert "missing:" not in dry
    assert "Nothing was started." in dry
    assert json.loads(shell("classifold jobs --json")) == []
    launched = shell(f"project_manager.py {FLAGS[2]}")
    name = launched.partition("Started: ")[2].split()[0]
    request = json.loads((shell.folder / "training-job-config.json").read_text())
    assert request["AlgorithmSpecification"]["TrainingImage"].count("@sha256:") == 1
    assert request["HyperParameters"] == {
        "EPOCHS": "1",
        "HEAD_PENALTIES": "[]",
        "HEAD_EPOCHS": "3",
        "AUGMENTATION_VARIANTS": "1",
        "FINE_TUNE_SHARE": "0.05",
        "BOOTSTRAP_SAMPLES": "100",
    }
    followed = shell("classifold follow")
    assert "fine-tuning epoch 1 of 1: validation loss " in followed
    assert f"{name}: Completed" in followed
    assert {"loss", "val_loss", "val_accuracy", "accuracy"} <= set(
        json.loads(shell("classifold jobs --json"))[0]["metrics"]
    )
    assert f"runs/{name}" in shell("classifold fetch")
    run_dir = shell.folder / "runs" / name
    environment = json.loads((run_dir / "environment.json").read_text())
    assert max(environment["verification"].values()) < 1e-4
    named = shell(f"classifold predict runs/{name} data/flowers/tulips --format csv")
    assert len(named.splitlines()) == 13
    assert "report.html" in shell(f"classifold report runs/{name}")
    _check_again(shell, lab)
    listed = shell("classifold destroy --yes")
    assert "flowers-classification.data" in listed
    remaining = [one["Name"] for one in boto3.client("s3").list_buckets()["Buckets"]]
    assert remaining == ["flowers-classification.data", "flowers-classification.output"]
    shell(f"classifold destroy {' '.join(remaining)} --yes")
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def _check_again(shell: Shell, lab: Cloud) -> None:
    """A second time everything is found as it is: nothing is sent, built or pushed, and a job starts."""
    lab.forget_calls()
    again = shell(f"project_manager.py {FLAGS[0]} {FLAGS[1]} {FLAGS[2]} --set EPOCHS=2")
    assert "0 files sent" in again
    assert again.count("there already") >= 2
    changes = [one["operation"] for one in lab.calls() if one["operation"].startswith(("Put", "Create"))]
    assert changes == ["CreateTrainingJob"]
    # Another setting needs no other image.
    request = json.loads((shell.folder / "training-job-config.json").read_text())
    assert request["HyperParameters"]["EPOCHS"] == "2"
    shell("classifold stop")
    shell("classifold follow", code=130)


def test_a_spot_job_that_is_interrupted_twice_ends_with_the_model_of_one_that_was_not(
    shell: Shell, lab: Cloud
) -> None:
    shell("classifold upload")
    shell("classifold image")
    settings = (
        "--set HEAD_EPOCHS=80 --set EPOCHS=10 --set EARLY_STOPPING_PATIENCE=0 --set CHECKPOINT_MINUTES=0.001"
    )
    straight = start_job(shell, settings)
    name = start_job(shell, f"{settings} --set SPOT=True")
    following = shell.start(f"classifold follow {name}")
    # Once in each stage: with the two minutes' notice, and without any.
    wait_for(lambda: "head epoch 9 of " in log_of(name), "the head's ninth epoch")
    lab.interrupt(name)
    wait_for(lambda: "fine-tuning epoch 3 of " in log_of(name), "the third epoch of fine-tuning")
    lab.interrupt(name, is_sudden=True)
    for one in (straight, name):
        wait_for(lambda job=one: describe(job)["TrainingJobStatus"] not in ("InProgress", "Stopping"), one)
        shell(f"classifold fetch {one}")
    assert compare(shell.folder / "runs" / name, shell.folder / "runs" / straight) == []
    _check_checkpoints(name, shell.folder / "runs" / name / "model.keras")
    (row,) = [one for one in json.loads(shell("classifold jobs --json")) if one["name"] == name]
    assert [one["step"] for one in row["interruptions"]] == ["Training", "Training"]
    assert 0.6 < row["saved_share"] < 0.8
    end, _ = following.communicate(timeout=60)
    assert following.returncode == 0
    assert f"{name}: Completed, paid " in end
    assert " % saved: " in end
    assert end.count("Interrupted: AWS took the spot machine back.") == 2
    assert end.count("Interrupted: the job resumed from its checkpoint of ") == 2
    assert "Spot:   interrupted 2 times: " in end


def start_job(shell: Shell, options: str) -> str:
    """Start a job and return its name."""
    return shell(f"classifold launch {options}").partition("Started: ")[2].split()[0]


def _check_checkpoints(name: str, model: Path) -> None:
    """Two generations of two files are left in S3, no larger than what training holds."""
    listed = boto3.client("s3").list_objects_v2(
        Bucket="flowers-classification.output", Prefix=f"checkpoints/{name}/"
    )
    sizes = {one["Key"].rpartition("/")[2]: one["Size"] for one in listed["Contents"]}
    assert len(sizes) == 4
    assert len({file.rpartition(".")[0] for file in sizes}) == 2
    # What is kept of each: the weights, and of the part that learns the latest epochs and the optimizer.
    assert sum(sizes.values()) < 3 * model.stat().st_size, sizes


def test_a_stopped_job_leaves_its_best_model_and_its_checkpoint(shell: Shell, lab: Cloud) -> None:
    shell("classifold upload")
    shell("classifold image")
    shell("classifold launch --set HEAD_EPOCHS=1000 --set EARLY_STOPPING_PATIENCE=0")
    name = newest(shell)
    wait_for(lambda: "head epoch 2 of " in log_of(name), "the second epoch")
    shell("classifold stop")
    assert f"{name}: Stopped" in shell("classifold follow", code=130)
    assert f"runs/{name}.interrupted" in shell("classifold fetch")
    assert (shell.folder / "runs" / f"{name}.interrupted" / "model.keras").is_file()
    keys = boto3.client("s3").list_objects_v2(
        Bucket="flowers-classification.output", Prefix=f"checkpoints/{name}/"
    )
    assert keys["KeyCount"] > 0


def test_a_failing_job_tells_cause_and_cure_everywhere(shell: Shell, lab: Cloud) -> None:
    shell("classifold upload")
    shell("classifold image")
    # Every picture has more than one pixel, so the job finds nothing that it may read.
    shell("classifold launch --set MAX_PIXELS=1")
    name = newest(shell)
    followed = shell("classifold follow", code=1)
    assert f"{name}: Failed" in followed
    assert "none of its pictures can be read" in followed
    reason = describe(name)["FailureReason"]
    assert reason.startswith("AlgorithmError: ")
    assert "none of its pictures can be read" in reason
    assert "MAX_PIXELS" in reason
    fetched = shell("classifold fetch", code=1)
    assert "Failed: AlgorithmError" in fetched
    assert not (shell.folder / "runs").exists()


def test_ctrl_c_while_following_leaves_the_job_running(shell: Shell, lab: Cloud) -> None:
    lab.run_jobs_as("import time; print('ready', flush=True); time.sleep(60)")
    shell("classifold upload")
    shell("classifold image")
    shell("classifold launch")
    name = newest(shell)
    following = shell.start("classifold follow")
    wait_for(lambda: "ready" in log_of(name), "the job's first line")
    time.sleep(3)
    following.send_signal(signal.SIGINT)
    said, _ = following.communicate(timeout=60)
    assert following.returncode == 130
    assert "it keeps running" in said
    assert describe(name)["TrainingJobStatus"] == "InProgress"
    shell("classifold stop")


# Several machines


def lines_by_host(name: str) -> dict[str, list[str]]:
    logs, group = boto3.client("logs", region_name=REGION), "/aws/sagemaker/TrainingJobs"
    found: dict[str, list[str]] = {}
    for stream in logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]:
        page = logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )
        host = stream["logStreamName"].removeprefix(f"{name}/").rpartition("-")[0]
        found[host] = [event["message"] for event in page["events"]]
    return found


def test_two_machines_with_a_part_of_the_shards_each_and_one_that_dies(lab: Cloud, noise: Path) -> None:
    shell = Shell(noise)
    shell("classifold upload")
    shell("classifold image")
    assert "4 machines share 3 training shards" in shell(
        "classifold launch --set INSTANCE_COUNT=4 --set BATCH_SIZE=8", code=1
    )
    name = start_job(shell, "")
    doomed = start_job(shell, "--set EPOCHS=80")

    # One of the machines of the second job is killed, so that it can say nothing.
    wait_for(lambda: "fine-tuning epoch 3 of " in log_of(doomed), "the second epoch of fine-tuning")
    words = ["docker", "ps", "--format", "{{.Names}}", "--filter", f"name={doomed}"]
    running = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    (victim,) = [one for one in running if one.endswith("-algo-2")]
    subprocess.run(["docker", "kill", victim], capture_output=True, check=True)
    wait_for(lambda: describe(doomed)["TrainingJobStatus"] == "Failed", "the end", seconds=60)
    assert "algo-2" in describe(doomed)["FailureReason"]

    # The first one is whole, from two machines that had some of the training pictures each.
    wait_for(lambda: describe(name)["TrainingJobStatus"] != "InProgress", name)
    shell(f"classifold fetch {name}")
    assert (noise / "runs" / name / "model.keras").is_file()
    lines = lines_by_host(name)
    assert sorted(lines) == ["algo-1", "algo-2"]
    here = [int(line.split()[0]) for host in lines for line in lines[host] if "are on this host" in line]
    # Each for the training; the first host reads its own once more to calibrate.
    readings = {
        host: [int(found[1]) for line in lines[host] if (found := re.fullmatch(READING, line))]
        for host in lines
    }
    assert readings["algo-1"][1:] == readings["algo-1"][:1]
    assert len(readings["algo-2"]) == 1
    read = [one[0] for one in readings.values()]
    assert sum(here) == sum(read) == 24
    assert sorted(here) == sorted(read)
    assert 0 < min(here) < max(here)
    assert not any(line.startswith(("head ", "fine-tuning ")) for line in lines["algo-2"])

    # What was learned goes on on one machine, in the image that has the engine of several.
    resumed = start_job(shell, f"--resume {doomed} --set INSTANCE_COUNT=1")
    wait_for(lambda: describe(resumed)["TrainingJobStatus"] != "InProgress", resumed)
    said = log_of(resumed)
    assert describe(resumed)["TrainingJobStatus"] == "Completed", said
    assert "the number of hosts is 1, and was 2 before" in said
    assert "the hosts have other parts of the training pictures than before" in said
    assert "\nfine-tuning epoch 1 of " not in said
    assert "fine-tuning epoch 80 of 80: " in said


def test_nothing_that_is_secret_is_written_anywhere(shell: Shell, lab: Cloud) -> None:
    shell("classifold upload")
    shell("classifold image")
    secrets = (os.environ["AWS_SECRET_ACCESS_KEY"], "123456789012-auth-token")
    for path in [path for path in shell.folder.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert not [one for one in secrets if one.encode() in content and len(one) > 8], path
    home = Path(os.environ["HOME"])
    assert not (home / ".docker" / "config.json").exists()
