"""Pushing an image to ECR with Docker: signed in for that time alone, retried if the push is interrupted."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.docker.engine import run_docker, stream_docker
from classifold.errors import AwsError, DockerError, Fault

Tell = Callable[[str], None]

# Seconds before each retry of an interrupted push; layers that were sent already are not sent again.
_PAUSES = (2.0, 5.0, 15.0)
_BROKEN_OFF = re.compile(
    r"EOF|connection reset|broken pipe|connection refused|i/o timeout|TLS handshake timeout|use of closed"
    r"|\b50[0234]\b|internal server error|bad gateway|service unavailable|blob upload (unknown|invalid)"
    r"|toomanyrequests|\b429\b|rate exceeded",
    re.IGNORECASE,
)
_EXISTS_ALREADY = re.compile(r"tag invalid|already exists in the .* repository|immutable", re.IGNORECASE)
_SIGNED_OUT = re.compile(
    r"no basic auth credentials|authorization token has expired|unauthorized", re.IGNORECASE
)


def push(aws: Aws, reference: str, *, uri: str, tell: Tell) -> None:
    """Push a local image; a retry sends only what is missing. A tag that exists already is a success.

    Args:
        aws: The connection to AWS.
        reference: The image's name in the local engine.
        uri: `<registry>/<repository>:<tag>`.
        tell: Called with one line before each retry.

    Raises:
        DockerError: The engine or the registry refuses, or the push was interrupted again and again.
        AwsError: AWS does not give the registry's password.
    """
    run_docker(["tag", reference, uri], doing="name the image for the registry")
    pauses = iter(_PAUSES)
    while True:
        try:
            with _signed_in(aws, uri.partition("/")[0]) as env:
                stream_docker(["push", uri], doing="push the image", see=lambda _: None, env=env)
            return
        except DockerError as error:
            said = str(error)
            if _EXISTS_ALREADY.search(said):
                return
            pause = next(pauses, None)
            if pause is None or not (_BROKEN_OFF.search(said) or _SIGNED_OUT.search(said)):
                raise explain_push(error) from error
            tell(f"the push was interrupted ({error.faults[0].what}): trying again in {pause:.0f} s")
            time.sleep(pause)


def explain_push(error: DockerError) -> AwsError | DockerError:
    """Return the error of a failed push, with the missing permission or a hint to try again."""
    fault = error.faults[0]
    right = re.search(r"not authorized to perform: ([a-z]+:[A-Za-z]+)", fault.what)
    if right:
        hint = (
            f"ask whoever manages the account for the permission {right[1]}; docs/aws.md has the whole policy"
        )
        return AwsError(Fault(fault.where, f"the permission {right[1]} is missing ({fault.what})", hint=hint))
    hint = fault.hint or "run the command again: what was sent already is not sent again"
    return DockerError(Fault(fault.where, fault.what, hint=hint))


def _authorize(aws: Aws) -> tuple[str, str]:
    """Return user and password of the registry, good for 12 hours."""
    with aws_errors("sign in to the registry"):
        answer = aws.client("ecr").get_authorization_token()
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    user, _, password = token.partition(":")
    return user, password


@contextlib.contextmanager
def _signed_in(aws: Aws, registry: str) -> Iterator[dict[str, str]]:
    """Yield the environment in which docker is signed in; the password is on the disk only meanwhile.

    The user's own settings of Docker (context, proxies, certificates) hold, apart from the passwords in them.
    """
    user, password = _authorize(aws)
    own = Path(os.environ.get("DOCKER_CONFIG") or Path("~/.docker").expanduser())
    with tempfile.TemporaryDirectory(prefix="classifold-docker-") as scratch:
        _borrow_settings(own, Path(scratch))
        env = {"DOCKER_CONFIG": scratch}
        words = ["login", "--username", user, "--password-stdin", registry]
        run_docker(words, doing="sign in to the registry", text=password, env=env)
        yield env


def _borrow_settings(own: Path, scratch: Path) -> None:
    if not own.is_dir():
        return
    for path in own.iterdir():
        if path.name != "config.json":
            (scratch / path.name).symlink_to(path.absolute())
    settings = {}
    with contextlib.suppress(OSError, ValueError):
        settings = json.loads((own / "config.json").read_text(encoding="utf-8"))
    kept = {
        name: value for name, value in settings.items() if name not in ("auths", "credsStore", "credHelpers")
    }
    (scratch / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    (scratch / "config.json").chmod(0o600)
