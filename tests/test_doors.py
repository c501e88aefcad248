from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifold.cli.main import run_data_handler, run_project_manager

DOORS = {"data_handler.py": run_data_handler, "project_manager.py": run_project_manager}
FLAGS = ("--init_s3_buckets", "--build_and_push_docker_image", "--launch_training")
# No machine of the cloud is asked for credentials either.
NO_CREDENTIALS = {"AWS_EC2_METADATA_DISABLED": "true"}
RunPython = Callable[..., Any]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_holds_no_logic_but_one_call(root: Path, door: str) -> None:
    tree = ast.parse((root / door).read_text())
    docstring, *lines, call = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.get_docstring(tree)
    assert [ast.unparse(one) for one in lines] == [
        "import sys",
        "if not sys.flags.safe_path:\n    sys.path.pop(0)",
        f"from classifold.cli.main import {DOORS[door].__name__}",
    ]
    assert ast.unparse(call) == f"sys.exit({DOORS[door].__name__}())"


def test_data_handler_is_classifold_split(
    root: Path, run_python: RunPython, project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "data" / "flowers", count=20)
    by_door = run_python(root / "data_handler.py", cwd=project)
    record = (project / "data" / "flowers-split" / "split.json").read_text()
    by_command = run_python("-m", "classifold.cli.main", "split", cwd=project)
    assert by_door.code == by_command.code == 0, by_door.err
    assert by_door.out == by_command.out
    assert (project / "data" / "flowers-split" / "split.json").read_text() == record


def test_data_handler_takes_the_options_of_split_and_ends_with_its_exit_code(
    root: Path, run_python: RunPython, project: Path
) -> None:
    assert "--set NAME=VALUE" in run_python(root / "data_handler.py", "--help").out
    assert run_python(root / "data_handler.py", "--set", "EPOCH=1", cwd=project).code == 2
    answer = run_python(root / "data_handler.py", cwd=project)
    assert answer.code == 1
    assert answer.err.startswith("error: ")


def test_project_manager_without_a_flag_shows_its_help(root: Path, run_python: RunPython) -> None:
    answer = run_python(root / "project_manager.py")
    assert answer == run_python(root / "project_manager.py", "--help")
    assert answer.code == 0
    places = [answer.out.index(flag) for flag in FLAGS]
    assert places == sorted(places)


@pytest.mark.parametrize("flag", FLAGS)
def test_a_step_without_credentials_says_how_to_get_some(
    root: Path,
    run_python: RunPython,
    project: Path,
    draw_colours: Callable[..., Path],
    classifold: Callable[..., Any],
    flag: str,
) -> None:
    draw_colours(project / "data" / "flowers", count=20)
    assert classifold("split").code == 0
    answer = run_python(root / "project_manager.py", flag, cwd=project, env=NO_CREDENTIALS)
    assert answer.code == 1
    assert answer.out == ""
    assert "there are no AWS credentials\nhint: run `aws configure`" in answer.err


def test_flags_given_together_are_taken_in_the_order_of_the_work(
    root: Path, run_python: RunPython, project: Path
) -> None:
    # Without a split the first step ends the work: neither image nor job is begun.
    answer = run_python(root / "project_manager.py", *reversed(FLAGS), cwd=project, env=NO_CREDENTIALS)
    assert answer.code == 1
    assert "run `classifold split` first" in answer.err
    assert answer.err.count("error: ") == 1


def test_a_misspelt_flag_is_named_and_the_right_one_offered(root: Path, run_python: RunPython) -> None:
    answer = run_python(root / "project_manager.py", "--launch-training")
    assert answer.code == 2
    assert answer.err == (
        "error: project_manager.py: no such option --launch-training\nhint: did you mean --launch_training?\n"
    )
