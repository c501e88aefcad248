"""The base images of a Dockerfile: found in it, resolved to a digest, and pinned to that."""

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
        name: Name in the Dockerfile or in BASE_IMAGE, such as `python:3.11-slim`.
        digest: Digest of its content in the registry; for an image made on this machine the engine's ID.
        reference: Name that the build uses: `python@sha256:…`, or `name` if only the engine has it.
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
        arguments: The build's arguments, which override the defaults of ARG.
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
        index = next(index for index, word in enumerate(words[1:], 1) if not word.startswith("--"))
        pinned = [*words[:index], references[name], *words[index + 1 :]]
        lines[instruction.start : instruction.end] = [" ".join(pinned)]
    return "\n".join(lines)


def hash_bases(bases: Sequence[Base]) -> str:
    """Return the part of an image's tag that is computed from its bases; empty if it has none."""
    if not bases:
        return ""
    return hashlib.sha256("\n".join(base.digest for base in bases).encode()).hexdigest()[:_TAG_DIGITS]


def label_base(bases: Sequence[Base]) -> dict[str, str]:
    """Return OCI's labels for the base of the last stage."""
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
    start = number = 0
    text = ""
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        # Neither a comment nor an empty line ends a continued instruction.
        if not line or line.startswith("#"):
            continue
        start = start if text else number - 1
        text += " " + line.removesuffix("\\")
        if not line.endswith("\\"):
            number = _skip_heredocs(lines, number, text)
            found.append(_Instruction(start, number, text))
            text = ""
    return found


def _skip_heredocs(lines: Sequence[str], number: int, text: str) -> int:
    """Return the number of the line after the heredocs that an instruction opens.

    Args:
        lines: The lines of the Dockerfile.
        number: Number of the line after the instruction, from 0.
        text: The instruction.
    """
    if text.split(maxsplit=1)[0].upper() in ("RUN", "COPY", "ADD"):
        for word in _HEREDOC.findall(text):
            # Without an end it is not a heredoc: "<<" has other meanings in a shell.
            ends = [index for index, line in enumerate(lines[number:], number) if line.strip() == word]
            number = ends[0] + 1 if ends else number
    return number


def resolve_base(name: str, *, is_renewed: bool, tell: Tell) -> Base:
    """Return the base image that a name refers to now.

    With `is_renewed` the engine first asks the registry for a newer one, unless the image was made on this
    machine. If the registry cannot be reached, the image that the engine has is used, and a note says so.

    Args:
        name: Name as in `FROM`; a name with `@sha256:…` is fixed, and nothing is asked.
        is_renewed: Whether to ask the registry for a newer image.
        tell: Called with one line for each step that takes time.

    Raises:
        DockerError: The engine is missing, or neither it nor the registry has the image.
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
    """Return the error of a failed pull of an image that is not on this machine, with a hint."""
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
    """Return the engine's description of an image; None if it does not have it."""
    words = ["image", "inspect", "--format", "{{json .}}", "--", name]
    done = run_docker(words, doing=_doing(name), check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "RepoDigests": found.get("RepoDigests") or []}


def _name_base(name: str, found: Mapping[str, Any]) -> Base:
    repository = _qualify(name)
    # The digest of the named repository first; the image may be known under several.
    digests = sorted(found["RepoDigests"], key=lambda each: _qualify(each.partition("@")[0]) != repository)
    if not digests:
        return Base(name, str(found["Id"]), name)
    return Base(name, digests[0].partition("@")[2], digests[0])


def _qualify(name: str) -> str:
    """Return an image's repository with its registry, without its tag, as in `docker.io/library/python`."""
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if is_host else ("docker.io", name)
    path = path.partition(":")[0]
    return f"{host}/{path}" if "/" in path or host != "docker.io" else f"{host}/library/{path}"


def list_layers(reference: str) -> list[str]:
    """Return the digests of an image's layers, from the bottom; none if the engine does not have it."""
    found = _inspect(reference)
    return list((found or {}).get("RootFS", {}).get("Layers") or [])
