"""`serve` in the container: options by environment variables, the port that SageMaker names, SIGTERM."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import pytest

from classifold.container.serve import read_options
from classifold.errors import UsageError
from made_servers import draw, serving

MODULE = "classifold.container.serve"


@pytest.fixture
def ml_dir(tmp_path: Path, served_run: Path) -> Path:
    shutil.copytree(served_run, tmp_path / "ml" / "model")
    return tmp_path / "ml"


def test_it_serves_what_is_in_the_model_folder_for_every_address() -> None:
    options = read_options({})
    assert (options.run, options.host, options.port) == (Path("/opt/ml/model"), "0.0.0.0", 8080)


def test_the_port_that_sagemaker_names_is_taken_unless_a_variable_says_another() -> None:
    assert read_options({"SAGEMAKER_BIND_TO_PORT": "9001"}).port == 9001
    both = {"SAGEMAKER_BIND_TO_PORT": "9001", "CLASSIFOLD_SERVE_PORT": "9002"}
    assert read_options(both).port == 9002


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean CLASSIFOLD_SERVE_THRESHOLD"):
        read_options({"CLASSIFOLD_SERVE_TRESHOLD": "0.8"})


def test_it_answers_sagemaker_by_the_rule_of_the_variables_and_ends_on_sigterm(
    ml_dir: Path, tmp_path: Path
) -> None:
    env = {
        "CLASSIFOLD_ML_DIR": str(ml_dir),
        "SAGEMAKER_BIND_TO_PORT": "0",
        "CLASSIFOLD_SERVE_ALWAYS_ANSWER": "true",
        "CLASSIFOLD_SERVE_TOP_K": "1",
        "CLASSIFOLD_SERVE_LOG_FORMAT": "json",
    }
    with serving(tmp_path, module=MODULE, env=env) as server:
        assert httpx.get(f"{server.address}/ping").status_code == 200
        headers = {"Content-Type": "application/x-image", "Host": "model.aws.local:8080"}
        row = httpx.post(f"{server.address}/invocations", content=draw("white"), headers=headers).json()
        assert (row["unknown"], len(row["classes"])) == (False, 1)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5


def test_a_folder_without_a_model_is_one_error(tmp_path: Path, run_python) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model").mkdir()
    answer = run_python("-m", MODULE, env={"CLASSIFOLD_ML_DIR": str(tmp_path), "CLASSIFOLD_SERVE_PORT": "0"})
    assert answer.code == 1
    assert answer.err.startswith(f"error: {tmp_path / 'model'}: no model.onnx in this folder")
