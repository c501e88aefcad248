"""The images that a Dockerfile starts from: found in it, resolved to a digest, and pinned to that."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from classifold.docker.engine import run_docker
from classifold.errors import DockerError, name_failure

Tell = Callable[[str], None]

PLATFORM = "linux/amd64"
_TAG_DIGITS = 12
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
_HEREDOC = re.compile(r"<<-?\s*[\"']?(\w+)[\"']?")


@dataclass(frozen=True)
class Base:
    """An image that another one is built on.

    Attributes:
        name: As the Dockerfile or BASE_IMAGE has it: `python:3.11-slim`.
        digest: What it holds: its registry's digest; of an image that was made here, the engine's ID.
        reference: What the build starts from: `python@sha256:…`; `name` where only the engine has it.
    """

    name: str
    digest: str
    reference: str

    @property
    def is_from_registry(self) -> bool:
        """Whether `digest` is the digest of a registry."""
        return "@" in self.reference


@dataclass(frozen=True)
class _Instruction:
    """One instruction of a Dockerfile: lines `start` to `end` (exclusive), joined to one."""

    start: int
    end: int
    text: str


def find_bases(dockerfile: str, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the images that a Dockerfile starts from, each once, in their order.

    Args:
        dockerfile: The text of the Dockerfile.
        arguments: The build's arguments, which go before the defaults of ARG.
    """
    return tuple(dict.fromkeys(name for _, _, name in _list_starts(dockerfile, arguments)))


def pin_dockerfile(dockerfile: str, arguments: Mapping[str, str], bases: Sequence[Base]) -> str:
    """Return a Dockerfile whose stages start from exactly these images.

    Args:
        dockerfile: The text of the Dockerfile.
        arguments: The build's arguments.
        bases: The resolved base images, one for each name from `find_bases`.
    """
    references = {base.name: base.reference for base in bases}
    lines = dockerfile.split("\n")
    for instruction, words, name in reversed(_list_starts(dockerfile, arguments)):
        place = next(index for index, word in enumerate(words[1:], 1) if not word.startswith("--"))
        pinned = [*words[:place], references[name], *words[place + 1 :]]
        lines[instruction.start : instruction.end] = [" ".join(pinned)]
    return "\n".join(lines)


def hash_bases(bases: Sequence[Base]) -> str:
    """Return the part of an image's tag that follows from its bases; empty if it has none."""
    if not bases:
        return ""
    return hashlib.sha256("\n".join(base.digest for base in bases).encode()).hexdigest()[:_TAG_DIGITS]


def label_base(bases: Sequence[Base]) -> dict[str, str]:
    """Return the labels that name the last stage's base, by the names that OCI has for them."""
    if not bases:
        return {}
    prefix = "org.opencontainers.image.base"
    return {f"{prefix}.name": bases[-1].name, f"{prefix}.digest": bases[-1].digest}


def _list_starts(dockerfile: str, arguments: Mapping[str, str]) -> list[tuple[_Instruction, list[str], str]]:
    """Return each FROM of an image outside the Dockerfile: the instruction, its words, the image's name."""
    values: dict[str, str] = {}
    stages = {"scratch"}
    starts: list[tuple[_Instruction, list[str], str]] = []
    for instruction in _read_instructions(dockerfile):
        words = instruction.text.split()
        kind = words[0].upper()
        if kind == "ARG" and len(stages) == 1 and not starts:
            values |= _read_arguments(words[1:], {**values, **_given(arguments, values)})
        if kind != "FROM":
            continue
        named = [word for word in words[1:] if not word.startswith("--")]
        name = _substitute(named[0], {**values, **_given(arguments, values)}) if named else ""
        if name and name.lower() not in stages:
            starts.append((instruction, words, name))
        if len(named) == 3 and named[1].upper() == "AS":
            stages.add(named[2].lower())
    return starts


def _given(arguments: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
    """Return those build arguments that the Dockerfile declares: Docker ignores others."""
    return {name: value for name, value in arguments.items() if name in declared}


def _read_arguments(words: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words)
    return {name: _substitute(value.strip("\"'"), values) for name, _, value in pairs}


def _substitute(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its variables replaced, as in `${BASE}`, `$BASE` and `${BASE:-python}`."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2]) or found[3] or "", text.strip("\"'"))


