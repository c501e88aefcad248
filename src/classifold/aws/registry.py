"""The registry behind ECR, asked by its own API (OCI distribution, version 2), and pushed to with Docker."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.docker.engine import run_docker, stream_docker
from classifold.errors import AwsError, DockerError, Fault

Tell = Callable[[str], None]

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_MANIFESTS = (
    DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
# Seconds before each further try of a push that broke off; what was sent already is not sent again.
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
# Docker's own places for a registry's certificates, below them a folder a registry.
_CERTIFICATES = (Path("/etc/docker/certs.d"), Path("~/.docker/certs.d"))


@dataclass(frozen=True)
class Manifest:
    """The manifest of an image in a registry.

    Attributes:
        digest: sha256:...
        media_type: Media type of the manifest, in Docker's or OCI's format.
    """

    digest: str
    media_type: str

    @property
    def suits_sagemaker(self) -> bool:
        """Whether it is one Docker manifest: SageMaker takes neither OCI's nor lists of them."""
        return self.media_type == DOCKER_MANIFEST


def find_manifest(aws: Aws, repository_uri: str, tag: str) -> Manifest | None:
    """Return the manifest under a tag; None if the registry has none.

    Args:
        aws: The way to AWS; its credentials give the registry's password.
        repository_uri: `<registry>/<repository>`.
        tag: Tag of the image.

    Raises:
        AwsError: The registry cannot be reached or refuses.
    """
    registry, _, repository = repository_uri.partition("/")
    url = f"https://{registry}/v2/{repository}/manifests/{tag}"
    user, password = _authorize(aws)
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Accept": ", ".join(_MANIFESTS), "Authorization": f"Basic {secret}"}
    request = AWSRequest(method="HEAD", url=url, headers=headers)
    with aws_errors(f"ask the registry for {repository}:{tag}"):
        session = URLLib3Session(verify=_find_certificates(registry), proxies=get_environ_proxies(url))
        answer = _send_patiently(session, request)
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        right = "ecr:BatchGetImage and ecr:GetDownloadUrlForLayer"
        hint = f"it needs the rights {right} on the repository; docs/aws.md has the whole policy"
        what = f"the registry refused ({answer.status_code})"
        raise AwsError(Fault(f"ask the registry for {repository}:{tag}", what, hint=hint))
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return Manifest(answer.headers.get("Docker-Content-Digest", ""), media_type)


def _send_patiently(session: URLLib3Session, request: AWSRequest) -> Any:
    """Return the answer; one of a busy or broken registry is asked for again, twice."""
    for pause in (0.5, 2.0):
        answer = session.send(request.prepare())
        if answer.status_code != 429 and answer.status_code < 500:
            return answer
        time.sleep(pause)
    return session.send(request.prepare())


def _authorize(aws: Aws) -> tuple[str, str]:
    """Return user and password of the registry, good for 12 hours."""
    with aws_errors("sign in to the registry"):
        answer = aws.client("ecr").get_authorization_token()
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    user, _, password = token.partition(":")
    return user, password


def _find_certificates(registry: str) -> str | bool:
    """Return the file of the certificates that vouch for the registry; True for the usual ones."""
    for folder in _CERTIFICATES:
        path = folder.expanduser() / registry / "ca.crt"
        if path.is_file():
            return str(path)
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True


def push(aws: Aws, reference: str, *, uri: str, tell: Tell) -> None:
    """Push a local image; a retry sends only what is missing. A tag that exists already is a success.

    Args:
        aws: The connection to AWS.
        reference: The image's name in the local engine.
        uri: `<registry>/<repository>:<tag>`.
        tell: Called with one line before each retry.

    Raises:
        DockerError: The engine or the registry refuses, or the push broke off again and again.
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
            tell(f"the push broke off ({error.faults[0].what}): trying again in {pause:.0f} s")
            time.sleep(pause)


def explain_push(error: DockerError) -> AwsError | DockerError:
    """Return the error of a failed push, with the missing right or a hint to try again."""
    fault = error.faults[0]
    right = re.search(r"not authorized to perform: ([a-z]+:[A-Za-z]+)", fault.what)
    if right:
        hint = f"ask whoever manages the account for the right {right[1]}; docs/aws.md has the whole policy"
        return AwsError(Fault(fault.where, f"the right {right[1]} is missing ({fault.what})", hint=hint))
    hint = fault.hint or "run the command again: what was sent already is not sent again"
    return DockerError(Fault(fault.where, fault.what, hint=hint))


@contextlib.contextmanager
def _signed_in(aws: Aws, registry: str) -> Iterator[dict[str, str]]:
    """Yield what docker needs in its environment to be signed in; the password is on the disk only meanwhile.

    The user's own settings of Docker hold (context, proxies, certificates), apart from the passwords in them.
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
