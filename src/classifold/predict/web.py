"""Reads pictures from the web, within bounds on bytes and time."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

import urllib3
from urllib3 import exceptions

import classifold
from classifold.pictures.limits import PictureError, check_bytes
from classifold.predict.addresses import is_address, show_address
from classifold.predict.reading_ahead import LargerError, Remote
from classifold.predict.web_connections import Flight, current, find_proxy, make_pool

# Seconds: for a connection, between two pieces of an answer, and for all of one.
_CONNECT, _IDLE, _WHOLE = 10.0, 20.0, 300.0
_ATTEMPTS, _FIRST_WAIT, _LONGEST_WAIT = 3, 0.5, 10.0
_MOST_REDIRECTS: Final = 5
# Digits of a size; Python refuses to make a number of thousands of them.
_MOST_DIGITS: Final = 18
_MALFORMED: Final = "the server's answer is malformed"
_PIECE: Final = 1 << 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
# zlib's way to say: with the header of gzip, or of zlib itself.
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS


class _PassingError(Exception):
    """A failure that another attempt may not meet.

    Attributes:
        reason: What went wrong, for the user.
        wait: Seconds that the server asks to wait; 0 where it does not.
    """

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class Web:
    """The connections to web servers; threads may share it.

    Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), and the certificates
    of servers are checked against the system's, or those of SSL_CERT_FILE.

    Args:
        max_pixels: Limit of the pixels; what is too large for such a picture is not read.
        whole: Seconds that one picture may take, redirections included.
        idle: Seconds that a server may be silent.
        sleep: Called with the seconds to wait before a retry.
    """

    def __init__(
        self,
        *,
        max_pixels: int,
        whole: float = _WHOLE,
        idle: float = _IDLE,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._max_pixels, self._whole, self._idle, self._sleep = max_pixels, whole, idle, sleep
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._flights: set[Flight] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self, address: str) -> Remote:
        """Return the picture at an address; it is not read yet."""
        return Remote(show_address(address), lambda limit: self.read(address, limit))

    def close(self) -> None:
        """Cut off what is on its way."""
        with self._lock:
            self._is_closed = True
            flights = list(self._flights)
        for flight in flights:
            flight.cut()

    def read(self, address: str, limit: int | None = None) -> bytes:
        """Return the content at an address.

        Args:
            address: The address; a user and a password in it are sent to its own server only.
            limit: Most bytes to read; None for as many as a picture can have.

        Raises:
            PictureError: It cannot be read, with the reason.
            LargerError: It has more than `limit` bytes.
        """
        with self._flying() as flight:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._follow(address, limit)
                except _PassingError as error:
                    if flight.is_cut:
                        raise PictureError(f"it takes longer than {self._whole:.0f} seconds") from error
                    if attempt == _ATTEMPTS:
                        raise PictureError(error.reason) from error
                    wait = error.wait or _FIRST_WAIT * 2 ** (attempt - 1)
                self._sleep(min(wait, _LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _flying(self) -> Iterator[Flight]:
        """Bound the time of what this thread does."""
        flight = Flight()
        timer = threading.Timer(self._whole, flight.cut)
        timer.daemon = True
        with self._lock:
            self._flights.add(flight)
            if self._is_closed:
                flight.cut()
        timer.start()
        current.flight = flight
        try:
            yield flight
        finally:
            current.flight = None
            timer.cancel()
            with self._lock:
                self._flights.discard(flight)

    def _follow(self, address: str, limit: int | None) -> bytes:
        """Return the content at an address, or where it is redirected to."""
        place = address
        for _ in range(_MOST_REDIRECTS + 1):
            with _explained(place):
                response = self._ask(place, user_of=address)
                try:
                    if response.status not in _REDIRECTS:
                        _check_status(response)
                        content = self._receive(response, limit)
                        response.release_conn()
                        return content
                    place = _find_target(place, response.headers.get("Location", ""))
                finally:
                    # A connection that was released is kept; any other has unread bytes.
                    response.close()
        raise PictureError(f"the server redirects more than {_MOST_REDIRECTS} times")

    def _ask(self, place: str, *, user_of: str) -> urllib3.BaseHTTPResponse:
        """Send a request, with the user and the password of an address if the place is on its server."""
        parts = urllib.parse.urlsplit(place)
        headers = {
            "User-Agent": f"classifold/{classifold.__version__}",
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
        }
        original = urllib.parse.urlsplit(user_of)
        if original.username is not None and _origin(original) == _origin(parts):
            login = f"{original.username}:{original.password or ''}"
            headers |= urllib3.make_headers(basic_auth=urllib.parse.unquote(login))
        # Without the user and the password, which a proxy would see otherwise.
        bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        return self._find_pool(parts).request(
            "GET",
            bare,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=_CONNECT, read=self._idle),
        )

    def _find_pool(self, parts: urllib.parse.SplitResult) -> urllib3.PoolManager:
        proxy = find_proxy(parts)
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = make_pool(proxy)
            return self._pools[proxy]

    def _receive(self, response: urllib3.BaseHTTPResponse, limit: int | None) -> bytes:
        self._check_size(_find_length(response), limit)
        content = bytearray()
        while piece := response.read1(_PIECE):
            content += piece
            self._check_size(len(content), limit)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            return bytes(content)
        return self._inflate(bytes(content), encoding, limit)

    def _check_size(self, size: int, limit: int | None) -> None:
        check_bytes(size, max_pixels=self._max_pixels)
        if limit is not None and size > limit:
            raise LargerError

    def _inflate(self, content: bytes, encoding: str, limit: int | None) -> bytes:
        """Return what a server has packed although that was not asked for."""
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise PictureError("the server sends it packed in a way that was not asked for")
        unpacker, whole, rest = zlib.decompressobj(_ANY_HEADER), bytearray(), content
        try:
            while rest and not unpacker.eof:
                whole += unpacker.decompress(rest, 1 << 20)
                self._check_size(len(whole), limit)
                rest = unpacker.unconsumed_tail
        except zlib.error as error:
            raise PictureError(f"what the server sends is damaged: {error}") from error
        return bytes(whole)


def _origin(parts: urllib.parse.SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _find_length(response: urllib3.BaseHTTPResponse) -> int:
    """Return how many bytes an answer is said to have; 0 where nothing is said.

    Raises:
        PictureError: It is no number, so that nobody could tell half of the picture from all of it.
    """
    length = response.headers.get("Content-Length", "").strip()
    if not length or "Transfer-Encoding" in response.headers:
        return 0
    if not (length.isascii() and length.isdecimal() and len(length) <= _MOST_DIGITS):
        raise PictureError(_MALFORMED)
    return int(length)


def _find_target(place: str, location: str) -> str:
    """Return where a redirection leads.

    Raises:
        PictureError: It leads to something else than the web, or from an encrypted connection to an open one.
    """
    try:
        target = urllib.parse.urljoin(place, location)
    except ValueError as error:
        raise PictureError("the server redirects to a malformed address") from error
    if not location or not is_address(target):
        raise PictureError("the server redirects to what is no http or https address")
    if place[:6].lower() == "https:" and target[:6].lower() != "https:":
        raise PictureError("the server redirects from https to http, which is not followed")
    return target


def _check_status(response: urllib3.BaseHTTPResponse) -> None:
    if response.status == HTTPStatus.OK:
        return
    try:
        phrase = f" {HTTPStatus(response.status).phrase}"
    except ValueError:
        phrase = ""
    reason = f"the server answers {response.status}{phrase}"
    if response.status not in _PASSING:
        raise PictureError(reason)
    asked = response.headers.get("Retry-After", "")
    raise _PassingError(reason, wait=float(asked[:6]) if asked.isdecimal() and asked.isascii() else 0.0)


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """Turn what urllib3 raises into a reason; its own messages repeat the address with its secrets."""
    try:
        parts = urllib.parse.urlsplit(place)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise PictureError("the address is malformed") from error
    try:
        yield
    except exceptions.SSLError as error:
        raise PictureError(f"the connection to {host} is not safe: {_find_ssl_reason(error)}") from error
    except exceptions.ProxySchemeUnknown as error:
        raise PictureError("the proxy of the environment is of a kind that is not supported") from error
    except exceptions.ProxyError as error:
        raise _PassingError(f"the proxy cannot be used: {_find_reason(error.original_error)}") from error
    except exceptions.NameResolutionError as error:
        raise _PassingError(f"there is no server called {host}, or no network") from error
    except exceptions.NewConnectionError as error:
        raise _PassingError(f"{host} cannot be reached: {_find_reason(error.__cause__)}") from error
    except exceptions.TimeoutError as error:
        raise _PassingError(f"{host} does not answer in time") from error
    except (exceptions.InvalidHeader, ValueError) as error:
        # These two are ValueErrors as well, and are raised before anything is sent.
        is_address = isinstance(error, exceptions.LocationValueError | UnicodeError)
        raise PictureError("the address is malformed" if is_address else _MALFORMED) from error
    except exceptions.HTTPError as error:
        raise _PassingError(f"the connection to {host} was cut") from error


def _find_ssl_reason(error: BaseException) -> str:
    cause = next((one for one in error.args if isinstance(one, ssl.SSLError)), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    return str(getattr(cause, "reason", "") or "TLS failed")


def _find_reason(error: BaseException | None) -> str:
    """Return what the system says of a failed connection, without an address."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return str(getattr(error, "strerror", "") or "no connection")
