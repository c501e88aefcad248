"""One object at a time into a bucket, each with a CRC-32 that S3 checks, in as little work as it takes."""

from __future__ import annotations

import base64
import functools
import re
import threading
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors
from classifold.errors import AwsError

_PLAIN = "-._~/"  # what stands for itself in an address
_CHECKSUM_HEADER = "x-amz-checksum-crc32"
# Of the headers that boto3 made, those that are the same for every object.
_KEPT_HEADERS = ("User-Agent", "x-amz-expected-bucket-owner")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/([^/]+)/([^/]+)/aws4_request,")
# So many failures in a row, and the short way is given up: something on it is not as we think.
_MISSES_LIMIT = 10
_CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".mpo": "image/jpeg",
    ".png": "image/png",
    ".apng": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".dib": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",
    ".json": "application/json",
    ".tar": "application/x-tar",
}
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # the polynomial 1: bits are kept in reversed order


@dataclass(frozen=True, slots=True)
class Stored:
    """What S3 has now: its name for the content, and the content's CRC-32 in base64."""

    etag: str
    crc32: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What boto3 made of a first object."""

    base_url: str  # the key comes behind it
    region: str
    headers: dict[str, str]


class Sender:
    """Puts objects into the data bucket; several threads may use one.

    Args:
        aws: The way in.
        connections: How many requests may be under way at once.
    """

    def __init__(self, aws: Aws, *, connections: int) -> None:
        self.client = aws.client("s3", connections=connections)
        self.bucket = aws.data_bucket
        self._credentials = aws.session.get_credentials()
        self._pattern: _Pattern | None = None
        self._misses = 0
        self._latest = threading.local()
        self.client.meta.events.register("before-send.s3.PutObject", self._note_request)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        # The client is shared with whoever else talks to S3.
        self.client.meta.events.unregister("before-send.s3.PutObject", self._note_request)

    def put(self, key: str, body: bytes) -> Stored:
        """Store an object; S3 refuses it where what arrives has another checksum.

        Raises:
            AwsError: AWS refuses, or there is no way to it.
        """
        crc32 = encode_crc32(zlib.crc32(body))
        etag = self._put_short(key, body, crc32) or self._put_by_boto3(key, body, crc32)
        return Stored(etag=etag, crc32=crc32)

    def find_crc32(self, key: str) -> int | None:
        """Return the CRC-32 that S3 keeps of a whole object, None where it has none or does not say.

        Raises:
            AwsError: There is cannot reach AWS.
        """
        try:
            with aws_errors(f"look at {self.uri(key)}"):
                head = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except AwsError as error:
            # Reading may be refused where writing is not: then the file goes again.
            if isinstance(error.__cause__, ClientError):
                return None
            raise
        text = head.get("ChecksumCRC32", "")
        is_whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in text
        return decode_crc32(text) if text and is_whole else None

    def _put_by_boto3(self, key: str, body: bytes, crc32: str) -> str:
        self._latest.request = None
        with aws_errors(f"send {self.uri(key)}"):
            answer = self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentType=find_content_type(key),
                ChecksumAlgorithm="CRC32",
                ChecksumCRC32=crc32,
            )
        # Made anew after each failure of the short way: the address may have changed.
        self._pattern = self._read_pattern(key) if self._misses < _MISSES_LIMIT else None
        return str(answer["ETag"])

    def uri(self, key: str) -> str:
        """Return an object's address for people."""
        return f"s3://{self.bucket}/{key}"

    def _note_request(self, request: Any, **_: Any) -> None:
        self._latest.request = request

    def _read_pattern(self, key: str) -> _Pattern | None:
        """Return what the thread's last request teaches; None where it is not of the usual kind."""
        request = getattr(self._latest, "request", None)
        if request is None or self._credentials is None:
            return None
        ending = quote(key, safe=_PLAIN)
        scope = _SCOPE.match(_text(request.headers.get("Authorization", "")))
        if scope is None or scope.group(2) != "s3" or not request.url.endswith(f"/{ending}"):
            return None
        headers = {name: _text(request.headers[name]) for name in _KEPT_HEADERS if name in request.headers}
        return _Pattern(request.url.removesuffix(ending), scope.group(1), headers)

    def _put_short(self, key: str, body: bytes, crc32: str) -> str:
        """Return the ETag of the object, "" where it is for boto3 to send it."""
        # No public way leads to a client's connections; without them boto3 sends everything.
        session = getattr(getattr(self.client, "_endpoint", None), "http_session", None)
        pattern = self._pattern
        if pattern is None or session is None:
            return ""
        request = self._build_request(pattern, key, body, crc32)
        try:
            # Frozen, so that a renewal by another thread cannot mix old and new.
            credentials = self._credentials.get_frozen_credentials()
            S3SigV4Auth(credentials, "s3", pattern.region).add_auth(request)
            answer = session.send(request.prepare())
        except BotoCoreError:
            self._misses += 1
            return ""
        is_stored = answer.status_code == 200 and "ETag" in answer.headers
        self._misses = 0 if is_stored else self._misses + 1
        return str(answer.headers["ETag"]) if is_stored else ""

    def _build_request(self, pattern: _Pattern, key: str, body: bytes, crc32: str) -> Any:
        """Return what boto3 would send, not signed yet; it does not ask the server before it sends."""
        headers = {
            **pattern.headers,
            "Content-Type": find_content_type(key),
            _CHECKSUM_HEADER: crc32,
            "x-amz-sdk-checksum-algorithm": "CRC32",
        }
        url = pattern.base_url + quote(key, safe=_PLAIN)
        request = AWSRequest("PUT", url, data=body, headers=headers)
        # As boto3 has it: over TLS the checksum stands for the body, and only the header is signed.
        request.context = {
            "client_config": self.client.meta.config,
            "has_streaming_input": True,
            "checksum": {"request_algorithm": {"in": "header", "name": _CHECKSUM_HEADER}},
        }
        return request


def find_content_type(key: str) -> str:
    """Return the media type that a file's ending promises."""
    return _CONTENT_TYPES.get(PurePosixPath(key).suffix.lower(), "application/octet-stream")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def encode_crc32(value: int) -> str:
    """Return a CRC-32 as S3 writes it: four bytes, big end first, in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def decode_crc32(text: str) -> int:
    """Return the CRC-32 that S3 wrote."""
    return int.from_bytes(base64.b64decode(text), "big")


def join_crc32(first: int, second: int, *, second_bytes: int) -> int:
    """Return the CRC-32 of two pieces after one another, from the CRC-32 of each.

    The first is carried over the bytes of the second, that is multiplied by x to the power of their bits
    modulo the polynomial; as crc32_combine of zlib 1.2.12 does it.

    Args:
        first: Of the first piece.
        second: Of the second piece.
        second_bytes: How long the second piece is.
    """
    return _multiply(_power_of_x(8 * second_bytes), first) ^ second


@functools.lru_cache(maxsize=64)
def _power_of_x(exponent: int) -> int:
    result, square = _ONE, _ONE >> 1  # x itself
    while exponent:
        if exponent & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        exponent >>= 1
    return result


def _multiply(one: int, other: int) -> int:
    """Return the product of two polynomials over GF(2), modulo the CRC's."""
    product, bit = 0, _ONE
    while bit:
        if one & bit:
            product ^= other
        other = (other >> 1) ^ _POLYNOMIAL if other & 1 else other >> 1
        bit >>= 1
    return product
