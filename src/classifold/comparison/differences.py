"""What is not the same in all runs: settings, pictures and classes, versions and machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from classifold import names
from classifold.comparison.result import Difference
from classifold.comparison.runs import OpenedRun
from classifold.settings.config import HOME_SETTINGS, LEARNING_SETTINGS, Config


def find_differences(values: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """Yield each name whose value is not the same in all runs, or missing in some.

    Args:
        values: For each run's letter, its values by name.
    """
    for name in dict.fromkeys(name for of_run in values.values() for name in of_run):
        found = {letter: of_run[name] for letter, of_run in values.items() if name in of_run}
        # A setting that is True and one that is 1 are equal to Python, and not to the user.
        first = next(iter(found.values()))
        if len(found) < len(values) or any(
            one != first or type(one) is not type(first) for one in found.values()
        ):
            yield Difference(name=name, values=found)


def compare_settings(runs: Sequence[OpenedRun]) -> tuple[Difference, ...]:
    """Return the settings that differ: those that change the trained model first, paths and the like last."""
    found = find_differences({run.letter: run.records.settings for run in runs})
    order = list(Config.model_fields)

    def rank(one: Difference) -> tuple[int, int]:
        place = order.index(one.name) if one.name in order else len(order)
        if one.name in LEARNING_SETTINGS:
            return 0, place
        return (2 if one.name in HOME_SETTINGS else 1), place

    return tuple(sorted(found, key=rank))


def compare_data(runs: Sequence[OpenedRun]) -> tuple[Difference, ...]:
    """Return what differs in the pictures: their number in each set, the classes, the fingerprint."""
    return tuple(find_differences({run.letter: _describe_data(run) for run in runs}))


def _describe_data(run: OpenedRun) -> dict[str, Any]:
    data, metrics = run.records.environment.data, run.records.metrics
    counts = {
        f"{name} pictures": sum(data.counts[name].values()) for name in names.SETS if name in data.counts
    }
    found: dict[str, Any] = {**counts, "classes": len(metrics.class_names)}
    if metrics.unreadable:
        found["unreadable evaluation pictures"] = len(metrics.unreadable)
    return found | ({"fingerprint": data.fingerprint} if data.fingerprint else {})


def compare_environments(runs: Sequence[OpenedRun]) -> tuple[Difference, ...]:
    """Return the versions and machines that differ."""
    return tuple(find_differences({run.letter: _describe_environment(run) for run in runs}))


def _describe_environment(run: OpenedRun) -> dict[str, Any]:
    environment = run.records.environment
    found = {
        "classifold": environment.classifold,
        "Python": environment.python,
        "platform": environment.platform,
        "CPU cores": environment.cpu_count,
        "Keras backend": environment.backend,
        "backbone's weights, licence": environment.backbone.get("license"),
        **dict(sorted(environment.packages.items())),
    }
    return {name: value for name, value in found.items() if value}


def describe_classes(runs: Sequence[OpenedRun]) -> list[str]:
    """Return a sentence for each run that does not know the same classes as the first one."""
    first = runs[0]
    known = first.records.metrics.class_names
    notes = []
    for run in runs[1:]:
        own = run.records.metrics.class_names
        missing = [name for name in known if name not in set(own)]
        more = [name for name in own if name not in set(known)]
        parts = [f"does not know {_list_some(missing)}"] if missing else []
        parts += [f"also knows {_list_some(more)}"] if more else []
        if parts:
            notes.append(
                f"{run.letter} {' and '.join(parts)}, unlike {first.letter}: a model with fewer classes to "
                "choose from has the easier task."
            )
    return notes


def _list_some(class_names: Sequence[str], *, limit: int = 5) -> str:
    """Return class names as a list in words, and how many more there are."""
    shown = ", ".join(class_names[:limit])
    more = len(class_names) - limit
    return f"{shown} and {more:,} more classes" if more > 0 else shown
