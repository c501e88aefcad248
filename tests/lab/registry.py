"""The way to the registry that answers under ECR's names, and what ECR would say of its images."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

CERTIFICATES = Path("/etc/docker/certs.d")
_MANIFESTS = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
)
_REFERENCE = re.compile(
    r"(?P<host>(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com)/"
    r"(?P<repository>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class Manifest(NamedTuple):
    """An image's manifest as it stands in the registry."""

    text: str
    media_type: str
    digest: str


class Reference(NamedTuple):
    """The parts of an image's name."""

    host: str
    account: str
    region: str
    repository: str
    tag: str
    digest: str


def parse_reference(uri: str) -> Reference | None:
    """Return the parts of an image's name under ECR; None for any other name."""
    found = _REFERENCE.fullmatch(uri)
    if not found:
        return None
    parts = found.groupdict()
    return Reference(
        parts["host"],
        parts["account"],
        parts["region"],
        parts["repository"],
        parts["tag"] or "",
        parts["digest"] or "",
    )


class Registry:
    """The registry of one account and region; `host` is its name under ECR."""

    def __init__(self, account: str, region: str) -> None:
        self.host = f"{account}.dkr.ecr.{region}.amazonaws.com"
        # moto's ECR hands out this password, and the registry takes it.
        self.secret = base64.b64encode(f"AWS:{account}-auth-token".encode()).decode()

    def is_there(self) -> bool:
        """Tell whether it answers: a test may have cut its connections since it was asked last."""
        if not (CERTIFICATES / self.host).is_dir():
            return False
        try:
            self._ask("")
        except OSError:
            return False
        return True

    def list_tags(self, repository: str) -> list[str]:
        """Return the tags of a repository; none where it holds nothing."""
        try:
            return json.loads(self._ask(f"{repository}/tags/list")[0])["tags"] or []
        except urllib.error.HTTPError:
            return []

    def read_manifest(self, repository: str, reference: str) -> Manifest | None:
        """Return the manifest of a tag or digest; None where there is none."""
        try:
            body, headers = self._ask(f"{repository}/manifests/{reference}", accept=_MANIFESTS)
        except urllib.error.HTTPError:
            return None
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        return Manifest(body.decode(), headers["Content-Type"], digest)

    def read_config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """Return what an image says of itself: architecture, entry point, labels."""
        digest = json.loads(manifest.text)["config"]["digest"]
        config: dict[str, Any] = json.loads(self._ask(f"{repository}/blobs/{digest}")[0])
        return config

    def delete(self, repository: str, digest: str) -> None:
        """Remove an image and its tags; its layers stay, so that the next push is quick."""
        try:
            self._ask(f"{repository}/manifests/{digest}", method="DELETE")
        except urllib.error.HTTPError:
            return

    def empty(self, repository: str) -> None:
        """Remove every image of a repository."""
        for tag in self.list_tags(repository):
            manifest = self.read_manifest(repository, tag)
            if manifest:
                self.delete(repository, manifest.digest)

    def docker_config(self) -> str:
        """Return the config.json of a Docker command line that is signed in."""
        return json.dumps({"auths": {self.host: {"auth": self.secret}}})

    def _ask(self, path: str, *, method: str = "GET", accept: str = "*/*") -> tuple[bytes, Any]:
        request = urllib.request.Request(
            f"https://{self.host}/v2/{path}",
            method=method,
            headers={"Authorization": f"Basic {self.secret}", "Accept": accept},
        )
        with _make_opener(self.host).open(request, timeout=30) as response:
            return response.read(), response.headers


@functools.cache
def _make_opener(host: str) -> urllib.request.OpenerDirector:
    """Return what opens the registry's addresses; reading its certificate takes as long as a request."""
    trusted = ssl.create_default_context(cafile=str(CERTIFICATES / host / "ca.crt"))
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
