"""The real images as they serve: any user, a read-only disk, no network, and the answers of `predict`."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL.Image
import pytest

if TYPE_CHECKING:
    from classifold.aws.image import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
# As unfriendly as it gets: nobody's user, nothing to write to but /tmp, and no permissions.
CONFINED = (
    *("--user", "12345:54321", "--read-only", "--tmpfs", "/tmp"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
WITHOUT_NETWORK = ("--network", "none")
# Drawn and asked in the container: the decoders of its pictures may not be installed here.
ASK = """
import base64, io, json, sys, urllib.request
import pillow_heif
from PIL import Image
pillow_heif.register_heif_opener()
answers = []
for kind in ("PNG", "HEIF", "AVIF", "JPEG2000"):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (0, 0, 250)).save(file, kind)
    url, headers = "http://127.0.0.1:8080/invocations", {"Content-Type": "application/x-image"}
    request = urllib.request.Request(url, file.getvalue(), headers)
    answers.append(json.load(urllib.request.urlopen(request, timeout=30))["predicted_class"])
print(json.dumps(answers))
"""
LOADED = """
import importlib.metadata as m, json, os, pathlib
names = sorted(d.metadata["Name"].lower().replace("_", "-") for d in m.distributions())
maps = pathlib.Path("/proc/1/maps").read_text()
print(json.dumps([names, "tensorflow" in maps, os.stat("/proc/1").st_uid]))
"""


class Reply(NamedTuple):
    """What a server said: status, content type, and the body."""

    status: int
    kind: str
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Container:
    """A container that serves: `docker run IMAGE serve` on a free port of this machine."""

    def __init__(
        self, image: str, *options: str, port: int = 8080, words: tuple[str, ...] = ("serve",)
    ) -> None:
        published = () if "none" in options else ("--publish", f"127.0.0.1::{port}")
        command = ["docker", "run", "--detach", *published, *options, image, *words]
        self.name = docker(*command[1:]).stdout.strip()
        self.port = port

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request, to the address at which the port is published."""
        address = docker("port", self.name, str(self.port)).stdout.split()[0]
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{address}{path}", body, given)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Reply(answer.status, answer.headers.get_content_type(), answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers.get_content_type(), error.read())

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until /ping says 200, asked from within, for there may be no network."""
        ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{self.port}/ping', timeout=5)"
        end = time.monotonic() + seconds
        while docker("exec", self.name, "python", "-c", ask, check=False).returncode:
            assert self.is_running(), self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def run(self, code: str) -> str:
        """Run Python in the container and return what it prints."""
        return docker("exec", self.name, "python", "-c", code).stdout

    def is_running(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.name).stdout.strip() == "true"

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        docker("stop", "--time", "40", self.name)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)

    def log(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *words], capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert not (check and done.returncode), done.stderr
    return done


@contextlib.contextmanager
def serving(image: str, *options: str, **given: Any) -> Iterator[Container]:
    """Start a container, wait until it is ready, and remove it at the end."""
    container = Container(image, *options, **given)
    try:
        container.wait_until_ready()
        yield container
    finally:
        docker("rm", "--force", container.name, check=False)


def mount(run_dir: Path) -> tuple[str, ...]:
    return ("--volume", f"{run_dir}:/opt/ml/model:ro")


def draw(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), colour).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def slim(serve_image: Image, colour_run: Path) -> Iterator[Container]:
    """Return the slim image as it serves the colours, confined."""
    with serving(serve_image.reference, *CONFINED, *mount(colour_run)) as container:
        yield container


def test_its_answers_are_those_of_predict(
    slim: Container, colour_run: Path, tmp_path: Path, classifold: Callable[..., Any]
) -> None:
    colours = {"red": (250, 10, 10), "mud": (120, 110, 100), "blue": (0, 30, 240)}
    for name, colour in colours.items():
        (tmp_path / f"{name}.jpg").write_bytes(draw(colour, "JPEG"))
    done = classifold("predict", colour_run, *sorted(tmp_path.iterdir()), "--format", "json")
    expected = [{**one, "path": Path(one["path"]).name} for one in json.loads(done.out)]
    pictures = [
        {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()}
        for path in sorted(tmp_path.iterdir())
    ]
    body = json.dumps({"pictures": pictures}).encode()
    found = slim.ask("/predict", body, Content_Type="application/json").json()
    assert found["model"]["name"]
    assert [{"path": one.pop("name"), **one} for one in found["predictions"]] == expected
    first = slim.ask("/invocations", (tmp_path / "red.jpg").read_bytes(), Content_Type="image/jpeg").json()
    assert first["predicted_class"] == "red"


def test_it_needs_no_root_no_network_and_no_disk_and_reads_every_format(
    serve_image: Image, colour_run: Path
) -> None:
    options = (*CONFINED, *WITHOUT_NETWORK, *mount(colour_run))
    with serving(serve_image.reference, *options) as container:
        assert json.loads(container.run(ASK)) == ["blue"] * 4
        installed, has_tensorflow, user = json.loads(container.run(LOADED))
        assert user == 12345  # process 1 is the server itself, which gets the signals
    assert {"classifold", "onnxruntime", "starlette"} <= set(installed)
    assert not {"pip", "setuptools", "boto3", "keras", "tensorflow-cpu", "onnx", "scipy"} & set(installed)
    assert not has_tensorflow


def test_the_training_image_serves_as_well_without_loading_tensorflow(
    training_image: Image, colour_run: Path
) -> None:
    with serving(training_image.reference, *CONFINED, *mount(colour_run)) as container:
        answer = container.ask("/invocations", draw((0, 250, 0)), Content_Type="image/png")
        assert (answer.status, answer.json()["predicted_class"]) == (200, "green")
        assert json.loads(container.run(LOADED))[1:] == [False, 12345]
        assert container.stop() == 0


def test_sigterm_ends_it_within_the_grace_with_code_0(serve_image: Image, colour_run: Path) -> None:
    # Without a word after the image's name it serves, as Cloud Run and Kubernetes start it.
    with serving(serve_image.reference, *CONFINED, *mount(colour_run), words=()) as container:
        began = time.monotonic()
        assert container.stop() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in container.log()


def test_it_listens_on_the_port_that_sagemaker_names(serve_image: Image, colour_run: Path) -> None:
    options = (*CONFINED, *mount(colour_run), "--env", "SAGEMAKER_BIND_TO_PORT=9123")
    with serving(serve_image.reference, *options, port=9123) as container:
        assert container.ask("/ping").status == 200


def test_options_are_environment_variables_and_a_wrong_one_ends_it_with_code_2(
    serve_image: Image, colour_run: Path
) -> None:
    options = (*CONFINED, *mount(colour_run))
    every = ("--env", "CLASSIFOLD_SERVE_TOP_K=1", "--env", "CLASSIFOLD_API_KEY=long-enough-a-key")
    with serving(serve_image.reference, *options, *every) as container:
        refused = container.ask("/invocations", draw((250, 0, 0)), Content_Type="image/png")
        assert refused.status == 401
        headers = {"Content_Type": "image/png", "X_Api_Key": "long-enough-a-key"}
        answer = container.ask("/invocations", draw((250, 0, 0)), **headers).json()
        assert [one["class_name"] for one in answer["classes"]] == ["red"]
        assert "long-enough-a-key" not in container.log()
    wrong = ("--rm", *options, "--env", "CLASSIFOLD_SERVE_TOP_K=none")
    done = docker("run", *wrong, serve_image.reference, "serve", check=False)
    assert done.returncode == 2
    assert "CLASSIFOLD_SERVE_TOP_K" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_model_it_says_so_and_ends_with_code_1(serve_image: Image) -> None:
    done = docker("run", "--rm", *CONFINED, serve_image.reference, check=False)
    assert done.returncode == 1
    assert "/opt/ml/model" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_health_check_of_docker_can_ask_it(slim: Container, root: Path) -> None:
    text = (root / "docs" / "serve.md").read_text(encoding="utf-8")
    command = text.partition("--health-cmd '")[2].partition("'")[0]
    assert command
    assert docker("exec", slim.name, "sh", "-c", command).returncode == 0
    wrong = command.replace(":8080/", ":8081/")
    assert wrong != command
    assert docker("exec", slim.name, "sh", "-c", wrong, check=False).returncode == 1


def test_the_example_for_kubernetes_asks_what_answers_and_names_options_that_are_there(
    slim: Container, root: Path
) -> None:
    import yaml

    from classifold.serve.options import API_KEY_VARIABLE, VARIABLES

    text = (root / "docs" / "serve.md").read_text(encoding="utf-8")
    deployment = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for probe in (container["livenessProbe"]["httpGet"], container["readinessProbe"]["httpGet"]):
        assert probe["port"] == slim.port
        assert slim.ask(probe["path"]).status == 200
    assert {one["name"] for one in container["env"]} <= {*VARIABLES.values(), API_KEY_VARIABLE}


def test_an_image_with_a_run_serves_it_and_holds_nothing_else_of_it(
    colour_run: Path, serve_image: Image, tmp_path: Path, classifold: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "my runs" / "colours"
    run_dir.mkdir(parents=True)
    (run_dir / "model.onnx").write_bytes((colour_run / "model.onnx").read_bytes())
    (run_dir / "model.onnx").chmod(0o600)  # whatever this user's umask, any user may read it in there
    (run_dir / "config.json").write_text(json.dumps({"RUNS_DIR": str(tmp_path)}))
    words = ("image", "--serve", "colours", "--no-push", "--json", "--set", "RUNS_DIR=my runs")
    done = classifold(*words)
    assert done.code == 0, done.err
    built = json.loads(done.out)["image"]
    try:
        assert built["tag"] != serve_image.tag
        assert 0 < built["size_bytes"] - serve_image.size_bytes < 100_000
        with serving(built["reference"], *CONFINED) as container:
            answer = container.ask("/invocations", draw((0, 250, 0)), Content_Type="image/png")
            assert answer.json()["predicted_class"] == "green"
            words = ("exec", container.name, "find", "/opt/ml", "-type", "f")
            assert docker(*words).stdout.split() == ["/opt/ml/model/model.onnx"]
        history = docker("history", "--no-trunc", built["reference"]).stdout
        assert str(tmp_path) not in history + docker("inspect", built["reference"]).stdout
    finally:
        docker("rmi", built["reference"], check=False)


def test_a_damaged_model_is_refused_before_the_build(
    tmp_path: Path, classifold: Callable[..., Any], docker_engine: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    done = classifold("image", "--serve", tmp_path / "model.onnx", "--no-push")
    assert done.code == 1
    assert "building" not in done.err
    assert "model.onnx" in done.err


def test_it_is_no_larger_than_it_was_made(serve_image: Image, base_image: str) -> None:
    # 171 MB above the base image where it was measured; the base is as large as its registry makes it.
    base = int(docker("image", "inspect", "--format", "{{.Size}}", base_image).stdout)
    assert serve_image.size_bytes - base < 190e6
    assert serve_image.size_bytes < 400e6
