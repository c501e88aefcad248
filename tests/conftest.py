"""The clean environment of every test, and what several rooms' tests share."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from classifold.aws.image import Image
    from lab.cloud import Cloud, RelayControl
    from lab.registry import Registry

ROOT = Path(__file__).parents[1]
# The stand-ins are a package of their own, `lab`.
sys.path.insert(0, str(ROOT / "tests"))
# Fixtures that the tests of several rooms share.
pytest_plugins = [
    "made_account",
    "made_browser",
    "made_endpoints",
    "made_hosting",
    "made_pictures",
    "made_runs",
    "made_servers",
    "made_wheel",
    "quick",
    "made_exports",  # uses made_runs, which must be known first
]
# What two runs that ought to be the same are compared by is a benchmark's: `chaos`.
sys.path.append(str(ROOT / "benchmarks"))
# pip needs the user's own settings and cache: the packaging tests alone use these.
ORIGINAL_ENVIRONMENT = dict(os.environ)
_FOREIGN = ("AWS_", "KERAS_", "TF_", "CLASSIFOLD", "_CLASSIFOLD", "PYTHON")
# How long an example takes says more about what else the machine does than about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}

# The fixtures of what a machine has only one of: its Docker engine and the registry.
_ONE_OF_ITS_KIND = {"docker_engine", "registry"}
# The files whose tests take them. One worker of pytest-xdist runs all of these, since two would remove each
# other's images and containers.
_DOCKER_FILES = {
    f"tests/{name}.py"
    for name in (
        *("aws/test_caller_policies", "aws/test_image", "aws/test_image_base", "aws/test_job"),
        *("aws/test_serve_image", "aws/test_training_image", "docker/test_local", "test_aws_path"),
        *("test_lab", "test_lab_serving_image"),
    )
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out among the workers file by file, for what the tests of a file share."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "docker" if file in _DOCKER_FILES else file

    config.option.loadscopereorder = False  # the order below, and not that of the number of tests
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Put Docker's files and those that train first, so that no worker begins a long one last."""
    files = {item.nodeid.partition("::")[0] for item in items if _ONE_OF_ITS_KIND & set(item.fixturenames)}
    if files - _DOCKER_FILES:
        raise pytest.UsageError(f"name them in _DOCKER_FILES: {', '.join(sorted(files - _DOCKER_FILES))}")
    slow = {item.nodeid.partition("::")[0] for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[bool, bool]:
        file = item.nodeid.partition("::")[0]
        return file not in _DOCKER_FILES, file not in slow

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Let the garbage collector forget what stays for the whole session.

    Each of its full rounds would look through thousands of collected tests, a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take away what a developer's machine brings: credentials, settings, a home with caches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_FOREIGN) or name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(home))
        patch.setenv("LC_ALL", "C.UTF-8")
        # TensorFlow's C++ greets on standard error otherwise.
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        # A job in the background of a shell ignores Ctrl-C, and so would every process that a test starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def classifold(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Return a function that runs `classifold` in this process: `classifold("split", "--json")`."""
    from classifold.cli.main import cli
    from classifold.cli.runner import run

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = run(cli, name="classifold", arguments=[str(one) for one in arguments])
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def run_python() -> Callable[..., Answer]:
    """Return a function that runs Python with arguments in a process of its own, as a user would."""

    def call(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Answer:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new project's folder with an empty settings file, made the current one."""
    folder = tmp_path / "project"
    settings = folder / "container" / "modeling" / "config.py"
    settings.parent.mkdir(parents=True)
    settings.write_text("")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def draw_colours() -> Callable[..., Path]:
    """Return a function that saves `count` different pictures a colour, in a folder a colour."""
    from PIL import Image

    def draw(folder: Path, *, count: int = 10) -> Path:
        for name, colour in COLOURS.items():
            (folder / name).mkdir(parents=True)
            for index in range(count):
                picture = Image.new("RGB", (24 + index, 24), colour)
                picture.putpixel((0, 0), (index, index, index))
                picture.save(folder / name / f"{name} {index}.png")
        return folder

    return draw


@pytest.fixture
def judging_run(tmp_path: Path) -> Path:
    """Return a run folder with nothing but a model.onnx, which measures distances and has a rule."""
    from made_models import save_judging_model

    folder = tmp_path / "judging"
    folder.mkdir()
    save_judging_model(folder / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with nothing but a model.onnx, which tells blue, green and red pictures apart."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from made_card import model_card

    weights = np.eye(3, dtype=np.float32)[::-1] * 8 / 255
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 16, 16, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = model_card(COLOURS)
    helper.set_model_props(model, {"classifold": json.dumps(card)})
    run_dir = tmp_path_factory.mktemp("runs") / "colours-2026-01-01-00-00-00"
    run_dir.mkdir()
    onnx.save(model, run_dir / "model.onnx")
    return run_dir


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def original_environment() -> dict[str, str]:
    """Return the environment before it was cleaned."""
    return ORIGINAL_ENVIRONMENT


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """Return the stand-in for AWS, shared by all tests; those that talk to it take `aws_account`."""
    from lab.cloud import Cloud

    running = Cloud()
    yield running
    running.stop()


@pytest.fixture
def aws_account(cloud: Cloud, read_descriptions_once: None, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return the stand-in with an empty account, and let boto3, here and in processes, reach it."""
    for name, value in cloud.reset().items():
        monkeypatch.setenv(name, value)
    # boto3 remembers the session of a process's first client, with the credentials of another test.
    if "boto3" in sys.modules:
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    return cloud


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """Return the version of the Docker engine; without one the test is skipped."""
    if not shutil.which("docker"):
        pytest.skip("there is no docker command")
    done = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no Docker engine answers: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture(scope="session")
def base_image(docker_engine: str) -> str:
    """Return the image that ours are built on; where it cannot be had the test is skipped."""
    name = "python:3.11-slim"
    for command in (["image", "inspect", name], ["pull", "--quiet", name]):
        done = subprocess.run(
            ["docker", *command], capture_output=True, encoding="utf-8", timeout=300, check=False
        )
        if done.returncode == 0:
            return name
    pytest.skip(f"there is no image {name}, and none can be pulled: {done.stderr.strip()}")


@pytest.fixture(scope="session")
def training_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the real CPU image of what is here now, built once; Docker keeps its layers for later."""
    return _build("cpu", tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def serve_image(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the real slim image that serves, of what is here now, built once."""
    return _build("serve", tmp_path_factory.mktemp("image"))


def _build(variant: Any, folder: Path) -> Image:
    from classifold.aws.image import build_image
    from classifold.settings.loader import build_config

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return build_image(build_config({}), variant=variant, tell=print)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Return the registry that answers under ECR's name in eu-west-1; without it the test is skipped."""
    from lab.registry import Registry

    found = Registry("123456789012", "eu-west-1")
    if not found.is_there():
        pytest.skip(f"no registry answers as {found.host}")
    return found


@pytest.fixture
def lab(aws_account: Cloud, base_image: str, registry: Registry) -> Cloud:
    """Return `aws_account` where jobs can run their images: with Docker, its base image and the registry."""
    return aws_account


@pytest.fixture
def relay(lab: Cloud, registry: Registry) -> Iterator[RelayControl]:
    """Return ECR's name in `relay.region`, whose connections a test can cut: `relay.cut(after_bytes=...)`."""
    from lab.cloud import RelayControl

    control = RelayControl(lab, upstream=registry.host)
    if control.obstacle:
        pytest.skip(control.obstacle)
    yield control
    control.mend()


@pytest.fixture
def mount_image(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a new disk of a kind, `mount_image("exfat")`, or skips the test."""
    mounted: list[tuple[Path, str]] = []

    def call(kind: str) -> Path:
        place, image = tmp_path / f"{kind} disk", tmp_path / f"{kind}.image"
        needed = [f"mkfs.{kind}", "losetup", *(["mount.exfat-fuse"] if kind == "exfat" else [])]
        if os.geteuid() or not all(shutil.which(one) for one in needed):
            pytest.skip(f"needs root and {', '.join(needed)}")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(256 << 20)
        subprocess.run([f"mkfs.{kind}", str(image)], check=True, capture_output=True)
        command = ["losetup", "--find", "--show", str(image)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            pytest.skip("no loop device can be had here")
        device = done.stdout.strip()
        command = ["mount.exfat-fuse"] if kind == "exfat" else ["mount", "-t", kind]
        if subprocess.run([*command, device, str(place)], capture_output=True, check=False).returncode:
            subprocess.run(["losetup", "--detach", device], check=True)
            pytest.skip(f"{kind} cannot be mounted here")
        mounted.append((place, device))
        return place

    yield call
    for place, device in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)
        subprocess.run(["losetup", "--detach", device], check=False)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a disk of its own: `mount("size=100k")`; where none can be, it skips."""
    mounted: list[Path] = []

    def call(options: str, *, folder: Path | None = None) -> Path:
        place = folder or tmp_path / f"disk{len(mounted)}"
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(place)
        return place

    yield call
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="session")
def poor_disk(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Return a function that gives the environment of a process whose disk is poor, see poor_disk.c.

    `poor_disk(lock_error=errno.ENOLCK, folder=path, refused=":")`; where nothing can be compiled, it skips.
    """
    library = tmp_path_factory.mktemp("library") / "poor_disk.so"
    source = ROOT / "tests" / "poor_disk.c"
    if not shutil.which("gcc") or not sys.platform.startswith("linux"):
        pytest.skip("a disk without locks needs gcc and Linux")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)

    def call(
        *, lock_error: int | None = None, folder: Path | None = None, refused: str = ""
    ) -> dict[str, str]:
        environment = {"LD_PRELOAD": str(library)}
        if lock_error is not None:
            environment["LOCK_ERROR"] = str(lock_error)
        if folder is not None:
            environment |= {"POOR_DISK": str(folder), "REFUSED": refused}
        return environment

    return call


@pytest.fixture
def children() -> Callable[[int], list[int]]:
    """Return a function that lists the processes which one started and which are still there."""
    if not Path("/proc/self").is_dir():
        pytest.skip("this system has no /proc")

    def call(pid: int) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
        return found

    return call
