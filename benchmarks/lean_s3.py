"""A stand-in for S3 that does as little as it can, so that what the clients cost is seen.

    python benchmarks/lean_s3.py [MS]   prints its address, and serves until its standard input ends

It takes objects whole and in parts, checks Content-Length and CRC-32, keeps names, sizes and ETags and no
bytes, and lists them. Each answer, "100 Continue" too, comes MS milliseconds late, as over a network. Not for
anything else: it checks no signature.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
import zlib
from collections import Counter
from urllib.parse import parse_qs, quote, unquote

IDENTITY = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/b</Arn>"
    "<UserId>B</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
PAGE = 1000
LATE_SECONDS = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
objects: dict[str, tuple[int, str]] = {}
parts: Counter[str] = Counter()
requests: Counter[str] = Counter()


class Connection(asyncio.Protocol):
    """One client's connection: requests come one after another, and bodies are not kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = bytearray()
        self.head: dict[str, str] | None = None

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.advance():
            pass

    def advance(self) -> bool:
        """Take the next step that the bytes allow; False where more of them are needed."""
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.begin(bytes(self.buffer[:end]).decode("latin-1"))
            del self.buffer[: end + 4]
        piece = self.buffer[: self.missing]
        del self.buffer[: self.missing]
        self.crc32 = zlib.crc32(piece, self.crc32)
        self.missing -= len(piece)
        if self.chunked:
            self.text += piece
        if self.missing:
            return False
        self.end()
        self.head = None
        return bool(self.buffer)

    def begin(self, text: str) -> None:
        first, *lines = text.split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.head = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.missing = self.size = int(self.head.get("content-length", 0))
        self.crc32, self.text = 0, bytearray()
        # The command line's uploads come in signed chunks with the checksum behind them.
        self.chunked = "aws-chunked" in self.head.get("content-encoding", "")
        if "expect" in self.head:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def end(self) -> None:
        path, _, query = self.target.partition("?")
        asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        key = unquote(path).lstrip("/").partition("/")[2]
        requests[f"{self.method} {'part' if 'partNumber' in asked else 'object' if key else 'other'}"] += 1
        if self.method == "PUT" and key:
            self.take(key, asked)
        elif self.method == "POST" and key:
            self.answer_parts(path, key, asked)
        elif path == "/requests":
            self.answer(json.dumps(requests))
            requests.clear()
        elif path == "/clear":
            objects.clear()
            self.answer("")
        elif self.method == "POST":
            self.answer(IDENTITY)
        elif self.method == "GET":
            self.answer(build_page(asked))
        else:
            self.answer("")

    def take(self, key: str, asked: dict[str, str]) -> None:
        given = (self.head or {}).get("x-amz-checksum-crc32")
        if given and base64.b64decode(given) != self.crc32.to_bytes(4, "big"):
            self.answer("<Error><Code>BadDigest</Code><Message>CRC32</Message></Error>", status="400 Bad")
            return
        etag = f'"{self.crc32:032x}"'
        size = int((self.head or {}).get("x-amz-decoded-content-length", self.size))
        if "partNumber" in asked:
            parts[asked["uploadId"]] += size
        else:
            objects[key] = size, etag
        self.answer("", headers=f"ETag: {etag}\r\n")

    def answer_parts(self, path: str, key: str, asked: dict[str, str]) -> None:
        if "uploads" in asked:
            name = f"{path}#{sum(requests.values())}"
            answer = f"<InitiateMultipartUploadResult><UploadId>{quote(name)}</UploadId>"
            self.answer(answer + "</InitiateMultipartUploadResult>")
            return
        objects[key] = parts.pop(asked["uploadId"], 0), '"0-1"'
        answer = "<CompleteMultipartUploadResult><ETag>&quot;0-1&quot;</ETag></CompleteMultipartUploadResult>"
        self.answer(answer)

    def answer(self, body: str, *, status: str = "200 OK", headers: str = "") -> None:
        data = body.encode()
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        self.write(head.encode() + data)

    def write(self, data: bytes) -> None:
        if LATE_SECONDS:
            asyncio.get_running_loop().call_later(LATE_SECONDS, self.transport.write, data)
        else:
            self.transport.write(data)


def build_page(asked: dict[str, str]) -> str:
    """Return a page of ListObjectsV2."""
    prefix, after = asked.get("prefix", ""), unquote(asked.get("continuation-token", ""))
    keys = sorted(key for key in objects if key.startswith(prefix) and key > after)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    rows = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>{now}</LastModified>"
        f"<ETag>{objects[key][1]}</ETag><Size>{objects[key][0]}</Size></Contents>"
        for key in keys[:PAGE]
    )
    more = len(keys) > PAGE
    token = f"<NextContinuationToken>{quote(keys[PAGE - 1])}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
        f"{token}{rows}</ListBucketResult>"
    )


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=256)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
