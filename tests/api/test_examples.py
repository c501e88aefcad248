"""Every example in a docstring of the API is run, and every Python passage of README and docs/python.md."""

from __future__ import annotations

import doctest
import re
import shutil
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import classifold as package

if TYPE_CHECKING:
    from made_photos import Place

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/python.md")
NAMES = [name for name in package.__all__ if not name.startswith("_")]
MARK = "-- the next passage"
_PARSER = doctest.DocTestParser()


def docstrings_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield the docstrings of a public function, or of a class and all that is public in it."""
    value = getattr(package, name)
    yield name, value.__doc__ or ""
    if isinstance(value, type):
        for member, one in vars(value).items():
            if not member.startswith("_") and getattr(one, "__doc__", None):
                yield f"{name}.{member}", one.__doc__


def test_each_public_function_and_class_has_an_example() -> None:
    without = [name for name in NAMES if ">>>" not in dict(docstrings_of(name))[name]]
    assert without == []


def test_each_public_method_and_property_has_a_docstring() -> None:
    for name in NAMES:
        value = getattr(package, name)
        if isinstance(value, type) and value.__module__.startswith("classifold.api"):
            for member, one in vars(value).items():
                if isinstance(one, property | types.FunctionType) and not member.startswith("_"):
                    assert one.__doc__, f"{name}.{member}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_examples_in_a_docstring_do_what_they_say(
    name: str, inside: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)  # no browser opens
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said = [inside.failures] if name == "train" else []
    for where, text in docstrings_of(name):
        if where == "train":
            continue  # the fixture ran it: one training for all examples
        test = _PARSER.get_doctest(text, {}, where, None, None)
        doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert not any(said), "".join(said)


def passages_of(page: str) -> list[tuple[str, str]]:
    """Return each Python block of a page with the output that follows it; "" if no output follows."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return re.findall(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```)?", text, re.MULTILINE | re.DOTALL)


def words_of(text: str) -> list[str]:
    """Return the words, sorted: figures, and the order that follows from them, depend on the processor."""
    return sorted(re.findall(r"[^\W\d]\w*", text))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_from_top_to_bottom_and_prints_what_it_says(
    page: str, place: Place, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    # In a folder with photos/ and every picture file that it names; RUN stands for a run folder, and a
    # training without settings takes those of a quick one.
    passages = passages_of(page)
    assert passages or page != "docs/python.md"
    for folder in ("photos", "runs"):
        shutil.copytree(place.folder / folder, tmp_path / folder)
    shutil.copy(place.folder / "settings.py", tmp_path)
    code = f"print({MARK!r})\n".join(f"{block}\n" for block, _ in passages)
    for name in set(re.findall(r"[\"']([\w-]+\.(?:jpe?g|png))[\"']", code)):
        shutil.copy(place.folder / "photo.jpg", tmp_path / name)
    code = re.sub(r"(\bclassifold\.train\([\"'][^\"']+[\"'])\)", r"\1, config='settings.py')", code)
    script = tmp_path / "passages.py"
    script.write_text(re.sub(r"([\"'])RUN\b", r"\1runs/first", code))
    answer = run_python(script, cwd=tmp_path)
    assert answer.code == 0, answer.err
    for (block, expected), found in zip(passages, answer.out.split(f"{MARK}\n"), strict=True):
        assert not expected or words_of(found) == words_of(expected), f"{block}\n{found}"


def test_the_page_of_the_api_tells_of_every_public_name_and_of_no_other() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    told = set(re.findall(r"classifold\.(\w+)", "".join(block for block, _ in passages_of("docs/python.md"))))
    told |= set(re.findall(r"`classifold\.(\w+)", text))
    assert told - {"__all__"} == set(NAMES)
