"""What tests ask of the lab's server, over HTTP at /lab/: each verb is a method here."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from lab.operations import ACCOUNT
from lab.rights import read_statements

if TYPE_CHECKING:
    from lab.server import Lab

STRANGER = "999999999999"
ACCESS_KEY = "AKIATESTERTESTERTEST"


class Verbs:
    """The tests' own requests."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.recordings: list[tuple[list[tuple[dict[str, Any], bytes]], list[Any]]] = []

    def reset(self) -> dict[str, str]:
        """Empty the account and start over; return the keys of a new user."""
        from moto.iam.models import iam_backends
        from moto.moto_api._internal.models import moto_api_backend

        self.lab.sagemaker.reset()
        moto_api_backend.reset()
        self.lab.faults.clear()
        self.lab.quotas.reset()
        self.lab.secure = True
        self.lab.policy = []
        self.lab.calls.clear()
        self.lab.arns = {
            ACCESS_KEY: iam_backends[ACCOUNT]["aws"].create_user("us-east-1", "tester", "/", None).arn
        }
        # The same after every reset: boto3 remembers the keys of a process's first client.
        return {"access_key": ACCESS_KEY, "secret_key": "secret"}

    def fault(self, **values: Any) -> None:
        """Put a fault in force."""
        self.lab.faults.add(values)

    def clear(self) -> None:
        """Lift every fault."""
        self.lab.faults.clear()

    def secure(self, *, value: bool) -> None:
        """Let requests count as made over TLS, or not."""
        self.lab.secure = value

    def limit(self, *, policy: dict[str, Any] | None) -> None:
        """Limit the caller's permissions to a policy's."""
        self.lab.policy = read_statements(policy) if policy else []

    def quota(self, *, name: str, value: float) -> None:
        """Set a quota."""
        self.lab.quotas.set(name, value)

    def prices(self, *, values: dict[str, float]) -> None:
        """Set the price list."""
        self.lab.quotas.prices = values

    def foreign_bucket(self, *, name: str, region: str) -> None:
        """Make a bucket of somebody else's."""
        self.lab.buckets[STRANGER]["aws"].create_bucket(name, region)

    def copy_object(self, *, bucket: str, key: str, count: int) -> None:
        """Make copies of an object beside it."""
        from moto.s3.models import s3_backends

        backend = s3_backends[ACCOUNT]["aws"]
        found = backend.get_object(bucket, key)
        for number in range(count):
            backend.put_object(bucket, f"{key}-{number:04}", found.value)

    def jobs(self, **values: Any) -> None:
        """Set how the machines of training jobs behave."""
        for name, value in values.items():
            setattr(self.lab.sagemaker.behaviour, name, value)

    def interrupt(self, *, name: str, is_sudden: bool) -> None:
        """Take a spot job's machine back."""
        job = self.lab.sagemaker.find_anywhere(name)
        job.is_taken_at_once = is_sudden
        job.interrupt.set()

    def calls(self) -> list[dict[str, Any]]:
        """Return the requests since the start or the last reset, with their operations' names."""
        return self.lab.calls.describe()

    def forget_calls(self) -> None:
        """Forget the requests so far."""
        self.lab.calls.clear()

    def record(self) -> None:
        """Keep what is asked from now on."""
        self.lab.recording = []

    def end_recording(self) -> int:
        """Keep no more; return the recording's number."""
        self.recordings.append((self.lab.recording or [], self.lab.calls.copy()))
        self.lab.recording = None
        return len(self.recordings) - 1

    def repeat(self, *, recording: int) -> None:
        """Ask again what was recorded and changes something."""
        asked, calls = self.recordings[recording]
        for environ, body in asked:
            answer = self.lab({**environ, "wsgi.input": io.BytesIO(body)}, lambda *_: lambda _: None)
            b"".join(answer)
        self.lab.calls.put_back(calls)

    def start_relay(self, *, upstream: str) -> dict[str, str]:
        """Open the way to the registry that can break; it stays until the server ends."""
        from lab.relay import Relay, find_obstacle

        obstacle = find_obstacle()
        if not obstacle and self.lab.relay is None:
            self.lab.relay = Relay(upstream)
        relay = self.lab.relay
        return {
            "obstacle": obstacle,
            "region": relay.region if relay else "",
            "host": relay.host if relay else "",
        }

    def cut_relay(self, *, after_bytes: int, count: int | None) -> None:
        """Cut connections of the relay."""
        if self.lab.relay:
            self.lab.relay.cut(after_bytes=after_bytes, count=count)

    def count_cuts(self) -> int:
        """Return how many connections of the relay were cut since the last order to cut."""
        return self.lab.relay.cuts if self.lab.relay else 0
