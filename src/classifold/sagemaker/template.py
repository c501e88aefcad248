"""The user's template of a training job: it is read, its placeholders filled, and merged into the request."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifold import names
from classifold.errors import Fault, SettingsError
from classifold.settings.words import shorten

# Lists whose entries have names: an entry of the template changes ours of the same name, or is added.
_NAMED_LISTS = {"InputDataConfig": "ChannelName", "MetricDefinitions": "Name", "Tags": "Key"}
_PLACEHOLDER = re.compile(r"\$?\$\{([^{}]*)\}")


def read_template(path: Path) -> dict[str, Any]:
    """Return the user's template; an empty one if there is no such file.

    Raises:
        SettingsError: It cannot be read, is not a JSON object, or has a field twice.
    """
    faults: list[Fault] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text, object_pairs_hook=lambda pairs: _read_object(pairs, path, faults))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(Fault(str(path), f"cannot be read: {error.strerror}")) from error
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise SettingsError(Fault(where, f"not valid JSON: {error.msg}", hint="correct this line")) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(Fault(str(path), f"not valid JSON: {error}")) from error
    if not isinstance(found, dict):
        faults.append(
            Fault(str(path), "expected an object of CreateTrainingJob's fields", got=shorten(found))
        )
    if faults:
        raise SettingsError(*faults)
    template: dict[str, Any] = found
    return template


def _read_object(pairs: list[tuple[str, Any]], path: Path, faults: list[Fault]) -> dict[str, Any]:
    found = dict(pairs)
    twice = sorted({name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1})
    faults += [Fault(f"{path}: {name}", "is in the file twice", hint="keep one of them") for name in twice]
    return found


def fill_template(
    template: Mapping[str, Any], values: Mapping[str, Any], *, faults: list[Fault]
) -> dict[str, Any]:
    """Return the template with its placeholders filled.

    A text that is a single placeholder gets the type of its value; `$${` means `${` itself.

    Args:
        template: The template from `read_template`.
        values: Value of each placeholder, by its name.
        faults: Receives a fault for each unknown placeholder.
    """
    filled: dict[str, Any] = _fill(template, values, path="", faults=faults)
    return filled


def _fill(value: Any, values: Mapping[str, Any], *, path: str, faults: list[Fault]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _fill(one, values, path=f"{path}.{name}" if path else name, faults=faults)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_fill(one, values, path=f"{path}[{i}]", faults=faults) for i, one in enumerate(value)]
    if not isinstance(value, str):
        return value
    used = [found[1] for found in _PLACEHOLDER.finditer(value) if not found[0].startswith("$$")]
    unknown = [name for name in used if name not in values]
    faults += [_unknown_placeholder(name, values, path) for name in unknown]
    if unknown:
        return value
    if len(used) == 1 and value == f"${{{used[0]}}}":
        return values[used[0]]
    return _PLACEHOLDER.sub(lambda found: _spell(found, values), value)


def _spell(found: re.Match[str], values: Mapping[str, Any]) -> str:
    value = values.get(found[1])
    if found[0].startswith("$$"):
        return found[0][1:]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unknown_placeholder(name: str, values: Mapping[str, Any], path: str) -> Fault:
    near = difflib.get_close_matches(name.upper(), values, n=1, cutoff=0.5)
    hint = f"did you mean ${{{near[0]}}}? " if near else ""
    hint += "every setting is a placeholder; $${ means ${ itself"
    return Fault(f"{names.REQUEST_TEMPLATE}: {path}", f"there is no placeholder ${{{name}}}", hint=hint)


def merge_template(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by the template's values; fields that it sets to null are left out."""
    merged: dict[str, Any] = _merge(dict(base), dict(own), "")
    return merged


def _merge(base: Any, own: Any, name: str) -> Any:
    if isinstance(base, dict) and isinstance(own, dict):
        merged = {key: _merge(base.get(key), own[key], key) if key in own else base[key] for key in base}
        merged |= {key: _merge(None, value, key) for key, value in own.items() if key not in base}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(own, dict):
        return {key: _merge(None, value, key) for key, value in own.items() if value is not None}
    if isinstance(base, list) and isinstance(own, list) and name in _NAMED_LISTS:
        return _merge_named(base, own, _NAMED_LISTS[name])
    return own


def _merge_named(base: list[Any], own: list[Any], key: str) -> list[Any]:
    """Return the entries of both lists; entries of the same name are merged."""
    merged = {entry[key]: entry for entry in base}
    rest = []
    for entry in own:
        name = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(name, str):
            merged[name] = _merge(merged.get(name), entry, "")
        else:
            rest.append(entry)
    return [*merged.values(), *rest]
