"""The image that ours is built on: found in any Dockerfile, pinned by its digest, and told where it moved."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.aws.image import Image, build_image
from classifold.aws.image_base import Base, find_bases, hash_bases, pin_dockerfile, resolve_base
from classifold.aws.image_context import plan_image
from classifold.aws.image_record import read_record
from classifold.errors import DockerError, SettingsError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.registry import Registry

CPU = {"PROJECT_NAME": "roses", "INSTANCE_TYPE": "ml.m5.xlarge"}
DIGEST = f"sha256:{'1' * 64}"
LOCAL = "classifold-test-base:1"
DOCKERFILE = f"""# FROM a comment
ARG BASE={LOCAL}
FROM ${{BASE}} AS first
COPY baked/project /project
FROM ${{BASE}}
COPY --from=first /project /project
"""


# What a Dockerfile starts from


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM python:3.11-slim", ["python:3.11-slim"]),
        ("from python AS a\nFROM a\nFrom A as b\nFROM b", ["python"]),
        ("FROM scratch\nCOPY a /", []),
        ("ARG BASE=python:3\nFROM $BASE AS a\nFROM ${BASE}", ["python:3"]),
        ('ARG BASE="python:3"\nFROM --platform=linux/amd64 "${BASE}" AS a', ["python:3"]),
        (
            "ARG V=3.11\nARG BASE=python:$V-slim OTHER=debian\nFROM ${BASE}\nFROM $OTHER",
            ["python:3.11-slim", "debian"],
        ),
        ("FROM ${BASE:-python}", ["python"]),
        ("FROM \\\n  # why\n\n  python:3 \\\n  AS a\nRUN true", ["python:3"]),
        ("FROM a\nRUN python -c '\\\nfrom x import y \\\nfrom z import y'\nFROM b", ["a", "b"]),
        ("FROM a\nRUN <<EOF python\nfrom x import y\nEOF\nFROM b", ["a", "b"]),
        ("FROM a\nRUN python -c 'print(1 <<x)'\nFROM b", ["a", "b"]),
        ("FROM python@sha256:1\r\nRUN true\r\n", ["python@sha256:1"]),
        ("", []),
    ],
)
def test_the_images_that_a_dockerfile_starts_from_are_found(text: str, names: list[str]) -> None:
    assert list(find_bases(text, {})) == names


def test_an_argument_goes_before_the_default_where_it_is_declared() -> None:
    text = "ARG BASE=python:3\nARG FULL=${BASE}-slim\nFROM $FULL\n"
    assert find_bases(text, {"BASE": "debian:12", "OTHER": "x"}) == ("debian:12-slim",)
    assert find_bases("FROM ${BASE:-python}", {"BASE": "debian"}) == ("python",)


def test_every_stage_is_pinned_and_nothing_else_changes() -> None:
    text = "ARG BASE=a\r\nFROM --platform=x \\\n ${BASE} AS b\nRUN echo from a\nFROM b\nFROM a\nRUN x"
    pinned = pin_dockerfile(text, {}, [Base("a", DIGEST, f"a@{DIGEST}")])
    assert pinned == (
        f"ARG BASE=a\r\nFROM --platform=x a@{DIGEST} AS b\nRUN echo from a\nFROM b\nFROM a@{DIGEST}\nRUN x"
    )


def test_our_own_dockerfile_starts_from_one_image(root: Path) -> None:
    text = (root / "container" / "Dockerfile").read_text()
    assert find_bases(text, {}) == ("python:3.11-slim",)
    pinned = pin_dockerfile(text, {}, [Base("python:3.11-slim", DIGEST, f"python@{DIGEST}")])
    assert find_bases(pinned, {}) == (f"python@{DIGEST}",)
    before, after = text.splitlines(), pinned.splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [f"FROM python@{DIGEST} AS dependencies", f"FROM python@{DIGEST}"]


WORDS = ["FROM", "ARG", "RUN", "a=b", "$a", "${a}", "<<", "EOF", "\\", "#", "\n", "x", "as", "--y"]


@given(text=st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = find_bases(text, {})
    pinned = pin_dockerfile(text, {}, [Base(name, DIGEST, f"x@{DIGEST}") for name in found])
    assert find_bases(pinned, {}) == ((f"x@{DIGEST}",) if found else ())
    assert found or pinned == text


# What it means now


@pytest.fixture
def local_base(base_image: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return a function that makes an image under LOCAL which differs by a word, and says its ID."""
    made: list[str] = []

    def make(word: str) -> str:
        text = f"FROM scratch\nCOPY word /word\nENV WORD={word}\n"
        (tmp_path / "word").write_text(word)
        command = ["docker", "build", "--quiet", "--tag", LOCAL, "--file", "-", str(tmp_path)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        made.append(done.stdout.strip())
        return made[-1]

    yield make
    subprocess.run(["docker", "rmi", "--force", LOCAL, *made], capture_output=True, check=False)


@pytest.fixture
def remove_images(docker_engine: str) -> Iterator[None]:
    """Remove what a test left in the engine."""
    yield
    words = ["docker", "images", "--quiet", "--filter", "label=classifold:project=roses"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    if found:
        subprocess.run(["docker", "rmi", "--force", *found], capture_output=True, check=False)


@pytest.fixture
def based(project: Path) -> Path:
    """Return a project whose image is built in a moment, on LOCAL."""
    (project / "container" / "Dockerfile").write_text(DOCKERFILE)
    return project


def build(**values: object) -> tuple[Image, list[str]]:
    said: list[str] = []
    return build_image(build_config({**CPU, **values}), tell=said.append), said


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], capture_output=True, check=True)


def read_labels(reference: str) -> dict[str, str]:
    command = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", reference]
    labels: dict[str, str] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return labels


