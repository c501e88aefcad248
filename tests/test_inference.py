"""The engine that only looks forward."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from classifold.inference import open_session

PIXELS = np.zeros((2, 16, 16, 3), np.float32)
PIXELS[0, ..., 2] = PIXELS[1, ..., 0] = 255


def test_a_model_answers_the_same_from_its_file_and_from_its_bytes(colour_run: Path):
    path = colour_run / "model.onnx"
    answers = [open_session(source).run(None, {"pixels": PIXELS})[0] for source in (path, path.read_bytes())]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert answers[0].argmax(axis=1).tolist() == [0, 2]


def test_the_threads_are_as_many_as_the_cores_and_do_not_spin_while_they_wait(colour_run: Path):
    from classifold.machine import count_cores

    options = open_session(colour_run / "model.onnx").get_session_options()
    assert options.intra_op_num_threads == count_cores()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_several_threads_may_ask_one_session(colour_run: Path):
    session = open_session(colour_run / "model.onnx")
    expected = session.run(None, {"pixels": PIXELS})[0]
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(session.run(None, {"pixels": PIXELS})[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" * 50])
def test_what_is_no_model_is_refused_without_a_word_on_the_terminal(content, capfd, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(content)
    for source in (content, tmp_path / "model.onnx"):
        with pytest.raises(Exception, match=r"(?i)fail|invalid|proto|graph|model"):
            open_session(source)
    assert capfd.readouterr().err == ""
