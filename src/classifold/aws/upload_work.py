"""The work of an upload: each file that is due is compared, sent, or kept here with its fault.

Small files go whole and many at once, since the way there and back costs more than their bytes. Large ones go
in parts, so that memory stays bounded and an interruption loses little.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from classifold.aws.crc32 import encode_crc32
from classifold.aws.crew import Crew, open_crew
from classifold.aws.file_content import UnsentError, compute_crc32, has_md5, look_at, read_part
from classifold.aws.multipart import (
    MIB,
    PART_BYTES,
    LargeFile,
    PartDone,
    PartJob,
    abort_large,
    begin_large,
    end_large,
    send_part,
)
from classifold.aws.sending import Sender, Stored
from classifold.aws.upload_record import Due, LocalFile, UploadRecord
from classifold.errors import Fault
from classifold.progress import Advance, show_progress

SMALL_AT_ONCE = 32
# Pieces of up to 16 MiB that are in memory at a time.
_LARGE_AT_ONCE = 8
_SMALL_BYTES = MIB
_NO_LIMIT = 1 << 62


@dataclass
class Counts:
    """What was done so far: files sent, files found to be there already, and bytes that went out."""

    sent: int = 0
    skipped: int = 0
    bytes_sent: int = 0


class _Outcome(NamedTuple):
    """What became of a file: there now, by our sending or before it; or a fault that keeps it here."""

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
    """Send what is due: pictures and shards, then, where none has a fault, the indexes.

    Args:
        sender: Puts objects into the bucket.
        record: What is due; notes what is done.
        faults: Receives what cannot be sent.
        threads: How many small files go at once.
        tell: Told how much it is.

    Raises:
        AwsError: AWS refuses, or there is no way to it; what was sent until then is noted.
    """
    count, num_bytes, num_alike = record.count_due()
    if not count:
        return Counts()
    aside = f", of which {num_alike:,} are compared first with what is there" if num_alike else ""
    tell(f"sending {count:,} files ({num_bytes / 1e6:,.1f} MB) to s3://{sender.bucket}{aside}")
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
    """The bar: bytes, and in its description files."""

    def __init__(self, advance: Advance, num_files: int) -> None:
        self._advance, self._num_files, self._done = advance, num_files, 0

    def add_bytes(self, count: int) -> None:
        self._advance(count)

    def add_file(self) -> None:
        self._done += 1
        self._advance.describe(f"sending {self._done:,} of {self._num_files:,} files")


class _Work:
    """One upload under way: hands out jobs, and notes what became of them, in one thread."""

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
            (self.large, _SMALL_BYTES + 1, PART_BYTES),
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
        """Yield the parts of the large files, each file's upload begun just before its first part."""
        due = self.record.iter_due(is_index=is_index, min_size=PART_BYTES + 1, max_size=_NO_LIMIT)
        for outcome in self.large.map(functools.partial(_compare_large, sender=self.sender), due):
            if outcome.file is None or outcome.stored is not None:
                self.progress.add_bytes(outcome.due.size)
                self._note(outcome)
            else:
                yield from begin_large(self.sender, self.record, outcome.file).iter_jobs()

    def _note_part(self, done: PartDone) -> None:
        large = done.job.large
        large.num_done += 1
        self.progress.add_bytes(done.job.size)
        self.counts.bytes_sent += done.bytes_sent
        if done.part is not None:
            large.parts[done.job.number] = done.part
        if large.num_done == large.count_parts():
            self._end(large)

    def _end(self, large: LargeFile) -> None:
        self.progress.add_file()
        if large.fault is not None:
            self.faults.append(large.fault)
            abort_large(self.sender, self.record, large)
            return
        stored = end_large(self.sender, large)
        self.record.note_sent(large.file, crc32=stored.crc32, etag=stored.etag)
        self.record.forget_open(large.file.key)
        self.record.save()
        self.counts.sent += 1


def _send_whole(due: Due, *, sender: Sender) -> _Outcome:
    """Send a file in one piece, unless the very same is there."""
    try:
        file = look_at(due)
        data = read_part(file, offset=0, size=file.size)
    except UnsentError as error:
        return _Outcome(due, fault=error.faults[0])
    crc32 = zlib.crc32(data)
    if (
        due.remote_etag
        and file.size == due.size
        and (has_md5(data, due.remote_etag) or sender.find_crc32(due.key) == crc32)
    ):
        return _Outcome(due, file, Stored(due.remote_etag, encode_crc32(crc32)))
    return _Outcome(due, file, sender.put(due.key, data), is_sent=True)


def _compare_large(due: Due, *, sender: Sender) -> _Outcome:
    """Find out whether the very same large file is there; without `stored` it is to be sent."""
    try:
        file = look_at(due)
        there = sender.find_crc32(due.key) if due.remote_etag and file.size == due.size else None
        if there is not None and there == compute_crc32(file):
            return _Outcome(due, file, Stored(due.remote_etag, encode_crc32(there)))
    except UnsentError as error:
        return _Outcome(due, fault=error.faults[0])
    return _Outcome(due, file)
