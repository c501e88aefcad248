"""The engine that only looks forward."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest

from classifold.inference import open_session, run_outputs, run_session

PIXELS = np.zeros((2, 16, 16, 3), np.float32)
PIXELS[0, ..., 2] = PIXELS[1, ..., 0] = 255


def test_a_model_answers_the_same_from_its_file_and_from_its_bytes(colour_run: Path):
    path = colour_run / "model.onnx"
    answers = [open_session(source).run(None, {"pixels": PIXELS})[0] for source in (path, path.read_bytes())]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert answers[0].argmax(axis=1).tolist() == [0, 2]


def test_a_session_computes_in_the_thread_that_asks(colour_run: Path):
    options = open_session(colour_run / "model.onnx").get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_what_is_said_of_a_picture_depends_on_no_other_picture(colour_run: Path):
    session = open_session(colour_run / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (41, 16, 16, 3), np.uint8)
    together = run_session(session, pixels)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together[7:8], run_session(session, pixels[7:8]))
    np.testing.assert_array_equal(together, run_session(session, pixels.astype(np.float32)))
    np.testing.assert_array_equal(together[::-1], run_session(session, pixels[::-1], output="probabilities"))


def test_several_outputs_come_from_one_run_in_the_order_of_their_names(colour_run: Path):
    session = open_session(colour_run / "model.onnx")
    for pixels in (PIXELS, PIXELS[:1]):
        answer, again = run_outputs(session, pixels, outputs=["probabilities", "probabilities"])
        np.testing.assert_array_equal(answer, run_session(session, pixels))
        np.testing.assert_array_equal(answer, again)


def test_a_fault_of_the_engine_reaches_the_caller(colour_run: Path):
    session = open_session(colour_run / "model.onnx")
    for count in (1, 5):
        with pytest.raises(Exception, match=r"(?i)dimension|shape|rank|invalid"):
            run_session(session, np.zeros((count, 8, 8, 1), np.uint8))


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


def test_no_engine_is_asked_for_that_reads_other_files_of_this_machine():
    """ONNX Runtime 1.22 and 1.23 follow a model's external data to any path."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    [asked] = [one for one in project["project"]["dependencies"] if one.startswith("onnxruntime")]
    assert tuple(int(part) for part in asked.removeprefix("onnxruntime>=").split(".")) >= (1, 24, 1)
