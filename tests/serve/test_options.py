"""The options of the server, by the command line and by environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.errors import UsageError
from classifold.serve.options import (
    VARIABLES,
    ServeOptions,
    build_options,
    dump_options,
    is_loopback,
    load_options,
)

RUN: dict[str, Any] = {"run": Path("run")}


def test_the_defaults_listen_for_this_machine_alone() -> None:
    options = build_options(RUN, {})
    assert (options.host, options.port, options.workers, options.api_key) == ("127.0.0.1", 8080, 1, None)
    assert options.is_loopback


def test_each_option_has_an_environment_variable() -> None:
    values = {
        "host": "0.0.0.0", "port": "9", "workers": "2", "threads": "3", "top_k": "4", "threshold": "80%",
        "max_pixels": "5", "max_mb": "6.5", "max_pictures": "7", "timeout": "8", "queue": "9", "grace": "1.5",
        "connections": "10", "drain_wait": "2", "log_format": "json", "allowed_hosts": "a.example, b.example",
        "always_answer": "false", "error": "",
    }  # fmt: skip
    environment = {VARIABLES[name]: value for name, value in values.items()}
    options = build_options(RUN, {**environment, "CLASSIFOLD_API_KEY": "0123456789", "PATH": "x"})
    assert options.threshold == pytest.approx(0.8)
    assert options.allowed_hosts == ("a.example", "b.example")
    assert (options.port, options.max_bytes, options.grace, options.error) == (9, 6_500_000, 1.5, None)
    assert options.api_key == "0123456789"
    assert not options.is_loopback


def test_the_command_line_comes_before_the_variables() -> None:
    assert build_options({**RUN, "port": 1}, {VARIABLES["port"]: "2"}).port == 1
    assert build_options({**RUN, "port": None}, {VARIABLES["port"]: "2"}).port == 2


def test_everything_that_is_wrong_is_said_at_once_by_the_name_that_the_user_knows() -> None:
    environment = {
        VARIABLES["port"]: "http",
        VARIABLES["threshold"]: "many%",
        "CLASSIFOLD_SERVE_MAXMB": "3",
        "CLASSIFOLD_API_KEY": "short",
    }
    with pytest.raises(UsageError) as caught:
        build_options({**RUN, "max_mb": -1}, environment)
    places = {fault.where: fault for fault in caught.value.faults}
    assert set(places) == {
        "CLASSIFOLD_SERVE_PORT",
        "CLASSIFOLD_SERVE_THRESHOLD",
        "CLASSIFOLD_SERVE_MAXMB",
        "CLASSIFOLD_API_KEY",
        "--max-mb",
    }
    assert places["CLASSIFOLD_SERVE_MAXMB"].hint == "did you mean CLASSIFOLD_SERVE_MAX_MB?"
    assert "short" not in str(caught.value)


def test_rules_that_exclude_each_other_are_refused_also_from_two_places() -> None:
    with pytest.raises(UsageError, match=f"--error and {VARIABLES['always_answer']} exclude each other"):
        build_options({**RUN, "error": 0.1}, {VARIABLES["always_answer"]: "1"})


def test_the_key_is_in_no_text_of_the_options_but_reaches_another_process() -> None:
    options = build_options(RUN, {"CLASSIFOLD_API_KEY": "0123456789"})
    assert "0123456789" not in repr(options)
    assert load_options(dump_options(options)) == options


@given(st.integers(0, 65535), st.floats(0, 1), st.sampled_from(["text", "json", "none"]))
def test_options_reach_another_process_unchanged(port: int, threshold: float, log_format: Any) -> None:
    options = ServeOptions(run=Path("ü b"), port=port, threshold=threshold, log_format=log_format)
    assert load_options(dump_options(options)) == options


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_a_loopback_address_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
