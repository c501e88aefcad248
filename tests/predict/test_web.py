from __future__ import annotations

import base64
import contextlib
import gzip
import io
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classifold.pictures.limits import PictureError
from classifold.predict.reading_ahead import LargerError
from classifold.predict.web import Web

LIMIT = 10**6


def encode_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = encode_picture()


class Server:
    """A web server on this machine, which answers each path as a test says, and notes what it is asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append(
                    (self.path, {name.title(): value for name, value in self.headers.items()})
                )
                server.answers.get(self.path.partition("?")[0], send(404, b"gone"))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self._http.server_port}"
        self.host = f"127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def send(
    status: int = 200, content: bytes = PICTURE, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def in_turn(
    *answers: Callable[[BaseHTTPRequestHandler], None],
) -> Callable[[BaseHTTPRequestHandler], None]:
    rest = list(answers)
    return lambda request: rest.pop(0)(request)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def any_server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


@pytest.fixture
def other() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def web(waits: list[float]) -> Web:
    return Web(max_pixels=LIMIT, idle=0.3, whole=1.0, sleep=waits.append)


@pytest.fixture
def patient(waits: list[float]) -> Web:
    """For tests whose answers must not depend on how busy this machine is."""
    return Web(max_pixels=LIMIT, sleep=waits.append)


def reason(web: Web, address: str) -> str:
    with pytest.raises(PictureError) as caught:
        web.read(address)
    return caught.value.reason


def test_a_picture_is_read_whatever_the_server_calls_it(web: Web, server: Server) -> None:
    server.answers["/a.jpg"] = send(Content_Type="text/html")
    assert web.read(f"{server.url}/a.jpg?id=5") == PICTURE
    path, headers = server.asked[0]
    assert path == "/a.jpg?id=5"
    assert headers["User-Agent"].startswith("classifold/")
    assert "Authorization" not in headers


def test_a_connection_is_kept_for_the_next_picture(web: Web, server: Server) -> None:
    ports = []
    server.answers["/a"] = lambda request: (ports.append(request.client_address[1]), send()(request))[1]
    for _ in range(3):
        web.read(f"{server.url}/a")
    assert len(set(ports)) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "the server answers 404 Not Found"), (403, "403 Forbidden"), (299, "answers 299"), (204, "204")],
)
def test_another_status_is_the_reason_and_is_not_tried_again(
    web: Web, server: Server, status: int, words: str
) -> None:
    server.answers["/a"] = send(status, b"")
    assert words in reason(web, f"{server.url}/a")
    assert len(server.asked) == 1


def test_a_server_that_is_busy_is_asked_again_and_as_late_as_it_wants(
    web: Web, server: Server, waits: list[float]
) -> None:
    server.answers["/a"] = in_turn(send(503, b""), send(429, b"", Retry_After="2"), send())
    assert web.read(f"{server.url}/a") == PICTURE
    assert waits == [0.5, 2.0]


def test_a_server_that_stays_broken_is_asked_three_times(
    web: Web, server: Server, waits: list[float]
) -> None:
    server.answers["/a"] = send(500, b"", Retry_After="99999999")
    assert reason(web, f"{server.url}/a") == "the server answers 500 Internal Server Error"
    assert len(server.asked) == 3
    assert waits == [10.0, 10.0]


def test_redirections_are_followed_but_not_for_ever(web: Web, server: Server, other: Server) -> None:
    server.answers["/a"] = send(302, b"x", Location="/b")
    server.answers["/b"] = send(307, b"", Location=f"{other.url}/c")
    other.answers["/c"] = send()
    assert web.read(f"{server.url}/a") == PICTURE
    server.answers["/loop"] = send(301, b"", Location="/loop")
    assert reason(web, f"{server.url}/loop") == "the server redirects more than 5 times"


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png;base64,AA", ""]
)
def test_a_redirection_to_something_else_than_the_web_is_refused(
    web: Web, server: Server, location: str
) -> None:
    server.answers["/a"] = send(302, b"", Location=location)
    assert reason(web, f"{server.url}/a") == "the server redirects to what is no http or https address"


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://[x]/a", "https://h\uff03/a", "//[", "http://x:99999999/a"]
)
def test_a_redirection_to_a_malformed_address_makes_one_picture_unreadable(
    patient: Web, server: Server, location: str
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        request.wfile.write(head.encode())

    server.answers["/a"] = answer
    assert reason(patient, f"{server.url}/a") in {
        "the server redirects to a malformed address",
        "the address is malformed",
    }


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: abc",
        f"Content-Length: {'9' * 5_000}",
        f"Content-Length: {'0' * 5_000}5",
        "Content-Length: -5",
        "Content-Length: 1_0",
        "Content-Length: \xb2",
        "Content-Length: 5, 5",
        "Content-Length: 5\r\nContent-Length: 6",
    ],
)
def test_a_length_that_is_no_number_makes_one_picture_unreadable(
    patient: Web, server: Server, header: str
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.write(f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode("latin-1") + PICTURE)

    server.answers["/a"] = answer
    assert reason(patient, f"{server.url}/a") == "the server's answer is malformed"
    assert len(server.asked) == 1


@pytest.mark.parametrize("number", [1, 3, 50])
def test_an_answer_may_be_announced_by_others(patient: Web, server: Server, number: int) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        request.wfile.write(hints * number + b"HTTP/1.1 102 Processing\r\n\r\n")
        send()(request)

    server.answers["/a"] = answer
    assert patient.read(f"{server.url}/a") == PICTURE
    assert patient.read(f"{server.url}/a") == PICTURE


def test_a_server_that_announces_an_answer_for_ever_is_given_up(patient: Web, server: Server) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(5_000):
                request.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    server.answers["/a"] = answer
    assert reason(patient, f"{server.url}/a") == "the server's answer is malformed"
    assert len(server.asked) == 1


# Bytes that servers, proxies and captive portals put where a number, an address or a name belongs.
@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(
        ["Content-Length", "Location", "Content-Encoding", "Retry-After", "Transfer-Encoding"]
    ),
    value=st.binary(max_size=30).map(lambda value: value.replace(b"\n", b"").replace(b"\r", b"")),
    status=st.sampled_from([b"200 OK", b"302 Found", b"429 No", b"999 x", b"100 Continue", b"-1", b"abc"]),
)
def test_no_answer_of_a_server_ends_the_call(
    any_server: Server, name: str, value: bytes, status: bytes
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        head = b"HTTP/1.1 " + status + b"\r\n" + name.encode() + b": " + value + b"\r\n\r\n"
        request.wfile.write(head + PICTURE)

    any_server.answers["/a"] = answer
    with contextlib.suppress(PictureError):
        Web(max_pixels=LIMIT, idle=0.2, whole=0.5, sleep=lambda _: None).read(f"{any_server.url}/a")


def test_user_and_password_go_to_their_own_server_only(web: Web, server: Server, other: Server) -> None:
    server.answers["/a"] = send(302, b"", Location=f"{other.url}/c")
    other.answers["/c"] = send()
    web.read(f"http://ann:p%40ss@{server.host}/a")
    assert server.asked[0][1]["Authorization"] == f"Basic {base64.b64encode(b'ann:p@ss').decode()}"
    assert "Authorization" not in other.asked[0][1]
    assert "ann" not in server.asked[0][0]


def test_the_name_and_the_reason_never_show_a_secret(web: Web, server: Server) -> None:
    address = f"http://ann:s3cr3t@{server.host}/a?sig=s3cr3t"
    assert web.open(address).name == f"{server.url}/a?sig=…"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://ann:s3cr3t@127.0.0.1:{closed.getsockname()[1]}/a?sig=s3cr3t"
    for one in (address, nowhere):
        with pytest.raises(PictureError) as caught:
            web.read(one)
        assert "s3cr3t" not in caught.value.reason


def test_a_server_that_cannot_be_reached_is_named(web: Web) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert reason(web, f"http://127.0.0.1:{port}/a") == "127.0.0.1 cannot be reached: Connection refused"
    found = reason(web, "http://no-such-host.invalid/a")
    assert found == "there is no server called no-such-host.invalid, or no network"


@pytest.mark.parametrize("address", ["http://[bad/a", "http://x:99999/a", "http://x:abc/a", "http:///a"])
def test_a_malformed_address_is_said_to_be_one(web: Web, address: str) -> None:
    assert reason(web, address) == "the address is malformed"


def test_a_picture_that_is_too_large_is_refused_by_its_header(web: Web, server: Server) -> None:
    taken = []

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(10**12))
        request.end_headers()
        request.close_connection = True
        with contextlib.suppress(OSError):
            taken.extend(request.wfile.write(bytes(1 << 16)) for _ in range(10_000))

    server.answers["/a"] = flood
    assert "is more than a picture of MAX_PIXELS = 1000000 can have" in reason(web, f"{server.url}/a")
    assert len(taken) < 1_000


def test_a_picture_without_a_size_is_read_up_to_the_limit(web: Web, server: Server) -> None:
    def flood(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.send_response(200)
        request.end_headers()
        for _ in range(2_000):
            request.wfile.write(bytes(1 << 16))

    server.answers["/a"] = flood
    assert "can have" in reason(web, f"{server.url}/a")
    with pytest.raises(LargerError):
        web.read(f"{server.url}/a", 100_000)


def test_a_packed_answer_is_unpacked_within_the_limit(web: Web, server: Server) -> None:
    server.answers["/a"] = send(content=gzip.compress(PICTURE), Content_Encoding="gzip")
    assert web.read(f"{server.url}/a") == PICTURE
    server.answers["/bomb"] = send(content=gzip.compress(bytes(10**8)), Content_Encoding="gzip")
    assert "can have" in reason(web, f"{server.url}/bomb")
    server.answers["/br"] = send(Content_Encoding="br")
    assert "packed in a way that was not asked for" in reason(web, f"{server.url}/br")
    server.answers["/bad"] = send(Content_Encoding="gzip")
    assert "what the server sends is damaged" in reason(web, f"{server.url}/bad")


def test_a_connection_that_is_cut_is_tried_again_and_half_a_picture_is_never_taken(
    web: Web, server: Server
) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.send_response(200)
        request.send_header("Content-Length", str(len(PICTURE)))
        request.end_headers()
        request.wfile.write(PICTURE[:20])

    server.answers["/a"] = in_turn(cut, send())
    assert web.read(f"{server.url}/a") == PICTURE
    server.answers["/b"] = cut
    assert reason(web, f"{server.url}/b") == "the connection to 127.0.0.1 was cut"


def test_a_silent_server_is_given_up(web: Web, server: Server) -> None:
    server.answers["/a"] = lambda _: time.sleep(5)
    begun = time.monotonic()
    assert reason(web, f"{server.url}/a") in (
        "127.0.0.1 does not answer in time",
        "it takes longer than 1 seconds",
    )
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("part", ["headers", "content"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(web: Web, server: Server, part: str) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"
        request.wfile.write(head + (b"\r\n" if part == "content" else b"X-Slow: "))
        try:
            for _ in range(50):
                request.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    server.answers["/a"] = trickle
    begun = time.monotonic()
    assert reason(web, f"{server.url}/a") == "it takes longer than 1 seconds"
    assert time.monotonic() - begun < 3


def test_closing_cuts_off_what_is_on_its_way(server: Server) -> None:
    web = Web(max_pixels=LIMIT, idle=20, whole=60)
    server.answers["/a"] = lambda _: time.sleep(5)
    closing = threading.Timer(0.2, web.close)
    closing.start()
    begun = time.monotonic()
    reason(web, f"{server.url}/a")
    assert time.monotonic() - begun < 3
    closing.join()


def test_a_proxy_of_the_environment_is_used_and_never_sees_the_password(
    web: Web, server: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:pw@{other.host}")
    other.answers[f"{server.url}/a"] = send()
    assert web.read(f"http://ann:s3cr3t@{server.host}/a") == PICTURE
    path, headers = other.asked[0]
    assert path == f"{server.url}/a"
    assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:pw').decode()}"
    assert server.asked == []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers["/a"] = send()
    assert web.read(f"{server.url}/a") == PICTURE
    assert len(server.asked) == 1


def test_a_proxy_that_is_not_there_is_the_reason(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{closed.getsockname()[1]}")
    assert reason(web, "http://example.invalid/a") == "the proxy cannot be used: Connection refused"
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert (
        reason(web, "http://example.invalid/a")
        == "the proxy of the environment is of a kind that is not supported"
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for 127.0.0.1 that nobody has signed but itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(path), "-out", f"{path}.crt", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def safe_server(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    one = Server(context)
    yield one
    one.stop()


def test_a_certificate_that_nobody_vouches_for_is_refused(
    web: Web, safe_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe_server.answers["/a"] = send()
    found = reason(web, f"{safe_server.url}/a")
    assert found.startswith("the connection to 127.0.0.1 is not safe: its certificate is not trusted (self")
    assert safe_server.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    assert Web(max_pixels=LIMIT).read(f"{safe_server.url}/a") == PICTURE


def test_a_redirection_from_https_to_http_is_refused(
    safe_server: Server, server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    safe_server.answers["/a"] = send(302, b"", Location=f"{server.url}/b")
    assert "from https to http" in reason(Web(max_pixels=LIMIT), f"{safe_server.url}/a")
    assert server.asked == []
