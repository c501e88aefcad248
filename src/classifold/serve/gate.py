"""What every request passes: its id, who may ask, the headers of the answer, errors as JSON, and the log."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
import time
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from classifold.serve.access_log import AccessLog, LoggedRequest
from classifold.serve.answers import JsonResponse
from classifold.serve.errors import ClientGoneError, HttpError
from classifold.serve.options import is_loopback
from classifold.serve.service import Service

REQUEST_ID = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9._:;/=+@-]{1,128}", re.ASCII)
# What holds no secret and is asked for by those who cannot send a key: probes, and a browser's address bar.
_OPEN = frozenset(
    {"/", "/docs", "/openapi.json", "/ping", "/health/live", "/health/ready", "/v2/health/live"}
    | {"/v2/health/ready"}
)
_OPEN_BEGINNING = "/static/"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CLIENT_GONE = 499  # nginx's number for it, in the log alone
# What uvloop says where the client has closed the connection and the server has not been told yet.
_CLOSED = "the handler is closed"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_STOPPED = HttpError(503, "the server stopped before it had the answer", headers={"Connection": "close"})


class Gate:
    """ASGI middleware around all routes.

    Args:
        app: The routes.
        service: The service.
        log: Where requests are logged.
    """

    def __init__(self, app: ASGIApp, service: Service, log: AccessLog) -> None:
        self._app, self._service, self._log = app, service, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Passage(self._app, self._service, self._log, scope).answer(receive, send)


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, app: ASGIApp, service: Service, log: AccessLog, scope: Scope) -> None:
        self._app, self._service, self._log, self._scope = app, service, log, scope
        self._headers = Headers(scope=scope)
        given = self._headers.get(REQUEST_ID, "")
        self._id = given if _ID.fullmatch(given) else secrets.token_hex(16)
        self._status = 0
        scope.setdefault("state", {})["request_id"] = self._id

    async def answer(self, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        self._service.metrics.begin_request()
        self._service.num_requests += 1

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                self._complete(message)
            try:
                await send(message)
            except RuntimeError as error:
                if _CLOSED not in str(error):
                    raise
                raise ClientGoneError from None

        try:
            self._check()
            await self._app(self._scope, receive, send_on)
        except ClientGoneError:
            self._status = _CLIENT_GONE
        except asyncio.CancelledError:
            # The server stops for good: the client is told, as far as it still listens.
            await self._fail(_STOPPED, receive, send_on)
        except Exception as error:
            await self._fail(error, receive, send_on)
        finally:
            self._end(time.monotonic() - began)

    def _check(self) -> None:
        """Refuse who may not ask.

        Raises:
            HttpError: 400, 401, 403 or 421.
        """
        _check_one_host(self._headers, self._scope)
        _check_host(self._headers, self._service)
        _check_origin(self._headers, self._scope["method"])
        key, path = self._service.options.api_key, self._scope["path"]
        if key is None or path in _OPEN or path.startswith(_OPEN_BEGINNING):
            return
        if not _sends_key(self._headers, key):
            hint = "send the header `Authorization: Bearer KEY` or `X-Api-Key: KEY`"
            raise HttpError(
                401, "this server requires an API key", hint=hint, headers={"WWW-Authenticate": "Bearer"}
            )

    def _complete(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(scope=message)
        headers[REQUEST_ID] = self._id
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self._service.is_draining:
            headers["Connection"] = "close"

    async def _fail(self, error: Exception, receive: Receive, send: Send) -> None:
        known = explain_error(error)
        if known is None:
            self._log.say_bug(self._id, "".join(traceback.format_exception(error)))
            known = HttpError(500, "internal error: this is a bug in classifold", hint="see the server's log")
        self._scope["state"]["error"] = known.error
        if not self._status:
            # What an answer leaves unread of the body would be taken for the next request otherwise.
            if self._headers.get("expect"):
                known.headers.setdefault("Connection", "close")
            with contextlib.suppress(ClientGoneError):
                await build_error(known, self._id)(self._scope, receive, send)

    def _end(self, seconds: float) -> None:
        self._service.num_requests -= 1
        if (share := self._scope["state"].get("share")) is not None:
            share.close()
        path, status = _find_route(self._scope), self._status or 500
        self._service.metrics.end_request(path, status, seconds)
        client = self._scope.get("client")
        self._log.write(
            LoggedRequest(
                request_id=self._id,
                client=client[0] if client else "",
                method=self._scope["method"],
                path=self._scope["path"],
                route=path,
                status=status,
                seconds=seconds,
                num_pictures=self._scope["state"].get("num_pictures"),
                error=self._scope["state"].get("error", ""),
            )
        )


def build_error(error: HttpError, request_id: str) -> JsonResponse:
    """Return the answer for a request that is refused."""
    content = {"error": error.error, "request_id": request_id}
    if error.hint:
        content = {"error": error.error, "hint": error.hint, "request_id": request_id}
    return JsonResponse(content, status_code=error.status, headers=error.headers)


def answer_error(request: Request, error: Exception) -> JsonResponse:
    """Return the answer for an error that a route raised; for Starlette's table of handlers."""
    known = explain_error(error)
    if known is None:
        raise error
    request.scope["state"]["error"] = known.error
    if request.headers.get("expect"):
        known.headers.setdefault("Connection", "close")
    return build_error(known, request.scope["state"]["request_id"])


