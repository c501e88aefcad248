"""Sending single objects to a bucket quickly, each with a CRC-32 that S3 checks."""

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

_PLAIN = "-._~/"  # characters that are not escaped in a URL
_CHECKSUM_HEADER = "x-amz-checksum-crc32"
# Headers of boto3's request that are the same for every object.
_KEPT_HEADERS = ("User-Agent", "x-amz-expected-bucket-owner")
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/([^/]+)/([^/]+)/aws4_request,")
# After this many failures in a row, boto3 sends everything: requests of our own do not work here.
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
    """A stored object: its ETag, and its content's CRC-32 in base64."""

    etag: str
    crc32: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What a request of our own copies from boto3's first request."""

    base_url: str  # the URL before the key
    region: str
    headers: dict[str, str]


class Sender:
    """Sends objects to the data bucket; threads may share it.

    boto3 sends the first object. Further ones are requests of our own after its pattern, which take less
    time to build.

    Args:
        aws: The connection to AWS.
        connections: Maximum number of simultaneous requests.
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
        # The client is shared with the rest of the program.
        self.client.meta.events.unregister("before-send.s3.PutObject", self._note_request)

    def put(self, key: str, body: bytes) -> Stored:
        """Store an object; S3 refuses it if what arrives does not match the checksum.

        Raises:
            AwsError: AWS refuses, or cannot be reached.
        """
        crc32 = encode_crc32(zlib.crc32(body))
        etag = self._put_short(key, body, crc32) or self._put_by_boto3(key, body, crc32)
        return Stored(etag=etag, crc32=crc32)

    def find_crc32(self, key: str) -> int | None:
        """Return the CRC-32 that S3 keeps of a whole object; None if it has none or may not be read.

        Raises:
            AwsError: AWS cannot be reached.
        """
        try:
            with aws_errors(f"look at {self.uri(key)}"):
                head = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except AwsError as error:
            # The permission to read may be missing: then the file is sent again.
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
        # Read again after each failure of a request of our own, since the address may have changed.
        self._pattern = self._read_pattern(key) if self._misses < _MISSES_LIMIT else None
        return str(answer["ETag"])

    def uri(self, key: str) -> str:
        """Return an object's s3:// address."""
        return f"s3://{self.bucket}/{key}"

    def _note_request(self, request: Any, **_: Any) -> None:
        self._latest.request = request

    def _read_pattern(self, key: str) -> _Pattern | None:
        """Return the pattern of the thread's last request by boto3; None if it is of an unusual kind."""
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
        """Send an object with a request of our own and return its ETag; empty if boto3 has to send it."""
        # A client's connections are not public; if they are not found, boto3 sends everything.
        session = getattr(getattr(self.client, "_endpoint", None), "http_session", None)
        pattern = self._pattern
        if pattern is None or session is None:
            return ""
        request = self._build_request(pattern, key, body, crc32)
        try:
            # Frozen, so that another thread cannot renew them in between.
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
        """Return the request that boto3 would send, unsigned and without `Expect: 100-continue`."""
        headers = {
            **pattern.headers,
            "Content-Type": find_content_type(key),
            _CHECKSUM_HEADER: crc32,
            "x-amz-sdk-checksum-algorithm": "CRC32",
        }
        url = pattern.base_url + quote(key, safe=_PLAIN)
        request = AWSRequest("PUT", url, data=body, headers=headers)
        # As in boto3: over TLS the body is not hashed for the signature, since the signed checksum covers it.
        request.context = {
            "client_config": self.client.meta.config,
            "has_streaming_input": True,
            "checksum": {"request_algorithm": {"in": "header", "name": _CHECKSUM_HEADER}},
        }
        return request


def find_content_type(key: str) -> str:
    """Return the media type for a file name's extension."""
    return _CONTENT_TYPES.get(PurePosixPath(key).suffix.lower(), "application/octet-stream")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def encode_crc32(value: int) -> str:
    """Return a CRC-32 as S3 writes it: four big-endian bytes in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def decode_crc32(text: str) -> int:
    """Return the CRC-32 that S3 wrote."""
    return int.from_bytes(base64.b64decode(text), "big")


def join_crc32(first: int, second: int, *, second_bytes: int) -> int:
    """Return the CRC-32 of two concatenated pieces from the CRC-32 of each.

    The first is multiplied by x to the power of the second's bits, modulo the polynomial, as in crc32_combine
    of zlib 1.2.12.

    Args:
        first: CRC-32 of the first piece.
        second: CRC-32 of the second piece.
        second_bytes: Length of the second piece in bytes.
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
