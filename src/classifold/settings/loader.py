"""The one loader of the settings: defaults, config.py, a job's hyperparameters, FOLDER, then --set.

Reading settings never imports TensorFlow or NumPy.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from classifold import names
from classifold.errors import Fault, SettingsError
from classifold.settings.config import RECIPES, Config, PathText
from classifold.settings.file import read_config_file
from classifold.settings.folder import name_folder
from classifold.settings.rules import find_problems
from classifold.settings.words import explain_unknown, explain_value

DEFAULT_CONFIG_PATH = Path(names.CONFIG_FILE)


def load_config(
    path: Path | None = None,
    *,
    hyperparameters: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> Config:
    """Return the settings: defaults < config.py < hyperparameters < folder < overrides.

    Args:
        path: The settings file; None means `container/modeling/config.py`. The file must exist.
        hyperparameters: A training job's hyperparameters by name, every value a string.
        overrides: `NAME=VALUE` strings, as given to `--set`.
        folder: The folder of pictures that a command was given in place of the file's.

    Raises:
        SettingsError: With every fault that was found, not only the first.
    """
    faults: list[Fault] = []
    path = path or DEFAULT_CONFIG_PATH
    layers = {
        str(path): read_config_file(path, known=Config.model_fields, faults=faults),
        "hyperparameters": {name: parse_value(name, text) for name, text in (hyperparameters or {}).items()},
    }
    return _merge_over(layers, _read_overrides(overrides, faults), folder, faults)


def override_config(overrides: Sequence[str], *, folder: Path | None = None) -> Config:
    """Return the defaults, changed by a folder and `NAME=VALUE` strings, where there is no settings file.

    Raises:
        SettingsError: With every fault that was found.
    """
    faults: list[Fault] = []
    return _merge_over({}, _read_overrides(overrides, faults), folder, faults)


def choose_config(given: Config | Path | None, chosen: Mapping[str, Any], *, folder: Path) -> Config:
    """Return the settings of a call from Python: defaults < `given` < folder < `chosen`.

    Args:
        given: Settings, or the path of a settings file; None for the defaults.
        chosen: Settings by name, the keyword arguments of the call.
        folder: The folder of pictures that the call is about.

    Raises:
        SettingsError: With every fault that was found.
    """
    faults: list[Fault] = []
    if isinstance(given, Path):
        hint = "config= takes the path of a settings file, from the folder in which Python runs"
        layers = {str(given): read_config_file(given, known=Config.model_fields, faults=faults, hint=hint)}
    else:
        layers = {} if given is None else {"config": _list_own(given, chosen)}
    return _merge_over(layers, chosen, folder, faults, source="argument")


def _list_own(given: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the user set, without those of a recipe that another one replaces."""
    recipe = RECIPES.get(given.RECIPE, {}) if "RECIPE" in chosen else {}
    values = given.model_dump(exclude_unset=True)
    return {name: value for name, value in values.items() if name not in recipe or value != recipe[name]}


def _merge_over(
    layers: Mapping[str, Mapping[str, Any]],
    chosen: Mapping[str, Any],
    folder: Path | None,
    faults: list[Fault],
    *,
    source: str = "--set",
) -> Config:
    """Return the settings of some layers, changed by the folder and by what `source` chose."""
    before = {name: value for layer in layers.values() for name, value in layer.items()}
    named: Mapping[str, Any] = {}
    if folder is not None:
        named = name_folder(folder, before=before, chosen=chosen, source=source, faults=faults)
    return _merge_layers({**layers, "FOLDER": named, source: chosen}, faults)


def read_hyperparameters(texts: Mapping[str, str], *, fixed: Mapping[str, Any]) -> Config:
    """Return a job's settings: defaults < hyperparameters < `fixed`.

    Args:
        texts: The job's hyperparameters by name, every value a string.
        fixed: Settings that the container decides, such as the folders that it mounts.

    Raises:
        SettingsError: With every fault that was found.
    """
    given = {name: parse_value(name, text) for name, text in texts.items()}
    return _merge_layers({"hyperparameters": given, "container": fixed}, [])


def to_hyperparameters(config: Config) -> dict[str, str]:
    """Return every setting as the string that `parse_value` reads back, for a job's hyperparameters."""
    return {name: _as_text(name, value) for name, value in config.model_dump(mode="json").items()}


def build_config(values: Mapping[str, Any]) -> Config:
    """Return the defaults, changed by `values`; for tests and for saved settings.

    Raises:
        SettingsError: With every fault that was found.
    """
    return _merge_layers({"settings": values}, [])


def _merge_layers(layers: Mapping[str, Mapping[str, Any]], faults: list[Fault]) -> Config:
    """Return the settings of all layers, later ones overriding earlier ones; raise all faults together."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers.items():
        for name, value in layer.items():
            if name in Config.model_fields:
                values[name], sources[name] = value, source
            else:
                faults.append(explain_unknown(name, source=source, known=Config.model_fields))
    for name, value in RECIPES.get(str(values.get("RECIPE")), {}).items():
        if name not in values:
            values[name], sources[name] = value, "RECIPE"
    config = None
    try:
        config = Config(**values)
        faults += find_problems(config)
    except ValidationError as error:
        faulty = {str(problem["loc"][0]) for problem in error.errors()}
        faults += [
            explain_value(name, values[name], source=sources[name], field=Config.model_fields[name])
            for name in values
            if name in faulty
        ]
        # How the settings fit together is checked all the same, with defaults in place of the faulty ones.
        faults += find_problems(
            Config(**{name: value for name, value in values.items() if name not in faulty})
        )
    if faults or config is None:
        raise SettingsError(*faults)
    return config


def _read_overrides(overrides: Sequence[str], faults: list[Fault]) -> dict[str, Any]:
    values = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            hint = f"for instance --set {name if name in Config.model_fields else 'BATCH_SIZE'}=16"
            faults.append(Fault("--set", "expected NAME=VALUE", got=repr(text), hint=hint))
        else:
            values[name.strip()] = parse_value(name.strip(), value)
    return values


def parse_value(name: str, text: str) -> Any:
    """Return the value that a string means for a setting of this type: `"32"` is 32 for BATCH_SIZE.

    Text settings keep the string as it is, unless it is a JSON string in quotes. Other settings read JSON and
    Python literals; any other text stays a string, which the setting's type then accepts or refuses.
    """
    field = Config.model_fields.get(name)
    annotation = field.annotation if field else None
    bare = text.strip()
    if annotation in _TEXT_TYPES:
        if annotation is not str and bare.lower() in ("none", "null"):
            return None
        value = _read_literal(bare) if bare.startswith('"') else text
        return value if isinstance(value, str) else text
    if bare.lower() in _WORDS:
        return _WORDS[bare.lower()]
    literal = _read_literal(bare)
    # SageMaker's SDK encodes a string as JSON once more: "32" in quotes is 32 as well.
    is_wrapped = bare.startswith('"') and isinstance(literal, str) and literal != bare
    return parse_value(name, literal) if is_wrapped else literal


_TEXT_TYPES = (str, PathText | None)
_WORDS = {"true": True, "false": False, "null": None}


def _read_literal(text: str) -> Any:
    """Return the text parsed as JSON, else as a Python literal, else unchanged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _as_text(name: str, value: object) -> str:
    """Return the inverse of `parse_value`: text unchanged where that reads back the same, else JSON."""
    if isinstance(value, str) and parse_value(name, value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