def _read_instructions(dockerfile: str) -> list[_Instruction]:
    """Return the instructions of a Dockerfile, each with its continued lines; comments are left out."""
    lines = dockerfile.split("\n")
    found: list[_Instruction] = []
    start = place = 0
    text = ""
    while place < len(lines):
        line = lines[place].strip()
        place += 1
        # Neither a comment nor an empty line ends an instruction that is continued.
        if not line or line.startswith("#"):
            continue
        start = start if text else place - 1
        text += " " + line.removesuffix("\\")
        if not line.endswith("\\"):
            place = _skip_heredocs(lines, place, text)
            found.append(_Instruction(start, place, text))
            text = ""
    return found


def _skip_heredocs(lines: Sequence[str], place: int, text: str) -> int:
    """Return the line after the heredocs that an instruction opens: what stands in them is no instruction."""
    if text.split(maxsplit=1)[0].upper() in ("RUN", "COPY", "ADD"):
        for word in _HEREDOC.findall(text):
            # Without its end it is none: two such signs have other meanings in a shell.
            ends = [index for index, line in enumerate(lines[place:], place) if line.strip() == word]
            place = ends[0] + 1 if ends else place
    return place


def resolve_base(name: str, *, is_renewed: bool, tell: Tell) -> Base:
    """Return what an image's name means now.

    The engine's own answer counts. With `is_renewed` it asks the registry first, unless the image was made
    here and never came from one; where the registry cannot be asked, the image here is taken, and this is
    told.

    Args:
        name: As in `FROM`; with `@sha256:…` it means one content for ever, and nothing is asked.
        is_renewed: Whether to look if the registry has another one by now.
        tell: Called with a line for each step that takes time.

    Raises:
        DockerError: The engine is not there, or the image is neither here nor to be had.
    """
    _, is_pinned, digest = name.partition("@")
    if is_pinned:
        return Base(name, digest, name)
    here = _inspect(name)
    if here is None or (is_renewed and here["RepoDigests"]):
        tell(f"asking the registry for the base image {name}")
        try:
            run_docker(["pull", "--quiet", "--platform", PLATFORM, "--", name], doing=_doing(name))
        except DockerError as error:
            if here is None:
                raise _explain_pull(error, name) from error
            tell(
                f"note: could not find out whether the base image {name} has changed "
                f"({error.faults[0].what}): using the one here"
            )
        here = _inspect(name) or here
    return _name_base(name, here or {})


def _explain_pull(error: DockerError, name: str) -> DockerError:
    """Return the failed pull of an image that is not here either, with the ways around it."""
    hint = (
        "behind a mirror set BASE_IMAGE to its name there; without a network bring the image here with "
        "`docker load`"
    )
    fault = error.faults[0]
    return DockerError(
        replace(fault, where=name_failure(_doing(name)), hint=f"{fault.hint}; {hint}" if fault.hint else hint)
    )


def _doing(name: str) -> str:
    return f"get the base image {name}"


def _inspect(name: str) -> dict[str, Any] | None:
    """Return the engine's description of an image; None where it does not have it."""
    words = ["image", "inspect", "--format", "{{json .}}", "--", name]
    done = run_docker(words, doing=_doing(name), check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "RepoDigests": found.get("RepoDigests") or []}


def _name_base(name: str, found: Mapping[str, Any]) -> Base:
    repository = _qualify(name)
    for one in sorted(found["RepoDigests"], key=lambda one: _qualify(one.partition("@")[0]) != repository):
        return Base(name, one.partition("@")[2], one)
    return Base(name, str(found["Id"]), name)


def _qualify(name: str) -> str:
    """Return an image's repository with its registry, without its tag: `docker.io/library/python`."""
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if is_host else ("docker.io", name)
    path = path.partition(":")[0]
    return f"{host}/{path}" if "/" in path or host != "docker.io" else f"{host}/library/{path}"


def list_layers(reference: str) -> list[str]:
    """Return the digests of an image's layers, from the bottom; none where the engine does not have it."""
    found = _inspect(reference)
    return list((found or {}).get("RootFS", {}).get("Layers") or [])
