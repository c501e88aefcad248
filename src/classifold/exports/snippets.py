"""Preprocessing for programs without classifold: from a picture's file to the pixels that the model takes.

Each is one file written from a template, in Python, JavaScript, Swift and Kotlin. All resize as Pillow does
(antialiased bilinear, in whole numbers after each direction), since every platform's own way differs.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Final

from classifold.model_card import ModelCard

PYTHON, JAVASCRIPT, SWIFT, KOTLIN = "preprocess.py", "preprocess.js", "Preprocess.swift", "Preprocess.kt"
SNIPPETS: Final = (PYTHON, JAVASCRIPT, SWIFT, KOTLIN)


def fill_template(name: str, card: ModelCard) -> str:
    """Return a template's text with the model's own values.

    Args:
        name: Name of the file that it becomes; the template is called so with `.in` at its end.
        card: The model card.
    """
    text = (resources.files("classifold.exports") / "templates" / f"{name}.in").read_text(encoding="utf-8")
    answering = card.answering
    values = {
        "size": str(card.image_size),
        "classes": _quote_list(card.class_names),
        "swift_classes": "[" + ", ".join(map(_quote_swift, card.class_names)) + "]",
        "kotlin_classes": ", ".join(map(_quote_kotlin, card.class_names)),
        "input": json.dumps(card.input.name),
        "output": json.dumps(card.output),
        "distance": json.dumps(card.distance),
        "min_confidence": repr(answering.min_confidence if answering else 0.0),
        "max_distance": repr(answering.max_distance if answering else 1.0),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _quote_list(class_names: tuple[str, ...]) -> str:
    """Return names as a list that JSON, Python and JavaScript read alike, also inside of a page."""
    # "</script>" in a name would end the page's script.
    return json.dumps(list(class_names), ensure_ascii=False).replace("<", "\\u003c")


def _quote_swift(text: str) -> str:
    """Return a string of Swift, in which every character that means something is written by its number."""
    return '"' + "".join(one if _is_plain(one) else f"\\u{{{ord(one):x}}}" for one in text) + '"'


def _quote_kotlin(text: str) -> str:
    """Return a Kotlin string literal; a dollar sign is escaped, since it would insert a variable."""
    units = [int.from_bytes(pair) for pair in _split(text.encode("utf-16-be", "surrogatepass"))]
    return '"' + "".join(chr(one) if _is_plain(chr(one)) else f"\\u{one:04x}" for one in units) + '"'


def _split(content: bytes) -> list[bytes]:
    return [content[place : place + 2] for place in range(0, len(content), 2)]


def _is_plain(one: str) -> bool:
    return one.isascii() and (one.isalnum() or one in " -_.,()'")


def write_snippets(folder: Path, card: ModelCard) -> None:
    """Write the files into an export's folder."""
    for name in SNIPPETS:
        (folder / name).write_text(fill_template(name, card), encoding="utf-8")
