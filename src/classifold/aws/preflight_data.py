"""Whether the pictures that a job will read are where it looks for them, all of them and no others."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from classifold import names
from classifold.aws.clients import Aws, describe_other_region
from classifold.aws.findings import Finding
from classifold.aws.storage import Bucket, find_bucket_region
from classifold.aws.upload_lists import iter_bucket, iter_shards, iter_split
from classifold.aws.upload_record import LocalFile, open_record
from classifold.config import Config
from classifold.errors import DataError, Fault

_UPLOAD = "run `classifold upload`"
_MODES = 'set INPUT_MODE = "File" or "FastFile"'
# From so many objects on, of so few bytes at the mean, their number and not their size costs the time.
_MANY_OBJECTS, _SMALL_BYTES = 5_000, 1_000_000
# Of a disk, for the image's scratch files, the run and its model.
_RESERVED_BYTES = 5_000_000_000


@dataclass
class _Stock:
    """What a bucket has for a job: objects and bytes in all, and objects by set."""

    num_objects: int = 0
    num_bytes: int = 0
    by_set: Counter[str] = field(default_factory=Counter)


def check_bucket(aws: Aws, name: str, *, setting: str) -> list[Finding]:
    """Return what is wrong with a bucket: not there, somebody else's, or in another region.

    Raises:
        AwsError: A right is missing, or the bucket is somebody else's.
    """
    is_users = bool(getattr(aws.config, setting))
    region = find_bucket_region(aws, Bucket(name, setting, is_users))
    if region is None:
        return [Finding(f"bucket {name}", "there is no such bucket", hint=_UPLOAD)]
    if region != aws.region:
        fault = describe_other_region(f"bucket {name}", there=region, here=aws.region)
        return [Finding(fault.where, fault.what, hint=fault.hint)]
    return []


def check_data(aws: Aws, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the pictures of a request's channel, in the bucket and against the split here.

    Raises:
        AwsError: If AWS refuses.
    """
    source, mode = _find_source(aws.config, request)
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if mode not in ("File", "FastFile"):
        yield Finding(f"channel {aws.config.DATA_NAME}", f"training does not read {mode} mode", hint=_MODES)
    wrong = check_bucket(aws, bucket, setting="DATA_BUCKET")
    if wrong:
        yield from wrong
        return
    with open_record(bucket, prefix, only_looks=True) as record:
        stock, client = _Stock(), aws.client("s3")
        for page in iter_bucket(client, bucket, prefix):
            record.add_remote(page)
            for one in page:
                stock.num_objects += 1
                stock.num_bytes += one.size
                stock.by_set[one.key.removeprefix(prefix).partition("/")[0]] += 1
        missing = [name for name in names.SETS if not stock.by_set[name]]
        if missing:
            what = (
                "there is nothing"
                if stock.num_objects == 0
                else f"there are no {' and '.join(missing)} pictures"
            )
            yield Finding(source, f"{what} for the job to read", hint=_UPLOAD)
            return
        faults: list[Fault] = []
        record.add_local(_iter_local(aws.config, prefix, faults))
        as_shards = aws.config.UPLOAD_AS == "shards"
        index = names.SHARD_INDEX if as_shards else names.SPLIT_RECORD
        # A split of the user's own has no record, and then this machine shows that there is none to miss.
        if not stock.by_set[index] and (as_shards or not record.count_due()[0]):
            yield Finding(source, f"{index} is not there", hint=_UPLOAD, is_fatal=as_shards)
        if not record.count_due()[0]:
            here = aws.config.shards_dir if as_shards else aws.config.split_dir
            what = f"there is no split in {here} to compare it with; the job takes what is in the bucket"
            yield Finding(source, what, is_fatal=False)
        yield from _compare(record, source, as_shards=as_shards)
    yield from _check_packing(aws.config)
    yield from _judge_stock(stock, request, source=source, mode=mode)


def _find_source(config: Config, request: Mapping[str, Any]) -> tuple[str, str]:
    """Return where the data channel's objects are, and how they come to the machine."""
    channel = next(one for one in request["InputDataConfig"] if one["ChannelName"] == config.DATA_NAME)
    mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    return str(channel["DataSource"]["S3DataSource"]["S3Uri"]), str(mode)


def _iter_local(config: Config, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    """Yield what this machine would have uploaded; nothing where it has no split."""
    try:
        if config.UPLOAD_AS == "shards":
            yield from iter_shards(config.shards_dir, prefix, faults)
        else:
            yield from iter_split(config.split_dir, prefix, faults)
    except DataError:
        return


def _compare(record: Any, source: str, *, as_shards: bool) -> Iterator[Finding]:
    """Yield how the bucket differs from the split that this machine has."""
    num_here = record.count_due()[0]
    if num_here == 0:
        return
    record.mark_unchanged()
    due = [
        one
        for is_index in (False, True)
        for one in record.iter_due(is_index=is_index, min_size=0, max_size=2**62)
    ]
    missing = [one.key for one in due if not one.remote_etag]
    if missing:
        what = f"{len(missing):,} of {num_here:,} files of the split are not there as they are here"
        yield Finding(source, f"{what}, such as {missing[0]}", hint=_UPLOAD)
    elif due:
        what = f"{len(due):,} of {num_here:,} files are of the same size as here; more was not looked at"
        yield Finding(source, what, hint=f"{_UPLOAD}, which compares them", is_fatal=False)
    stale = record.list_stale()
    if stale:
        what = f"{len(stale):,} objects are not in the split, such as {stale[0]}"
        # Training reads every picture that it finds, but only the shards that the index names.
        hint = "run `classifold upload --delete-stale`"
        yield Finding(source, what, hint=hint, is_fatal=not as_shards)


def _check_packing(config: Config) -> Iterator[Finding]:
    """Yield whether the split was changed since its shards were packed."""
    split, packed = config.split_dir / names.SPLIT_RECORD, config.shards_dir / names.SPLIT_RECORD
    if config.UPLOAD_AS != "shards" or not (split.is_file() and packed.is_file()):
        return
    if not filecmp.cmp(split, packed, shallow=False):
        yield Finding(
            str(config.shards_dir), "the split has changed since the shards were packed", hint=_UPLOAD
        )


def _judge_stock(stock: _Stock, request: Mapping[str, Any], *, source: str, mode: str) -> Iterator[Finding]:
    """Yield what the number of objects and their size mean for the job."""
    is_small = stock.num_bytes / stock.num_objects < _SMALL_BYTES
    if is_small and stock.num_objects > _MANY_OBJECTS:
        slow = "each read alone from S3, in every epoch" if mode == "FastFile" else "fetched one by one"
        what = f"{stock.num_objects:,} small files are {slow}"
        hint = 'UPLOAD_AS = "shards" packs them into a few large ones'
        yield Finding(source, what, hint=hint, is_fatal=False)
    volume_gb = request["ResourceConfig"].get("VolumeSizeInGB")
    # FastFile leaves the objects where they are.
    needed = stock.num_bytes + _RESERVED_BYTES
    if volume_gb and mode == "File" and needed > volume_gb * 1e9:
        what = f"the pictures have {stock.num_bytes / 1e9:.1f} GB, too much for a disk of {volume_gb} GB"
        yield Finding("setting VOLUME_GB", what, hint=f"set VOLUME_GB = {-int(-needed * 1.1 // 1e9)} or more")
