"""Which formats there are, and what is said about them before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.errors import MissingExtraError, UsageError
from classifold.exports.formats import FORMAT_NAMES, FORMATS, check_packages, choose_targets


def test_a_precision_is_taken_by_the_formats_that_have_it() -> None:
    targets = choose_targets(["triton", "litert", "int8"], precision="float16")
    assert [one.name for one in targets] == ["litert-half", "int8", "triton"]
    assert [one.name for one in choose_targets(["openvino"], precision="int8")] == ["openvino-int8"]
    assert [one.name for one in choose_targets(["int8", "int8"], precision=None)] == ["int8"]
    assert [one.is_calibrated for one in choose_targets(["int8", "litert"], precision=None)] == [False, True]


def test_a_precision_that_no_format_has_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError) as error:
        choose_targets(["triton"], precision="float16")
    assert error.value.faults[0].where == "--half"
    assert error.value.faults[0].hint == "it is available for litert, openvino and tfjs"


def test_names_of_exports_are_different_folders() -> None:
    names = [one.name for kind in FORMATS for precision in kind.precisions
             for one in choose_targets([kind.name], precision=precision)]  # fmt: skip
    assert len(set(names)) == len(names) > len(FORMATS)


def test_what_is_not_installed_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    # As on a machine where these two are not installed.
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("openvino", "ai_edge_litert") else found(name, *rest),
    )
    with pytest.raises(MissingExtraError) as error:
        check_packages(choose_targets(FORMAT_NAMES, precision=None))
    assert [one.where for one in error.value.faults] == ["--to litert", "--to openvino"]
    assert error.value.faults[0].what == "it needs packages that are not installed: ai-edge-litert"
    assert all("classifold[export]" in one.hint for one in error.value.faults)


def test_the_list_names_every_format_in_a_narrow_terminal_too(classifold: Callable[..., Any]) -> None:
    given = classifold("export", "--list")
    assert given.code == 0
    assert all(name in given.out for name in FORMAT_NAMES)
    listed = json.loads(classifold("export", "--list", "--json").out)["formats"]
    assert [one["name"] for one in listed] == list(FORMAT_NAMES)


def test_the_list_says_that_the_page_of_tensorflow_js_needs_a_file(classifold: Callable[..., Any]) -> None:
    given = classifold("export", "--list")
    (row,) = [line for line in given.out.splitlines() if line.startswith("tfjs ") and "float32" in line]
    assert row.endswith("tf.min.js")
    assert "npm package @tensorflow/tfjs; name it with --tfjs-library FILE" in given.out
    listed = json.loads(classifold("export", "--list", "--json").out)["formats"]
    assert {one["name"]: one["added"] for one in listed if one["added"]} == {"tfjs": "tf.min.js"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "litert"], "no run was named"),
        (["run"], "no format was named"),
        (["run", "--to", "litert", "--half", "--int8"], "exclude each other"),
        (["run", "--to", "triton", "--int8"], "--int8: not available for triton"),
        (["run", "--to", "triton", "--tfjs-library", "tf.min.js"], "only for --to tfjs"),
        (["run", "--to", "tfjs", "--tfjs-library", "tf.min.js"], "no such file"),
        (["run", "--to", "coreml"], "coreml"),
        (["run", "--to", "litert", "--max-loss", "2"], "a share from 0 to 1"),
    ],
)
def test_a_command_that_is_not_possible_is_refused_at_once(
    words: list[str], said: str, project: Path, classifold: Callable[..., Any]
) -> None:
    given = classifold("export", *words)
    assert given.code == 2
    assert said in given.err
    assert [one.name for one in project.iterdir()] == ["container"]
