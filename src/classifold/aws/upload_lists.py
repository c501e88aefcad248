"""Listing the files of a split and the objects of a bucket as streams, reading files and deleting objects."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.refusals import aws_errors
from classifold.aws.upload_record import Due, LocalFile, Remote
from classifold.dataset.layout import find_own_split
from classifold.dataset.listed_files import find_reason
from classifold.dataset.manifest import holds_manifests
from classifold.dataset.shard_index import holds_shards
from classifold.dataset.walk import iter_pictures
from classifold.errors import AwsError, ClassifoldError, DataError, Fault, limit_faults

_KEY_BYTES = 1024
# Characters that XML 1.0 does not allow, and control characters: S3 can neither list nor delete such keys.
_UNSAFE = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DELETED_AT_ONCE = 1000
_BLOCK_BYTES = 1 << 22


def iter_split(split_dir: Path, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    """Yield the pictures of the three sets and, at the end, split.json; other files are ignored.

    Args:
        split_dir: The folder that `split` made, or a split of the user's own.
        prefix: Prefix of their keys.
        faults: Receives a fault for each file that cannot be sent.

    Raises:
        DataError: It is not divided into sets, or a folder cannot be read.
    """
    sets = find_own_split(split_dir)
    if sets is None and (holds_shards(split_dir) or holds_manifests(split_dir)):
        what = "it holds shards, or manifests of pictures that are packed into shards, and no files to send"
        raise DataError(Fault(str(split_dir), what, hint='set UPLOAD_AS = "shards"'))
    if sets is None:
        what = "it does not hold the folders training, validation and evaluation with classes in each"
        raise DataError(Fault(str(split_dir), what, hint="run `classifold split` first"))
    for set_name, folder in sets.items():
        # In the disk's order, since sorting would hold a folder of a million files in memory.
        for picture in iter_pictures(folder, ordered=False):
            key = f"{prefix}{set_name}/{picture.key}"
            yield from _look_at(os.fspath(picture.path), key, faults)
    yield from _iter_indexes(split_dir, prefix, faults)


def iter_shards(shards_dir: Path, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    """Yield the shards of the three sets and, at the end, the indexes.

    Args:
        shards_dir: The folder of the shards.
        prefix: Prefix of their keys.
        faults: Receives a fault for each file that cannot be sent.
    """
    for set_name in names.SETS:
        folder = shards_dir / set_name
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if names.SHARD_PATTERN.fullmatch(path.name):
                yield from _look_at(str(path), f"{prefix}{set_name}/{path.name}", faults)
    yield from _iter_indexes(shards_dir, prefix, faults)


def _iter_indexes(folder: Path, prefix: str, faults: list[Fault]) -> Iterator[LocalFile]:
    for name in (names.SPLIT_RECORD, names.SHARD_INDEX):
        path = folder / name
        if path.is_file():
            yield from _look_at(str(path), f"{prefix}{name}", faults, is_index=True)


def _look_at(path: str, key: str, faults: list[Fault], *, is_index: bool = False) -> Iterator[LocalFile]:
    fault = check_key(path, key) or _check_link(path, is_index=is_index)
    if fault is None:
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path per file is slow
        except OSError as error:
            fault = explain_file(path, error)
        else:
            yield LocalFile(key, path, state.st_size, state.st_mtime_ns, state.st_ino, is_index)
    if fault is not None:
        faults.append(fault)


def _check_link(path: str, *, is_index: bool) -> Fault | None:
    """Return a fault for a link to anything but a picture: it could point to any file of this machine."""
    if not os.path.islink(path) or (not is_index and not find_reason(path)):  # noqa: PTH114 - as above
        return None
    what = f"it is a link to something that is not a picture: {os.path.realpath(path)}"
    return Fault(path, what, hint="replace it by the file itself, or remove it")


def check_key(path: str, key: str) -> Fault | None:
    """Return the fault for a file's key, None if S3 accepts it."""
    if len(key.encode()) > _KEY_BYTES:
        what = f"its key in the bucket would have {len(key.encode()):,} bytes, more than S3's {_KEY_BYTES:,}"
        return Fault(path, what, hint="shorten the name of the file or of its folders, and split again")
    if _UNSAFE.search(key):
        what = "its name has control characters, which S3 and SageMaker do not handle safely"
        return Fault(path, what, hint="rename the file or its folder, and split again")
    return None


