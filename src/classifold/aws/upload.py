"""The three sets to S3: side by side, checked, only what changed, and going on where an interruption came.

1. What the split has and what the bucket has are listed; what is there as it was sent last time is left out.
2. A file whose like in size is there is compared by content, so the record of last time may be lost.
3. Small files go whole, many at once; large ones in parts. S3 checks each against the CRC-32 sent with it.
4. split.json and shards.json go last: nobody reads an index of pictures that are not there yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.sending import Sender
from classifold.aws.upload_lists import delete_objects, iter_bucket, iter_shards, iter_split, limit_faults
from classifold.aws.upload_record import LocalFile, UploadRecord, open_record
from classifold.aws.upload_work import SMALL_AT_ONCE, send_due
from classifold.config import Config
from classifold.counts import choose, count_of
from classifold.errors import DataError, Fault
from classifold.progress import show_progress


@dataclass(frozen=True, slots=True)
class UploadSummary:
    """What an upload did.

    Attributes:
        sent: Files that went to S3.
        skipped: Files that were there already.
        bytes_sent: Of files and parts, without what was there.
        stale: Keys below the destination that the split does not have; none after they were deleted.
        deleted: Stale objects that were deleted.
        seconds: From beginning to end.
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
        aws: The way in.
        delete_stale: Delete what is below the destination and not in the split.
        tell: Told what happens, a line at a time.

    Raises:
        DataError: There is no split, or some files cannot be sent; the others were.
        AwsError: The bucket is not there, AWS refuses, or there is no way to it.
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
            tell(f"{sent}, {len(faults):,} cannot be; the indexes wait for these")
            raise DataError(*limit_faults(faults, "cannot be sent"))
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
    from classifold.dataset.shards import provide_shards

    shards_dir = provide_shards(config.split_dir, config.shards_dir, shard_mb=config.SHARD_MB)
    return iter_shards(shards_dir, prefix, faults)


def _list_both(record: UploadRecord, sender: Sender, prefix: str, files: Iterator[LocalFile]) -> list[Fault]:
    """Note what is here and what is there; return the files that would have one name in the bucket."""
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
