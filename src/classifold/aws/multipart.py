"""Uploading a large file in parallel parts; each is checked, and a resumed upload sends only missing ones."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from classifold.aws.refusals import aws_errors
from classifold.aws.sending import Sender, Stored, encode_crc32, find_content_type, join_crc32
from classifold.aws.upload_lists import UnsentError, has_md5, read_part
from classifold.aws.upload_record import LocalFile
from classifold.errors import Fault, MissingError

MIB = 1 << 20
PART_BYTES = 8 * MIB
_PARTS_LIMIT = 10_000


class Part(NamedTuple):
    """A part that S3 has, with the expected content."""

    etag: str
    crc32: int


@dataclass
class LargeFile:
    """A multipart upload in progress.

    Attributes:
        file: The file as it was when the upload began.
        upload_id: S3's ID of the upload.
        there: S3's description of the parts that an earlier run sent, by part number.
        parts: The parts whose content is known to be right, by part number.
        num_done: Number of parts that were sent, found to be there, or failed.
        fault: Why the file cannot be sent; None if it can.
        lock: Held while `num_done` and `parts` are changed.
    """

    file: LocalFile
    upload_id: str
    there: Mapping[int, Mapping[str, Any]]
    parts: dict[int, Part] = field(default_factory=dict)
    num_done: int = 0
    fault: Fault | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def part_size(self) -> int:
        """Size in bytes of every part but the last."""
        return choose_part_size(self.file.size)

    def iter_jobs(self) -> Iterator[PartJob]:
        """Yield one job for each part."""
        for number in range(1, self.count_parts() + 1):
            offset = (number - 1) * self.part_size
            yield PartJob(self, number, offset, min(self.part_size, self.file.size - offset))

    def count_parts(self) -> int:
        """Return the number of parts."""
        return -(-self.file.size // self.part_size)

    def note(self, number: int, part: Part | None) -> bool:
        """Note a part as done, None if it failed; return whether it was the last one."""
        with self.lock:
            self.num_done += 1
            if part is not None:
                self.parts[number] = part
            return self.num_done == self.count_parts()


class PartJob(NamedTuple):
    """One part of a file: its number from 1, and its offset and size in bytes."""

    large: LargeFile
    number: int
    offset: int
    size: int


class PartDone(NamedTuple):
    """A part that is done: the bytes that were sent for it, and whether it was the file's last one."""

    job: PartJob
    bytes_sent: int
    is_last: bool
    stored: Stored | None  # the whole object, after the last part of a file that could be sent


def choose_part_size(size: int) -> int:
    """Return the size of a part in bytes: 8 MiB, or more, in whole MiB, to stay within S3's 10,000 parts."""
    return max(PART_BYTES, -(-size // _PARTS_LIMIT // MIB) * MIB)


def begin_large(sender: Sender, file: LocalFile, upload_id: str) -> LargeFile:
    """Return the upload of a file: the interrupted one, else a new one.

    Args:
        sender: Sends objects to the bucket.
        file: The file as it is now.
        upload_id: S3's ID of an interrupted upload with parts of the same size; empty if there is none.

    Raises:
        AwsError: AWS refuses.
    """
    there = _list_parts(sender, file.key, upload_id) if upload_id else None
    if there is not None:
        return LargeFile(file, upload_id, there)
    with aws_errors(f"send {sender.uri(file.key)}"):
        answer = sender.client.create_multipart_upload(
            Bucket=sender.bucket,
            Key=file.key,
            ContentType=find_content_type(file.key),
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
    return LargeFile(file, answer["UploadId"], {})


def _list_parts(sender: Sender, key: str, upload_id: str) -> dict[int, Mapping[str, Any]] | None:
    """Return S3's description of an upload's parts, by number; None if it was completed or has expired."""
    pages = sender.client.get_paginator("list_parts")
    try:
        with aws_errors(f"list what is there of {sender.uri(key)}"):
            answers = pages.paginate(Bucket=sender.bucket, Key=key, UploadId=upload_id)
            return {one["PartNumber"]: one for page in answers for one in page.get("Parts", ())}
    except MissingError:
        return None


def send_part(job: PartJob, *, sender: Sender) -> PartDone:
    """Send a part unless S3 has it; after the last part, complete the upload, or abort it after a fault.

    Raises:
        AwsError: AWS refuses, or cannot be reached.
    """
    part, bytes_sent = None, 0
    if job.large.fault is None:
        try:
            part, bytes_sent = _send_data(job, sender)
        except UnsentError as error:
            job.large.fault = error.faults[0]
    is_last = job.large.note(job.number, part)
    if is_last and job.large.fault is not None:
        _abort(sender, job.large)
    stored = _end(sender, job.large) if is_last and job.large.fault is None else None
    return PartDone(job, bytes_sent, is_last, stored)


def _send_data(job: PartJob, sender: Sender) -> tuple[Part, int]:
    """Return the part, and the bytes sent for it; S3 refuses data that does not match the checksum."""
    large = job.large
    data = read_part(large.file, offset=job.offset, size=job.size)
    crc32, there = zlib.crc32(data), large.there.get(job.number)
    if there is not None and _is_same(there, data, crc32):
        return Part(there["ETag"], crc32), 0
    with aws_errors(f"send {sender.uri(large.file.key)}"):
        answer = sender.client.upload_part(
            Bucket=sender.bucket,
            Key=large.file.key,
            UploadId=large.upload_id,
            PartNumber=job.number,
            Body=data,
            ChecksumAlgorithm="CRC32",
            ChecksumCRC32=encode_crc32(crc32),
        )
    return Part(answer["ETag"], crc32), job.size


def _is_same(there: Mapping[str, Any], data: bytes, crc32: int) -> bool:
    if there.get("ChecksumCRC32"):
        return bool(there["ChecksumCRC32"] == encode_crc32(crc32) and there["Size"] == len(data))
    return has_md5(data, there["ETag"])


def _end(sender: Sender, large: LargeFile) -> Stored:
    """Complete the upload; S3 refuses it if the whole object does not match the checksum."""
    file, crc32, listed = large.file, 0, []
    for job in large.iter_jobs():
        part = large.parts[job.number]
        crc32 = join_crc32(crc32, part.crc32, second_bytes=job.size)
        listed.append(
            {"PartNumber": job.number, "ETag": part.etag, "ChecksumCRC32": encode_crc32(part.crc32)}
        )
    with aws_errors(f"send {sender.uri(file.key)}"):
        answer = sender.client.complete_multipart_upload(
            Bucket=sender.bucket,
            Key=file.key,
            UploadId=large.upload_id,
            MultipartUpload={"Parts": listed},
            ChecksumCRC32=encode_crc32(crc32),
            ChecksumType="FULL_OBJECT",
            MpuObjectSize=file.size,
        )
    return Stored(etag=answer["ETag"], crc32=encode_crc32(crc32))


def _abort(sender: Sender, large: LargeFile) -> None:
    """Abort an upload whose file cannot be sent, so that its parts cost nothing."""
    with contextlib.suppress(MissingError), aws_errors(f"give up {sender.uri(large.file.key)}"):
        sender.client.abort_multipart_upload(
            Bucket=sender.bucket, Key=large.file.key, UploadId=large.upload_id
        )
