from __future__ import annotations

from pathlib import Path

from classifold.asking import ask_resume, ask_start, ask_train, asked_for, explain_anew


def test_the_commands_name_the_folder_only_where_the_user_named_it() -> None:
    assert ask_train() == "classifold train"
    assert ask_resume("run") == "classifold train --resume run"
    assert ask_start(Path("runs/a b")) == "classifold train --from 'runs/a b'"
    with asked_for(None):
        assert ask_resume("run") == "classifold train --resume run"
    with asked_for(Path("my photos")):
        assert ask_train() == "classifold train 'my photos'"
        assert ask_resume("run") == "classifold train 'my photos' --resume run"


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
    assert explain_anew().startswith("without --resume a run starts from scratch, and with --from RUN")
    with asked_for("photos", in_python=True):
        assert explain_anew().startswith("without resume= a run starts from scratch, and with start=RUN")
