"""`classifold.Run`: what a run folder holds, read as data, and shown in a notebook."""

from __future__ import annotations

import json
import pickle
import shutil
import stat
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from classifold import names
from classifold.api.run import Run
from classifold.errors import RunError, UsageError

if TYPE_CHECKING:
    from made_photos import Place

pytestmark = pytest.mark.slow


@pytest.fixture
def run(place: Place) -> Run:
    return Run(place.run_dir)


@pytest.fixture
def copied(place: Place, tmp_path: Path) -> Path:
    """A copy of the run's readable files, for a test to change."""
    folder = tmp_path / "copied run"
    folder.mkdir()
    for path in place.run_dir.iterdir():
        if path.suffix in (".json", ".csv", ".html", ".onnx"):
            shutil.copy(path, folder)
    return folder


def test_a_run_knows_its_scores_and_its_files(place: Place, run: Run) -> None:
    assert run.path == place.run_dir
    assert run.name == "first"
    assert run.metrics == json.loads((place.run_dir / "metrics.json").read_text())
    assert run.accuracy == run.metrics["scores"]["accuracy"]["value"]
    assert run.class_names == ("blue", "green", "red stripes")
    assert run.settings["EPOCHS"] == 2
    assert run.environment["classifold"]
    assert repr(run) == f"Run({str(place.run_dir)!r}, accuracy {run.accuracy:.3f})"
    assert set(run.paths) == {*names.ARTEFACTS, *names.LATER_ARTEFACTS, names.CHECK_JSON}
    assert all(path.exists() for path in run.paths.values())
    assert run.report_path == run.paths["report.html"]


def test_a_run_is_the_path_of_its_folder(place: Place, run: Run) -> None:
    assert (Path(run) / "model.onnx").is_file()
    assert Run(run).path == place.run_dir


def check_predictions(table: Any, run: Run) -> None:
    assert len(table["path"]) == run.metrics["num_pictures"]
    assert np.mean(table["correct"]) == pytest.approx(run.accuracy)
    assert set(table["true_class"]) == set(run.class_names)
    shares = np.stack([np.asarray(table[f"p:{name}"], float) for name in run.class_names], axis=1)
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert shares.max(axis=1) == pytest.approx(np.asarray(table["confidence"], float))


def test_predictions_are_an_array_where_pandas_is_not_installed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = run.predictions
    assert isinstance(table, np.ndarray)
    columns = ["path", "true_class", "predicted_class", "confidence", "correct"]
    classes = [f"p:{name}" for name in run.class_names]
    assert list(table.dtype.names or ()) == [*columns, *classes, "unknown", "distance"]
    assert table.dtype["correct"] == table.dtype["unknown"] == np.bool_
    assert table.dtype["distance"] == np.float64
    assert table.dtype["confidence"] == np.float64
    check_predictions(table, run)
    assert run.history["stage"][0] == "head"
    assert run.history["epoch"].dtype.kind == "i"
    assert run.predictions is table  # read once


def test_predictions_are_a_data_frame_where_pandas_is_installed(run: Run) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert isinstance(run.predictions, pandas.DataFrame)
    check_predictions(run.predictions, run)
    assert isinstance(run.history, pandas.DataFrame)


def test_a_number_that_there_is_none_of_is_nan(copied: Path) -> None:
    (copied / "history.csv").write_text(
        "stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds,best\n"
        "head,1,nan,0.5,0.25,0.5,,1.5,true\n"
    )
    history = Run(copied).history
    assert np.isnan(history["loss"][0])
    assert np.isnan(history["learning_rate"][0])
    assert (history["epoch"][0], bool(history["best"][0]), history["val_loss"][0]) == (1, True, 0.25)


def test_no_pickle_of_a_run_is_ever_opened(copied: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "it went off",)

    for name in names.TEMPLATE_ARTEFACTS:
        if name.endswith(".pkl"):
            (copied / name).write_bytes(pickle.dumps(Bomb()))
    run = Run(copied)
    _ = (
        run.metrics,
        run.settings,
        run.environment,
        run.predictions,
        run.history,
        run.paths,
        run._repr_html_(),
    )
    run.load()
    assert not (tmp_path / "it went off").exists()


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "history.csv", "config.json"])
def test_a_damaged_file_is_named(copied: Path, name: str) -> None:
    (copied / name).write_text("{")
    run = Run(copied)
    reads: dict[str, Callable[[], Any]] = {
        "metrics.json": lambda: run.metrics,
        "predictions.csv": lambda: run.predictions,
        "history.csv": lambda: run.history,
        "config.json": lambda: run.settings,
    }
    with pytest.raises(RunError, match=name):
        reads[name]()


