"""`classifold serve`: its options, its variables, and what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from classifold.cli.serve import serve
from classifold.serve.options import VARIABLES
from made_servers import draw, serving


def test_every_option_has_its_environment_variable() -> None:
    named = {one.name for one in serve.params if isinstance(one, click.Option)}
    # Settings are those of the project; MAX_PIXELS is one of them on the command line.
    assert named - {"config_path", "overrides", "data", "data_dir"} == set(VARIABLES) - {"max_pixels", "data"}


def test_options_variables_and_settings_reach_the_server(served_run: Path, tmp_path: Path) -> None:
    words = ("--max-pictures", 3, "--set", "MAX_PIXELS=399", "--set", "TOP_K=2", "--threshold", "99.9%")
    with serving(tmp_path, served_run, *words, env={"CLASSIFOLD_SERVE_MAX_MB": "2"}) as server:
        found = httpx.get(f"{server.address}/metadata").json()
        assert found["limits"]["max_pictures"] == 3
        assert found["limits"]["max_bytes"] == 2_000_000
        assert found["limits"]["max_pixels"] == 399
        assert (found["top_k"], found["rule"]["min_confidence"]) == (2, pytest.approx(0.999))
        assert httpx.post(f"{server.address}/predict", content=draw(side=20)).status_code == 422


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "classifold serve --port: expected a number in the range"),
        (["--threshold", "0.5", "--always-answer"], "exclude each other"),
        (["--log-format", "xml"], "--log-format: expected"),
        (["--worker", "2"], "did you mean --workers?"),
    ],
)
def test_a_wrong_option_is_refused(
    served_run: Path, classifold: Callable[..., Any], words: list[str], message: str
) -> None:
    answer = classifold("serve", served_run, *words)
    assert answer.code == 2
    assert message in answer.err


def test_without_the_extra_one_line_says_what_to_install(
    served_run: Path, classifold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    answer = classifold("serve", served_run)
    assert answer.code == 1
    assert "packages that are not installed: uvicorn" in answer.err
    assert "classifold[serve]" in answer.err


def test_an_archive_is_served_as_it_is(served_run: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(served_run / "model.onnx", arcname="model.onnx")
    with serving(tmp_path, tmp_path / "model.tar.gz", env={"HOME": str(tmp_path)}) as server:
        assert httpx.post(f"{server.address}/predict", content=draw()).status_code == 200


def test_starting_it_imports_neither_tensorflow_nor_boto3(served_run: Path, run_python) -> None:  # type: ignore[no-untyped-def]
    code = f"""
import sys
from pathlib import Path
import classifold.cli.main
from classifold.serve.access_log import AccessLog
from classifold.serve.options import ServeOptions
from classifold.serve.process import ServerProcess

ServerProcess(ServeOptions(run=Path({str(served_run)!r})), AccessLog("text"))
heavy = {{"tensorflow", "keras", "boto3", "scipy", "sklearn", "pandas", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    answer = run_python("-c", code)
    assert answer.code == 0, answer.err
