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
    LargeFile,
    PartDone,
    PartJob,
    begin_large,
    choose_part_size,
    send_part,
)
from classifold.aws.sending import Sender, Stored
from classifold.aws.upload_record import Due, LocalFile, UploadRecord
from classifold.counts import choose, count_of
from classifold.errors import Fault
from classifold.progress import Advance, show_progress

SMALL_AT_ONCE = 32
# Pieces of up to 16 MiB that are in memory at a time.
_LARGE_AT_ONCE = 16
_SMALL_BYTES = MIB
# A photograph goes in one request: in parts it would take three more, and be there no sooner.
_WHOLE_BYTES = 16 * MIB
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
    verb = choose(num_alike, "is", "are")
    aside = f", of which {num_alike:,} {verb} compared first with what is there" if num_alike else ""
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
    """The bar: bytes, and in its description files."""

    def __init__(self, advance: Advance, num_files: int) -> None:
        self._advance, self._num_files, self._done = advance, num_files, 0

    def add_bytes(self, count: int) -> None:
        self._advance(count)

    def add_file(self) -> None:
        self._done += 1
        self._advance.describe(f"sending {self._done:,} of {count_of(self._num_files, 'file')}")


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
        """Yield the parts of the large files, each file's upload noted before its first part goes."""
        begin = functools.partial(_begin_large, sender=self.sender)
        for outcome, large in self.large.map(begin, self._iter_large(is_index)):
            if large is None:
                self.progress.add_bytes(outcome.due.size)
                self._note(outcome)
            else:
                self.record.note_open(large.file.key, large.upload_id, part_size=large.part_size)
                yield from large.iter_jobs()

    def _iter_large(self, is_index: bool) -> Iterator[tuple[Due, str]]:
        """Yield the large files that are due, with the upload that was begun for each."""
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
    """Send a file in one piece, unless the very same is there."""
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
    """Begin a large file's upload or go on with the one that was begun, unless the very same is there."""
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