@pytest.mark.parametrize("content", ["{", "", "[]", '{"scores": {"accuracy": null}}'])
def test_a_run_with_damaged_scores_is_still_shown(copied: Path, content: str) -> None:
    run = Run(copied)
    (copied / "metrics.json").write_text(content)
    assert repr(run) == f"Run({str(copied)!r}, its scores cannot be read)"
    assert "metrics.json" in Run(copied)._repr_html_()
    shutil.rmtree(copied)
    assert "its scores cannot be read" in repr(run)


def test_a_tilde_is_the_home_folder(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(copied.parent))
    assert Run(f"~/{copied.name}").path == copied


@pytest.mark.parametrize("path", ["", "x" * 300, "y/" * 2040, "a\0b", 3, b"bytes", None])
def test_what_is_no_path_is_one_error(path: Any) -> None:
    with pytest.raises(UsageError, match=r"classifold\.Run: ") as caught:
        Run(path)
    assert len(str(caught.value)) < 250


def refusal(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        Run(path)
    return str(caught.value)


def test_what_is_no_run_is_refused_with_what_it_is(place: Place, tmp_path: Path) -> None:
    assert "no such run folder" in refusal(tmp_path / "nothing")
    newest = str(place.run_dir.with_name("second"))
    assert f"holds 2 runs, and is not a run itself\nhint: name one of them; the newest is {newest!r}" in (
        refusal(place.run_dir.parent)
    )
    assert "no metrics.json in this folder" in refusal(tmp_path)
    (tmp_path / "model.tar.gz").write_bytes(b"")
    assert "tar -xzf" in refusal(tmp_path / "model.tar.gz")
    (tmp_path / "r.interrupted").mkdir()
    assert "classifold.train(folder, resume=True)" in refusal(tmp_path / "r.interrupted")


def test_the_report_opens_in_the_users_browser(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    assert run.open_report() == run.report_path
    assert (tmp_path / "opened").read_text().strip() == run.report_path.resolve().as_uri()


def test_without_a_browser_the_path_of_the_report_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run.open_report() == run.report_path
    assert (
        f"no browser can be opened here; the report is {run.report_path.resolve()}" in capsys.readouterr().err
    )


def test_a_run_without_a_report_says_how_to_write_it(copied: Path) -> None:
    (copied / "report.html").unlink()
    with pytest.raises(RunError, match=r"`classifold report .*` writes it again"):
        Run(copied).open_report()
    assert "<iframe" not in Run(copied)._repr_html_()


class Tags(HTMLParser):
    """The tags of a piece of HTML, the text between them, and the content of its frames."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.frames: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.add(tag)
        if tag == "iframe":
            self.frames.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_scores_and_the_report_in_a_frame_of_its_own(run: Run) -> None:
    tags = Tags(run._repr_html_())
    assert tags.open == []
    assert "Accuracy" in tags.text
    assert "correctly" in tags.text
    (frame,) = tags.frames
    assert frame["sandbox"] == ""
    assert frame["srcdoc"] == run.report_path.read_text()
    assert "src" not in frame


def test_class_names_and_run_names_that_look_like_html_are_shown_as_text(copied: Path) -> None:
    evil = "<b>bold</b><script>alert(1)</script>\u202e\"'"
    text = (copied / "metrics.json").read_text().replace('"blue"', json.dumps(evil))
    (copied / "metrics.json").write_text(text)
    folder = copied.rename(copied.with_name("<img src=x onerror=alert(1)>"))
    run = Run(folder)
    assert run.class_names[0] == evil
    html = run._repr_html_()
    tags = Tags(html)
    assert tags.seen == {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "iframe", "code"}
    assert "\u202e" not in html.partition("<iframe")[0]
    assert "<img" in tags.text


def test_a_report_too_large_for_a_notebook_is_named_in_place_of_being_shown(copied: Path) -> None:
    (copied / "report.html").write_text("x" * 9_000_000)
    html = Run(copied)._repr_html_()
    assert "<iframe" not in html
    assert "report.html" in html
