"""Addresses of pictures on the web: which texts are ones, and how they are shown without their secrets."""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

# Parameters of a query whose values let their bearer in, such as those of presigned addresses.
_SECRET: Final = re.compile(
    r"sig|token|key|secret|passw|pwd|auth|cred|session|jwt|code|policy|^x-(amz|goog|ms)-", re.IGNORECASE
)
# How addresses begin, also mistyped ones: a scheme and slashes, or a scheme and a user with a password.
_TYPED: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]+:(?://|/?(?=[^/@]*:[^/@]*@)))(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)
_LONGEST_SHOWN: Final = 64
_HIDDEN: Final = "…"


def is_address(text: str) -> bool:
    """Return whether a text is the address of something on the web."""
    return text[:8].lower().startswith(("http://", "https://"))


def looks_like_address(text: str) -> bool:
    """Return whether a text that is no file's name looks like an address, of whatever kind and however typed.

    A letter and a colon are a drive of Windows. A colon within a name counts only if what follows has the
    form of a user on a server.
    """
    return bool(_TYPED.match(text))


def show_given(text: str) -> str:
    """Return a text that a user gave for a picture, without the secrets that it holds if it is an address.

    Call it only for what is no path of an existing file, whose name must be shown exactly.
    """
    if is_address(text):
        return show_address(text)
    typed = _TYPED.match(text)
    if typed is None:
        return text
    if "@" in typed["rest"]:
        # Up to the last one: a password may hold any character, also `/` and `@`.
        return f"{typed['scheme']}{typed['rest'].rpartition('@')[2]}"
    return text if _is_s3(text) else show_address(text)


def show_address(address: str) -> str:
    """Return an address as answers and messages show it: without a user, a password, or secrets of its query.

    Hidden are the values of parameters that are called like a secret, and all long ones.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return f"{address.partition('://')[0]}://{_HIDDEN}"
    query = "&".join(_show_parameter(one) for one in parts.query.split("&"))
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _show_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return name if len(name) <= _LONGEST_SHOWN else _HIDDEN
    is_secret = _SECRET.search(urllib.parse.unquote(name)) or len(value) > _LONGEST_SHOWN
    return f"{name}={_HIDDEN}" if is_secret else parameter
