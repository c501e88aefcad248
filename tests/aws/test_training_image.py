"""The real training image, as SageMaker or `train --docker` starts it: any user, read-only, no network."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from classifold.aws.image import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
# As unfriendly as it gets: nobody's user, nothing to write to but /tmp, no rights, no network.
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
print(len(sources) > 3000, [str(p) for p in bare if "classifold" in str(p)], len(bare) < 20)
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


def test_no_build_tool_is_left_and_no_package_is_there_twice(training_image: Image) -> None:
    installed = json.loads(run(training_image, "python", "-c", INSTALLED).stdout)
    assert "classifold" in installed
    assert "tensorflow-cpu" in installed
    assert not {"pip", "setuptools", "wheel", "hatchling", "tensorflow", "jax", "boto3"} & set(installed)
    for word in ("pip", "pip3", "gcc"):
        assert run(training_image, word, "--version").returncode == 127


def test_all_bytecode_is_compiled_since_none_can_be_written(training_image: Image) -> None:
    assert run(training_image, "python", "-c", UNCOMPILED).stdout == "True [] True\n"


def test_train_and_classifold_are_programs_of_the_image(training_image: Image) -> None:
    done = run(training_image, "train", options=("--network", "none"))
    # There is no job in /opt/ml, and it says so rather than fail in an import.
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "hyperparameters.json" in done.stderr
    assert run(training_image, "classifold", "--version").returncode == 0


def test_the_image_is_no_larger_than_it_was_made(training_image: Image) -> None:
    # 1.63 GB where it was measured; the header files and symbols of TensorFlow alone would be 0.5 GB more.
    assert training_image.size_bytes < 1.8e9
