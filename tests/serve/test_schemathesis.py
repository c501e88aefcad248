"""Requests that schemathesis draws from the description of the interface: the answers keep to it."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from classifold.serve.openapi import build_openapi
from made_servers import RunningServer

NUM_EXAMPLES = 10
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
]
OPERATIONS = [(path, method) for path, one in build_openapi()["paths"].items() for method in one]


@pytest.fixture(scope="module")
def described(real_server: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"{real_server.address}/openapi.json")


# Not by schemathesis's own plugin of pytest, which follows pytest's releases late.
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_one_that_the_description_has(described: Any, path: str, method: str) -> None:
    operation = described[path][method.upper()]

    @hypothesis.settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    check()
