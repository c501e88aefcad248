"""What must be the same when a run is resumed (settings, pictures, engine), and what may differ."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from typing import Any

import classifold
from classifold.dataset.scan import Sets
from classifold.errors import Fault, RunError
from classifold.settings.config import LEARNING_SETTINGS, Config
from classifold.training.artefacts import find_versions
from classifold.training.checkpoints import SavedRun
from classifold.training.hosts import Hosts

_COMPARED = {
    "data": "other pictures, or another division into sets",
    "class_names": "other classes",
    "backend": "another engine of Keras (BACKEND)",
    "pictures": "other pictures: some that could be read then cannot now, or the other way round",
}


def build_facts(config: Config, sets: Sets, *, backend: str, num_hosts: int = 1) -> dict[str, Any]:
    """Return what must be the same when a run is resumed: settings of model and training, data, engine."""
    versions = {"classifold": classifold.__version__, "python": platform.python_version(), **find_versions()}
    return {
        "settings": config.model_dump(mode="json", include=set(LEARNING_SETTINGS)),
        "data": sets.fingerprint,
        "class_names": list(sets.class_names),
        "backend": backend,
        "hosts": num_hosts,
        "versions": versions,
    }


def check_facts(saved: SavedRun, facts: Mapping[str, Any]) -> list[str]:
    """Refuse to resume with other settings, other data or another engine; return notes on versions and hosts.

    Args:
        saved: The checkpoint.
        facts: Those of this run; only what is in both is compared.

    Raises:
        RunError: With everything that differs.
    """
    made = f"the checkpoint in {saved.folder} was made with"
    return compare_facts(saved.facts, facts, made=made, start_over=saved.start_over)


def compare_facts(
    before: Mapping[str, Any], facts: Mapping[str, Any], *, made: str, start_over: str
) -> list[str]:
    """Refuse to resume with other settings, other data or another engine; return notes on versions and hosts.

    Args:
        before: The facts of the earlier part of the run.
        facts: The facts of this part; only what is in both is compared.
        made: How a fault begins, such as "the checkpoint was made with".
        start_over: How to begin another run instead, for hints.

    Raises:
        RunError: With everything that differs.
    """
    faults = []
    for name, value in facts["settings"].items():
        if name in before["settings"] and before["settings"][name] != value:
            hint = f"set it back to resume from there; or: {start_over}"
            what = f"{made} {_show(before['settings'][name])}"
            faults.append(Fault(f"setting {name}", what, got=_show(value), hint=hint))
    for name, words in _COMPARED.items():
        if name in before and name in facts and before[name] != facts[name]:
            hint = f"restore what was there to resume; or: {start_over}"
            faults.append(Fault("training", f"{made} {words}", hint=hint))
    if faults:
        raise RunError(*faults)
    versions = [
        f"{name} {facts['versions'].get(name)}, before it was {version}"
        for name, version in before["versions"].items()
        if facts["versions"].get(name) != version
    ]
    note = "resumed with other versions, so the result can differ in its last digits: "
    notes = [note + "; ".join(versions)] if versions else []
    if before.get("hosts", 1) != facts.get("hosts", 1):
        count = f"number of hosts is {facts.get('hosts', 1)}, and was {before.get('hosts', 1)} before"
        notes.append(f"the {count}: the result can differ in its last digits")
    return notes


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def sign_pictures(reader: Any, hosts: Hosts) -> str:
    """Return a hash over the names and numbers of the pictures of all hosts that could be read."""
    total = 0
    for number, picture in zip(reader.numbers, reader.pictures, strict=True):
        text = f"{number}\0{picture.key}".encode("utf-8", "surrogateescape")
        total += int.from_bytes(hashlib.sha256(text).digest(), "big")
    # A sum, so that it is the same whoever read which of them.
    modulus = 1 << 256
    every = hosts.gather_bytes((total % modulus).to_bytes(32, "big"))
    return f"{sum(int.from_bytes(one, 'big') for one in every) % modulus:064x}"
