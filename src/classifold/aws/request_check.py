"""Checking a request before it is sent, by boto3's description of the operation."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from classifold import names
from classifold.errors import Fault
from classifold.sagemaker.request import SETTING_OF
from classifold.settings.words import shorten

_OLD_BOTO3 = "if AWS has added it recently: pip install --upgrade boto3"
_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (Mapping,),
    "map": (Mapping,),
    "list": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
}
_WORDS = {
    "structure": "an object",
    "map": "an object",
    "list": "a list",
    "string": "text",
    "integer": "a whole number",
    "long": "a whole number",
    "float": "a number",
    "double": "a number",
    "boolean": "true or false",
}
# Character classes of Java's patterns that Python lacks; the last three replacements are approximate.
_JAVA_CLASSES = {r"\p{Alnum}": "A-Za-z0-9", r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}


def check_request(request: Mapping[str, Any], operation: str = "CreateTrainingJob") -> list[Fault]:
    """Return every fault of a request that AWS would refuse, as far as it can be found without AWS.

    Unknown fields, missing fields, types, lengths, ranges, patterns and choices, each with its path in the
    request. Botocore itself checks only the first three.

    Args:
        request: The operation's parameters.
        operation: SageMaker's operation.
    """
    shape = _load_shape(operation)
    faults = list(_check(request, shape, path=""))
    if operation != "CreateTrainingJob":
        # No template adds to these requests: what is wrong comes from the settings and options alone.
        faults = [
            replace(one, where=f"{operation}: {one.where.partition(': ')[2]}", hint="") for one in faults
        ]
    return faults or _ask_botocore(request, shape)


@functools.cache
def _load_shape(operation: str) -> Any:
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model(operation).input_shape


def _ask_botocore(request: Mapping[str, Any], shape: Any) -> list[Fault]:
    """Return the faults that botocore's own check finds."""
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(dict(request), shape)
    if not report.has_errors():
        return []
    return [Fault("the job's request", line) for line in report.generate_report().splitlines()]


def _check(value: Any, shape: Any, *, path: str) -> Iterator[Fault]:
    kind = shape.type_name
    expected = _TYPES.get(kind)
    is_bool = isinstance(value, bool)
    if expected and (not isinstance(value, expected) or (is_bool and kind != "boolean")):
        yield _fault(path, f"expected {_WORDS[kind]}", got=value)
        return
    yield from _check_limits(value, shape, path=path)
    if kind == "structure":
        yield from _check_structure(value, shape, path=path)
    elif kind == "list":
        for index, one in enumerate(value):
            yield from _check(one, shape.member, path=f"{path}[{index}]")
    elif kind == "map":
        for key, one in value.items():
            yield from _check(key, shape.key, path=f"{path}: the name {key[:40]!r}")
            yield from _check(one, shape.value, path=f"{path}.{key}")


def _check_structure(value: Mapping[str, Any], shape: Any, *, path: str) -> Iterator[Fault]:
    for name in shape.required_members:
        if name not in value:
            yield _fault(_join(path, name), "is missing")
    for name, one in value.items():
        if name in shape.members:
            yield from _check(one, shape.members[name], path=_join(path, name))
            continue
        near = difflib.get_close_matches(name, shape.members, n=1, cutoff=0.6)
        listed = f"{path or 'the request'} takes {', '.join(shape.members)}; {_OLD_BOTO3}"
        hint = f"did you mean {near[0]}?" if near else listed
        yield _fault(_join(path, name), "there is no such field", hint=hint)


def _check_limits(value: Any, shape: Any, *, path: str) -> Iterator[Fault]:
    """Yield faults of bounds, patterns and choices, which botocore describes and does not check."""
    limits = shape.metadata
    size = value if shape.type_name in ("integer", "long", "float", "double") else _length(value)
    low, high = limits.get("min"), limits.get("max")
    if size is not None and ((low is not None and size < low) or (high is not None and size > high)):
        bounds = " to ".join(str(one) for one in (low, high) if one is not None)
        unit = {"string": " characters", "list": " entries", "map": " entries"}.get(shape.type_name, "")
        at_least = "at least " if high is None else ""
        yield _fault(path, f"expected {at_least}{bounds}{unit}", got=value if unit == "" else size)
    choices = limits.get("enum")
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.6)
        listed = f"one of {', '.join(choices)}" if len(choices) <= 12 else "one that boto3 knows"
        hint = f"did you mean {near[0]}?" if near else _OLD_BOTO3
        yield _fault(path, f"expected {listed}", got=value, hint=hint)
    pattern = limits.get("pattern")
    if pattern and isinstance(value, str) and not _matches(pattern, value):
        yield _fault(path, f"expected text of the form {pattern}", got=value)


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, str | Mapping | list | tuple) else None


def _matches(pattern: str, text: str) -> bool:
    """Tell whether the whole text matches the pattern; true if Python cannot read it: AWS will check."""
    for java, python in _JAVA_CLASSES.items():
        # Outside of [...] the class would need its own brackets; the model has them all inside.
        pattern = pattern.replace(java, python)
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return True


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fault(path: str, what: str, *, got: Any = None, hint: str = "") -> Fault:
    """Return the fault at a path in the request, with the origin of its value."""
    setting = next((name for start, name in SETTING_OF.items() if path.startswith(start)), None)
    name = path.partition("HyperParameters.")[2]
    origin = (
        f"setting {name or setting}, or {names.REQUEST_TEMPLATE}"
        if name or setting
        else names.REQUEST_TEMPLATE
    )
    where = f"the job's request: {path}"
    join = "" if not hint else " " if hint.endswith("?") else "; "
    cure = f"{hint}{join}it comes from {origin}"
    return Fault(where, what, hint=cure, got="" if got is None else shorten(got))
