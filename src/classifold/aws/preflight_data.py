"""Checking that a job's pictures are in the bucket: all of the split, nothing else, and with enough disk."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.bucket_rules import read_tags
from classifold.aws.buckets import Bucket, describe_other_project, find_bucket_region
from classifold.aws.clients import Aws
from classifold.aws.preflight_findings import Finding
from classifold.aws.refusals import aws_errors, describe_other_region, is_denied
from classifold.aws.upload_lists import iter_bucket, iter_shards, iter_split
from classifold.aws.upload_record import LocalFile, open_record
from classifold.counts import choose, count_of
from classifold.dataset.scan import load_sets
from classifold.errors import DataError, Fault
from classifold.packing.provide import find_shards
from classifold.settings.config import Config

_SET_UP, _UPLOAD = "run `classifold setup`", "run `classifold upload`"
_MODES = 'set INPUT_MODE = "File" or "FastFile"'
# With more objects than this, of a smaller mean size in bytes, the number decides the time, not the size.
_MANY_OBJECTS, _SMALL_BYTES = 5_000, 1_000_000
# Bytes of the disk that the image's scratch files, the run and its model need.
_RESERVED_BYTES = 5_000_000_000
# A note is given if one machine gets more than this many times the mean number of training shards.
_UNEVEN = 1.2


@dataclass
class _Stock:
    """What a bucket has for a job: number of objects and bytes, in total and by set."""

    num_objects: int = 0
    num_bytes: int = 0
    by_set: Counter[str] = field(default_factory=Counter)
    bytes_by_set: Counter[str] = field(default_factory=Counter)


def check_bucket(aws: Aws, name: str, *, setting: str) -> list[Finding]:
    """Return what is wrong with a bucket: it is missing, another project's, or in another region.

    Raises:
        AwsError: A permission is missing, or the bucket is another account's or another project's.
    """
    bucket = Bucket(name, setting, bool(getattr(aws.config, setting)))
    region = find_bucket_region(aws, bucket)
    if region is None:
        # Only the bucket of the data needs pictures: for an endpoint there may be none on this machine.
        hint = _UPLOAD if setting == "DATA_BUCKET" else _SET_UP
        return [Finding(f"bucket {name}", "there is no such bucket", hint=hint)]
    if region != aws.region:
        fault = describe_other_region(f"bucket {name}", there=region, here=aws.region)
        return [Finding(fault.where, fault.what, hint=fault.hint)]
    return _check_project(aws, bucket)


def _check_project(aws: Aws, bucket: Bucket) -> list[Finding]:
    """Return a finding if a bucket has another project's tag; none without permission to read its tags."""
    with aws_errors(f"read the tags of bucket {bucket.name}"):
        try:
            project = read_tags(aws.client("s3"), bucket.name).get(names.PROJECT_TAG, "")
        except ClientError as error:
            if is_denied(error):
                return []
            raise
    fault = describe_other_project(aws, bucket, project) if project else None
    return [Finding(fault.where, fault.what, hint=fault.hint)] if fault else []


