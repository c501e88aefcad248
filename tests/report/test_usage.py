from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

from classifold.errors import RunError
from classifold.model_card import ModelCard, parse_card
from classifold.report.usage import build_uses, read_card
from made_card import model_card
from made_models import COLOURS, colour_model


def make_card(**changes: object) -> ModelCard:
    return parse_card(json.dumps(model_card(["a", "b"], **changes)), where=Path("run"))


ANSWERING = {"min_confidence": 0.6, "error_steps": [{"max_error": 0.0712, "min_confidence": 0.7}]}


def test_every_way_has_lines_and_names_the_run() -> None:
    uses = build_uses("my run", make_card())
    assert [one.name for one in uses] == ["Shell", "Python", "HTTP", "JavaScript"]
    assert uses[0].lines[0] == "classifold predict 'my run' photo.jpg"
    assert all(one.lines and one.note for one in uses)
    for one in uses[1:3]:
        compile("\n".join(one.lines), one.name, "exec")
        assert 'load("my run")' in "\n".join(one.lines)


def test_without_a_model_card_javascript_is_left_out() -> None:
    assert [one.name for one in build_uses("run", None)] == ["Shell", "Python", "HTTP"]


def test_lines_of_a_model_that_can_say_unknown_say_it() -> None:
    shell, python, http, script = build_uses("run", make_card(answering=ANSWERING, distance="far"))
    for one in (python, http):
        compile("\n".join(one.lines), one.name, "exec")
        assert "one.unknown" in "\n".join(one.lines)
    assert 'print("unknown" if one.unknown else one.label)' in python.lines
    assert 'share < 0.6 || !(answers.far.data[0] <= 1) ? "unknown"' in script.lines[-1]
    # The smallest error that it can promise, never rounded down: predict would refuse that.
    assert "--error 0.072 " in "\n".join(shell.lines)
    early = build_uses("run", make_card())
    assert not any("unknown" in line for one in early for line in one.lines)


def test_the_server_names_a_picture_and_says_why_it_cannot_read_another(tmp_path: Path) -> None:
    onnx.save(colour_model(model_card(COLOURS, answering=ANSWERING)), tmp_path / "model.onnx")
    lines = build_uses(str(tmp_path), make_card(answering=ANSWERING))[2].lines
    served: dict[str, Any] = {}
    exec("\n".join(line for line in lines if not line.startswith("make_server(")), served)

    def ask(upload: bytes, length: str | None = None) -> tuple[str, str]:
        heads = []
        request = {"wsgi.input": io.BytesIO(upload), "CONTENT_LENGTH": length or str(len(upload))}
        body = served["answer"](request, lambda status, _: heads.append(status))
        return heads[0], b"".join(body).decode()

    red = io.BytesIO()
    Image.new("RGB", (16, 16), (255, 0, 0)).save(red, "PNG")
    assert ask(red.getvalue()) == ("200 OK", "red 0.965")
    for broken in (red.getvalue()[:45], b"no picture", b""):
        status, reason = ask(broken)
        assert status == "400 Bad Request"
        assert len(reason) > 10


def test_a_model_that_can_promise_five_percent_is_shown_with_that() -> None:
    steps = [{"max_error": 0.01, "min_confidence": 0.9}]
    shell = build_uses("run", make_card(answering=ANSWERING | {"error_steps": steps}))[0]
    assert "--error 0.05 " in "\n".join(shell.lines)
    shell = build_uses("run", make_card(answering=ANSWERING | {"error_steps": []}))[0]
    assert "--error" not in "\n".join(shell.lines)


def test_a_damaged_model_card_is_named(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    (tmp_path / "classes.json").write_text("{}")
    with pytest.raises(RunError, match=r"classes\.json"):
        read_card(tmp_path)