def explain_file(path: str, error: OSError) -> Fault:
    """Return the fault for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return Fault(path, "it was removed", hint="run `classifold split`, then upload again")
    hint = "change its owner or mode, or split again without it"
    return Fault(path, f"it cannot be read: {error.strerror or error}", hint=hint)


def iter_bucket(client: Any, bucket: str, prefix: str) -> Iterator[list[Remote]]:
    """Yield the objects of the bucket below the prefix, in pages of up to a thousand.

    Raises:
        AwsError: The bucket does not exist, or AWS refuses.
    """
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        with aws_errors(f"list s3://{bucket}/{prefix}"):
            page = client.list_objects_v2(**request)
        yield [Remote(one["Key"], one["Size"], one["ETag"]) for one in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def delete_objects(client: Any, bucket: str, keys: Sequence[str], *, advance: Callable[[int], None]) -> int:
    """Delete objects, a thousand per request; with versioning, old versions stay until they expire.

    Returns:
        Number of deleted objects.

    Raises:
        AwsError: Some could not be deleted; the others were.
    """
    faults, safe = list[Fault](), [key for key in keys if not _UNSAFE.search(key)]
    for start in range(0, len(safe), _DELETED_AT_ONCE):
        batch = [{"Key": key} for key in safe[start : start + _DELETED_AT_ONCE]]
        with aws_errors(f"delete objects of s3://{bucket}"):
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        faults += [_explain_kept(bucket, error) for error in answer.get("Errors", ())]
        advance(len(batch))
    # XML cannot hold these keys, but a request for a single object can.
    for key in (key for key in keys if _UNSAFE.search(key)):
        with aws_errors(f"delete s3://{bucket}/{key}"):
            client.delete_object(Bucket=bucket, Key=key)
        advance(1)
    if faults:
        raise AwsError(*limit_faults(faults, what="could not be deleted either", hint=""))
    return len(keys)


def _explain_kept(bucket: str, error: Mapping[str, str]) -> Fault:
    code, where = error.get("Code", ""), f"s3://{bucket}/{error.get('Key', '')}"
    if code == "AccessDenied":
        hint = (
            "ask whoever manages the account for the permission s3:DeleteObject; docs/aws.md has the policy"
        )
        return Fault(where, "the permission s3:DeleteObject is missing", hint=hint)
    return Fault(where, f"it could not be deleted ({code}: {error.get('Message', '')})", hint="try again")


class UnsentError(ClassifoldError):
    """A file cannot be sent; the upload continues with the others."""


def look_at(due: Due) -> LocalFile:
    """Return a file with its current size and time.

    Raises:
        UnsentError: It cannot be read, or was removed.
    """
    try:
        state = Path(due.path).stat()
    except OSError as error:
        raise UnsentError(explain_file(due.path, error)) from error
    return LocalFile(due.key, due.path, state.st_size, state.st_mtime_ns, state.st_ino, is_index=False)


def read_part(file: LocalFile, *, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset` on.

    Raises:
        UnsentError: It was removed or changed, or cannot be read.
    """
    try:
        with open(file.path, "rb", buffering=0) as source:  # noqa: PTH123 - a Path per file is slow
            source.seek(offset)
            data = source.read(size)
            # On some file systems one read returns less than was asked for.
            while len(data) < size and (more := source.read(size - len(data))):
                data += more
            state = os.fstat(source.fileno())
    except OSError as error:
        raise UnsentError(explain_file(file.path, error)) from error
    if (state.st_size, state.st_mtime_ns) != (file.size, file.mtime_ns) or len(data) != size:
        hint = "do not change the pictures during the upload; run `classifold split` and upload again"
        raise UnsentError(Fault(file.path, "it changed while it was sent", hint=hint))
    return data


def compute_crc32(file: LocalFile) -> int:
    """Return the CRC-32 of a whole file, read block by block.

    Raises:
        UnsentError: It was removed or changed, or cannot be read.
    """
    crc32 = 0
    for offset in range(0, file.size, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, file.size - offset)
        crc32 = zlib.crc32(read_part(file, offset=offset, size=size), crc32)
    return crc32


def has_md5(data: bytes, etag: str) -> bool:
    """Tell whether an ETag is the content's MD5: so it is for objects sent in one request without KMS."""
    return etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
