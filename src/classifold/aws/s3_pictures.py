"""Reads pictures and archives of runs from any bucket that the user's credentials open, or that is public."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from botocore.exceptions import ParamValidationError

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors, error_code, is_denied
from classifold.dataset.leftovers import reason_to_pass_over
from classifold.errors import AwsError, DataError, DiskError, Fault, MissingError
from classifold.pictures.formats import PICTURE_ENDINGS
from classifold.pictures.limits import PictureError, check_bytes
from classifold.predict.addresses import show_given
from classifold.predict.reading_ahead import LargerError, Remote
from classifold.predict.sources import Passed, show_path
from classifold.progress import show_progress
from classifold.settings.config import Config

_SCHEME: Final = "s3://"
_CONNECTIONS: Final = 16
# Storage classes whose objects must be restored before they can be read.
_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_MALFORMED: Final = frozenset({"InvalidBucketName", "InvalidURI", "KeyTooLongError"})
_RESTORE: Final = "the object is archived; restore it first, for instance with: aws s3api restore-object"
_VIDEO_ENDINGS: Final = frozenset(
    {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv"}
)
_VIDEO_CURE: Final = "videos are read from this machine only: copy them here"
_UNSIGNED: Final = "there are no AWS credentials, and this is not public"
_UNSIGNED_HINT: Final = "run `aws configure`, or set AWS_PROFILE to a profile that has credentials"
# Names that buckets have; old ones may be longer and have capitals and underscores.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MOST_KEY_BYTES: Final = 1024
_HINT: Final = "write s3://bucket/prefix"
_HEADROOM: Final = 1.5  # room on the disk, in sizes of the archive


class S3Pictures:
    """The user's way to pictures in S3; threads may share it.

    A bucket may be another account's, so no expected owner is sent: nothing but public or shared pictures
    could come from a bucket of a wrong name, and nothing is ever written. Requests that S3 charges the user
    for as the requester ("requester pays") are not made.

    Args:
        config: The settings.
        max_pixels: Limit of a picture's pixels.
    """

    def __init__(self, config: Config, *, max_pixels: int) -> None:
        aws = Aws(config)
        self._is_signed = aws.has_credentials()
        self._client: Any = aws.open_any_bucket(connections=_CONNECTIONS, is_signed=self._is_signed)
        self._max_pixels = max_pixels

    # Pictures

    def find(self, address: str, passed: Passed) -> Iterator[Remote]:
        """Yield the object that an address names, or the pictures below it, in the order of their keys.

        An address with the ending of a picture is that of one object, and asks for nothing else. Any other
        one is listed, 1,000 objects with a request. Objects are chosen by the endings of their keys, since
        looking into each would be a request.

        Args:
            address: s3://bucket, s3://bucket/prefix or s3://bucket/prefix/picture.jpg.
            passed: Counts what is no picture by its ending.

        Raises:
            DataError: The address has no bucket, or names nothing.
            AwsError: AWS refuses, or cannot be reached.
        """
        bucket, key = _parse(address)
        if _find_ending(key) in PICTURE_ENDINGS:
            yield self.open(address)
            return
        prefix = key if not key or key.endswith("/") else f"{key}/"
        is_empty = True
        for listed in self._list(bucket, prefix):
            is_empty = False
            if self._is_picture(listed, prefix, passed):
                yield self._open_listed(bucket, listed)
        if is_empty:
            yield self._find_one(address, bucket, key)

    def open(self, address: str) -> Remote:
        """Return the object at an address; it is not read yet.

        Raises:
            DataError: The address has no bucket or no key.
        """
        bucket, key = _parse(address)
        if not key or key.endswith("/"):
            raise DataError(Fault(address, "expected the address of one picture", "name its key"))
        return Remote(address, lambda limit: self._fetch(bucket, key, limit))

    def _list(self, bucket: str, prefix: str, *, most: int | None = None) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig={"MaxItems": most}
        )
        with self._asking(f"list {_SCHEME}{bucket}/{prefix}"):
            for page in pages:
                yield from page.get("Contents", [])

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what boto3 raises into an AwsError; a refusal without credentials says that there are none."""
        try:
            with aws_errors(doing):
                yield
        except AwsError as error:
            cause = error.__cause__
            if self._is_signed or not isinstance(cause, Exception) or not is_denied(cause):
                raise
            raise AwsError(Fault(error.faults[0].where, _UNSIGNED, _UNSIGNED_HINT)) from cause

    def _is_picture(self, listed: dict[str, Any], prefix: str, passed: Passed) -> bool:
        key = str(listed["Key"])
        if key.endswith("/"):  # a console's mark of a folder, which holds nothing
            return False
        reasons = filter(None, map(reason_to_pass_over, key.removeprefix(prefix).split("/")))
        if reason := next(reasons, ""):
            passed.add(key, reason=reason)
            return False
        ending = _find_ending(key)
        if ending in PICTURE_ENDINGS:
            return True
        passed.add(key, remark=_VIDEO_CURE if ending in _VIDEO_ENDINGS else "")
        return False

    def _open_listed(self, bucket: str, listed: dict[str, Any]) -> Remote:
        key, size = str(listed["Key"]), int(listed["Size"])
        address = f"{_SCHEME}{bucket}/{key}"
        if listed.get("StorageClass") in _ARCHIVED:
            return Remote(address, lambda _: _refuse(_RESTORE))
        if not size:
            return Remote(address, lambda _: _refuse("the file is empty"))
        return Remote(address, lambda limit: self._fetch(bucket, key, limit), size)

    def _find_one(self, address: str, bucket: str, key: str) -> Remote:
        """Return the object of a key that nothing is below."""
        # A key is the first of those that begin with it.
        first = next(self._list(bucket, key, most=1), None) if key else None
        if first is None or (first["Key"] != key):
            near = "" if first is None else f"; a key that begins so is {first['Key']}"
            raise DataError(
                Fault(address, f"there are no objects below this prefix{near}", "check the address")
            )
        return self._open_listed(bucket, first)

    def _fetch(self, bucket: str, key: str, limit: int | None) -> bytes:
        """Return an object's bytes.

        Raises:
            PictureError: There is no such object, it may not be read, or it is too large.
            LargerError: It has more than `limit` bytes.
            AwsError: AWS refuses for a reason that has nothing to do with this object.
        """
        try:
            with self._asking(f"read {_SCHEME}{bucket}/{key}"):
                answer = self._client.get_object(Bucket=bucket, Key=key)
                size, body = int(answer["ContentLength"]), answer["Body"]
                try:
                    check_bytes(size, max_pixels=self._max_pixels)
                    if limit is not None and size > limit:
                        raise LargerError
                    return bytes(body.read())
                finally:
                    body.close()
        except MissingError as error:
            raise PictureError("there is no such object") from error
        except AwsError as error:
            if reason := self._find_reason(error):
                raise PictureError(reason) from error
            raise

    def _find_reason(self, error: AwsError) -> str:
        """Return why one object cannot be read; empty if no other could be read either."""
        cause = error.__cause__
        if not isinstance(cause, Exception):
            return ""
        if error_code(cause) == "InvalidObjectState":
            return _RESTORE
        if isinstance(cause, ParamValidationError) or error_code(cause) in _MALFORMED:
            return "the address is malformed"
        return error.faults[0].what if is_denied(cause) else ""

    # Archives

    def find_version(self, address: str) -> str:
        """Return the entity tag and the size of an object, which change with its content.

        Raises:
            AwsError: There is no such object, AWS refuses, or cannot be reached.
        """
        answer = self._look_at(address)
        return f"{answer['ETag']} {answer['ContentLength']}"

    def download(self, address: str, target: Path) -> None:
        """Write an object to a file.

        Raises:
            AwsError: There is no such object, AWS refuses, or cannot be reached.
            DiskError: There is no room for it, and for what it is unpacked to.
        """
        bucket, key = _parse(address)
        size, free = int(self._look_at(address)["ContentLength"]), shutil.disk_usage(target.parent).free
        if free < _HEADROOM * size:
            what = (
                f"the archive needs about {_HEADROOM * size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
            )
            raise DiskError(Fault(str(target.parent), what, "free some space"))
        with (
            self._asking(f"download {address}"),
            show_progress("downloading", size, unit="bytes") as advance,
        ):
            self._client.download_file(bucket, key, str(target), Callback=advance)

    def _look_at(self, address: str) -> dict[str, Any]:
        bucket, key = _parse(address)
        with self._asking(f"read {address}"):
            return dict(self._client.head_object(Bucket=bucket, Key=key))


def _refuse(reason: str) -> NoReturn:
    raise PictureError(reason)


def _find_ending(key: str) -> str:
    name = key.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _parse(address: str) -> tuple[str, str]:
    """Return bucket and key of an address.

    Raises:
        DataError: It has no bucket, or S3 has none of this name, or no key of this form.
    """
    bucket, _, key = address[len(_SCHEME) :].partition("/")
    if not bucket:
        raise DataError(Fault(address, "the address has no bucket", _HINT))
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        what = "the address is malformed: no bucket can have this name"
        raise DataError(Fault(show_given(address), what, _HINT))
    if not _is_key(key):
        what = f"the address is malformed: a key is UTF-8 of at most {_MOST_KEY_BYTES:,} bytes"
        raise DataError(Fault(show_path(address), what, "check the address"))
    return bucket, key


def _is_key(key: str) -> bool:
    try:
        return len(key.encode("utf-8")) <= _MOST_KEY_BYTES
    except UnicodeEncodeError:  # bytes of a list of names that are not UTF-8
        return False
