"""The training image: its content gives its tag; it is built, pushed and found again by real parts."""

from __future__ import annotations

import base64
import hashlib
import importlib.machinery
import importlib.util
import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import classifold
from classifold import names
from classifold.aws import image_push
from classifold.aws.clients import Aws
from classifold.aws.image import Image, build_image, choose_variant, find_image, push_image
from classifold.aws.image_build import StepReader
from classifold.aws.image_context import plan_image, write_context
from classifold.aws.image_push import explain_push, push
from classifold.aws.image_record import ImageRecord, read_record, record_push
from classifold.aws.repository import (
    KEPT_IMAGES,
    LIFECYCLE,
    ImageDetail,
    ensure_repository,
    find_tagged_image,
)
from classifold.docker.engine import explain_docker
from classifold.errors import AwsError, BackboneError, DockerError, MissingError
from classifold.settings.baked import PROJECT_DIR, locate_baked, open_keras_home
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud
    from lab.registry import Registry

CPU = {"PROJECT_NAME": "roses", "INSTANCE_TYPE": "ml.m5.xlarge"}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"digest": "sha256:0"},
    "layers": [],
}
# Builds in a moment and is a few bytes large: the user's own container/Dockerfile goes before ours.
TINY = "FROM scratch\nARG VARIANT\nCOPY baked/project /project\nENV VARIANT=$VARIANT\n"


@pytest.fixture
def tiny(project: Path) -> Path:
    """Return a project whose image is built in a moment."""
    (project / "container" / "Dockerfile").write_text(TINY)
    return project


