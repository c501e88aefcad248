from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from classifold.asking import (
    ask_check,
    ask_resume,
    ask_start,
    ask_train,
    asked_as,
    asked_for,
    explain_start_over,
    record_asked,
)


def test_the_commands_name_the_folder_only_where_the_user_named_it() -> None:
    assert ask_train() == "classifold train"
    assert ask_resume("run") == "classifold train --resume run"
    assert ask_start(Path("runs/a b")) == "classifold train --from 'runs/a b'"
    with asked_for(None):
        assert ask_resume("run") == "classifold train --resume run"
    with asked_for(Path("my photos")):
        assert ask_train() == "classifold train 'my photos'"
        assert ask_resume("run") == "classifold train 'my photos' --resume run"


def test_a_check_is_repeated_with_its_settings_and_more_options() -> None:
    assert ask_check("--undo") == "classifold check --undo"
    with asked_for("my photos", options=["--set", "EPOCHS=3"]):
        assert ask_check("--plan", "p.csv") == "classifold check 'my photos' --set EPOCHS=3 --plan p.csv"


def test_in_python_the_call_is_shown_as_python() -> None:
    with asked_for(Path("photos"), in_python=True):
        assert ask_train() == "classifold.train('photos')"
        assert ask_resume("run") == "classifold.train('photos', resume=True)"
        assert ask_start("runs/it's") == "classifold.train('photos', start=\"runs/it's\")"
    assert ask_train() == "classifold train"


def test_calls_within_each_other_go_back_to_the_outer_one() -> None:
    with asked_for("outer"):
        with asked_for("inner", in_python=True):
            assert ask_train() == "classifold.train('inner')"
        assert ask_train() == "classifold train outer"


def test_a_new_run_is_explained_in_the_same_words_with_the_options_of_each() -> None:
    assert explain_start_over().startswith("without --resume a run starts from scratch, and with --from RUN")
    with asked_for("photos", in_python=True):
        assert explain_start_over().startswith(
            "without resume= a run starts from scratch, and with start=RUN"
        )


def test_every_hint_repeats_the_options_that_were_given_quoted_for_a_shell():
    options = ["--config", "my settings.py", "--set", "EPOCHS=3", "--set", "CLASS_WEIGHTS={'a': 2}"]
    shown = "--config 'my settings.py' --set EPOCHS=3 --set 'CLASS_WEIGHTS={'\"'\"'a'\"'\"': 2}'"
    with asked_for("photos", options=options, start="runs/old"):
        assert ask_train() == f"classifold train photos {shown} --from runs/old"
        assert ask_resume("run") == f"classifold train photos {shown} --from runs/old --resume run"
        assert ask_start("run") == f"classifold train photos {shown} --from run"
        assert shlex.split(ask_train()) == [
            *("classifold", "train", "photos"),
            *options,
            *("--from", "runs/old"),
        ]


def test_in_python_every_hint_repeats_the_arguments():
    with asked_for("photos", in_python=True, options=["EPOCHS=3"], start=Path("old")):
        assert ask_train() == "classifold.train('photos', EPOCHS=3, start='old')"
        assert ask_resume("run") == "classifold.train('photos', EPOCHS=3, start='old', resume=True)"
        assert ask_start("run") == "classifold.train('photos', EPOCHS=3, start='run')"


def test_another_process_repeats_the_call_from_its_record():
    with asked_for("photos", options=["--hosts", "2"]):
        record = json.loads(json.dumps(record_asked()))
    with asked_as(record):
        assert ask_resume("run") == "classifold train photos --hosts 2 --resume run"


@pytest.mark.parametrize("record", [{}, {"folder": 1, "options": [], "start": ""}, {"options": [2]}])
def test_a_record_that_is_not_one_of_ours_means_the_bare_command(record):
    with asked_as(record):
        assert ask_train() == "classifold train"
