"""The plain files of a run: pickles that load with NumPy alone, JSON without surprises, an archive."""

from __future__ import annotations

import json
import pickle
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold import names
from classifold.run_folder import write_archive
from classifold.settings.config import Config
from classifold.training.artefacts import (
    build_card,
    build_environment,
    write_json,
    write_pickles,
)
from classifold.training.evaluate import Answers

NAMES = ("daisy", "ひまわり", "two words")


@pytest.fixture
def pickles(tiny: Callable[..., Config], tmp_path: Path) -> Path:
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]])
    answers = Answers(np.array([0, 1, 2]), shares, NAMES, ("a", "b", "c"))
    config = tiny(HEAD_LAYERS=(8, 4), CLASS_WEIGHTS={"daisy": 2.0}, TAGS={"Customer": "me"})
    write_pickles(tmp_path, answers, config)
    return tmp_path


ALONE = """
import builtins, importlib.util, json, pickle, sys
allowed = set(sys.stdlib_module_names) | {"numpy"}
ordinary = builtins.__import__

def guarded(name, *arguments, **options):
    if name.partition(".")[0] not in allowed and not (arguments and len(arguments) > 3 and arguments[3]):
        raise ImportError(f"{name} is not installed here")
    return ordinary(name, *arguments, **options)

builtins.__import__ = guarded
for blocked in ("sklearn", "keras", "tensorflow", "classifold", "pydantic"):
    sys.modules[blocked] = None
import numpy

loaded = {}
for name in ("classes_dict", "classification_report", "confusion_matrix", "config_dict"):
    with open(f"{sys.argv[1]}/{name}.pkl", "rb") as file:
        loaded[name] = pickle.load(file)

def check_plain(value):
    assert type(value) in (dict, list, str, int, float, bool, type(None)), type(value)
    for part in (value.values() if type(value) is dict else value if type(value) is list else ()):
        check_plain(part)

check_plain(loaded["config_dict"])
assert type(loaded["confusion_matrix"]) is numpy.ndarray
assert numpy.issubdtype(loaded["confusion_matrix"].dtype, numpy.integer)
assert {type(key) for key in loaded["classes_dict"]} == {str}
assert {type(value) for value in loaded["classes_dict"].values()} == {int}
print(json.dumps({**loaded, "confusion_matrix": loaded["confusion_matrix"].tolist()}))
"""


def test_the_templates_pickles_load_where_only_numpy_is_installed(pickles: Path, run_python):
    done = run_python("-c", ALONE, pickles)
    assert done.code == 0, done.err
    loaded = json.loads(done.out)
    assert loaded["classes_dict"] == {"daisy": 0, "ひまわり": 1, "two words": 2}
    assert list(loaded["classes_dict"]) == list(NAMES)
    assert loaded["confusion_matrix"] == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert isinstance(loaded["classification_report"], str)
    assert "macro avg" in loaded["classification_report"]
    assert loaded["config_dict"]["HEAD_LAYERS"] == [8, 4]
    assert loaded["config_dict"]["CLASS_WEIGHTS"] == {"daisy": 2.0}
    assert set(loaded["config_dict"]) == set(Config.model_fields)


def test_the_pickles_name_nothing_but_numpy(pickles: Path):
    import pickletools

    for path in pickles.glob("*.pkl"):
        words = [arg for op, arg, _ in pickletools.genops(path.read_bytes()) if isinstance(arg, str)]
        modules = {word for word in words if word.partition(".")[0] in ("sklearn", "classifold", "keras")}
        assert modules == set()


def test_a_run_whose_pickles_were_written_by_the_command_loads_too(finished, run_python):
    done = run_python("-c", ALONE, finished.run_dir)
    assert done.code == 0, done.err
    assert json.loads(done.out)["classes_dict"] == {"blue": 0, "green": 1, "red stripes": 2}


def test_the_card_is_all_that_serving_needs(tiny: Callable[..., Config]):
    from classifold.model_card import parse_card

    text = build_card(tiny(MAX_PIXELS=1234), NAMES, "run-1")
    assert text.endswith("}\n")
    assert "ひまわり" in text
    card = json.loads(text)
    assert card["class_names"] == list(NAMES)
    assert (card["image_size"], card["max_pixels"], card["run"]) == (32, 1234, "run-1")
    assert list(card) == [
        *("format", "class_names", "image_size", "max_pixels", "sample_bits", "input", "resize", "output"),
        *("backbone", "run", "classifold", "answering", "distance", "embedding", "class_maps"),
    ]
    assert card["input"] == {"name": "pixels", "layout": "NHWC", "colour": "RGB", "range": [0, 255]}
    assert card["resize"] == "squash, antialiased bilinear"
    read = parse_card(text, where=Path("classes.json"))
    assert read.to_json() == text
    assert tuple(read.class_names) == NAMES
    assert read.sample_bits == "auto"
    deep = build_card(tiny(SAMPLE_BITS=12), NAMES, "run-1")
    assert parse_card(deep, where=Path("classes.json")).sample_bits == 12


def test_json_is_readable_and_never_holds_what_json_does_not_know(tmp_path: Path):
    write_json({"name": "ひ", "values": [1, 0.5]}, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "ひ" in text
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="JSON"):
        write_json({"value": float("nan")}, tmp_path / "y.json")
    assert not (tmp_path / "y.json").exists()


@pytest.mark.slow
def test_the_environment_holds_versions_and_the_command(monkeypatch):
    import keras

    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/classifold", "train", "--json"])
    environment = build_environment(
        backend="tensorflow",
        started="2026-01-01T00:00:00+00:00",
        seconds={"head": 1.23456},
        data={"fingerprint": "x"},
        verification={"model.h5": 1e-6},
        backbone={"name": "VGG16", "weights": "imagenet", "license": "CC-BY-4.0"},
    )
    assert environment["backbone"]["license"] == "CC-BY-4.0"
    assert environment["command"] == ["classifold", "train", "--json"]
    assert environment["packages"]["keras"] == keras.__version__
    assert environment["seconds"] == {"head": 1.23}
    json.dumps(environment, allow_nan=False)


def test_the_archive_holds_the_artefacts_and_nothing_else(tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoint" / "variables").mkdir(parents=True)
    (run / "checkpoint" / "variables" / "v").write_bytes(b"1")
    (run / "model.onnx").write_bytes(b"2")
    (run / "sample.npz").write_bytes(b"3")
    target = write_archive(run, tmp_path / "model.tar.gz")
    with tarfile.open(target) as archive:
        members = archive.getnames()
    assert members == ["checkpoint", "checkpoint/variables", "checkpoint/variables/v", "model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tar.gz", "run"]


def test_an_archive_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    run.mkdir()
    (run / names.MODEL_ONNX).write_bytes(b"2")
    monkeypatch.setattr(tarfile.TarFile, "add", fail)
    with pytest.raises(KeyboardInterrupt):
        write_archive(run, tmp_path / "model.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_pickles_are_of_a_protocol_that_every_python_reads(pickles: Path):
    for path in pickles.glob("*.pkl"):
        assert path.read_bytes()[:2] == b"\x80\x04"
        assert pickle.loads(path.read_bytes()) is not None
