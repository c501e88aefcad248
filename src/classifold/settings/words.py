"""Messages about settings: the values that one accepts, what is wrong with a value, which name was meant."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from classifold.errors import Fault

# Names that other tools use for a setting, too different to be found by similarity.
_OTHER_NAMES = {
    "BASE_MODEL": "BACKBONE",
    "BUCKET": "PROJECT_NAME",
    "CLIPNORM": "GRADIENT_CLIP",
    "HIDDEN_LAYERS": "HEAD_LAYERS",
    "IMG_SIZE": "IMAGE_SIZE",
    "INPUT_SHAPE": "IMAGE_SIZE",
    "LR": "LEARNING_RATE",
    "MODEL": "BACKBONE",
    "MODEL_NAME": "BACKBONE",
    "PATIENCE": "EARLY_STOPPING_PATIENCE",
    "REGION": "PROJECT_REGION",
    "SEED": "RANDOM_SEED",
    "TARGET_SIZE": "IMAGE_SIZE",
    "WEIGHTS": "BACKBONE_WEIGHTS",
    "WORKERS": "NUM_WORKERS",
}


def explain_unknown(name: str, *, source: str, known: Mapping[str, object]) -> Fault:
    """Return the fault for a name that is not a setting, with the most similar one as a hint."""
    near = find_setting(name, known)
    hint = f"did you mean {near}?" if near else "docs/settings.md lists every setting"
    if source.endswith(".py"):
        own = "constant of your own begins with _"
        hint += f" A {own}" if near else f"; a {own}"
    return Fault(f"setting {name} ({source})", "this setting does not exist", hint=hint)


def find_setting(name: str, known: Iterable[str]) -> str | None:
    """Return the setting that a misspelt or foreign name most likely means, or None."""
    upper = name.upper().replace("-", "_")
    if upper in _OTHER_NAMES:
        return _OTHER_NAMES[upper]
    near = difflib.get_close_matches(upper, known, n=1, cutoff=0.6)
    return near[0] if near else None


def explain_value(name: str, value: object, *, source: str, field: FieldInfo) -> Fault:
    """Return the fault for a value that its setting does not accept: what it accepts, and the cure."""
    return Fault(
        where=f"setting {name} ({source})",
        what=f"expected {describe_field(field)}",
        got=shorten(value),
        hint=_find_cure(name, value, field),
    )


def _find_cure(name: str, value: object, field: FieldInfo) -> str:
    """Return how to write the value that was most likely meant; empty where that is not clear."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name.startswith("PERCENTAGE") and is_number and 1 <= value < 100:  # type: ignore[operator]
        return f"write it as a share: {name} = {value / 100:g}"  # type: ignore[operator]
    if name == "HEAD_LAYERS" and is_number:
        return f"write it as {name} = ({value},)"
    if isinstance(value, str):
        choices = [choice for choice in _list_choices(field.annotation) if isinstance(choice, str)]
        near = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.6)
        return f'write {name} = "{near[0]}"' if near else ""
    return ""


def _list_choices(annotation: Any) -> list[object]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _list_choices(part)]


def describe_field(field: FieldInfo) -> str:
    """Return the values that a setting accepts, in words: `a whole number from 1 to 4096`."""
    return _describe(field.annotation, field.metadata)


def _describe(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(parts[0], [limit for extra in parts[1:] for limit in _unpack(extra)])
    if origin is Literal:
        *first, last = [json.dumps(choice) for choice in parts]
        return f"{', '.join(first)} or {last}" if first else last
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is tuple and parts[0] is str:
        return 'a tuple or list of texts, such as ("one", "two")'
    if origin is tuple and get_args(parts[0])[:1] == (float,):
        return "a tuple or list of numbers above 0, such as (0.3, 0.1)"
    if origin is tuple:
        return "a tuple or list of whole numbers of at least 1, such as (256, 64)"
    if origin is dict:
        return f"a dict such as {{{_EXAMPLES[parts]}}}"
    return (_NOUNS[annotation] + _describe_limits(metadata)).strip()


_NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
_EXAMPLES = {(str, str): '"Project": "flowers"', (str, float): '"daisy": 1.5, "rose": 1.0'}


def _unpack(extra: Any) -> list[Any]:
    return list(extra.metadata) if isinstance(extra, FieldInfo) else [extra]


def _describe_limits(metadata: Iterable[Any]) -> str:
    """Return the bounds of a number in words, or that a text must not be empty."""
    # pydantic keeps each bound as an object of class Ge, Gt, Le, Lt or MinLen with an attribute of that name.
    found = {type(limit).__name__: limit for limit in metadata}
    if "MinLen" in found:
        return " that is not empty"
    if "Gt" in found:
        low, join = f" above {found['Gt'].gt}", " and up"
    elif "Ge" in found:
        low, join = f" from {found['Ge'].ge}", ""
    else:
        return ""
    if "Le" in found:
        return f"{low}{join} to {found['Le'].le}"
    if "Lt" in found:
        return f"{low}{join} to below {found['Lt'].lt}"
    return low.replace(" from", " of at least")


def shorten(value: object) -> str:
    """Return the value as Python writes it, shortened to about 100 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
