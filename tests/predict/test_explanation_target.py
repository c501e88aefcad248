from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.errors import DataError
from classifold.model_card import ModelCard
from classifold.predict.explanation import open_explaining
from classifold.predict.explanation_files import ExplanationFiles
from classifold.predict.explanation_target import check_target, open_target
from classifold.predict.predictor import load_predictor
from classifold.trust.answering import Rule
from made_spots import make_spot_run, spot_model, write_spots


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_spot_run(tmp_path_factory.mktemp("spots") / "run")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots(tmp_path_factory.mktemp("sets") / "training")


@pytest.fixture
def explain(run_dir: Path, training: Path) -> Callable[[Path], None]:
    """Return a function that explains a picture into a folder."""

    def into(target: Path) -> None:
        paths, predictor = [training / "red"], load_predictor(run_dir)
        opened = open_explaining(target, predictor, run_dir=run_dir, paths=paths, data_dir=training)
        with opened as explaining:
            assert len(list(explaining.predict_paths(paths))) == 2

    return into


@pytest.fixture
def card() -> ModelCard:
    return spot_model(class_maps=True)[1]


@pytest.mark.parametrize(
    "foreign",
    [
        "holiday.jpg",
        "page-two.html",
        "sub/index.html",
        "pictures/mine.txt",
        "pictures/mine.jpg",
        "pictures/000123.jpg",
        "pictures/sub.jpg/mine.jpg",
        "neighbours/0123456789abcdef.jpg",
        "neighbours/000001.jpg",
    ],
)
def test_a_folder_that_holds_anything_else_is_refused_and_stays(
    explain: Callable[[Path], None], tmp_path: Path, foreign: str
) -> None:
    folder = tmp_path / "why"
    explain(folder)
    (folder / foreign).parent.mkdir(exist_ok=True)
    (folder / foreign).write_text("mine")
    with pytest.raises(DataError, match="the folder is not empty"):
        explain(folder)
    assert (folder / foreign).read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["pictures", "neighbours", "pictures/000001.jpg", "index.html", "explain.json"]
)
def test_a_link_in_place_of_a_part_is_not_ours(
    explain: Callable[[Path], None], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "why"
    explain(folder)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="the folder is not empty"):
        check_target(folder, [])


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, "null", "\xff"])
def test_a_damaged_list_of_what_was_written_is_not_ours(
    explain: Callable[[Path], None], tmp_path: Path, text: str
) -> None:
    folder = tmp_path / "why"
    explain(folder)
    path = folder / "explain.json"
    head = path.read_text(encoding="utf-8").splitlines()[0] if text else ""
    path.write_bytes(f"{head}\n{{{text}\n".encode("latin-1"))
    with pytest.raises(DataError, match="the folder is not empty"):
        check_target(folder, [])


def test_a_part_of_an_earlier_explanation_is_replaced(
    explain: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "why"
    explain(folder)
    (folder / "pictures" / "000001.jpg").unlink()
    explain(folder)
    assert (folder / "pictures" / "000001.jpg").is_file()


def test_a_folder_among_the_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="among the pictures"):
        check_target(tmp_path / "photos" / "why", [tmp_path / "photos"])


def test_a_folder_beside_a_picture_is_refused_except_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="among the pictures"):
        check_target(Path("photos/why"), [Path("photos/one.jpg")])
    check_target(Path("why"), [Path("photos/one.jpg")])
    monkeypatch.chdir(tmp_path / "photos")
    check_target(Path("why"), [Path("one.jpg")])


@pytest.mark.parametrize("is_new", [True, False])
def test_of_a_link_the_folder_that_it_leads_to_is_replaced(
    explain: Callable[[Path], None], tmp_path: Path, is_new: bool
) -> None:
    (tmp_path / "far").mkdir()
    folder, link = tmp_path / "far" / "why", tmp_path / "link"
    link.symlink_to(folder)
    if not is_new:
        folder.mkdir()
    for _ in range(2):
        explain(link)
        assert link.readlink() == folder
        assert (folder / "index.html").is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link"]
        assert [path.name for path in folder.parent.iterdir()] == ["why"]


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(DataError, match="not a folder"):
        check_target(tmp_path / "link", [])


def test_nothing_is_left_when_the_work_is_interrupted(tmp_path: Path, card: ModelCard) -> None:
    def write_half() -> None:
        with ExplanationFiles.open(tmp_path / "why", paths=[], card=card, rule=Rule()) as writing:
            writing.place("pictures/000001.jpg").write_bytes(b"half a picture")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    target = tmp_path / "why"
    code = (
        "import os, signal, sys, pathlib\n"
        "from classifold.predict.explanation_target import open_target\n"
        "with open_target(pathlib.Path(sys.argv[1]), []) as partial:\n"
        "    (partial / 'half').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, target], check=False)
    (killed,) = tmp_path.iterdir()
    mine = [tmp_path / ".why.old", tmp_path / ".whys.1-0123ab.partial", tmp_path / ".why.1-0123ab.part"]
    for path in mine:
        path.mkdir()
    with open_target(target, []) as living:
        assert not killed.exists()
        (living / "one").touch()
        with open_target(target, []) as other:
            assert (living / "one").exists()
            assert other != living
    assert not list(tmp_path.glob(".why.*.partial"))
    assert all(path.is_dir() for path in mine)


def test_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    target = tmp_path / ("\N{GRINNING FACE}" * 60)
    with open_target(target, []) as partial:
        (partial / "one").touch()
    assert (target / "one").exists()