def check_data(aws: Aws, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the pictures of a request's channel, compared with the split on this machine.

    Raises:
        AwsError: AWS refuses.
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
                set_name = one.key.removeprefix(prefix).partition("/")[0]
                stock.by_set[set_name] += 1
                stock.bytes_by_set[set_name] += one.size
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
        # With a split on this machine `_compare` finds a missing record; a split of the user's own has none.
        if not stock.by_set[index] and (as_shards or not record.count_due()[0]):
            yield Finding(source, f"{index} is not there", hint=_UPLOAD, is_fatal=as_shards)
        if not record.count_due()[0]:
            here = _find_here(aws.config)
            what = f"there is no split in {here} to compare it with; the job uses what is in the bucket"
            yield Finding(source, what, is_fatal=False)
        # Stale pictures would be trained on; stale shards would not, since the index does not name them. But
        # if SageMaker distributes objects by key, a machine may get stale shards in place of others.
        yield from _compare(record, source, is_stale_fatal=not as_shards or aws.config.is_sharded_by_key)
    yield from _check_packing(aws.config)
    if aws.config.is_sharded_by_key:
        yield from _check_shares(stock, request, source=source)
    yield from _judge_stock(
        stock, request, source=source, mode=mode, is_shared_out=aws.config.is_sharded_by_key
    )


def check_here(config: Config) -> list[Finding]:
    """Return what this machine lacks for an upload, where the bucket cannot be looked at.

    It keeps no job from starting: the bucket may have the pictures from elsewhere.
    """
    try:
        load_sets(config.split_dir)
    except DataError as error:
        return [
            Finding(
                fault.where,
                f"{fault.what}; the job finds pictures only where they were uploaded before",
                hint=fault.hint,
                is_fatal=False,
            )
            for fault in error.faults
        ]
    return []


def _find_source(config: Config, request: Mapping[str, Any]) -> tuple[str, str]:
    """Return the S3 address of the data channel's objects, and its input mode."""
    channel = next(one for one in request["InputDataConfig"] if one["ChannelName"] == config.DATA_NAME)
    mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    # If shards are distributed by key, this channel holds only their index.
    source = str(channel["DataSource"]["S3DataSource"]["S3Uri"]).removesuffix(names.SHARD_INDEX)
    return source, str(config.INPUT_MODE if config.is_sharded_by_key and mode == "File" else mode)


def _iter_local(config: Config, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    """Yield the files that `upload` would send from this machine; none if it has no split."""
    iterate = iter_shards if config.UPLOAD_AS == "shards" else iter_split
    try:
        yield from iterate(_find_here(config), prefix, faults)
    except DataError:
        return


def _find_here(config: Config) -> Path:
    """Return the folder on this machine that `upload` sends."""
    if config.UPLOAD_AS == "shards":
        return find_shards(config.split_dir, config.shards_dir)
    return config.split_dir


def _compare(record: Any, source: str, *, is_stale_fatal: bool) -> Iterator[Finding]:
    """Yield how the bucket differs from the split on this machine."""
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
        files = f"{len(missing):,} of {count_of(num_here, 'file')} of the split"
        verbs = choose(len(missing), "is missing there or has", "are missing there or have")
        what = f"{files} {verbs} another size"
        yield Finding(source, f"{what}, such as {missing[0]}", hint=_UPLOAD)
    elif due:
        files = f"{len(due):,} of {count_of(num_here, 'file')} {choose(len(due), 'has', 'have')}"
        what = f"{files} the same size as here; content was not compared"
        yield Finding(source, what, hint=f"{_UPLOAD}, which compares them", is_fatal=False)
    stale = record.list_stale()
    if stale:
        objects = f"{count_of(len(stale), 'object')} {choose(len(stale), 'is', 'are')}"
        what = f"{objects} not in the split, such as {stale[0]}"
        hint = "run `classifold upload --delete-stale`"
        yield Finding(source, what, hint=hint, is_fatal=is_stale_fatal)


def _check_packing(config: Config) -> Iterator[Finding]:
    """Yield a finding if the split was changed since its shards were packed."""
    here = _find_here(config)
    split, packed = config.split_dir / names.SPLIT_RECORD, here / names.SPLIT_RECORD
    if config.UPLOAD_AS != "shards" or not (split.is_file() and packed.is_file()):
        return
    if not filecmp.cmp(split, packed, shallow=False):
        yield Finding(str(here), "the split has changed since the shards were packed", hint=_UPLOAD)


def _check_shares(stock: _Stock, request: Mapping[str, Any], *, source: str) -> Iterator[Finding]:
    """Yield a finding if there are too few training shards for the machines, or if they divide unevenly."""
    num_hosts, num_shards = _count_hosts(request), stock.by_set[names.TRAINING]
    smaller = f"lower SHARD_MB and {_UPLOAD}"
    if num_shards < num_hosts:
        what = f"{num_hosts} machines share {num_shards} training shards, so that some would have none"
        hint = f"set it to {num_shards} or less, or {smaller.replace('run ', '')}"
        yield Finding("setting INSTANCE_COUNT", what, hint=hint)
        return
    least, most = num_shards // num_hosts, -(-num_shards // num_hosts)
    if most * num_hosts > _UNEVEN * num_shards:
        what = f"of {num_shards} training shards one machine gets {most}; others get {least} and wait for it"
        yield Finding(source, what, hint=f"{smaller} again", is_fatal=False)


def _count_hosts(request: Mapping[str, Any]) -> int:
    return int(request["ResourceConfig"].get("InstanceCount", 1))


def _judge_stock(
    stock: _Stock, request: Mapping[str, Any], *, source: str, mode: str, is_shared_out: bool
) -> Iterator[Finding]:
    """Yield notes on many small objects, and a finding if the disk is too small for them."""
    is_small = stock.num_bytes / stock.num_objects < _SMALL_BYTES
    if is_small and stock.num_objects > _MANY_OBJECTS:
        slow = "read one by one from S3 in every epoch" if mode == "FastFile" else "downloaded one by one"
        what = f"{stock.num_objects:,} small files are {slow}"
        hint = 'UPLOAD_AS = "shards" packs them into a few large ones'
        yield Finding(source, what, hint=hint, is_fatal=False)
    volume_gb = request["ResourceConfig"].get("VolumeSizeInGB")
    size = stock.num_bytes
    if is_shared_out:
        size -= int(stock.bytes_by_set[names.TRAINING] * (1 - 1 / _count_hosts(request)))
    # FastFile leaves the objects where they are.
    needed = size + _RESERVED_BYTES
    if volume_gb and mode == "File" and needed > volume_gb * 1e9:
        what = f"the pictures take {size / 1e9:.1f} GB, too much for a disk of {volume_gb} GB"
        yield Finding("setting VOLUME_GB", what, hint=f"set VOLUME_GB = {-int(-needed * 1.1 // 1e9)} or more")
