"""Building an image: running Docker's builder, showing its steps, and explaining its failure."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from classifold import names
from classifold.aws.image_base import PLATFORM
from classifold.aws.image_context import ImagePlan, write_context
from classifold.docker.engine import explain_docker, run_docker, stream_docker
from classifold.errors import DockerError, Fault, name_failure

Tell = Callable[[str], None]

_BUILDING = "build the image"
# Build arguments passed on from the environment. Docker predefines all but the last and stores them in no
# image; our Dockerfile declares the last one in stages that are not part of the image.
_PASSED_ON = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    "PIP_INDEX_URL",
)
_LOG_LINES = 25
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_BUILD_FAULTS = (
    (
        r"do not match the hashes",
        "a wheel is not the one that was pinned",
        "pin them again with scripts/requirements, or find out who changed the wheel on its way here",
    ),
    (
        r"no matching distribution found|could not find a version",
        "the package index does not have a pinned wheel",
        "check PIP_INDEX_URL if it is set, or pin again with scripts/requirements",
    ),
    (
        r"url fetch failure",
        "Keras cannot download the published weights of BACKBONE",
        "check the network, behind a proxy set HTTPS_PROXY; or train once here: what Keras has in "
        "~/.keras/models is taken from there",
    ),
    (
        r"connection to \S+ timed out|max retries exceeded|failed to establish a new connection"
        r"|newconnectionerror",
        "the build cannot reach the package index",
        "check the network; behind a proxy set HTTPS_PROXY, for a mirror PIP_INDEX_URL",
    ),
    (
        r"pull access denied|manifest unknown|repository does not exist",
        "the base image cannot be pulled",
        "check BASE_IMAGE, or the name behind ARG BASE in container/Dockerfile",
    ),
)


def run_build(plan: ImagePlan, *, tell: Tell) -> None:
    """Build the image of a plan; the end of the log is shown if it fails.

    Args:
        plan: What the image is made of.
        tell: Called with one line for each step that takes time.

    Raises:
        DockerError: The engine is missing, or a step of the build failed.
        DiskError: The disk is full.
    """
    log: list[str] = []
    steps = StepReader()

    def see(line: str) -> None:
        log.append(_COLOURS.sub("", line))
        told = steps.read(log[-1])
        if told:
            tell(told)

    with tempfile.TemporaryDirectory(prefix="classifold-image-") as scratch:
        folder = Path(scratch)
        write_context(plan, folder)
        words, env = _build_words(plan, folder, has_buildx=_has_buildx())
        try:
            stream_docker(words, doing=_BUILDING, see=see, env=env)
        except DockerError as error:
            for line in log[-_LOG_LINES:]:
                tell(f"  {line}")
            raise _explain_build(log) from error


def _has_buildx() -> bool:
    return run_docker(["buildx", "version"], doing=_BUILDING, check=False).returncode == 0


def _build_words(plan: ImagePlan, folder: Path, *, has_buildx: bool) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of `docker`, and the environment variables that it needs."""
    # SageMaker accepts only single manifests in Docker's format; attestations would make a list of them.
    if has_buildx:
        words = ["buildx", "build", "--provenance=false", "--sbom=false", "--output", "type=docker"]
        words += ["--progress", "plain"]
    else:
        words = ["build", "--force-rm"]
    words += ["--platform", PLATFORM, "--tag", plan.reference, "--file", str(folder / names.DOCKERFILE)]
    for name, value in plan.arguments.items():
        words += ["--build-arg", f"{name}={value}"]
    for name in _PASSED_ON:
        if os.environ.get(name):
            words += ["--build-arg", name]
    for name, value in plan.labels.items():
        words += ["--label", f"{name}={value}"]
    return [*words, str(folder)], {} if has_buildx else {"DOCKER_BUILDKIT": "0"}


class StepReader:
    """Finds the steps in a builder's log that are run rather than taken from its cache; for both builders."""

    _CLASSIC = re.compile(r"Step (\d+/\d+) : (.*)")
    _BUILDKIT = re.compile(r"#(\d+) \[(.*?)\] (RUN .*)")

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}

    def read(self, line: str) -> str:
        """Return the step that begins with this line of the log; mostly empty."""
        if classic := self._CLASSIC.match(line):
            # Other instructions take no time.
            is_work = classic[2].startswith("RUN ")
            self._waiting["classic"] = _shorten(f"step {classic[1]}: {classic[2]}") if is_work else ""
        elif line.startswith(" ---> Running in"):
            return self._waiting.pop("classic", "")
        elif buildkit := self._BUILDKIT.match(line):
            # BuildKit repeats a step's title when it returns to it.
            self._waiting.setdefault(buildkit[1], _shorten(f"step {buildkit[2]}: {buildkit[3]}"))
        elif running := re.match(r"#(\d+) \d+\.\d+ ", line):
            told, self._waiting[running[1]] = self._waiting.get(running[1], ""), ""
            return told
        return ""


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 76 else f"{text[:75]}…"


def _explain_build(log: list[str]) -> DockerError:
    """Return the error of a failed build, by the end of its log, with a hint."""
    said = "\n".join(log[-4 * _LOG_LINES :])
    for pattern, what, hint in _BUILD_FAULTS:
        if re.search(pattern, said, re.IGNORECASE):
            return DockerError(Fault(name_failure(_BUILDING), what, hint=hint))
    hint = "the lines above are the end of the build's log"
    code = re.search(r"returned a non-zero code: (\d+)|exit code: (\d+)", said)
    if code:
        what = f"a step of container/Dockerfile ended with code {code[1] or code[2]}: {_find_cause(log)}"
        return DockerError(Fault(name_failure(_BUILDING), what, hint=hint))
    error = explain_docker(said, doing=_BUILDING)
    return (
        error
        if error.faults[0].hint
        else DockerError(Fault(name_failure(_BUILDING), error.faults[0].what, hint=hint))
    )


def _find_cause(log: list[str]) -> str:
    """Return the last line that the failed step itself printed, in the log of either builder."""
    own = [printed[1] for line in log if (printed := re.match(r"#\d+ \d+\.\d+ (.*)", line))]
    if not own:
        own = [
            line for line in log if not line.startswith(("Removing intermediate", "The command ", " ---> "))
        ]
    return next((line.strip() for line in reversed(own) if line.strip()), "it said nothing")
