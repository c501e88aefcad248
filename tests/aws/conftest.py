"""What the tests of the way to AWS share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def read_descriptions_once() -> Iterator[None]:
    """Let botocore's sessions share its descriptions of the services: reading them is what a test waits for.

    Every test has a session of its own, for its own credentials; each would read the same megabytes of JSON.
    """
    from botocore.loaders import JSONFileLoader

    read = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield
