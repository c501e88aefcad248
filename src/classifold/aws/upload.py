"""Uploading the three sets to S3: in parallel, checked, only what changed, resumed after interruptions."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.crew import Crew, open_crew
from classifold.aws.multipart import (
    MIB,
    LargeFile,
    PartDone,
    PartJob,
    begin_large,
    choose_part_size,
    send_part,
)
from classifold.aws.sending import Sender, Stored, encode_crc32
from classifold.aws.upload_lists import (
    UnsentError,
    compute_crc32,
    delete_objects,
    has_md5,
    iter_bucket,
    iter_shards,
    iter_split,
    look_at,
    read_part,
)
from classifold.aws.upload_record import Due, LocalFile, UploadRecord, open_record
from classifold.counts import choose, count_of
from classifold.errors import DataError, Fault, limit_faults
from classifold.progress import Advance, show_progress
from classifold.settings.config import Config

SMALL_AT_ONCE = 32
# At most this many files or parts of up to 16 MiB are in memory at a time.
_LARGE_AT_ONCE = 16
_SMALL_BYTES = MIB
# Files up to this size are sent in one request: in parts they take three more, and are no faster.
_WHOLE_BYTES = 16 * MIB
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class UploadSummary:
    """The result of an upload.

    Attributes:
        sent: Number of files that were sent.
        skipped: Number of files that were in the bucket already.
        bytes_sent: Bytes of the files and parts that were sent.
        stale: Keys below the destination that the split does not have; empty if they were deleted.
        deleted: Number of stale objects that were deleted.
        seconds: Duration of the upload.
        destination: `s3://<bucket>/<prefix>`.
    """

    sent: int
    skipped: int
    bytes_sent: int
    stale: list[str]
    deleted: int
    seconds: float
    destination: str


def upload_data(aws: Aws, *, delete_stale: bool = False, tell: Callable[[str], None]) -> UploadSummary:
    """Send the three sets to the data bucket, as files or as shards.

    Args:
        aws: The connection to AWS.
        delete_stale: Delete objects below the destination that are not in the split.
        tell: Called with one line for each step.

    Raises:
        DataError: There is no split, or some files cannot be sent; the others were sent.
        AwsError: The bucket does not exist, AWS refuses, or cannot be reached.
        DiskError: The project's folder cannot be written.
    """
    start, config = time.monotonic(), aws.config
    prefix = names.data_prefix(config.DATA_NAME, as_shards=config.UPLOAD_AS == "shards")
    faults = list[Fault]()
    files = _iter_local(config, prefix, faults)
    threads = SMALL_AT_ONCE if config.UPLOAD_THREADS == "auto" else config.UPLOAD_THREADS
    with open_record(aws.data_bucket, prefix) as record, Sender(aws, connections=threads) as sender:
        faults += _list_both(record, sender, prefix, files)
        skipped = record.mark_unchanged()
        counts = send_due(sender, record, faults, threads=threads, tell=tell)
        if faults:
            sent = f"{count_of(counts.sent, 'file')} {choose(counts.sent, 'was', 'were')} sent"
            tell(f"{sent}, {len(faults):,} cannot be; the indexes were not sent")
            raise DataError(*limit_faults(faults, what="cannot be sent either", hint=""))
        record.forget_gone()
        stale = record.list_stale()
        deleted = _delete(sender, stale, tell) if delete_stale and stale else 0
    return UploadSummary(
        sent=counts.sent,
        skipped=skipped + counts.skipped,
        bytes_sent=counts.bytes_sent,
        stale=[] if delete_stale else stale,
        deleted=deleted,
        seconds=time.monotonic() - start,
        destination=sender.uri(prefix),
    )


def _iter_local(config: Config, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    if config.UPLOAD_AS == "files":
        return iter_split(config.split_dir, prefix, faults)
    from classifold.packing.provide import provide_shards

    shards_dir = provide_shards(config.split_dir, config.shards_dir, shard_mb=config.SHARD_MB)
    return iter_shards(shards_dir, prefix, faults)


def _list_both(record: UploadRecord, sender: Sender, prefix: str, files: Iterator[LocalFile]) -> list[Fault]:
    """Record the local files and the objects; return a fault for each two files with the same key."""
    record.add_local(files)
    for page in iter_bucket(sender.client, sender.bucket, prefix):
        record.add_remote(page)
    hint = "rename one of them, and split again"
    return [
        Fault(one, f"in the bucket it would have the same name as {two}", hint=hint)
        for _, one, two in record.find_twins()
    ]


def _delete(sender: Sender, stale: list[str], tell: Callable[[str], None]) -> int:
    with show_progress("deleting", len(stale), unit="objects") as advance:
        deleted = delete_objects(sender.client, sender.bucket, stale, advance=advance)
    stood = choose(deleted, "that is not in the split was", "that are not in the split were")
    tell(f"{count_of(deleted, 'object')} {stood} deleted from {sender.uri('')}")
    return deleted


@dataclass
class Counts:
    """Progress so far: number of files sent, of files found in the bucket already, and bytes sent."""

    sent: int = 0
    skipped: int = 0
    bytes_sent: int = 0


class _Outcome(NamedTuple):
    """The outcome for a file: it is in the bucket, sent now or before, or a fault prevents that."""

    due: Due
    file: LocalFile | None = None
    stored: Stored | None = None
    is_sent: bool = False
    fault: Fault | None = None


def send_due(
    sender: Sender,
    record: UploadRecord,
    faults: list[Fault],
    *,
    threads: int,
    tell: Callable[[str], None],
) -> Counts:
    """Send what is due: pictures and shards, then, if none has a fault, the indexes.

    Args:
        sender: Sends objects to the bucket.
        record: The files that are due; records those that were sent.
        faults: Receives a fault for each file that cannot be sent.
        threads: Number of small files sent in parallel.
        tell: Called with one line on the amount to send.

    Raises:
        AwsError: AWS refuses, or cannot be reached; what was sent until then is recorded.
    """
    count, num_bytes, num_alike = record.count_due()
    if not count:
        return Counts()
    verb = choose(num_alike, "is", "are")
    aside = f", of which {num_alike:,} {verb} first compared with the objects there" if num_alike else ""
    tell(f"sending {count_of(count, 'file')} ({num_bytes / 1e6:,.1f} MB) to s3://{sender.bucket}{aside}")
    with (
        open_crew(threads) as small,
        open_crew(min(threads, _LARGE_AT_ONCE)) as large,
        show_progress("sending", num_bytes, unit="bytes") as advance,
    ):
        work = _Work(sender, record, faults, _Progress(advance, count), small=small, large=large)
        work.send(is_index=False)
        if not faults:
            work.send(is_index=True)
    return work.counts


class _Progress:
    """The progress bar: it counts bytes, and its description counts files."""

    def __init__(self, advance: Advance, num_files: int) -> None:
        self._advance, self._num_files, self._done = advance, num_files, 0

    def add_bytes(self, count: int) -> None:
        self._advance(count)

    def add_file(self) -> None:
        self._done += 1
        self._advance.describe(f"sending {self._done:,} of {count_of(self._num_files, 'file')}")


class _Work:
    """An upload in progress: one thread hands out jobs to the crews and records their outcomes."""

    def __init__(
        self,
        sender: Sender,
        record: UploadRecord,
        faults: list[Fault],
        progress: _Progress,
        *,
        small: Crew,
        large: Crew,
    ) -> None:
        self.sender, self.record, self.faults, self.progress = sender, record, faults, progress
        self.small, self.large, self.counts = small, large, Counts()

    def send(self, *, is_index: bool) -> None:
        """Send the files that are due, small ones first."""
        send = functools.partial(_send_whole, sender=self.sender)
        for crew, low, high in (
            (self.small, 0, _SMALL_BYTES),
            (self.large, _SMALL_BYTES + 1, _WHOLE_BYTES),
        ):
            for outcome in crew.map(
                send, self.record.iter_due(is_index=is_index, min_size=low, max_size=high)
            ):
                self.progress.add_bytes(outcome.due.size)
                self._note(outcome)
        for done in self.large.map(
            functools.partial(send_part, sender=self.sender), self._iter_parts(is_index)
        ):
            self._note_part(done)

    def _note(self, outcome: _Outcome) -> None:
        self.progress.add_file()
        if outcome.file is None or outcome.stored is None:
            self.faults += [outcome.fault] if outcome.fault else []
            return
        self.record.note_sent(outcome.file, crc32=outcome.stored.crc32, etag=outcome.stored.etag)
        self.counts.sent += outcome.is_sent
        self.counts.skipped += not outcome.is_sent
        self.counts.bytes_sent += outcome.file.size if outcome.is_sent else 0

    def _iter_parts(self, is_index: bool) -> Iterator[PartJob]:
        """Yield the parts of the large files; each upload is recorded before its first part is sent."""
        begin = functools.partial(_begin_large, sender=self.sender)
        for outcome, large in self.large.map(begin, self._iter_large(is_index)):
            if large is None:
                self.progress.add_bytes(outcome.due.size)
                self._note(outcome)
            else:
                self.record.note_open(large.file.key, large.upload_id, part_size=large.part_size)
                yield from large.iter_jobs()

    def _iter_large(self, is_index: bool) -> Iterator[tuple[Due, str]]:
        """Yield the large files that are due, each with the ID of its interrupted upload, empty if none."""
        for due in self.record.iter_due(is_index=is_index, min_size=_WHOLE_BYTES + 1, max_size=_NO_LIMIT):
            yield due, self.record.find_open(due.key, part_size=choose_part_size(due.size))

    def _note_part(self, done: PartDone) -> None:
        large = done.job.large
        self.progress.add_bytes(done.job.size)
        self.counts.bytes_sent += done.bytes_sent
        if not done.is_last:
            return
        self.progress.add_file()
        self.record.forget_open(large.file.key)
        if done.stored is None:
            self.faults += [large.fault] if large.fault else []
        else:
            self.record.note_sent(large.file, crc32=done.stored.crc32, etag=done.stored.etag)
            self.counts.sent += 1
        self.record.save()


def _send_whole(due: Due, *, sender: Sender) -> _Outcome:
    """Send a file in one request, unless the bucket has the same content."""
    try:
        file = look_at(due)
        data = read_part(file, offset=0, size=file.size)
    except UnsentError as error:
        return _Outcome(due, fault=error.faults[0])
    if due.remote_etag and file.size == due.size:
        crc32 = zlib.crc32(data)
        if has_md5(data, due.remote_etag) or sender.find_crc32(due.key) == crc32:
            return _Outcome(due, file, Stored(due.remote_etag, encode_crc32(crc32)))
    return _Outcome(due, file, sender.put(due.key, data), is_sent=True)


def _begin_large(job: tuple[Due, str], *, sender: Sender) -> tuple[_Outcome, LargeFile | None]:
    """Begin or resume a large file's upload, unless the bucket has the same content."""
    due, upload_id = job
    try:
        file = look_at(due)
        there = sender.find_crc32(due.key) if due.remote_etag and file.size == due.size else None
        if there is not None and there == compute_crc32(file):
            return _Outcome(due, file, Stored(due.remote_etag, encode_crc32(there))), None
    except UnsentError as error:
        return _Outcome(due, fault=error.faults[0]), None
    is_known = upload_id and choose_part_size(file.size) == choose_part_size(due.size)
    return _Outcome(due, file), begin_large(sender, file, upload_id if is_known else "")
