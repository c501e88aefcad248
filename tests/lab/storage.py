"""S3 and CloudWatch Logs as a training job uses them: with the role's permissions, and nobody else's."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import rights

LOG_GROUP = "/aws/sagemaker/TrainingJobs"


class StorageError(Exception):
    """S3 refuses the job what it needs; the message is the failure reason."""


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and prefix of an s3:// address."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix


class JobStorage:
    """The objects of one account, as one role may reach them."""

    def __init__(self, account: str, role: Any) -> None:
        from moto.s3.models import s3_backends

        self.backend = s3_backends[account]["aws"]
        self.role = role

    def bucket_region(self, name: str) -> str:
        """Return the region of a bucket; empty where the account has no such bucket."""
        bucket = self.backend.buckets.get(name)
        return bucket.region_name if bucket else ""

    def list_keys(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys below a prefix, sorted.

        Raises:
            StorageError: The role may not list them.
        """
        arn = f"arn:aws:s3:::{bucket}"
        if not rights.allows(self.role, "s3:ListBucket", arn, context={"s3:prefix": prefix}):
            raise StorageError(self._refuse("s3:ListBucket", arn))
        stored = self.backend.buckets[bucket].keys.items()
        return sorted(name for name, key in list(stored) if name.startswith(prefix) and hasattr(key, "value"))

    def read(self, bucket: str, key: str) -> bytes:
        """Return an object's content."""
        self._need("s3:GetObject", bucket, key)
        content: bytes = self.backend.buckets[bucket].keys[key].value
        return content

    def write(self, bucket: str, key: str, content: bytes, *, kms_key: str = "") -> None:
        """Store an object.

        Args:
            bucket: The bucket.
            key: The object's.
            content: The object's.
            kms_key: The KMS key that was asked for; empty for the bucket's own.

        Raises:
            StorageError: The role lacks a permission.
        """
        self._need("s3:PutObject", bucket, key, kms_key=kms_key)
        self.backend.put_object(bucket, key, content)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._need("s3:DeleteObject", bucket, key)
        self.backend.delete_object(bucket, key)

    def download(self, uri: str, folder: Path, *, part: tuple[int, int] = (0, 1)) -> int:
        """Copy what stands below an address into a folder, as File mode does; return how many objects.

        Args:
            uri: The address.
            folder: Where they go.
            part: Which of how many parts of the objects.
        """
        bucket, prefix = split_uri(uri)
        keys = [one for one in self.list_keys(bucket, prefix) if not one.endswith("/")]
        keys = keys[part[0] :: part[1]]
        for key in keys:
            path = folder / relative(key, prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(bucket, key))
        return len(keys)

    def upload_tar(self, folders: Sequence[Path], uri: str) -> None:
        """Pack the content of the hosts' folders into one .tar.gz at an address."""
        packed = io.BytesIO()
        paths = [path for folder in folders for path in sorted(folder.iterdir())]
        if len({path.name for path in paths}) < len(paths):
            raise ValueError("two hosts left files of the same name, of which one would be lost")
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for path in paths:
                archive.add(path, arcname=path.name)
        self.write(*split_uri(uri), packed.getvalue())

    def _need(self, action: str, bucket: str, key: str, *, kms_key: str = "") -> None:
        arn = f"arn:aws:s3:::{bucket}/{key}"
        if not rights.allows(self.role, action, arn):
            raise StorageError(self._refuse(action, arn))
        rule = (self.backend.buckets[bucket].encryption or {}).get("Rule", {})
        key_arn = kms_key or rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID")
        right = "kms:Decrypt" if action == "s3:GetObject" else "kms:GenerateDataKey"
        # S3 asks for the key on the role's behalf.
        through = {"kms:ViaService": f"s3.{str(key_arn).split(':')[3]}.amazonaws.com"} if key_arn else {}
        if (
            key_arn
            and action != "s3:DeleteObject"
            and not rights.allows(self.role, right, key_arn, context=through)
        ):
            raise StorageError(self._refuse(right, key_arn))

    def _refuse(self, action: str, arn: str) -> str:
        return (
            f"AccessDenied (403): {self.role.arn} is not authorized to perform: {action} on resource: "
            f'"{arn}" because no identity-based policy allows the {action} action'
        )


def relative(key: str, prefix: str) -> str:
    """Return where an object stands in the channel: S3 knows no folders, a prefix may end in mid-name."""
    if prefix.endswith("/") or key[len(prefix) :].startswith("/"):
        return key[len(prefix) :].lstrip("/")
    return key[prefix.rfind("/") + 1 :]


class CheckpointSync:
    """Keeps a folder and a place in S3 the same while a job runs: a local delete deletes in S3."""

    def __init__(self, storage: JobStorage, uri: str, folder: Path) -> None:
        self.storage = storage
        self.bucket, prefix = split_uri(uri)
        self.prefix = f"{prefix.rstrip('/')}/"
        self.uri = f"s3://{self.bucket}/{self.prefix}"
        self.folder = folder
        self.known: dict[str, tuple[int, int]] = {}

    def download(self) -> None:
        """Bring what earlier machines left, before the start."""
        self.storage.download(self.uri, self.folder)
        self.known = self._look()

    def push(self) -> None:
        """Send what is new or changed since the last time, remove what is gone."""
        now = self._look()
        for name in self.known.keys() - now.keys():
            self.storage.delete(self.bucket, f"{self.prefix}{name}")
        for name, state in now.items():
            if self.known.get(name) != state:
                try:
                    content = (self.folder / name).read_bytes()
                except FileNotFoundError:
                    continue
                self.storage.write(self.bucket, f"{self.prefix}{name}", content)
        self.known = now

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self.folder.rglob("*")):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found[path.relative_to(self.folder).as_posix()] = (state.st_mtime_ns, state.st_size)
        return found


class JobLog:
    """The log stream of one machine; a role without the permissions leaves no log, and the job goes on."""

    def __init__(
        self, account: str, region: str, role: Any, job_name: str, *, host: str, group: str = LOG_GROUP
    ) -> None:
        from moto.logs.models import logs_backends

        self.backend = logs_backends[account][region]
        self.stream = f"{job_name}/{host}-{int(time.time())}"
        self.group = group
        arn = f"arn:aws:logs:{region}:{account}:log-group:{group}"
        self.is_allowed = (
            rights.allows(role, "logs:CreateLogGroup", arn)
            and rights.allows(role, "logs:CreateLogStream", f"{arn}:log-stream:{self.stream}")
            and rights.allows(role, "logs:PutLogEvents", f"{arn}:log-stream:{self.stream}")
        )
        if self.is_allowed:
            self.backend.ensure_log_group(group)
            self.backend.ensure_log_stream(group, self.stream)

    def write(self, line: str) -> None:
        """Append a line; an empty one is left out, as CloudWatch takes none."""
        if self.is_allowed and line:
            event = {"timestamp": int(time.time() * 1000), "message": line}
            self.backend.put_log_events(self.group, self.stream, [event])
