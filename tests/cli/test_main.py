from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from classifold import __version__
from classifold.cli.answers import (
    Table,
    build_counts_table,
    build_score_tables,
    format_table,
)
from classifold.cli.main import cli
from classifold.cli.runner import run
from classifold.names import install
from made_terminal import run_on_terminal

Classifold = Callable[..., Any]
HEAVY = (
    "numpy",
    "PIL",
    "pydantic",
    "rich",
    "jinja2",
    "onnxruntime",
    "simplejpeg",
    "tensorflow",
    "keras",
    "cv2",
)


def is_in_words(text: str) -> bool:
    return all(line.startswith(("error: ", "hint: ")) for line in text.splitlines())


def answer_of(raising: BaseException, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return how a command ends that raises this in the midst of its work."""

    @click.command()
    def work() -> None:
        raise raising

    code = run(work, name="classifold", arguments=[])
    return code, capfd.readouterr().err


# Help


def test_help_lists_the_commands_in_the_order_of_the_work(classifold: Classifold) -> None:
    answer = classifold("--help")
    listed = [line.split()[0] for line in answer.out.partition("Commands:\n")[2].splitlines()]
    assert listed == [
        *("init", "example", "check", "split", "shards", "train"),
        *("setup", "upload", "image", "launch", "jobs", "follow", "stop", "fetch"),
        *("report", "compare", "predict", "serve", "export"),
        *("deploy", "batch", "endpoints", "undeploy", "destroy"),
    ]
    assert answer.code == 0
    assert "..." not in answer.out.partition("Commands:\n")[2]


def test_no_command_at_all_shows_the_help(classifold: Classifold) -> None:
    assert classifold() == classifold("--help") == classifold("-h")


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_takes_config_and_set_and_says_what_it_does(classifold: Classifold, name: str) -> None:
    answer = classifold(name, "--help")
    assert answer.code == 0
    assert "--config PATH" in answer.out
    assert "--set NAME=VALUE" in answer.out
    assert classifold(name, "-h") == answer


def test_version_names_the_program(classifold: Classifold) -> None:
    assert classifold("--version").out == f"classifold {__version__}\n"


def test_help_imports_nothing_heavy(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys; from classifold.cli.main import cli; from classifold.cli.runner import run;"
        "run(cli, name='classifold', arguments=['train', '--help']);"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    assert run_python("-c", code).err == "\n"


def test_reading_settings_imports_neither_numpy_nor_tensorflow(
    run_python: Callable[..., Any], project: Path
) -> None:
    code = (
        "import sys; from classifold.settings.loader import load_config; load_config();"
        "print(*(name for name in ('numpy', 'tensorflow', 'keras', 'PIL', 'rich') if name in sys.modules))"
    )
    assert run_python("-c", code, cwd=project).out == "\n"


# Usage


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["spilt"], "classifold: no such command, got 'spilt'", "did you mean classifold split?"),
        (["xyzzy"], "classifold: no such command, got 'xyzzy'", "classifold --help lists them"),
        (["--hepl"], "classifold: no such option --hepl", "did you mean --help?"),
        (["split", "--sett", "A=1"], "classifold split: no such option --sett", "did you mean --set?"),
        (
            ["split", "-x"],
            "classifold split: no such option -x",
            "classifold split --help says what it takes",
        ),
        (
            ["example"],
            "classifold example: missing argument 'DIR'",
            "classifold example --help says what it takes",
        ),
        (
            ["example", "d", "e"],
            "classifold example: got unexpected extra argument (e)",
            "classifold example --help says what it takes",
        ),
        (
            ["example", "d", "--pictures-per-class", "x"],
            "classifold example --pictures-per-class: expected a whole number, got 'x'",
            "classifold example --help says what it takes",
        ),
        (
            ["example", "d", "--pictures-per-class", "0"],
            "classifold example --pictures-per-class: expected a number in the range x>=1, got '0'",
            "classifold example --help says what it takes",
        ),
        (
            ["train", "--time-limit", "soon"],
            "classifold train --time-limit: expected a number, got 'soon'",
            "classifold train --help says what it takes",
        ),
        (
            ["train", "--time-limit", "0"],
            "classifold train --time-limit: expected a number in the range x>0, got '0'",
            "classifold train --help says what it takes",
        ),
        (
            ["train", "--hosts", "65"],
            "classifold train --hosts: expected a number in the range 1<=x<=64, got '65'",
            "classifold train --help says what it takes",
        ),
        (
            ["predict", "r", "p", "--format", "jsn"],
            "classifold predict --format: expected one of 'text', 'csv', 'json', 'jsonl', 'parquet', "
            "got 'jsn'",
            "did you mean json?",
        ),
        (
            ["predict", "r", "p", "--threshold", "1.5"],
            "classifold predict --threshold: expected a share from 0 to 1, such as 0.02 or 2%, got '1.5'",
            "did you mean 1.5%?",
        ),
        (
            ["predict", "r", "p", "--threshold", "nan"],
            "classifold predict --threshold: expected a share from 0 to 1, such as 0.02 or 2%, got 'nan'",
            "classifold predict --help says what it takes",
        ),
        (
            ["predict", "r", "p", "--threshold", "-0.1"],
            "classifold predict --threshold: expected a share from 0 to 1, such as 0.02 or 2%, got '-0.1'",
            "classifold predict --help says what it takes",
        ),
        (
            ["predict", "r", "p", "--error", "1"],
            "classifold predict --error: expected a share between 0 and 1, such as 0.02 or 2%, got '1'",
            "did you mean 1%?",
        ),
        (
            ["predict", "r", "p", "--error", "0,01"],
            "classifold predict --error: expected a share between 0 and 1, such as 0.02 or 2%, got '0,01'",
            "classifold predict --help says what it takes",
        ),
        (
            ["predict", "r", "p", "--error", "1%", "--always-answer"],
            "classifold predict: --error and --always-answer exclude each other",
            "keep one of them",
        ),
        (
            ["predict", "r", ""],
            "classifold predict PATH...: expected a path, got ''",
            "classifold predict --help says what it takes",
        ),
        (
            ["report", ""],
            "classifold report RUN: expected a path, got ''",
            "classifold report --help says what it takes",
        ),
    ],
)
def test_a_wrong_word_on_the_command_line_is_told_in_our_shape(
    classifold: Classifold, words: list[str], error: str, hint: str
) -> None:
    answer = classifold(*words)
    assert answer.err == f"error: {error}\nhint: {hint}\n"
    assert answer.out == ""
    assert answer.code == 2


def test_an_option_without_its_value_is_told_in_our_shape(classifold: Classifold) -> None:
    answer = classifold("split", "--set")
    assert answer.code == 2
    assert is_in_words(answer.err)
    assert "--set" in answer.err


# Settings


@pytest.mark.parametrize("command", ["check", "split", "train"])
def test_a_command_on_pictures_asks_for_their_folder_where_nothing_names_it(
    classifold: Classifold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = classifold(command)
    assert answer.code == 2
    assert answer.err.startswith(
        f"error: classifold {command}: no folder of pictures is named\n"
        f"hint: for instance: classifold {command} my/pictures;"
    )


@pytest.mark.parametrize(
    "command",
    [["upload"], ["launch"], ["image"], ["setup"], ["jobs"], ["follow"], ["stop"], ["fetch"], ["destroy"]],
)
def test_a_command_on_aws_wants_a_project_of_its_own(
    classifold: Classifold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = classifold(*command)
    assert answer.code == 2
    assert answer.err == (
        "error: container/modeling/config.py: the settings file does not exist, so this project has no name "
        "on AWS\nhint: run the command in the project's folder; `classifold init` makes one\n"
    )


def test_a_settings_file_that_leads_nowhere_is_not_taken_for_none(
    classifold: Classifold, project: Path, draw_colours: Callable[..., Path]
) -> None:
    settings = project / "container" / "modeling" / "config.py"
    settings.unlink()
    settings.symlink_to(project / "moved.py")
    answer = classifold("check", draw_colours(project / "photos"))
    assert answer.code == 2
    assert answer.err.startswith("error: container/modeling/config.py: the settings file does not exist\n")


@pytest.mark.parametrize("command", [["example", "flowers"], ["report", "run"], ["predict", "run", "x.jpg"]])
def test_a_command_that_needs_no_settings_checks_those_it_is_given(
    classifold: Classifold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = classifold(*command, "--set", "EPOCHS=x", "--set", "EPOCH=3")
    assert answer.code == 2
    assert answer.err == (
        "error: setting EPOCH (--set): this setting does not exist\nhint: did you mean EPOCHS?\n"
        "error: setting EPOCHS (--set): expected a whole number of at least 0, got 'x'\n"
    )
    assert classifold(*command, "--config", "none.py").code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_settings_file_elsewhere_is_named_with_config(classifold: Classifold, tmp_path: Path) -> None:
    settings = tmp_path / "my settings.py"
    settings.write_text("BATCH_SIZE = = 3\n")
    answer = classifold("split", "--config", settings)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {settings}:1: not valid Python: invalid syntax\n")


# Commands at work


def test_split_tells_the_counts_and_where_the_sets_are(
    classifold: Classifold, project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "data" / "flowers", count=20)
    answer = classifold("split")
    assert answer.code == 0, answer.err
    header, *rows = [line.split() for line in answer.out.splitlines()[1:-1]]
    assert header == ["class", "training", "validation", "evaluation"]
    assert [row[0] for row in rows] == ["blue", "green", "red", "all"]
    assert sum(map(int, rows[-1][1:])) == 60
    assert answer.out.endswith("The three sets are in data/flowers-split\n")


def test_split_as_json_is_one_object_on_standard_output(
    classifold: Classifold, project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "pictures", count=20)
    answer = classifold("split", "--json", "--set", "DATA_LOCAL_DIR=pictures")
    said = json.loads(answer.out)
    assert said["split_dir"] == "pictures-split"
    assert list(said["counts"]) == ["training", "validation", "evaluation"]
    assert set(said["counts"]["training"]) == {"blue", "green", "red"}
    assert said["fingerprint"]
    assert said["unreadable"] == []


def test_split_names_what_it_skipped_on_standard_error_and_in_json(
    classifold: Classifold, project: Path, draw_colours: Callable[..., Path]
) -> None:
    draw_colours(project / "data" / "flowers", count=20)
    (project / "data" / "flowers" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    answer = classifold("split", "--json")
    (skipped,) = json.loads(answer.out)["unreadable"]
    assert skipped["path"] == "red/broken.jpg"
    assert skipped["reason"]
    told = classifold("split")
    assert "red/broken.jpg" in told.err
    assert all(line.startswith("note: ") for line in told.err.splitlines())
    assert classifold("split", "--set", "UNREADABLE_PICTURES=fail").code == 1


def test_a_missing_folder_of_pictures_is_one_error_with_a_cure(classifold: Classifold, project: Path) -> None:
    answer = classifold("split")
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert "data/flowers" in answer.err
    assert "\nhint: " in answer.err
    assert is_in_words(answer.err)


def test_example_draws_pictures_that_split_takes(
    classifold: Classifold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = classifold("example", "flowers", "--pictures-per-class", "3", "--seed", "7")
    assert answer.out == "15 pictures of flowers are in flowers\n"
    assert len(list(Path("flowers").glob("*/*.jpg"))) == 15


def test_predict_names_each_picture(
    classifold: Classifold, colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=2)
    answer = classifold("predict", colour_run, folder, "--format", "csv", "--top-k", "1")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert [row["predicted_class"] for row in rows] == ["blue", "blue", "green", "green", "red", "red"]
    assert [Path(row["path"]).parent.name for row in rows] == [row["predicted_class"] for row in rows]


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        ([], [False, False, True]),
        (["--threshold", "90%"], [False, True, True]),
        (["--threshold", "0.9"], [False, True, True]),
        (["--threshold", "-0"], [False, False, True]),
        (["--threshold", "1"], [True, True, True]),
        (["--error", "2 %"], [False, True, True]),
        (["--error", "0.5"], [False, False, True]),
        (["--always-answer"], [False, False, False]),
    ],
)
def test_predict_says_which_pictures_are_unknown(
    classifold: Classifold, judging_run: Path, tmp_path: Path, words: list[str], unknown: list[bool]
) -> None:
    from PIL import Image

    for name, colour in (("a", (255, 0, 0)), ("b", (140, 0, 0)), ("c", (255, 255, 255))):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{name}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    answer = classifold("predict", judging_run, *pictures, "--format", "json", *words)
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["unknown"] for row in rows] == unknown
    assert [row["distance"] for row in rows] == pytest.approx([0, 0.901961, 4], abs=1e-5)
    assert [row["predicted_class"] for row in rows] == ["red"] * 3
    text = classifold("predict", judging_run, *pictures, "--top-k", "1", *words).out
    assert [line.startswith("unknown (red?) ") for line in text.splitlines()] == unknown


def test_predict_says_which_error_can_be_promised_instead(classifold: Classifold, judging_run: Path) -> None:
    answer = classifold("predict", judging_run, judging_run, "--error", "0.01")
    assert (answer.code, answer.out) == (2, "")
    assert "smallest error that the 75 evaluation pictures of this model can promise is 0.02" in answer.err
    assert "hint: use --error 0.02 (in Python: error=0.02), or train with more" in answer.err


def test_predict_counts_the_unknown_pictures_in_what_it_wrote(
    classifold: Classifold, judging_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder, output = draw_colours(tmp_path / "pictures", count=2), tmp_path / "names.csv"
    answer = classifold("predict", judging_run, folder, "--threshold", "1", "--output", output)
    assert answer.err.splitlines()[-1] == (
        f"6 pictures were classified, 6 of them as unknown; the answers are in {output}"
    )


def test_predict_shows_as_many_names_as_the_settings_say(
    classifold: Classifold, colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=1)
    words = ("predict", colour_run, folder, "--format", "json")
    for extra, count in (([], 3), (["--set", "TOP_K=2"], 2), (["--set", "TOP_K=2", "--top-k", "1"], 1)):
        said = json.loads(classifold(*words, *extra).out)
        assert [len(row["classes"]) for row in said] == [count] * 3


def test_predict_reads_larger_pictures_where_the_settings_say_so(
    classifold: Classifold, colour_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.new("RGB", (1200, 900), (0, 0, 255)).save(tmp_path / "large.png")  # the run's bound is 1,000,000
    words = ("predict", colour_run, "large.png", "--format", "json")
    [refused] = json.loads(classifold(*words).out)
    assert "raise MAX_PIXELS" in refused["error"]
    [row] = json.loads(classifold(*words, "--set", "MAX_PIXELS=2000000").out)
    assert (row["predicted_class"], row["error"]) == ("blue", None)
    settings = tmp_path / "container" / "modeling" / "config.py"
    settings.parent.mkdir(parents=True)
    settings.write_text("MAX_PIXELS = 2_000_000\nTOP_K = 2\n")
    [row] = json.loads(classifold(*words).out)
    assert (row["error"], len(row["classes"])) == (None, 2)
    [row] = json.loads(classifold(*words, "--set", "MAX_PIXELS=1000").out)
    assert "MAX_PIXELS = 1000;" in row["error"]


def test_predict_ends_with_1_where_a_picture_cannot_be_read_and_names_the_others(
    classifold: Classifold, colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=1)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    answer = classifold("predict", colour_run, tmp_path / "broken.jpg", folder, "--format", "json")
    said = json.loads(answer.out)
    assert answer.code == 1
    assert [bool(row["error"]) for row in said] == [True, False, False, False]


def test_predict_into_a_file_leaves_it_whole_or_not_at_all(
    classifold: Classifold, colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=1)
    output = tmp_path / "out" / "names.csv"
    missing = classifold("predict", colour_run, folder, "--output", output)
    assert missing.code == 1
    assert is_in_words(missing.err)
    output.parent.mkdir()
    answer = classifold("predict", colour_run, folder, "--format", "csv", "--output", output)
    assert (answer.code, answer.out) == (0, "")
    assert len(output.read_text().splitlines()) == 4
    assert list(output.parent.iterdir()) == [output]


def test_predict_says_what_it_wrote_into_a_file_whose_ending_gives_the_format(
    classifold: Classifold, colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=1)
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    output = tmp_path / "names.json"
    answer = classifold("predict", colour_run, folder, "--output", output)
    assert (answer.code, answer.out) == (1, "")
    assert [bool(row["error"]) for row in json.loads(output.read_text())].count(True) == 1
    written, unreadable = answer.err.splitlines()[-2:]
    assert written == f"3 pictures were classified; the answers are in {output}"
    assert unreadable.startswith(f"1 picture could not be read: {folder}/red/broken.png: ")
    answer = classifold("predict", colour_run, folder, "--output", output, "--format", "csv")
    assert output.read_text().startswith("path,predicted_class,")
    assert answer.err.splitlines()[-1] == (
        f"note: {output} gets the format 'csv', as --format says, although its ending is that of 'json'"
    )


def test_a_run_that_is_none_is_one_error_with_a_cure(classifold: Classifold, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    for run_dir in (tmp_path, tmp_path / "nowhere"):
        for command in (["predict", run_dir, tmp_path / "x.jpg"], ["report", run_dir]):
            answer = classifold(*command)
            assert answer.code == 1
            assert is_in_words(answer.err)
            assert "\nhint: " in answer.err


def test_a_run_is_found_by_its_name_in_runs_dir(
    classifold: Classifold,
    colour_run: Path,
    draw_colours: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(colour_run, tmp_path / "mine" / "first")
    draw_colours(tmp_path / "photos", count=1)
    monkeypatch.chdir(tmp_path)
    for name in ("first", "first/model.onnx", "mine/first"):
        assert classifold("predict", name, "photos", "--set", "RUNS_DIR=mine").code == 0
    assert "no such run folder" in classifold("predict", "first", "photos").err
    # It has a model and no scores: found by its name, too.
    assert "mine/first/metrics.json: this" in classifold("report", "first", "--set", "RUNS_DIR=mine").err


# The end of a command


def test_a_bug_of_ours_shows_the_traceback_and_asks_to_report_it(capfd: pytest.CaptureFixture[str]) -> None:
    code, err = answer_of(ValueError("oh"), capfd)
    assert code == 1
    assert err.startswith("Traceback")
    assert "ValueError: oh" in err
    assert err.splitlines()[-1].startswith("hint: please report the lines above at https://")


def test_ctrl_c_is_one_line_and_130(capfd: pytest.CaptureFixture[str]) -> None:
    code, err = answer_of(KeyboardInterrupt(), capfd)
    assert code == 130
    assert err.splitlines()[0] == "error: classifold: interrupted"
    assert is_in_words(err)


def test_an_interrupt_that_pydantic_reports_as_its_own_error_is_an_interrupt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pydantic_core import SchemaError

    @click.command()
    def build() -> None:
        raise SchemaError('Error building "literal" validator: KeyboardInterrupt: ')

    assert run(build, name="classifold", arguments=[]) == 130
    assert capsys.readouterr().err.startswith("error: classifold: interrupted\n")


def test_too_little_memory_is_told_with_a_cure(capfd: pytest.CaptureFixture[str]) -> None:
    code, err = answer_of(MemoryError(), capfd)
    assert code == 1
    assert err.startswith("error: classifold: the memory is used up\nhint: ")


def test_a_missing_training_package_is_told_with_how_to_install_it(capfd: pytest.CaptureFixture[str]) -> None:
    code, err = answer_of(ModuleNotFoundError("No module named 'keras'", name="keras.layers"), capfd)
    assert code == 1
    assert err.splitlines()[1] == f"hint: {install('train')}"
    assert is_in_words(err)


def test_a_missing_module_of_our_own_is_a_bug(capfd: pytest.CaptureFixture[str]) -> None:
    assert answer_of(ModuleNotFoundError("no", name="classifold.nothing"), capfd)[1].startswith("Traceback")


def test_a_file_that_vanishes_in_the_meantime_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    code, err = answer_of(FileNotFoundError(2, "No such file or directory", "a.jpg"), capfd)
    assert code == 1
    assert err.startswith("error: a.jpg: no such file or directory\nhint: ")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "runs"), OSError(30, "Read-only", "runs")]
)
def test_a_refusal_of_the_disk_anywhere_is_one_line(
    error: OSError, capfd: pytest.CaptureFixture[str]
) -> None:
    code, err = answer_of(error, capfd)
    assert code == 1
    assert err.startswith("error: runs: ")
    assert is_in_words(err)


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "classifold.cli.main", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: classifold: the disk is full\n")
    assert is_in_words(done.stderr)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "classifold.cli.main", "train", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_with_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = ["example", str(tmp_path / "flowers"), "--pictures-per-class", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "classifold.cli.main", *words], stderr=subprocess.PIPE, encoding="utf-8"
    )
    end = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("error: classifold: interrupted\n")
    assert is_in_words(err)
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_no_utf8_is_printed_as_it_is(
    run_python: Callable[..., Any], colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "pictures", count=1)
    source = next(folder.rglob("*.png"))
    source.rename(source.with_name(os.fsdecode(b"\xff.png")))
    answer = run_python("-m", "classifold.cli.main", "predict", colour_run, folder)
    assert answer.code == 0, answer.err


def test_a_terminal_that_knows_ascii_only_shows_escapes(
    run_python: Callable[..., Any], colour_run: Path, draw_colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = draw_colours(tmp_path / "Blüten", count=1)
    words = ("-m", "classifold.cli.main", "predict", colour_run, folder)
    answer = run_python(*words, env={"PYTHONIOENCODING": "ascii"})
    assert answer.code == 0, answer.err
    assert "Bl\\xfcten" in answer.out


# Tables


METRICS = {
    "set": "evaluation",
    "num_pictures": 75,
    "top_k": 3,
    "scores": {
        name: {"value": 0.9, "low": 0.85, "high": 0.95}
        for name in (
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "log_loss",
            "top_k_accuracy",
            "calibration_error",
        )
    },
    "per_class": [
        {
            "class_name": name,
            "precision": 0.5,
            "recall": 0.25,
            "recall_low": 0.125,
            "recall_high": 0.375,
            "f1": 1 / 3,
            "support": 8,
        }
        for name in ("rose [red]", "花")
    ],
}


def test_the_scores_are_told_with_their_intervals_and_each_class_with_its_counts() -> None:
    scores, classes = build_score_tables(METRICS)
    assert scores.title == "Scores on the 75 pictures of the evaluation set"
    assert ["accuracy", "0.900", "0.850 to 0.950"] in scores.rows
    assert [row[0] for row in scores.rows] == [
        "accuracy",
        "balanced accuracy",
        "macro F1",
        "log loss",
        "top-3 accuracy",
        "calibration error",
    ]
    assert classes.rows[1] == ["花", "0.500", "0.250", "0.125 to 0.375", "0.333", "8"]


def test_names_in_tables_and_notes_cannot_steer_a_terminal(
    classifold: Classifold, project: Path, draw_colours: Callable[..., Path]
) -> None:
    folder = draw_colours(project / "data" / "flowers", count=8)
    (folder / "blue").rename(folder / "\x1b[31mred")
    (folder / "green").rename(folder / "gr\u202een\x9b2J\nx")
    (folder / "red" / "red 1.png").rename(folder / "red" / "\x1b[2J.png")
    (folder / "red" / "\x1b[2J.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for words in (["check"], ["check", "--json"], ["split", "--set", "UNREADABLE_PICTURES=skip"]):
        answer = classifold(*words)
        for text in (answer.out, answer.err):
            assert text.replace("\n", "").isprintable()
        if "--json" in words:
            assert set(json.loads(answer.out)["classes"]) == {"\x1b[31mred", "gr\u202een\x9b2J\nx", "red"}
        else:
            assert "\\x1b[31mred" in answer.out
            assert "gr\\u202een\\x9b2J\\nx" in answer.out


def test_a_plain_table_is_aligned_by_what_the_terminal_shows() -> None:
    text = format_table(Table("T", ["class", "n"], [["花花", "1"], ["rose", "22"]]))
    assert text.splitlines() == ["T", "class   n", "花花    1", "rose   22"]


def test_a_table_too_wide_for_the_terminal_keeps_its_names_whole() -> None:
    table = Table("Jobs", ["job", "state", "cost"], [["a-job-with-a-long-name", "Stopped", "$1.00"]])
    assert format_table(table, width=38) == format_table(table)
    titled = Table("All jobs of this project", ["job"], [["a-1"]])
    assert format_table(titled, width=18) == "All jobs of this\n  project\njob\na-1"
    assert format_table(table, width=37) == "\n".join(
        [
            "Jobs",
            "job",
            "    state   cost",
            "a-job-with-a-long-name",
            "  Stopped  $1.00",
        ]
    )


TITLE = "Scores on the 88 pictures of the evaluation set, which were not used in training"
SHOWN = f"""
import sys
from pathlib import Path
from classifold.cli.answers import Table, print_table, show_place, show_sentences
print_table(Table({TITLE!r}, ["score", "value"], [["accuracy", "0.875"]]))
show_sentences("The model named 77 of 88 evaluation pictures correctly: 88 % (95 % interval: 81 % to 94 %).")
show_place("The three sets are in", Path("/data/a folder/with quite a long name/photos-split"))
"""


@pytest.mark.parametrize("columns", [60, 100])
def test_titles_and_sentences_break_at_blanks_on_a_terminal_and_a_path_not_at_all(
    tmp_path: Path, columns: int
) -> None:
    shown = run_on_terminal(SHOWN, cwd=tmp_path, COLUMNS=str(columns))
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()
    place = "The three sets are in /data/a folder/with quite a long name/photos-split"
    if columns == 100:
        assert lines[0] == TITLE
        assert lines[-1] == place
        assert lines[-2].startswith("The model named ")
    else:
        assert lines[:2] == [
            "Scores on the 88 pictures of the evaluation set, which were",
            "  not used in training",
        ]
        assert lines[-2:] == ["The three sets are in", f"  {place.partition(' in ')[2]}"]
        assert lines[-4:-2] == [
            "The model named 77 of 88 evaluation pictures correctly:",
            "  88 % (95 % interval: 81 % to 94 %).",
        ]


def test_the_table_of_counts_has_zeros_and_sums() -> None:
    table = build_counts_table({"training": {"b": 3, "a": 1}, "evaluation": {"a": 2}})
    assert table.rows == [["a", "1", "2"], ["b", "3", "0"], ["all", "4", "2"]]


def test_the_hint_to_train_names_the_folder_that_the_command_was_given(
    classifold: Classifold, draw_colours: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_colours(tmp_path / "photos")
    answer = classifold("train", "photos", "--resume")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == "hint: `classifold train photos` begins a run"
