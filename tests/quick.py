"""A quick run (`--quick`): no test that trains, starts Docker or opens a browser, and a guard against them.

Most of those tests are known by a fixture that they take; the others carry a marker. A test of a quick run
that does such a thing all the same fails, in this process or in one that it started, so that none is missed.

Of the examples that Hypothesis makes for a test it tries a quarter; the whole run tries all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from quick_guard import sitecustomize

LEFT_OUT = ("slow", "docker", "browser")
# What each of these fixtures starts; it marks every test that takes it, directly or by another fixture.
_BY_FIXTURE = {
    "keras": "slow",
    "finished": "slow",
    "start_train": "slow",
    "docker_engine": "docker",
    "registry": "docker",
    "browser": "browser",
}
_FEWEST_EXAMPLES = 15
_NOTES = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --quick."""
    parser.addoption("--quick", action="store_true", help="leave out what trains, and Docker and browsers")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Mark the tests by their fixtures; in a quick run leave out those that are marked."""
    for item in items:
        for marker in {_BY_FIXTURE[name] for name in item.fixturenames if name in _BY_FIXTURE}:
            item.add_marker(marker)
    if not config.getoption("--quick"):
        return
    left_out = [item for item in items if any(item.get_closest_marker(one) for one in LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]
    for item in items:
        chosen = getattr(item.obj, "_hypothesis_internal_use_settings", None)
        if chosen is not None:
            fewer = max(_FEWEST_EXAMPLES, chosen.max_examples // 4)
            fewer = min(chosen.max_examples, fewer)
            item.obj._hypothesis_internal_use_settings = hypothesis.settings(chosen, max_examples=fewer)


@pytest.fixture(scope="session", autouse=True)
def quick_guard(
    clean_environment: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """In a quick run, watch this process and every Python process that inherits its environment."""
    if not request.config.getoption("--quick"):
        yield
        return
    notes = tmp_path_factory.mktemp("quick") / "notes.txt"
    request.config.stash[_NOTES] = notes
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sitecustomize.NOTES, str(notes))
        patch.setenv("PYTHONPATH", str(Path(sitecustomize.__file__).parent))
        sys.addaudithook(look)
        yield


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Watch this process while the session's environment asks for it: a hook can't be taken away again."""
    if sitecustomize.NOTES in os.environ:
        sitecustomize.look(event, arguments)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test of a quick run that did what such a run leaves out."""
    yield
    notes = item.config.stash.get(_NOTES, None)
    if notes is not None and notes.exists():
        said = notes.read_text(encoding="utf-8")
        notes.unlink()
        pytest.fail(f"mark this test as one of {LEFT_OUT}, since in a quick run\n{said}", pytrace=False)
