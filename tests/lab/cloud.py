"""The tests' side of the lab: starts the server, empties the account, and says what shall go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
# Never through a proxy: urllib keeps for good the one of its first request, which a test may have made up.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Cloud:
    """A running lab.

    Attributes:
        url: Its address, for AWS_ENDPOINT_URL.
        account: The number of its account.
    """

    account = "123456789012"

    def __init__(self) -> None:
        foreign = ("AWS_", "MOTO_", "PYTHON")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab"],
            cwd=TESTS,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        if self.process.stdout is None:
            raise RuntimeError("no pipe to the lab")
        self.url = str(json.loads(self.process.stdout.readline())["url"])

    def stop(self) -> None:
        """End the server: it stops when its standard input does."""
        self.process.communicate(timeout=60)

    def reset(self) -> dict[str, str]:
        """Empty the account and lift every fault; return the environment in which clients reach it."""
        keys = self._ask("reset")
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    # What goes wrong, each for the next `count` requests that match `on`; without a count for all of them

    def throttle(self, on: str = "*", *, count: int | None = None, skip: int = 0) -> None:
        """Answer "too many requests"."""
        self._fault("throttle", on, count, skip)

    def expire(self, on: str = "*", *, count: int | None = None, skip: int = 0) -> None:
        """Answer "the token has expired"."""
        self._fault("expire", on, count, skip)

    def refuse_keys(self, on: str = "*", *, count: int | None = None, skip: int = 0) -> None:
        """Answer "no such access key"."""
        self._fault("unknown_key", on, count, skip)

    def deny(self, right: str, *, count: int | None = None, skip: int = 0) -> None:
        """Answer as for a caller without the permission, such as `s3:PutObject` or `iam:PassRole`."""
        self._fault("deny", right, count, skip)

    def fail(self, on: str = "*", *, count: int | None = None, skip: int = 0) -> None:
        """Answer 500."""
        self._fault("fail", on, count, skip)

    def cut(
        self, on: str = "PutObject", *, count: int | None = 1, after_bytes: int = 0, skip: int = 0
    ) -> None:
        """Break the connection once so many bytes of the request have come."""
        self._fault("cut", on, count, skip, after_bytes=after_bytes)

    def slow(self, on: str = "*", *, seconds: float, count: int | None = None, skip: int = 0) -> None:
        """Wait before the answer."""
        self._fault("slow", on, count, skip, seconds=seconds)

    def lose(self, on: str = "*", *, count: int | None = 1, skip: int = 0) -> None:
        """Do what is asked, then break the connection before the answer is sent."""
        self._fault("lose", on, count, skip)

    def replace(
        self,
        on: str,
        *,
        status: int,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        count: int | None = None,
    ) -> None:
        """Answer as somebody between the client and AWS does: a gateway, a proxy that wants a sign-in."""
        self._fault("replace", on, count, 0, status=status, body=body, headers=dict(headers or {}))

    def clear(self) -> None:
        """Lift every fault."""
        self._ask("clear")

    def _fault(self, kind: str, on: str, count: int | None, skip: int, **more: Any) -> None:
        self._ask("fault", kind=kind, on=on, count=count, skip=skip, **more)

    # What the account is like

    def plain_http(self, *, value: bool = True) -> None:
        """Let requests count as made without TLS, which the lab otherwise pretends."""
        self._ask("secure", value=not value)

    def limit_caller(self, policy: Mapping[str, Any] | None) -> None:
        """Limit the caller's permissions to what a policy allows; None takes the limit away.

        Every request is held against it, with its resource: what lacks is refused as AWS refuses it.
        """
        self._ask("limit", policy=policy)

    def set_quota(self, name: str, value: float) -> None:
        """Set a quota of SageMaker's: `ml.g4dn.xlarge`, or `ml.g4dn.xlarge for spot training job usage`."""
        self._ask("quota", name=name, value=value)

    def set_prices(self, values: dict[str, float]) -> None:
        """Set the price list: dollars an hour of training in us-east-1, by instance type."""
        self._ask("prices", values=values)

    def make_foreign_bucket(self, name: str, *, region: str = "eu-west-1") -> None:
        """Make a bucket that belongs to somebody else."""
        self._ask("foreign_bucket", name=name, region=region)

    def copy_object(self, bucket: str, key: str, *, count: int) -> None:
        """Make copies of an object in its bucket, of the same key with a number behind it."""
        self._ask("copy_object", bucket=bucket, key=key, count=count)

    # Training jobs

    def run_jobs_as(self, script: str) -> None:
        """Let jobs run this Python code in the place of their image, which need not be there.

        Its current folder is what would be /opt/ml; what it prints is the log. For the tests of what goes on
        around a job: it needs no Docker.
        """
        self._ask("jobs", script=textwrap.dedent(script))

    def set_jobs(
        self,
        *,
        stop_seconds: float | None = None,
        start_seconds: float | None = None,
        download_seconds: float | None = None,
        wait_seconds: float | None = None,
        capacity_errors: int | None = None,
    ) -> None:
        """Set how machines behave.

        Args:
            stop_seconds: From SIGTERM to SIGKILL; 120 where nothing is said.
            start_seconds: How long a machine takes to come.
            download_seconds: How long the pictures take at least to be there.
            wait_seconds: How long there is no spot machine after one was taken back.
            capacity_errors: How many of the next jobs find no machine.
        """
        values = {
            "stop_seconds": stop_seconds,
            "start_seconds": start_seconds,
            "download_seconds": download_seconds,
            "wait_seconds": wait_seconds,
            "capacity_errors": capacity_errors,
        }
        self._ask("jobs", **{name: value for name, value in values.items() if value is not None})

    def interrupt(self, job_name: str, *, is_sudden: bool = False) -> None:
        """Take a spot job's machine back; it goes on with another one, from its checkpoints.

        Args:
            job_name: Of the job.
            is_sudden: The machine is gone at once, as if switched off: its program gets no SIGTERM.
        """
        self._ask("interrupt", name=job_name, is_sudden=is_sudden)

    # Hosting

    def serve_as(self, script: str) -> None:
        """Let endpoints and transform jobs run this Python code in the place of their image's program.

        It finds the model in `model/` of its current folder and listens on SAGEMAKER_BIND_TO_PORT of
        127.0.0.1; what it prints is the log. For the tests of what goes on around an endpoint.
        """
        self._ask("jobs", serve_script=textwrap.dedent(script))

    def set_hosting(
        self,
        *,
        hosting: str | None = None,
        start_seconds: float | None = None,
        invoke_seconds: float | None = None,
        bake_seconds: float | None = None,
        capacity_errors: int | None = None,
    ) -> None:
        """Set how containers are run.

        Args:
            hosting: `process`: `python -m classifold.container.serve`; `docker`: the image itself.
            start_seconds: How long one may take until it answers /ping.
            invoke_seconds: How long it may take to answer; 60 where nothing is said.
            bake_seconds: How long an update's new containers are watched.
            capacity_errors: How many of the next containers find no machine.
        """
        values = {
            "hosting": hosting,
            "serve_start_seconds": start_seconds,
            "invoke_seconds": invoke_seconds,
            "bake_seconds": bake_seconds,
            "capacity_errors": capacity_errors,
        }
        self._ask("jobs", **{name: value for name, value in values.items() if value is not None})

    # What was asked

    def calls(self, operation: str = "", *, service: str = "") -> list[dict[str, Any]]:
        """Return the requests since the last reset, oldest first.

        Each has `service operation region path query bytes headers body`; S3's bodies are left out.
        """
        return [
            one
            for one in self._ask("calls")
            if operation in ("", one["operation"]) and service in ("", one["service"])
        ]

    def forget_calls(self) -> None:
        """Forget the requests so far."""
        self._ask("forget_calls")

    def record(self) -> None:
        """Keep from now on what is asked, for `repeat`."""
        self._ask("record")

    def end_recording(self) -> int:
        """Keep no more; return the recording's number."""
        return int(self._ask("end_recording"))

    def repeat(self, recording: int) -> None:
        """Ask again all that was recorded and changes something, without a client; `calls` are as then."""
        self._ask("repeat", recording=recording)

    def _ask(self, verb: str, **values: Any) -> Any:
        request = urllib.request.Request(f"{self.url}/lab/{verb}", json.dumps(values).encode())
        with _DIRECT.open(request, timeout=60) as response:
            answer = json.load(response)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


class RelayControl:
    """The way to the registry that can break: ECR's name in another region.

    Attributes:
        region: The region whose ECR it is; images that are pushed there pass the relay.
        host: ECR's name there.
        obstacle: Why there is none on this machine; empty where there is.
    """

    def __init__(self, cloud: Cloud, *, upstream: str) -> None:
        self.cloud = cloud
        started = cloud._ask("start_relay", upstream=upstream)
        self.region, self.host, self.obstacle = started["region"], started["host"], started["obstacle"]

    def cut(self, *, after_bytes: int = 100_000, count: int | None = None) -> None:
        """Cut the next `count` connections that send so much; without a count every one of them."""
        self.cloud._ask("cut_relay", after_bytes=after_bytes, count=1_000_000 if count is None else count)

    def mend(self) -> None:
        """Cut no more."""
        self.cut(count=0)

    @property
    def cuts(self) -> int:
        """How many connections were cut since the last order to."""
        return int(self.cloud._ask("count_cuts"))
