"""What a hostile or broken client sends to `classifold serve`: requests as bytes, drawn from a seed."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

PATHS = ("/predict", "/explain", "/invocations", "/v2/models/NAME/infer", "/predict?top_k=2")
READ_PATHS = (
    "/",
    "/metadata",
    "/metrics",
    "/ping",
    "/docs",
    "/openapi.json",
    "/health/ready",
    "/v2",
    "/nothing",
)
METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "post", "")
PNG = b"\x89PNG\r\n\x1a\n"


def build_request(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/predict",
    kind: str = "image/jpeg",
    headers: tuple[str, ...] = (),
    length: int | str | None = None,
) -> bytes:
    """Return a request; `length` replaces the true length of the body."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, *headers]).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def draw_bytes(rng: random.Random, most: int = 2000) -> bytes:
    return rng.randbytes(rng.randrange(most))


# ---- HTTP itself


def send_garbage(rng: random.Random, _picture: bytes) -> bytes:
    beginnings = (
        *(b"", b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /\r\n\r\n"),
        *(
            b"POST /predict HTTP/9.9\r\n\r\n",
            b"\r\n\r\n\r\n",
            b"GET http://a.b/ HTTP/1.1\r\n\r\n",
            b"\x00" * 50,
        ),
    )
    return rng.choice(beginnings) + draw_bytes(rng)


def send_wrong_method(rng: random.Random, picture: bytes) -> bytes:
    body = picture if rng.random() < 0.3 else b""
    return build_request(body, method=rng.choice(METHODS), path=rng.choice(PATHS + READ_PATHS))


def send_wrong_address(rng: random.Random, picture: bytes) -> bytes:
    odd = rng.choice(
        [
            *(
                "/../../etc/passwd",
                "/static/../../page.py",
                "/static/%2e%2e/page.py",
                "//predict",
                "/predict/",
            ),
            *("/predict%00", "/%ff%fe", "/\udcff", "/predict#x", "*", "/" + "a" * rng.randrange(40_000)),
            *("/predict?" + "a=b&" * rng.randrange(3000), "/predict?top_k=" + "9" * rng.randrange(1, 5000)),
            *("/predict?top_k=-1", "/predict?top_k=1e3", "/predict?top_k=%00", "/predict?top_k=\u0663"),
            *("/explain?neighbours=" + str(rng.randrange(-5, 10**6)), "/v2/models/..%2f..%2f/infer"),
            "/v2/models/" + "x" * rng.randrange(5000) + "/versions/2/infer",
        ]
    )
    return build_request(picture, method=rng.choice(("POST", "GET")), path=odd)


def send_wrong_headers(rng: random.Random, picture: bytes) -> bytes:
    odd = rng.choice(
        [
            ("Content-Length: 5",),
            ("Transfer-Encoding: chunked",),
            ("Transfer-Encoding: gzip, chunked",),
            ("Content-Encoding: gzip",),
            ("Content-Encoding: br, identity",),
            ("Expect: 100-continue",),
            ("Expect: nonsense",),
            (
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Key: AAAA",
                "Sec-WebSocket-Version: 13",
            ),
            ("Host: elsewhere.example",),
            ("Origin: https://elsewhere.example",),
            ("Sec-Fetch-Site: cross-site",),
            ("X-Request-Id: " + "x" * rng.randrange(3000),),
            ("X-Request-Id: \x1b[31m\x00",),
            ("Accept: " + ",".join(["a/b;q=0.1"] * rng.randrange(500)),),
            ("Accept: nonsense",),
            ("X: " + "y" * rng.randrange(100_000),),
            tuple(f"X-{number}: y" for number in range(rng.randrange(3000))),
            ("Cookie: " + "a=b; " * rng.randrange(3000),),
            (": empty name",),
            ("No colon at all",),
            ("Authorization: Bearer " + "z" * rng.randrange(3000),),
            ("Inference-Header-Content-Length: " + str(rng.choice([-1, 0, 10**9, 5, "x", len(picture)])),),
            ("Content-Range: bytes 0-1/2",),
            ("X-Amzn-SageMaker-Custom-Attributes: " + "c" * rng.randrange(2000),),
        ]
    )
    return build_request(picture, path=rng.choice(PATHS), headers=odd)


def send_wrong_length(rng: random.Random, picture: bytes) -> bytes:
    length = rng.choice([10**10, 10**30, -1, "", "0x10", "1, 2", len(picture) // 2, 0, " 7"])
    return build_request(picture, length=length, path=rng.choice(PATHS))


def send_chunks(rng: random.Random, picture: bytes) -> bytes:
    """Chunked bodies: whole, without end, with wrong sizes, in thousands of pieces."""
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [picture[start : start + 500] for start in range(0, len(picture), 500)]
    good = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    wrong = (
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"xyz\r\n",
        b"5\r\nabc",
        b"1;" + b"x" * 5000 + b"\r\na\r\n0\r\n\r\n",
    )
    single = b"".join(b"1\r\na\r\n" for _ in range(rng.randrange(5000))) + b"0\r\n\r\n"
    return head + rng.choice([good, single, *wrong])


def send_pipeline(rng: random.Random, picture: bytes) -> bytes:
    """Many requests in one piece, good and bad in turn."""
    requests = [
        build_request(picture),
        build_request(b"bad"),
        b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ]
    return b"".join(rng.choice(requests) for _ in range(rng.randrange(2, 30)))


# ---- bodies


def send_form(rng: random.Random, picture: bytes) -> bytes:
    boundary = rng.choice(["b", "b" * 70, "b" * 71, "", "é", 'b"; charset=x', "b\x00"])
    line = b"--" + boundary.encode("utf-8")
    name = rng.choice(["a.jpg", "../../etc/passwd", "a\x00b", "\udcff", "n" * 5000, '"; x="', "<script>"])
    disposition = f'Content-Disposition: form-data; name="f"; filename="{name}"'.encode(
        "utf-8", "surrogateescape"
    )
    part = line + b"\r\n" + disposition + b"\r\n\r\n" + picture + b"\r\n"
    body = rng.choice(
        [
            part + line + b"--\r\n",
            part,  # without its end
            part[: len(part) // 2],
            part * rng.randrange(2, 8) + line + b"--\r\n",
            (line + b"\r\n" + disposition + b"\r\n\r\n\r\n") * rng.randrange(300) + line + b"--\r\n",
            (line + b'\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n') * rng.randrange(2000)
            + line
            + b"--",
            line + b"\r\n" + b"X: " + b"h" * rng.randrange(20_000) + b"\r\n\r\n",
            line + b"\r\n" + b"X: y\r\n" * rng.randrange(3000) + b"\r\nz\r\n" + line + b"--",
            line + b"\r\nno header at all" + draw_bytes(rng),
            draw_bytes(rng),
        ]
    )
    return build_request(body, kind=f"multipart/form-data; boundary={boundary}", path=rng.choice(PATHS[:3]))


def send_json(rng: random.Random, picture: bytes) -> bytes:
    good = base64.b64encode(picture).decode()
    depth = rng.randrange(1, 60_000)
    texts: list[Any] = [
        "[" * depth,
        '{"a":' * depth,
        '{"pictures": ' + "[" * depth + "]" * depth + "}",
        '{"picture": ' + "9" * rng.randrange(1, 10_000) + "}",
        '{"picture": NaN}',
        '{"picture": "' + good[:-3] + '"}',
        '{"picture": "!!!!"}',
        '{"picture": "\\ud800"}',
        '{"picture": "data:image/png;base64,' + good + '"}',
        '{"picture": {"$ref": "/etc/passwd"}}',
        json.dumps({"pictures": [{"data": good, "name": "x" * 5000}] * rng.randrange(1, 5)}),
        json.dumps({"pictures": [{"data": ""}] * rng.randrange(2000)}),
        json.dumps({"pictures": [{"name": 5}, None, [], "x"]}),
        json.dumps({"pictures": {"data": good}}),
        json.dumps({"instances": [{"b64": good}, {"b64": 5}]}),
        json.dumps({"picture": good, "name": ["x"]}),
        json.dumps({"picture": [good]}),
        *("null", "5", '"x"', "[]", "{}", "", "{", '{"a": 1}{"b": 2}', "\ufeff{}"),
    ]
    text = rng.choice(texts)
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32"])
    return build_request(text.encode(encoding), kind="application/json", path=rng.choice(PATHS))


def send_tensors(rng: random.Random, picture: bytes) -> bytes:
    """The open inference protocol V2 with inputs that do not fit together."""
    good = base64.b64encode(picture).decode()
    tensor: dict[str, Any] = {
        "name": rng.choice(["picture", "pixels", "", "\x00", 5]),
        "datatype": rng.choice(["BYTES", "FP32", "UINT8", "INT64", "FP16", "bytes", None]),
        "shape": rng.choice(
            [[1], [2], [-1], [0], [10**18], [1, 224, 224, 3], [1.5], "x", [], [10**9] * 9, [True]]
        ),
        "data": rng.choice([[good], [good] * 2, [0.5], [[0.5] * 3] * 3, [], "x", [None], [1e400], [2**70]]),
    }
    if rng.random() < 0.3:
        del tensor[rng.choice(list(tensor))]
    if rng.random() < 0.3:
        tensor["parameters"] = {"binary_data_size": rng.choice([-1, 0, 5, 10**12, "x", len(picture)])}
    asked = {"inputs": [tensor] * rng.randrange(3), "id": rng.choice(["a", 5, "x" * 3000])}
    if rng.random() < 0.3:
        asked["outputs"] = [
            {
                "name": rng.choice(["probabilities", "none", 5]),
                "parameters": {"classification": rng.choice([1, -1, "x", 10**9])},
            }
        ]
    head = json.dumps(asked).encode()
    length = f"Inference-Header-Content-Length: {len(head) + rng.choice([0, 0, 0, -5, 5])}"
    return build_request(head + picture, kind="", path="/v2/models/NAME/infer", headers=(length,))


def send_picture(rng: random.Random, picture: bytes) -> bytes:
    """A picture that is cut, damaged, of another kind, or none at all."""
    damaged = bytearray(picture)
    for _ in range(rng.randrange(1, 20)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    kinds: list[bytes] = [
        picture[: rng.randrange(len(picture))],
        bytes(damaged),
        picture + draw_bytes(rng),
        b"GIF89a" + draw_bytes(rng),
        b"II*\x00" + draw_bytes(rng),
        b"RIFF\xff\xff\xff\xffWEBPVP8 " + draw_bytes(rng),
        b"\x00\x00\x00\x20ftypheic" + draw_bytes(rng),
        b"BM" + draw_bytes(rng),
        b"P6 999999999 999999999 255\n" + draw_bytes(rng),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<?php system('id'); ?>",
        b"%!PS\n" + draw_bytes(rng),
        gzip.compress(picture),
        draw_bytes(rng, 100_000),
    ]
    return build_request(
        rng.choice(kinds), path=rng.choice(PATHS[:3]), kind=rng.choice(["image/png", "", "image/x"])
    )


def build_bomb(width: int, height: int, *, is_true: bool = True) -> bytes:
    """Return a PNG of one colour, small as a file; without `is_true` it only claims to be so large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + width)
    rows = height if is_true else 1
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    content = PNG
    for kind, part in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return content


@functools.cache
def draw_bombs() -> list[bytes]:
    """Return decompression bombs: pictures and bodies that are small as bytes and huge unpacked."""
    from PIL import Image

    many = io.BytesIO()
    frames = [Image.new("P", (500, 500), number) for number in range(60)]
    frames[0].save(many, "GIF", save_all=True, append_images=frames[1:])
    return [
        build_bomb(30_000, 30_000, is_true=False),
        build_bomb(2**31 - 1, 2**31 - 1, is_true=False),
        build_bomb(200_000, 400),
        build_bomb(9_000, 9_000),
        many.getvalue(),
        gzip.compress(bytes(50_000_000), 1),
    ]


def send_bomb(rng: random.Random, _picture: bytes) -> bytes:
    headers = ("Content-Encoding: gzip",) if rng.random() < 0.2 else ()
    return build_request(rng.choice(draw_bombs()), kind="image/png", headers=headers)


def send_large(rng: random.Random, picture: bytes) -> bytes:
    """More than the server takes: it must stop reading, not read all and then refuse."""
    return build_request(picture + bytes(rng.randrange(1_000_000, 4_000_000)), path=rng.choice(PATHS))


def send_good(rng: random.Random, picture: bytes) -> bytes:
    return build_request(picture, path=rng.choice(("/predict", "/invocations")))


# What is sent, and how often beside the others.
ATTACKS: dict[Callable[[random.Random, bytes], bytes], int] = {
    send_garbage: 10,
    send_wrong_method: 10,
    send_wrong_address: 10,
    send_wrong_headers: 20,
    send_wrong_length: 4,
    send_chunks: 6,
    send_pipeline: 3,
    send_form: 20,
    send_json: 20,
    send_tensors: 15,
    send_picture: 20,
    send_bomb: 2,
    send_large: 3,
    send_good: 10,
}
