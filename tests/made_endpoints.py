"""Fixtures: a project whose image is in its repository, so that models can be deployed on the stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from lab.cloud import Cloud

# The server of the image takes two seconds to start; this one answers as it does, and at once.
SERVER = """
import http.server, json, os, pathlib, signal, sys, time
card = json.loads(pathlib.Path("model/classes.json").read_text())
name = card["name"]
if name == "broken":
    sys.exit("this model cannot be read")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        self.answer(200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if name == "slow":
            time.sleep(2)
        if name == "silent":
            return self.answer(500, b"no answer")
        if name == "picky" and b"JFIF" in body[:20]:
            return self.answer(415, b'{"error": "JPEG is not read here", "request_id": "1"}')
        classes = [{"class_name": name, "confidence": 1.0}]
        variables = {key: value for key, value in os.environ.items() if key.startswith("CLASSIFOLD_SERVE")}
        said = {"name": None, "predicted_class": name, "confidence": 1.0, "classes": classes}
        said |= {"unknown": False, "distance": 0.5, "error": None, "variables": variables}
        self.answer(200, json.dumps(said).encode())
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("serving", name, flush=True)
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def push_fake_image(aws: Aws) -> None:
    """Put an image of the present source into the project's repository, without building it."""
    from classifold.aws.image_context import plan_image
    from classifold.aws.repository import DOCKER_MANIFEST, ensure_repository

    ensure_repository(aws, tell=lambda _: None)
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": "application/json", "size": 1, "digest": "sha256:" + "1" * 64},
        "layers": [],
    }
    aws.client("ecr").put_image(
        repositoryName=aws.config.PROJECT_NAME,
        imageManifest=json.dumps(manifest),
        imageManifestMediaType=DOCKER_MANIFEST,
        imageTag=plan_image(aws.config, variant="serve").tag,
    )


@pytest.fixture
def serving(aws: Aws, aws_account: Cloud, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Return the way into an account with buckets, role and image, whose endpoints start at once."""
    push_fake_image(aws)
    aws_account.serve_as(SERVER)
    monkeypatch.setattr("classifold.aws.endpoint_state._POLL_SECONDS", 0.05)
    monkeypatch.setattr("classifold.aws.probe._PAUSE", 0.05)
    monkeypatch.setattr("classifold.aws.probe._ASYNC_POLL", 0.05)
    return aws


@pytest.fixture
def make_run(colour_run: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a run folder: its model says its name, or is broken, silent, picky …"""

    def make(name: str) -> Path:
        folder = tmp_path / "made runs" / f"{name}-2026-01-01-00-00-00"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes((colour_run / "model.onnx").read_bytes())
        (folder / "classes.json").write_text(json.dumps({"name": name}))
        (folder / "config.json").write_text(json.dumps({"DATA_LOCAL_DIR": "/home/somebody/secret"}))
        return folder

    return make