def explain_error(error: Exception) -> HttpError | None:
    """Return the error to answer with; None for a bug of ours."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, HTTPException):
        return HttpError(error.status_code, _describe_status(error), headers=error.headers)
    if isinstance(error, MemoryError):
        return HttpError(503, "there is not enough memory for this request now", headers={"Retry-After": "1"})
    return None


def _describe_status(error: HTTPException) -> str:
    texts = {404: "there is nothing at this address", 405: "this method is not allowed here"}
    return texts.get(error.status_code, error.detail)


def _check_one_host(headers: Headers, scope: Scope) -> None:
    """Refuse a request that names no server, or two: a proxy may take the other one (RFC 9112, section 3.2).

    HTTP/1.0, which health checks of some load balancers speak, has no Host.
    """
    names = headers.getlist("host")
    if len(names) > 1 or (not names and scope["http_version"] == "1.1"):
        what = "two headers Host" if names else "no header Host"
        raise HttpError(400, f"the request has {what}", headers={"Connection": "close"})


def _check_host(headers: Mapping[str, str], service: Service) -> None:
    """Refuse a request that addresses the server by a foreign name.

    A page on the internet can have its own name resolve to 127.0.0.1, and would then pass for a page of this
    server (DNS rebinding). Only the Host header tells.
    """
    options = service.options
    host = _strip_port(headers.get("host", ""))
    # A browser always sends one.
    if not host or not (options.is_loopback or options.allowed_hosts):
        return
    if not (is_loopback(host) or host in map(str.lower, options.allowed_hosts)):
        hint = f"allow it with --allowed-hosts {host[:100]}"
        raise HttpError(421, "the Host header names a host that is not allowed", hint=hint)


def _strip_port(host: str) -> str:
    return re.sub(r":\d*$", "", host.strip().lower())


def _check_origin(headers: Mapping[str, str], method: str) -> None:
    """Refuse what a page of another site lets a visitor's browser send.

    The browser says so in Sec-Fetch-Site, an older one by an Origin that is not the Host. Source: Go's
    net/http.CrossOriginProtection.
    """
    if method in _SAFE_METHODS:
        return
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        origin = headers.get("origin")
        is_own = origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()
    if not is_own:
        hint = "send the request from that site's server, not from its page"
        raise HttpError(403, "requests from pages of other sites are refused", hint=hint)


def _sends_key(headers: Mapping[str, str], key: str) -> bool:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    # Compared in constant time, so that the time tells nothing about how much of it is right.
    return hmac.compare_digest(sent.encode("utf-8", "replace"), key.encode("utf-8"))


def _find_route(scope: Scope) -> str:
    """Return the path of the route that took the request, of which there are few; "other" for none."""
    route, endpoint = scope.get("route"), scope.get("endpoint")
    if route is None and endpoint is not None:  # Starlette below 1.0 tells the function alone
        route = next((one for one in scope["app"].routes if getattr(one, "endpoint", None) is endpoint), None)
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else "other"
