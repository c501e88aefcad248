"""Addresses of pictures on the web: which texts are ones, and how they are shown without their secrets."""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

# Parameters of a query whose values let their bearer in, such as those of presigned addresses.
_SECRET: Final = re.compile(
    r"sig|token|key|secret|passw|pwd|auth|cred|session|jwt|code|policy|^x-(amz|goog|ms)-", re.IGNORECASE
)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# How an address with too few slashes, or too many, begins; a single letter would be a drive of Windows.
_MISTYPED: Final = re.compile(
    r"[\s'\"<]*(?P<scheme>(?P<web>(?=https?:))?[a-z][a-z0-9+.-]+:/{0,3})|(?://)?", re.IGNORECASE
)
_LONGEST_SHOWN: Final = 64
_PORT: Final = re.compile(r"[^:]*(:[0-9]*)?")
_HIDDEN: Final = "…"


def is_address(text: str) -> bool:
    """Return whether a text is the address of something on the web."""
    return text[:8].lower().startswith(("http://", "https://"))


def show_given(text: str) -> str:
    """Return a text that was given for a picture as answers and messages show it: without a password.

    Whatever its scheme, and also where it is mistyped, such as `https:ann:pw@server/a.jpg`. Call it only for
    what is no existing file, whose name must be shown exactly.
    """
    if found := _SCHEME.search(text):  # a list may have quotes or blanks around its addresses
        begin, address = text[: found.start()], text[found.start() :]
        return begin + (_show_s3(address) if found[0].lower() == "s3://" else show_address(address))
    typed = _MISTYPED.match(text)
    if typed is None:
        return text
    begin, rest = text[: typed.end()], text[typed.end() :]
    authority = rest.partition("/")[0]
    if typed["scheme"] is None:
        is_user = ":" in authority and "@" in authority and "\\" not in authority
    else:  # a password may hold a slash, and a question mark
        is_user = "@" in (rest if ":" in authority else authority)
    shown = f"{_HIDDEN}@{rest.rpartition('@')[2]}" if is_user else rest
    shown, question, query = (shown, "", "") if typed["web"] is None else shown.partition("?")
    return f"{begin}{shown}{question}{_show_query(query)}"


def _show_s3(address: str) -> str:
    """Return an address in S3 without a user, which it cannot have; the key is shown exactly."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    if "@" not in rest or (bucket and not set(":@") & set(bucket)):
        return address
    if "@" in bucket and "@" not in key:
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return f"{scheme}://{_HIDDEN}"  # a secret key with a slash


def show_address(address: str) -> str:
    """Return an address as answers and messages show it: without a user, a password, or secrets of its query.

    Hidden are the values of parameters that are called like a secret, and all long ones.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return f"{address.partition('://')[0]}://{_HIDDEN}"
    host = parts.netloc.rpartition("@")[2]
    is_odd = "@" in parts.netloc or not host or not _PORT.fullmatch(host.rpartition("]")[2])
    if is_odd and "@" in address.partition("://")[2].removeprefix(parts.netloc):
        # The password has a slash, a question mark or a hash in it: what follows is no port and no path.
        return f"{parts.scheme}://{_HIDDEN}"
    query = _show_query(parts.query)
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, query, ""))


def _show_query(query: str) -> str:
    return "&".join(map(_show_parameter, query.split("&")))


def _show_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return name if len(name) <= _LONGEST_SHOWN else _HIDDEN
    is_secret = _SECRET.search(urllib.parse.unquote(name)) or len(value) > _LONGEST_SHOWN
    return f"{name}={_HIDDEN}" if is_secret else parameter
