"""The real training image, as SageMaker or `train --docker` starts it: any user, read-only, no network."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from classifold.aws.image import Image


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
# As unfriendly as it gets: nobody's user, nothing to write to but /tmp, no permissions, no network.
CONFINED = (
    *("--user", "12345:54321", "--read-only", "--tmpfs", "/tmp", "--network", "none"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
IMPORTS = """
import os, time
started = time.process_time()
from classifold.training.backend import start_keras
keras = start_keras("tensorflow", seed=0)
import classifold.training.run, classifold.report.page, tf_keras, tf2onnx, cv2, sklearn, pillow_heif
from classifold.training.backbones import build_backbone
seconds = time.process_time() - started
model = build_backbone("EfficientNetLite0", image_size=64, weights="imagenet")
print(os.getpid(), os.getuid(), seconds < 10, model.output_shape)
"""
INSTALLED = """
import importlib.metadata as m, json
print(json.dumps(sorted(d.metadata["Name"].lower().replace("_", "-") for d in m.distributions())))
"""
UNCOMPILED = """
import pathlib, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
sources = [p for p in packages.rglob("*.py") if "/lib2to3/" not in str(p)]
bare = [p for p in sources if not list((p.parent / "__pycache__").glob(f"{p.stem}.*.pyc"))]
print(len(sources) > 1000, [str(p) for p in bare if "classifold" in str(p)], len(bare) < 20)
"""

# What scanners and `pip check` go by: each package's METADATA, and its RECORD with the hash of every file.
SCANNED = """
import base64, hashlib, importlib.metadata, json, pathlib
wrong, lacking, count = [], [], 0
for one in importlib.metadata.distributions():
    listed = {str(file): file for file in one.files or ()}
    ends = [end for end in ("/METADATA", "/RECORD") if not any(name.endswith(end) for name in listed)]
    lacking += [one.metadata["Name"] + end for end in ends]
    for name, file in listed.items():
        path, count = pathlib.Path(one.locate_file(file)), count + 1
        if not path.is_file():
            wrong.append(name)
        elif file.hash:
            digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            said = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            wrong += [name] if (said, path.stat().st_size) != (file.hash.value, file.size) else []
print(json.dumps([count > 1500, lacking, wrong]))
"""


def run(image: Image, *words: str, options: tuple[str, ...] = CONFINED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "run", "--rm", *options, image.reference, *words],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_everything_that_training_needs_is_there_and_the_program_is_process_1(
    training_image: Image,
) -> None:
    done = run(training_image, "python", "-c", IMPORTS)
    assert (done.stdout, done.stderr) == ("1 12345 True (None, 2, 2, 1280)\n", "")


@pytest.fixture(params=["training_image", "serve_image"])
def each_image(request: pytest.FixtureRequest) -> Image:
    """Return the training image, and then the slim one that serves."""
    image: Image = request.getfixturevalue(request.param)
    return image


def test_no_build_tool_is_left_and_no_package_is_there_twice(training_image: Image) -> None:
    installed = json.loads(run(training_image, "python", "-c", INSTALLED).stdout)
    assert "classifold" in installed
    assert "tensorflow-cpu" in installed
    assert not {"pip", "setuptools", "wheel", "hatchling", "tensorflow", "jax", "boto3"} & set(installed)
    for word in ("pip", "pip3", "gcc"):
        assert run(training_image, word, "--version").returncode == 127


def test_what_scanners_read_is_there_and_true(each_image: Image) -> None:
    done = run(each_image, "python", "-c", SCANNED)
    assert json.loads(done.stdout) == [True, [], []], done.stderr


def test_the_license_texts_of_what_is_compiled_in_stay(training_image: Image) -> None:
    find = "find /opt/classifold/venv -path '*/tensorflow/include/*' -type f"
    left = run(training_image, "sh", "-c", find).stdout.split()
    assert len(left) > 10
    assert not [name for name in left if not re.search(r"/(LICENSE|COPYING|NOTICE)[^/]*$", name)]


def test_all_bytecode_is_compiled_since_none_can_be_written(each_image: Image) -> None:
    assert run(each_image, "python", "-c", UNCOMPILED).stdout == "True [] True\n"


def test_train_and_classifold_are_programs_of_the_image(training_image: Image) -> None:
    done = run(training_image, "train", options=("--network", "none"))
    # There is no job in /opt/ml, and it says so rather than fail in an import.
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "hyperparameters.json" in done.stderr
    assert run(training_image, "classifold", "--version").returncode == 0


def test_the_image_is_no_larger_than_it_was_made(training_image: Image) -> None:
    # 1.63 GB where it was measured; 2.23 GB without container/lean.py.
    assert training_image.size_bytes < 1.8e9


def test_a_project_of_init_builds_the_image_without_a_checkout(
    training_image: Image, unpacked_wheel: Path, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    here = {"PYTHONPATH": str(unpacked_wheel)}
    made = run_python("-P", "-m", "classifold", "init", "rose-garden", cwd=tmp_path, env=here)
    assert made.code == 0, made.err
    words = ("image", "--no-push", "--json", "--set", "INSTANCE_TYPE=ml.m5.xlarge")
    built = run_python("-P", "-m", "classifold", *words, cwd=tmp_path / "rose-garden", env=here)
    assert built.code == 0, built.err
    reference = json.loads(built.out)["image"]["reference"]
    try:
        assert reference.startswith("rose-garden:cpu-")
        assert list_layers(reference) == list_layers(training_image.reference)
    finally:
        subprocess.run(["docker", "rmi", reference], capture_output=True, check=False)


def list_layers(reference: str) -> list[str]:
    """Return the digest of each layer of an image: the same layers have the same files."""
    words = ["docker", "inspect", "--format", "{{json .RootFS.Layers}}", reference]
    layers: list[str] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return layers