def test_a_base_that_moved_gives_another_tag_and_this_is_said(
    based: Path, local_base: Callable[[str], str], remove_images: None
) -> None:
    first_id = local_base("first")
    first, said = build()
    assert len(said) == 1
    content = plan_image(build_config(CPU), variant="cpu").tag
    assert first.tag == f"{content}-{hash_bases([Base(LOCAL, first_id, LOCAL)])}"
    labels = read_labels(first.reference)
    assert labels["org.opencontainers.image.base.name"] == LOCAL
    assert labels["org.opencontainers.image.base.digest"] == first_id
    again, said = build()
    assert (again.tag, again.built, said) == (first.tag, False, [])
    second_id = local_base("second")
    moved, said = build()
    assert moved.built
    assert moved.tag != first.tag
    assert said[0] == (
        f"the base image {LOCAL} has changed since the last build here, from {first_id[:19]} to "
        f"{second_id[:19]}"
    )
    assert said[1].startswith("building the CPU image")
    assert read_record().bases == {LOCAL: second_id}
    assert plan_image(build_config(CPU), variant="cpu").tag == content


def test_a_base_that_is_gone_leaves_the_image_that_was_built(
    based: Path, local_base: Callable[[str], str], remove_images: None
) -> None:
    local_base("first")
    first, _ = build()
    docker("rmi", LOCAL)
    again, said = build()
    assert (again.reference, again.built) == (first.reference, False)
    assert said[-1].endswith("using the image that was built before")


def test_a_base_that_nobody_has_is_told_with_the_ways_around(based: Path, docker_engine: str) -> None:
    with pytest.raises(DockerError) as caught:
        build(BASE_IMAGE="localhost:1/nowhere:1")
    (fault,) = caught.value.faults
    assert fault.where == "cannot get the base image localhost:1/nowhere:1"
    assert "BASE_IMAGE" in fault.hint


def test_a_pinned_base_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    name = f"mirror.example.com:5000/python:3.11-slim@{DIGEST}"
    assert resolve_base(name, is_renewed=True, tell=print) == Base(name, DIGEST, name)


def test_the_setting_chooses_the_base_and_is_content(based: Path) -> None:
    tags = [
        plan_image(build_config({**CPU, "BASE_IMAGE": name}), variant="cpu").tag
        for name in ("", "mirror/python:3", f"mirror/python@{DIGEST}")
    ]
    assert len(set(tags)) == 3
    plan = plan_image(build_config({**CPU, "BASE_IMAGE": "mirror/python:3"}), variant="cpu")
    assert plan.base_names == ("mirror/python:3",)
    (based / "container" / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(SettingsError, match="no stage of container/Dockerfile starts from it"):
        plan_image(build_config({**CPU, "BASE_IMAGE": "mirror/python:3"}), variant="cpu")


@pytest.mark.parametrize("name", ["--help", "a b", "Python", "python:", "python@sha256:1", "$(id)", "a\n"])
def test_what_is_no_name_of_an_image_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="setting BASE_IMAGE"):
        build_config({"BASE_IMAGE": name})


@pytest.mark.parametrize(
    "name",
    ["python", "python:3.11-slim", f"a/b_c@{DIGEST}", "localhost:5000/a.b/c:1", f"Host.example/a:1@{DIGEST}"],
)
def test_every_name_of_an_image_is_taken(name: str) -> None:
    assert name == build_config({"BASE_IMAGE": name}).BASE_IMAGE


# With a registry


@pytest.fixture
def push_base(
    registry: Registry, local_base: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], str]]:
    """Return a function that puts an image into the registry as `base:1` and says its digest; signed in."""
    name = f"{registry.host}/base:1"
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(registry.docker_config())
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def push(word: str) -> str:
        local_base(word)
        docker("tag", LOCAL, name)
        docker("push", name)
        docker("rmi", name)
        there = registry.read_manifest("base", "1")
        assert there is not None
        return there.digest

    yield push
    subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)
    registry.empty("base")


def test_a_base_that_moved_in_its_registry_is_fetched_pinned_and_told(
    based: Path, registry: Registry, push_base: Callable[[str], str], remove_images: None
) -> None:
    name = f"{registry.host}/base:1"
    first_digest = push_base("first")
    first, said = build(BASE_IMAGE=name)
    assert said[0] == f"asking the registry for the base image {name}"
    assert read_labels(first.reference)["org.opencontainers.image.base.digest"] == first_digest
    here = resolve_base(name, is_renewed=False, tell=said.append)
    assert here == Base(name, first_digest, f"{registry.host}/base@{first_digest}")
    # Another content comes into the registry; the engine here still has the earlier one.
    docker("tag", name, "classifold-test-base:2")
    second_digest = push_base("second")
    docker("tag", "classifold-test-base:2", name)
    docker("rmi", "classifold-test-base:2")
    moved, said = build(BASE_IMAGE=name)
    assert moved.tag != first.tag
    assert (
        f"the base image {name} has changed since the last build here, from {first_digest[:19]} to "
        f"{second_digest[:19]}"
    ) in said
    assert read_labels(moved.reference)["org.opencontainers.image.base.digest"] == second_digest


def test_without_a_way_to_the_registry_the_base_here_is_taken_and_this_is_said(
    based: Path, registry: Registry, push_base: Callable[[str], str], remove_images: None
) -> None:
    name = f"{registry.host}/base:1"
    push_base("first")
    first, _ = build(BASE_IMAGE=name)
    # Signed out, the registry refuses every question.
    Path(os.environ["DOCKER_CONFIG"], "config.json").write_text("{}")
    again, said = build(BASE_IMAGE=name)
    assert (again.reference, again.built) == (first.reference, False)
    assert said[1].startswith(f"note: could not find out whether the base image {name} has changed (")
    assert said[1].endswith("): using the one here")