@pytest.fixture
def broken_registry(docker_engine: str) -> Iterator[Callable[[int], str]]:
    """Return a function that starts a registry that breaks off so many pushes, and says where it is."""
    from lab.broken_registry import start_broken_registry

    servers: list[Any] = []

    def start(refusals: int) -> str:
        servers.append(start_broken_registry(refusals))
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def remove_images(docker_engine: str) -> Any:
    """Remove what a test left in the engine."""
    yield
    words = ["docker", "images", "--quiet", "--filter", "label=classifold:project=roses"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    if found:
        subprocess.run(["docker", "rmi", "--force", *found], capture_output=True, check=False)


def build(**values: object) -> tuple[Image, list[str]]:
    said: list[str] = []
    return build_image(build_config({**CPU, **values}), tell=said.append), said


def aws_of(**values: object) -> Aws:
    return Aws(build_config({**CPU, **values}))


def tag_of(*, variant: Any = "cpu", **values: object) -> str:
    return plan_image(build_config({**CPU, **values}), variant=variant).tag


def inspect(reference: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "inspect", reference], capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    return found


# Which image


@pytest.mark.parametrize(
    ("machines", "variant"),
    [
        ("ml.m5.large ml.c7i.xlarge ml.t3.medium ml.r5.large ml.trn1.2xlarge ml.inf2.xlarge", "cpu"),
        ("ml.g4dn.xlarge ml.g5.2xlarge ml.g6e.xlarge ml.gr6.4xlarge ml.p3.2xlarge ml.p5en.48xlarge", "gpu"),
    ],
)
def test_machines_with_a_gpu_get_the_gpu_image(machines: str, variant: str) -> None:
    assert {choose_variant(one) for one in machines.split()} == {variant}


# The tag


def test_the_same_content_has_the_same_tag_whatever_the_settings_of_training(project: Path) -> None:
    assert re.fullmatch(r"cpu-[0-9a-f]{16}", tag_of())
    assert tag_of() == tag_of(EPOCHS=3, BATCH_SIZE=8, MAX_HOURS=1.0, IMAGE_SIZE=96)


def test_what_changes_the_image_changes_its_tag(project: Path) -> None:
    (project / "a.keras").write_bytes(b"a")
    (project / "b.keras").write_bytes(b"b")
    tags = [
        tag_of(),
        tag_of(variant="gpu"),
        tag_of(variant="serve"),
        tag_of(TAGS={"Customer": "somebody else"}),
        tag_of(BACKBONE_WEIGHTS="a.keras"),
        tag_of(BACKBONE_WEIGHTS="b.keras"),
        tag_of(BACKBONE="MobileNetV2"),
        tag_of(BACKBONE="MobileNetV2", IMAGE_SIZE=96),
        tag_of(BACKBONE="MobileNetV2", BACKBONE_WEIGHTS=None),
    ]
    (project / "container" / "Dockerfile").write_text(TINY)
    tags.append(tag_of())
    # Random weights of a backbone of keras.applications need nothing in the image.
    assert tags.pop(8) == tags[0]
    assert len(set(tags)) == len(tags)


def test_the_backbone_is_no_part_of_the_image_that_serves_and_a_model_given_to_it_is(project: Path) -> None:
    slim = tag_of(variant="serve")
    assert re.fullmatch(r"serve-[0-9a-f]{16}", slim)
    # Not even looked for: whoever serves may have neither the code nor the weights any more.
    mine = {"BACKBONE": "gone.py:build", "BACKBONE_WEIGHTS": "gone.keras"}
    assert tag_of(variant="serve", **mine) == slim
    assert tag_of(variant="serve", BACKBONE="MobileNetV2") == slim
    for content in (b"one model", b"another"):
        (project / "model.onnx").write_bytes(content)
        plan = plan_image(build_config(CPU), variant="serve", model=project / "model.onnx")
        assert not plan.is_tag_of_content(slim)
    (project / "elsewhere").mkdir()
    again = (project / "model.onnx").rename(project / "elsewhere" / "mine.onnx")
    assert plan_image(build_config(CPU), variant="serve", model=again).tag == plan.tag


def test_the_name_of_a_file_of_weights_is_no_content(project: Path) -> None:
    (project / "a.keras").write_bytes(b"same")
    (project / "earlier-run").mkdir()
    (project / "earlier-run" / "model.keras").write_bytes(b"same")
    assert tag_of(BACKBONE_WEIGHTS="a.keras") == tag_of(BACKBONE_WEIGHTS="earlier-run")


def test_what_keras_has_already_is_copied_and_changes_no_tag(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tag_of(BACKBONE="MobileNetV2")
    models = project / "keras" / "models"
    models.mkdir(parents=True)
    for name in ("mobilenet_v2_weights_1.0_224_no_top.h5", "vgg16_notop.h5", "mobilenet_v2_weights.h5"):
        (models / name).write_bytes(b"weights")
    monkeypatch.setenv("KERAS_HOME", str(project / "keras"))
    plan = plan_image(build_config({**CPU, "BACKBONE": "MobileNetV2"}), variant="cpu")
    assert list(plan.cached) == ["baked/keras/models/mobilenet_v2_weights_1.0_224_no_top.h5"]
    assert plan.tag == before
    assert plan.arguments["APPLICATION"] == "MobileNetV2:224"


# What goes in


def test_the_context_holds_the_package_and_named_files_readable_for_everybody(
    project: Path, tmp_path: Path
) -> None:
    (project / ".env").write_text("AWS_SECRET_ACCESS_KEY=secret")
    (project / "my_model.py").write_text("def build(image_size): ...")
    (project / "w.h5").write_bytes(b"weights")
    (project / "my_model.py").chmod(0o600)
    values = {**CPU, "BACKBONE": "my_model.py:build", "BACKBONE_WEIGHTS": "w.h5"}
    target = tmp_path / "context"
    target.mkdir()
    write_context(plan_image(build_config(values), variant="cpu"), target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    source = {name for name in found if name.startswith("src/classifold/")}
    assert found - source == {
        *("LICENSE", "README.md", "pyproject.toml", "container/Dockerfile", "container/lean.py"),
        *(f"container/requirements-{name}.txt" for name in ("build", *names.IMAGE_VARIANTS)),
        *("baked/project/my_model.py", "baked/project/weights.h5"),
    }
    assert {"src/classifold/container/main.py", "src/classifold/py.typed"} <= source
    assert not [name for name in source if "__pycache__" in name]
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*")} == {0o755, 0o644}


def test_an_installed_package_builds_from_what_it_carries(root: Path) -> None:
    carried = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    plan = plan_image(build_config(CPU), variant="cpu")
    outside = {name for name in plan.files if not name.startswith("src/")} - {"README.md"}
    # The rest is for new projects, and no part of the image.
    new_project = {"data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE}
    forced = carried["force-include"]
    assert {name: f"classifold/project/{name}" for name in outside | new_project} == forced


def test_the_context_alone_is_enough_to_build_the_package(
    root: Path, project: Path, tmp_path: Path, build_wheel: Callable[[Path, Path], Path]
) -> None:
    context, target = tmp_path / "context", tmp_path / "wheel"
    context.mkdir()
    target.mkdir()
    write_context(plan_image(build_config(CPU), variant="cpu"), context)
    with zipfile.ZipFile(build_wheel(context, target)) as built:
        inside = {name for name in built.namelist() if name.startswith("classifold/")}
    source = root / "src"
    files = [path for path in (source / "classifold").rglob("*") if path.is_file()]
    assert inside == {
        path.relative_to(source).as_posix() for path in files if "__pycache__" not in path.parts
    }


def test_without_a_checkout_the_image_has_the_same_content(
    project: Path, run_python: Callable[..., Any], unpacked_wheel: Path
) -> None:
    code = (
        "import classifold; from classifold.aws.image_context import plan_image;"
        "from classifold.settings.loader import build_config;"
        f"print(plan_image(build_config({CPU}), variant='cpu').tag, classifold.__file__)"
    )
    answer = run_python("-P", "-c", code, cwd=project, env={"PYTHONPATH": str(unpacked_wheel)})
    tag, _, place = answer.out.strip().partition(" ")
    assert place.startswith(str(unpacked_wheel)), answer.err
    assert tag == tag_of()


def test_all_that_cannot_go_in_is_named_at_once(project: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        tag_of(BACKBONE="mine.py:build", BACKBONE_WEIGHTS="s3://somewhere/model.keras")
    wheres = [fault.where for fault in caught.value.faults]
    assert wheres == ["setting BACKBONE", "setting BACKBONE_WEIGHTS"]
    assert "download" in str(caught.value)


def test_a_preset_of_kerashub_is_refused(project: Path) -> None:
    with pytest.raises(BackboneError, match="KerasHub"):
        tag_of(BACKBONE="resnet_50_imagenet")


def test_files_of_the_users_own_are_found_in_the_image(project: Path) -> None:
    config = build_config({**CPU, "BACKBONE": "models/mine.py:build", "BACKBONE_WEIGHTS": "runs/x"})
    assert locate_baked(config) == {
        "BACKBONE": f"{PROJECT_DIR}/mine.py:build",
        "BACKBONE_WEIGHTS": f"{PROJECT_DIR}/weights.keras",
    }
    assert locate_baked(build_config(CPU)) == {}


def test_keras_finds_the_weights_in_an_image_that_it_cannot_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifold.settings.baked._KERAS_FALLBACK", tmp_path / "fallback")
    home = tmp_path / "keras"
    home.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(home))
    open_keras_home()
    assert not (tmp_path / "fallback").exists()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    open_keras_home()
    open_keras_home()
    assert (tmp_path / "fallback").resolve() == home


# The pinned wheels


@pytest.mark.parametrize("variant", [*names.IMAGE_VARIANTS, "build"])
def test_every_wheel_is_pinned_with_its_hash(root: Path, variant: str) -> None:
    for line in read_pins(root, variant):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]* --hash=sha256:[0-9a-f]{64}", line)


def read_pins(root: Path, variant: str) -> list[str]:
    text = (root / "container" / f"requirements-{variant}.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("variant", ["cpu", "hosts", "gpu"])
def test_the_image_holds_what_the_package_needs_in_the_versions_of_the_tests(
    root: Path, variant: str
) -> None:
    pins = dict(line.split(" ")[0].split("==") for line in read_pins(root, variant))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["heif"], *extras["serve"]]
    needed = {re.split(r"[>=<\[]", one)[0] for one in wanted}
    assert needed - set(pins) == {"boto3", "tensorflow"}
    assert "tensorflow-cpu" in pins
    assert ("jax-cuda12-plugin" in pins) == (variant == "gpu")
    assert not {"setuptools", "wheel", "pip"} & set(pins)
    assert_tested(root, pins)


def test_the_image_that_serves_holds_what_serving_needs_in_the_versions_of_the_tests(root: Path) -> None:
    pins = dict(line.split(" ")[0].split("==") for line in read_pins(root, "serve"))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["heif"], *extras["serve"]]
    assert {re.split(r"[>=<\[]", one)[0] for one in wanted} - set(pins) == {"boto3"}
    others = {re.split(r"[>=<\[]", one)[0] for one in extras["train"]}
    assert not {*others, "tensorflow-cpu", "jax", "pip", "setuptools", "wheel", "botocore"} & set(pins)
    assert_tested(root, pins)


LOAD = """
import importlib, importlib.metadata, json, pathlib, pkgutil, sys
pins, owners = set(json.loads(sys.argv[1])), importlib.metadata.packages_distributions()
class OnlyPinned:
    def find_spec(self, name, path=None, target=None):
        found = {one.lower().replace("_", "-") for one in owners.get(name, [])}
        if found and not found & pins:
            raise ModuleNotFoundError(f"no module {name} in the image", name=name)
sys.meta_path.insert(0, OnlyPinned())
import classifold.serve, classifold.container.serve
from classifold.predict.predictor import load_predictor
for one in pkgutil.iter_modules(classifold.serve.__path__, "classifold.serve."):
    importlib.import_module(one.name)
load_predictor(pathlib.Path(sys.argv[2]))
print("onnxruntime" in sys.modules)
"""


def test_the_server_loads_a_model_with_nothing_but_what_the_image_that_serves_holds(
    root: Path, colour_run: Path, run_python: Callable[..., Any]
) -> None:
    pins = [line.split("==")[0] for line in read_pins(root, "serve")]
    answer = run_python("-c", LOAD, json.dumps([*pins, "classifold"]), colour_run)
    assert answer.code == 0, answer.err
    assert answer.out == "True\n"
    lacking = [one for one in pins if one != "uvicorn"]
    answer = run_python("-c", LOAD, json.dumps([*lacking, "classifold"]), colour_run)
    assert "no module uvicorn in the image" in answer.err


def assert_tested(root: Path, pins: dict[str, str]) -> None:
    """Check that what the tests' environment holds too has the same version there."""
    tested = dict(
        line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line
    )
    tested["tensorflow-cpu"] = tested["tensorflow"]
    assert {name: pins[name] for name in pins if name in tested} == {
        name: tested[name] for name in pins if name in tested
    }


# Making the environment lean


@pytest.fixture(scope="module")
def lean(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("lean", root / "container" / "lean.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tests_and_headers_go_and_packages_and_licenses_stay(lean: ModuleType, tmp_path: Path) -> None:
    for name in (
        *("tensorflow/include/x/a.h", "tensorflow/include/x/LICENSE.txt", "tensorflow/include/y/b.h"),
        *("scipy/stats/tests/tests/a.py", "tests/a.py", "scipy/testing/a.py", "tensorflow/python/a.py"),
        *("onnxruntime/transformers/a.py", "onnxruntime/quantization/a.py", "onnxruntime/capi/a.py"),
        "scipy-1.dist-info/licenses/tests/LICENSE",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "tensorflow/include/y/link").symlink_to("../x")
    for folder in lean.find_unneeded(tmp_path):
        lean.remove_folder(folder)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        *("tensorflow/include/x/LICENSE.txt", "scipy/testing/a.py", "tensorflow/python/a.py"),
        *("onnxruntime/transformers/a.py", "onnxruntime/quantization/a.py", "onnxruntime/capi/a.py"),
        "scipy-1.dist-info/licenses/tests/LICENSE",
    }
    assert not (tmp_path / "tensorflow/include/y").exists()
    # What training alone may open goes only from the image that serves.
    for folder in lean.find_unneeded(tmp_path, variant="serve"):
        lean.remove_folder(folder)
    assert [path.parent.name for path in tmp_path.glob("onnxruntime/*/*")] == ["capi"]


def test_the_list_of_a_packages_files_stays_true(lean: ModuleType, tmp_path: Path) -> None:
    info = tmp_path / "x-1.dist-info"
    info.mkdir()
    (tmp_path / "a.so").write_bytes(b"cut")
    (tmp_path / "b, c.py").write_bytes(b"same")
    (info / "METADATA").write_bytes(b"Name: x\n")
    same, long = hash_for_record(b"same"), hash_for_record(b"cut off")
    (info / "RECORD").write_text(
        f'a.so,{long},7\n"b, c.py",{same},4\ngone.h,{same},4\nx-1.dist-info/METADATA,,\n'
        "x-1.dist-info/RECORD,,\n"
    )
    lean.mend_record(info / "RECORD")
    assert (info / "RECORD").read_text() == (
        f'a.so,{hash_for_record(b"cut")},3\n"b, c.py",{same},4\nx-1.dist-info/METADATA,,\n'
        "x-1.dist-info/RECORD,,\n"
    )


def hash_for_record(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


@pytest.mark.skipif(sys.platform != "linux", reason="ELF is Linux's")
def test_a_stripped_library_still_loads(
    lean: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import markupsafe._speedups as speedups

    path = tmp_path / Path(speedups.__file__).name
    shutil.copyfile(speedups.__file__, path)
    size = path.stat().st_size
    assert lean.strip_library(path) == 0
    monkeypatch.setattr(lean, "WORTH_BYTES", 1)
    saved = lean.strip_library(path)
    assert saved > 0
    assert path.stat().st_size == size - saved
    load = (
        "import importlib.util as u; s = u.spec_from_file_location('markupsafe._speedups', "
        f"{str(path)!r}); m = u.module_from_spec(s); print(m._escape_inner('<'))"
    )
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False)
    assert done.stdout == "&lt;\n", done.stderr
    assert lean.strip_library(path) == 0


@given(content=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_is_no_library_stays_as_it_is(lean: ModuleType, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.so"
        path.write_bytes(content)
        assert lean.strip_library(path) == 0
        assert path.read_bytes() == content


# Building


CLASSIC_LOG = """Step 1/4 : FROM base
 ---> 7d908949997b
Step 2/4 : RUN pip install x
 ---> Using cache
Step 3/4 : LABEL a=b
 ---> Running in 1
Step 4/4 : RUN make everything
 ---> Running in 2
made"""
BUILDKIT_LOG = """#5 [dependencies 1/3] FROM docker.io/library/python
#6 [dependencies 2/3] RUN pip install x
#6 CACHED
#7 [stage-3 4/9] RUN make everything
#7 0.213 made
#8 [package 2/6] RUN pip install y
#7 [stage-3 4/9] RUN make everything
#7 0.300 made more
#7 DONE 0.4s"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (CLASSIC_LOG, ["step 4/4: RUN make everything"]),
        (BUILDKIT_LOG, ["step stage-3 4/9: RUN make everything"]),
    ],
)
def test_steps_that_take_time_are_told_of_and_cached_ones_are_not(log: str, told: list[str]) -> None:
    reader = StepReader()
    assert [said for line in log.splitlines() if (said := reader.read(line))] == told


def test_an_image_is_built_once_and_says_what_it_is(tiny: Path, remove_images: None) -> None:
    (tiny / "w.keras").write_bytes(b"weights")
    first, said = build(BACKBONE_WEIGHTS="w.keras", TAGS={"Customer": "Ann + Söhne", "a=b": "c"})
    assert first.built
    assert said[0].startswith(f"building the CPU image {first.reference}")
    again, said_again = build(BACKBONE_WEIGHTS="w.keras", TAGS={"Customer": "Ann + Söhne", "a=b": "c"})
    assert (again.built, said_again) == (False, [])
    assert (again.reference, again.size_bytes) == (first.reference, first.size_bytes)
    found = inspect(first.reference)
    assert (found["Architecture"], found["Os"]) == ("amd64", "linux")
    labels = found["Config"]["Labels"]
    assert labels["Customer"] == "Ann + Söhne"
    assert labels["classifold:project"] == "roses"
    assert labels["classifold:variant"] == "cpu"
    assert labels["org.opencontainers.image.version"] == classifold.__version__
    assert "a" not in labels
    assert "VARIANT=cpu" in found["Config"]["Env"]
    assert first.size_bytes == len(b"weights")


def test_the_gpu_variant_is_another_image(tiny: Path, remove_images: None) -> None:
    built, _ = build(INSTANCE_PREFERENCES=("ml.g5.xlarge",))
    assert built.variant == "gpu"
    assert built.tag.startswith("gpu-")
    assert "VARIANT=gpu" in inspect(built.reference)["Config"]["Env"]


def test_the_image_that_serves_is_one_of_its_own_and_can_hold_a_model(
    tiny: Path, remove_images: None
) -> None:
    (tiny / "container" / "Dockerfile").write_text(TINY + "COPY baked/model /opt/ml/model\n")
    slim, said = build_slim()
    assert said == [f"building the serving image {slim.reference}; the first one takes some minutes"]
    assert (slim.variant, slim.tag[:6], slim.size_bytes) == ("serve", "serve-", 0)
    labels = inspect(slim.reference)["Config"]["Labels"]
    assert labels["classifold:variant"] == "serve"
    assert labels["org.opencontainers.image.title"] == "Classifold serving"
    (tiny / "model.onnx").write_bytes(b"a model")
    whole, _ = build_slim(model=tiny / "model.onnx")
    assert whole.tag != slim.tag
    assert whole.size_bytes == len(b"a model")


def build_slim(**given: Any) -> tuple[Image, list[str]]:
    said: list[str] = []
    return build_image(build_config(CPU), variant="serve", tell=said.append, **given), said


def test_every_image_says_that_it_listens_where_sagemaker_wants(project: Path) -> None:
    for variant in names.IMAGE_VARIANTS:
        labels = plan_image(build_config(CPU), variant=variant).labels
        assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"


def test_a_proxy_is_passed_on_and_stands_in_no_image(
    tiny: Path, remove_images: None, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    check = 'RUN test "$HTTPS_PROXY" = http://user:secret@proxy.example:3128\n'
    (tiny / "container" / "Dockerfile").write_text(f"FROM {base_image}\n{check}")
    built, _ = build()
    done = subprocess.run(
        ["docker", "history", "--no-trunc", built.reference], capture_output=True, text=True, check=True
    )
    config = json.dumps(inspect(built.reference))
    # The check itself is written in the Dockerfile: nothing but it may say the secret.
    assert done.stdout.replace(check.removeprefix("RUN ").strip(), "").count("secret") == 0
    assert "secret" not in config.replace(check.removeprefix("RUN ").strip().replace('"', '\\"'), "")


def test_a_step_that_fails_shows_the_end_of_the_log_and_leaves_no_image(
    tiny: Path, remove_images: None, base_image: str
) -> None:
    (tiny / "container" / "Dockerfile").write_text(f"FROM {base_image}\nRUN echo it was me && exit 3\n")
    said: list[str] = []
    with pytest.raises(DockerError) as caught:
        build_image(build_config(CPU), tell=said.append)
    assert caught.value.faults[0].what == "a step of container/Dockerfile ended with code 3: it was me"
    assert caught.value.faults[0].hint == "the lines above are the end of the build's log"
    assert "  it was me" in [re.sub(r"#\d+ [0-9.]+ ", "", line) for line in said]
    tag = plan_image(build_config(CPU), variant="cpu").reference
    assert subprocess.run(["docker", "inspect", tag], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "scripts/requirements"),
        ("ERROR: No matching distribution found for keras==3.15.1", "PIP_INDEX_URL"),
        ("Exception: URL fetch failure on https://x: None -- [Errno 111]", "~/.keras/models"),
        ("urllib3: Max retries exceeded with url: /simple", "PIP_INDEX_URL"),
    ],
)
def test_a_build_that_lacks_something_is_told_the_cure(
    tiny: Path, remove_images: None, base_image: str, said: str, cure: str
) -> None:
    (tiny / "container" / "Dockerfile").write_text(f"FROM {base_image}\nRUN echo '{said}' && exit 1\n")
    with pytest.raises(DockerError) as caught:
        build()
    assert cure in caught.value.faults[0].hint


def test_a_base_that_is_not_there_is_named(tiny: Path, docker_engine: str) -> None:
    (tiny / "container" / "Dockerfile").write_text("FROM localhost:1/nowhere:1\n")
    with pytest.raises(DockerError) as caught:
        build()
    assert caught.value.faults[0].hint


# The repository


def ensure(**values: object) -> list[str]:
    said: list[str] = []
    ensure_repository(aws_of(**values), tell=said.append)
    return said


def describe_repository() -> dict[str, Any]:
    (found,) = boto3.client("ecr", region_name="eu-west-1").describe_repositories()["repositories"]
    return found


def test_the_repository_is_made_with_every_safeguard(aws_account: Cloud) -> None:
    assert ensure(KMS_KEY=KEY) == ["made the repository roses"]
    found = describe_repository()
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": KEY}
    ecr = boto3.client("ecr", region_name="eu-west-1")
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName="roses")["lifecyclePolicyText"])
    assert policy == LIFECYCLE
    tags = ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
    assert {"Key": "classifold:project", "Value": "roses"} in tags
    assert {"Key": "Customer", "Value": "classifold"} in tags


def test_a_repository_that_is_as_it_should_be_is_left_alone(aws_account: Cloud) -> None:
    ensure()
    aws_account.forget_calls()
    assert ensure() == ["repository roses is as it should be"]
    asked = {call["operation"] for call in aws_account.calls(service="ecr")}
    assert asked == {"DescribeRepositories", "GetLifecyclePolicy", "ListTagsForResource"}


def test_what_differs_is_put_right_and_said_and_the_users_tags_stay(aws_account: Cloud) -> None:
    ecr = boto3.client("ecr", region_name="eu-west-1")
    ecr.create_repository(
        repositoryName="roses", tags=[{"Key": "Team", "Value": "A"}, {"Key": "Customer", "Value": "old"}]
    )
    assert ensure() == [
        "repository roses: made its tags immutable, turned on scanning, set it to keep the newest "
        f"{KEPT_IMAGES} training images of each kind, "
        "set the tags Customer, Project, Service, classifold:project"
    ]
    found = describe_repository()
    assert found["imageTagMutability"] == "IMMUTABLE"
    tags = ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
    assert {"Key": "Team", "Value": "A"} in tags
    assert {"Key": "Customer", "Value": "classifold"} in tags
    assert ensure() == ["repository roses is as it should be"]


def test_only_training_images_of_ours_ever_expire() -> None:
    *chosen, untagged = [rule["selection"] for rule in LIFECYCLE["rules"]]
    assert [one["tagPrefixList"] for one in chosen] == [["cpu-"], ["hosts-"], ["gpu-"]]
    for one in chosen:
        assert (one["tagStatus"], one["countNumber"]) == ("tagged", KEPT_IMAGES)
    # The image of an endpoint is needed for as long as there is the endpoint, whatever was pushed since then.
    for variant in names.IMAGE_VARIANTS:
        assert plan_image(build_config(CPU), variant=variant).tag.startswith(f"{variant}-")
    # SageMaker's longest job takes 28 days, and needs its image until then.
    assert (untagged["tagStatus"], untagged["countType"]) == ("untagged", "sinceImagePushed")
    assert untagged["countNumber"] > 28


def test_untagged_images_that_were_there_before_stay_and_are_said(aws_account: Cloud) -> None:
    ecr = boto3.client("ecr", region_name="eu-west-1")
    ecr.create_repository(repositoryName="roses", tags=[{"Key": "classifold:project", "Value": "roses"}])
    ecr.put_image(repositoryName="roses", imageManifest=json.dumps(MANIFEST))
    note, *_ = ensure()
    assert note.startswith("note: untagged images in the repository roses: 1. They stay")
    text = ecr.get_lifecycle_policy(repositoryName="roses")["lifecyclePolicyText"]
    assert json.loads(text)["rules"] == LIFECYCLE["rules"][:-1]
    assert ensure() == [note, "repository roses is as it should be"]
    digest = ecr.describe_images(repositoryName="roses")["imageDetails"][0]["imageDigest"]
    ecr.batch_delete_image(repositoryName="roses", imageIds=[{"imageDigest": digest}])
    assert ensure() == [
        f"repository roses: set it to keep the newest {KEPT_IMAGES} training images of each kind"
    ]
    text = ecr.get_lifecycle_policy(repositoryName="roses")["lifecyclePolicyText"]
    assert json.loads(text) == LIFECYCLE


def test_a_rule_of_the_users_own_beside_ours_stays(aws_account: Cloud) -> None:
    ensure()
    ecr = boto3.client("ecr", region_name="eu-west-1")
    rule = {
        "rulePriority": 9,
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 500},
        "action": {"type": "expire"},
    }
    text = json.dumps({"rules": [LIFECYCLE["rules"][0], rule]})
    ecr.put_lifecycle_policy(repositoryName="roses", lifecyclePolicyText=text)
    assert ensure() == ["repository roses is as it should be"]
    kept = ecr.get_lifecycle_policy(repositoryName="roses")["lifecyclePolicyText"]
    assert json.loads(kept) == json.loads(text)


def test_a_lifecycle_policy_of_the_users_own_stays(aws_account: Cloud) -> None:
    ensure()
    ecr = boto3.client("ecr", region_name="eu-west-1")
    rule = {
        "rulePriority": 1,
        "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 500},
        "action": {"type": "expire"},
    }
    text = json.dumps({"rules": [rule]})
    ecr.put_lifecycle_policy(repositoryName="roses", lifecyclePolicyText=text)
    assert ensure() == ["repository roses is as it should be"]
    kept = ecr.get_lifecycle_policy(repositoryName="roses")["lifecyclePolicyText"]
    assert json.loads(kept) == {"rules": [rule]}


def test_a_repository_of_another_project_is_refused_and_not_touched(aws_account: Cloud) -> None:
    ecr = boto3.client("ecr", region_name="eu-west-1")
    tags = [{"Key": "classifold:project", "Value": "tulips"}]
    ecr.create_repository(repositoryName="roses", tags=tags)
    before = describe_repository()
    with pytest.raises(AwsError, match="project tulips made it"):
        ensure()
    assert describe_repository() == before
    assert ecr.list_tags_for_resource(resourceArn=before["repositoryArn"])["tags"] == tags


def test_a_repository_with_images_and_no_tag_is_refused_and_an_empty_one_taken(aws_account: Cloud) -> None:
    ecr = boto3.client("ecr", region_name="eu-west-1")
    ecr.create_repository(repositoryName="roses")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    ecr.put_image(repositoryName="roses", imageManifest=json.dumps(manifest), imageTag="theirs")
    before = describe_repository()
    with pytest.raises(AwsError, match="holds images, and has no project tag"):
        ensure()
    assert describe_repository() == before
    ecr.batch_delete_image(repositoryName="roses", imageIds=[{"imageTag": "theirs"}])
    assert "set the tags" in ensure()[0]


def test_another_key_than_the_settings_is_noted_since_nothing_can_change_it(aws_account: Cloud) -> None:
    ensure()
    said = ensure(KMS_KEY=KEY)
    assert said[-1] == "note: repository roses is encrypted with AWS's own key, and ECR cannot change that"


@pytest.mark.parametrize(
    "right", ["ecr:CreateRepository", "ecr:PutLifecyclePolicy", "ecr:DescribeRepositories"]
)
def test_a_missing_right_is_named(aws_account: Cloud, right: str) -> None:
    aws_account.deny(right)
    with pytest.raises(AwsError, match=right):
        ensure()


# Pushing


def push_tiny(**values: object) -> tuple[Any, list[str]]:
    said: list[str] = []
    image, _ = build(**values)
    return push_image(aws_of(**values), image, tell=said.append), said


def test_an_image_is_pushed_once_and_found_by_its_content(
    tiny: Path, lab: Cloud, registry: Registry, remove_images: None
) -> None:
    with pytest.raises(MissingError) as caught:
        find_image(aws_of())
    assert caught.value.faults[0].hint == "classifold image"
    pushed, said = push_tiny()
    assert pushed.pushed
    assert any(line.startswith("pushing roses:cpu-") for line in said)
    assert pushed.uri_by_tag == f"{registry.host}/roses:{tag_of()}"
    there = registry.read_manifest("roses", tag_of())
    assert there is not None
    assert pushed.digest == there.digest
    assert pushed.uri_by_digest == f"{registry.host}/roses@{there.digest}"
    assert there.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    again, said = push_tiny()
    assert (again.pushed, again.digest) == (False, pushed.digest)
    assert said == ["repository roses is as it should be"]
    assert find_image(aws_of()) == again
    record = json.loads((tiny / ".classifold" / "image.json").read_text())
    assert record["pushed"] == {pushed.uri_by_tag: pushed.digest}
    (tiny / "w.keras").write_bytes(b"other content")
    with pytest.raises(MissingError):
        find_image(aws_of(BACKBONE_WEIGHTS="w.keras"))


def put_image(tag: str, *, content: str = "") -> str:
    """Put something under a tag into the repository, as a colleague would, and return its digest."""
    manifest = {**MANIFEST, "config": {"digest": f"sha256:{content or tag}"}}
    ecr = boto3.client("ecr", region_name="eu-west-1")
    put = ecr.put_image(repositoryName="roses", imageManifest=json.dumps(manifest), imageTag=tag)
    return str(put["image"]["imageId"]["imageDigest"])


def delete_image(tag: str) -> None:
    ecr = boto3.client("ecr", region_name="eu-west-1")
    ecr.batch_delete_image(repositoryName="roses", imageIds=[{"imageTag": tag}])


def wait_for_the_next_second() -> None:
    """The lab knows the time of a push by the second."""
    time.sleep(1.01 - time.time() % 1)


def test_the_newest_image_of_the_content_is_found_whatever_its_base(
    aws_account: Cloud, project: Path
) -> None:
    ensure()
    for tag in (f"{tag_of()}-aaaaaaaaaaaa", "cpu-0000000000000000-bbbbbbbbbbbb", f"gpu-{tag_of()}-cc"):
        put_image(tag)
    assert find_image(aws_of()).uri_by_tag.endswith(f"/roses:{tag_of()}-aaaaaaaaaaaa")
    wait_for_the_next_second()
    newer = put_image(f"{tag_of()}-dddddddddddd")
    found = find_image(aws_of())
    assert (found.digest, found.remark) == (newer, "")
    with pytest.raises(MissingError):
        find_image(aws_of(TAGS={"Customer": "somebody else"}))


def test_the_image_that_serves_is_found_beside_those_that_train(aws_account: Cloud, project: Path) -> None:
    ensure()
    put_image(f"{tag_of()}-aaaaaaaaaaaa")
    with pytest.raises(MissingError) as caught:
        find_image(aws_of(), variant="serve")
    assert caught.value.faults[0].hint == "classifold image --serve"
    slim = put_image(f"{tag_of(variant='serve')}-aaaaaaaaaaaa")
    # The code of the backbone is gone, and it is not needed any more.
    assert find_image(aws_of(BACKBONE="gone.py:build"), variant="serve").digest == slim
    with pytest.raises(MissingError) as caught:
        find_image(aws_of(), variant="hosts")
    assert caught.value.faults[0].hint == "classifold image --variant hosts"


def test_what_was_pushed_from_here_goes_before_what_others_pushed(aws_account: Cloud, project: Path) -> None:
    ensure()
    uri = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/roses:{tag_of()}"
    own = put_image(f"{tag_of()}-aaaaaaaaaaaa")
    record_push(f"{uri}-aaaaaaaaaaaa", own)
    wait_for_the_next_second()
    put_image(f"{tag_of()}-bbbbbbbbbbbb")
    found = find_image(aws_of())
    assert found.digest == own
    assert f"a newer one of the same content, {tag_of()}-bbbbbbbbbbbb, was pushed" in found.remark
    delete_image(f"{tag_of()}-aaaaaaaaaaaa")
    found = find_image(aws_of())
    assert found.uri_by_tag == f"{uri}-bbbbbbbbbbbb"
    assert found.remark.startswith("the one that was pushed from here is gone")


def test_an_image_that_was_exchanged_is_refused(aws_account: Cloud, project: Path) -> None:
    ensure()
    tag = f"{tag_of()}-aaaaaaaaaaaa"
    pushed = put_image(tag)
    uri = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/roses:{tag}"
    record_push(uri, pushed)
    assert find_image(aws_of()).digest == pushed
    delete_image(tag)
    other = put_image(tag, content="something else")
    with pytest.raises(AwsError) as caught:
        find_image(aws_of())
    (fault,) = caught.value.faults
    assert fault.where == f"image {uri}"
    assert fault.what == f"{other} has replaced {pushed}, which was pushed from here"
    assert ".classifold/image.json" in fault.hint


def test_an_exchanged_image_is_not_taken_for_the_one_that_was_pushed(
    tiny: Path, lab: Cloud, registry: Registry, remove_images: None
) -> None:
    pushed, _ = push_tiny()
    record_push(pushed.uri_by_tag, f"sha256:{'0' * 64}")
    with pytest.raises(AwsError, match="has replaced"):
        push_tiny()
    assert json.loads((tiny / ".classifold" / "image.json").read_text())["pushed"] == {
        pushed.uri_by_tag: f"sha256:{'0' * 64}"
    }


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pushed": 3, "bases": {"a": 1}}', "\xff"])
def test_a_damaged_record_is_as_none(project: Path, text: str) -> None:
    (project / ".classifold").mkdir()
    (project / ".classifold" / "image.json").write_text(text, encoding="latin-1")
    assert read_record() == ImageRecord()
    record_push("a:1", "sha256:1")
    assert read_record() == ImageRecord(pushed={"a:1": "sha256:1"})


def test_the_registrys_password_stays_on_no_disk(
    tiny: Path, lab: Cloud, remove_images: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "docker"
    own.mkdir()
    (own / "config.json").write_text('{"credsStore": "nonexistent", "currentContext": "default"}')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    push_tiny()
    assert list(scratch.iterdir()) == []
    assert [path.name for path in own.iterdir()] == ["config.json"]
    assert "auth" not in (own / "config.json").read_text()


def test_a_manifest_that_sagemaker_refuses_is_refused_here(
    tiny: Path, lab: Cloud, registry: Registry, remove_images: None
) -> None:
    pushed, _ = push_tiny()
    put_as_oci(registry, "roses", tag_of())
    with pytest.raises(DockerError) as caught:
        find_image(aws_of())
    fault = caught.value.faults[0]
    assert (fault.where, fault.got) == (pushed.uri_by_tag, "application/vnd.oci.image.manifest.v1+json")
    assert "buildx" in fault.hint


def put_as_oci(registry: Registry, repository: str, tag: str) -> None:
    """Replace a manifest by the same in OCI's form."""
    there = registry.read_manifest(repository, tag)
    assert there is not None
    delete_image(tag)  # the tag cannot be moved
    manifest = json.loads(there.text)
    manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    request = urllib.request.Request(
        f"https://{registry.host}/v2/{repository}/manifests/{tag}",
        data=json.dumps(manifest).encode(),
        method="PUT",
        headers={"Authorization": f"Basic {registry.secret}", "Content-Type": manifest["mediaType"]},
    )
    import ssl

    trusted = ssl.create_default_context(cafile=f"/etc/docker/certs.d/{registry.host}/ca.crt")
    with urllib.request.urlopen(request, context=trusted) as answer:
        assert answer.status == 201


def test_a_tag_that_nobody_pushed_is_none(aws_account: Cloud, project: Path) -> None:
    assert find_tagged_image(aws_of(), "nothing") is None  # there is no repository either
    ensure()
    assert find_tagged_image(aws_of(), "nothing") is None


def test_what_ecr_says_of_a_tag_is_read(aws_account: Cloud, project: Path) -> None:
    ensure()
    digest = put_image("cpu-1")
    put_image("cpu-2")
    found = find_tagged_image(aws_of(), "cpu-1")
    assert found is not None
    assert (found.tag, found.digest, found.media_type) == ("cpu-1", digest, MANIFEST["mediaType"])


def test_only_dockers_plain_manifest_suits_sagemaker() -> None:
    def suits(kind: str) -> bool:
        detail = ImageDetail("cpu-1", "sha256:0", f"application/vnd.{kind}", datetime.now(UTC))
        return detail.suits_sagemaker

    assert suits("docker.distribution.manifest.v2+json")
    assert not suits("docker.distribution.manifest.list.v2+json")
    assert not suits("oci.image.index.v1+json")


def test_a_registry_that_nobody_can_reach_is_said(
    aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:1")
    with pytest.raises(AwsError, match="cannot reach AWS"):
        find_tagged_image(aws_of(), "x")


def test_a_push_that_breaks_off_goes_on(
    tiny: Path,
    aws_account: Cloud,
    remove_images: None,
    broken_registry: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_push, "_PAUSES", (0.1, 0.1, 0.1))
    host = broken_registry(2)
    image, _ = build()
    said: list[str] = []
    push(aws_of(), image.reference, uri=f"{host}/roses:{image.tag}", tell=said.append)
    assert len(said) == 2
    assert all(line.startswith("the push was interrupted (") for line in said)


def test_a_push_that_breaks_off_again_and_again_is_an_error(
    tiny: Path,
    aws_account: Cloud,
    remove_images: None,
    broken_registry: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_push, "_PAUSES", (0.1,))
    image, _ = build()
    with pytest.raises(DockerError, match="push the image") as caught:
        push(aws_of(), image.reference, uri=f"{broken_registry(99)}/roses:{image.tag}", tell=str)
    assert "run the command again" in caught.value.faults[0].hint


def test_a_right_that_is_missing_for_the_push_is_named() -> None:
    said = (
        "denied: User: arn:aws:iam::123456789012:user/ann is not authorized to perform: "
        "ecr:InitiateLayerUpload on resource: arn:aws:ecr:eu-west-1:123456789012:repository/roses"
    )
    error = explain_push(explain_docker(said, doing="push the image"))
    assert isinstance(error, AwsError)
    assert "the permission ecr:InitiateLayerUpload is missing" in str(error)
