"""Shows how to use the model: a few lines for the shell, Python, HTTP and JavaScript."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

from classifold import names
from classifold.model_card import Answering, ModelCard, parse_card
from classifold.report.view import UseWay


def read_card(run_dir: Path) -> ModelCard | None:
    """Return the model card of a run folder; None where it has none.

    Raises:
        RunError: The card is damaged.
    """
    path = run_dir / names.CLASSES_JSON
    if not path.is_file():
        return None
    return parse_card(path.read_text(encoding="utf-8", errors="replace"), where=path)


def build_uses(run_name: str, card: ModelCard | None) -> list[UseWay]:
    """Return how to use the model in each language.

    Args:
        run_name: Name of the run folder.
        card: The model card; None leaves JavaScript out, which needs to know the model's input and outputs.
    """
    answering = None if card is None else card.answering
    has_rule = answering is not None
    uses = [_use_shell(run_name, answering), _use_python(run_name, has_rule=has_rule)]
    uses.append(_use_http(run_name, has_rule=has_rule))
    return [*uses, _use_javascript(card)] if card is not None else uses


def _use_shell(run_name: str, answering: Answering | None) -> UseWay:
    run = shlex.quote(run_name)
    lines = [
        f"classifold predict {run} photo.jpg",
        f"classifold predict {run} photos/ --format csv --output answers.csv",
        f"classifold predict {run} photo.jpg --explain why/   # heat map and similar training pictures",
    ]
    if answering is not None and answering.error_steps:
        # 5 %, or the smallest error that this model can promise, rounded up so that it is accepted.
        error = max(0.05, math.ceil(1000 * answering.error_steps[0].max_error) / 1000)
        lines.append(f"classifold predict {run} photos/ --error {error:g}   # at most this share is wrong")
    if answering is not None:
        lines.append(f"classifold predict {run} photos/ --always-answer   # never unknown")
    return UseWay(
        "Shell", lines, "In your project, or in the folder that holds the run folder. One row per picture."
    )


def _use_python(run_name: str, *, has_rule: bool) -> UseWay:
    label = '"unknown" if one.unknown else one.label' if has_rule else "one.label"
    code = f"""\
import classifold
model = classifold.load({_quote(run_name)})
one = model.predict("photo.jpg")
print({label})
for one in model.predict_iter(["photos"]):
    print(one.path, {label}, one.probability)"""
    note = (
        "In the folder that holds the run folder. Needs no TensorFlow. Where a picture cannot be read, "
        "one.error says why."
    )
    return UseWay("Python", code.splitlines(), note)


def _use_http(run_name: str, *, has_rule: bool) -> UseWay:
    label = "'unknown' if one.unknown else one.label" if has_rule else "one.label"
    code = f"""\
from wsgiref.simple_server import make_server
import classifold
model = classifold.load({_quote(run_name)})
def answer(request, respond):
    upload = request["wsgi.input"].read(int(request["CONTENT_LENGTH"] or 0))
    one = model.predict([upload])[0]  # in a list: one that cannot be read has the reason in error
    respond("400 Bad Request" if one.error else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [(one.error or f"{{{label}}} {{one.probability:.3f}}").encode()]
make_server("127.0.0.1", 8000, answer).serve_forever()
# in another terminal: curl --data-binary @photo.jpg 127.0.0.1:8000"""
    note = (
        "Classifold has no server yet. This one handles one request at a time, from this machine only. For "
        "more, pass the function answer to a WSGI server such as gunicorn."
    )
    return UseWay("HTTP", code.splitlines(), note)


def _use_javascript(card: ModelCard) -> UseWay:
    rule = card.answering
    condition = "" if rule is None else f"share < {rule.min_confidence:g}"
    if rule is not None and card.distance:
        # Not ">": a distance that is not a number is unknown, too.
        condition += f" || !(answers.{card.distance}.data[0] <= {rule.max_distance:g})"
    name = "card.class_names[shares.indexOf(share)]"
    said = f'{condition} ? "unknown" : {name}' if condition else name
    code = f"""\
import * as ort from "onnxruntime-web";
const card = await (await fetch("classes.json")).json(), size = card.image_size;
const model = await ort.InferenceSession.create("model.onnx");
const canvas = new OffscreenCanvas(size, size).getContext("2d");
Object.assign(canvas, {{ fillStyle: "white", imageSmoothingQuality: "high" }}).fillRect(0, 0, size, size);
canvas.drawImage(await createImageBitmap(file), 0, 0, size, size);  // file: from <input type="file">
const rgb = Float32Array.from(canvas.getImageData(0, 0, size, size).data.filter((_, at) => at % 4 < 3));
const answers = await model.run({{ {card.input.name}: new ort.Tensor("float32", rgb, [1, size, size, 3]) }});
const shares = answers.{card.output}.data, share = Math.max(...shares);
console.log({said}, share);"""
    note = (
        "Put model.onnx and classes.json beside the page. Browsers resize pictures differently, so "
        "probabilities differ somewhat from those of classifold predict."
    )
    return UseWay("JavaScript", code.splitlines(), note)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
