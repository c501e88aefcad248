"""Addresses of pictures on the web: which texts are ones, and how they are shown without their secrets."""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

# Parameters of a query whose values let their bearer in, such as those of presigned addresses.
_SECRET: Final = re.compile(
    r"sig|token|key|secret|passw|pwd|auth|cred|session|jwt|code|policy|^x-(amz|goog|ms)-", re.IGNORECASE
)
_LONGEST_SHOWN: Final = 64
_HIDDEN: Final = "…"


def is_address(text: str) -> bool:
    """Return whether a text is the address of something on the web."""
    return text[:8].lower().startswith(("http://", "https://"))


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
