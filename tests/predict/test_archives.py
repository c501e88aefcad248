from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import classifold
from classifold import names
from classifold.errors import RunError
from classifold.predict import archives
from classifold.predict.archives import fetch_archive, is_archive, open_archive, open_run
from classifold.predict.predictor import load_predictor

Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "classifold" / "models"


@pytest.fixture
def pack(run_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that packs the run, with other files, into an archive."""

    def make(name: str = "model.tar.gz", *, inner: str = "", others: tuple[str, ...] = ()) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w:gz") as archive:
            for other in others:
                content = tarfile.TarInfo(inner + other)
                content.size = 3
                archive.addfile(content, io.BytesIO(b"abc"))
            archive.add(run_dir / "model.onnx", f"{inner}model.onnx")
        return path

    return make


@pytest.mark.parametrize("inner", ["", "./", "run/"])
def test_a_model_in_an_archive_answers_as_the_one_that_is_unpacked(
    pack: Callable[..., Path], run_dir: Path, save_plain: Save, tmp_path: Path, inner: str
) -> None:
    photo = save_plain(tmp_path / "photo.png")
    [packed] = load_predictor(pack(inner=inner)).predict_paths([photo])
    [plain] = load_predictor(run_dir).predict_paths([photo])
    assert packed.probabilities is not None
    assert plain.probabilities is not None
    assert packed.probabilities.tolist() == plain.probabilities.tolist()
    assert classifold.load(tmp_path / "model.tar.gz").predict(photo).label == "red"


def test_only_what_predicting_needs_is_unpacked(pack: Callable[..., Path]) -> None:
    others = ("model.h5", "classes_dict.pkl", "classes.json", "deep/er/config.json", "reference.npz")
    folder = open_archive(pack(others=others))
    assert sorted(one.name for one in folder.rglob("*")) == ["classes.json", "model.onnx", "reference.npz"]


def test_an_archive_is_unpacked_once_and_known_by_its_content(
    pack: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_archive(pack())
    shutil.copy(tmp_path / "model.tar.gz", tmp_path / "copy.tgz")
    monkeypatch.setattr(archives, "unpack_archive", None)  # would fail if it were called again
    assert open_archive(tmp_path / "copy.tgz") == first
    assert first.parent == cache
    assert [one.name for one in cache.iterdir()] == [first.name]


def test_without_a_cache_a_temporary_folder_is_used_that_goes_with_the_process(
    pack: Callable[..., Path], tmp_path: Path, run_python: Callable[..., object]
) -> None:
    (tmp_path / "file").touch()
    code = "import sys, classifold; print(classifold.load(sys.argv[1]).class_names)"
    (tmp_path / "tmp").mkdir()
    env = {"XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "tmp")}
    answer = run_python("-c", code, pack(), env=env)
    assert answer.code == 0, answer.err  # type: ignore[attr-defined]
    assert "red" in answer.out  # type: ignore[attr-defined]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_archive_that_leads_out_of_its_folder_is_refused_and_leaves_nothing(
    tmp_path: Path, cache: Path
) -> None:
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../model.onnx")
        archive.addfile(member)
    with pytest.raises(RunError, match="it holds a path that leads out of the folder"):
        open_archive(tmp_path / "bad.tar.gz")
    assert list(cache.iterdir()) == []
    assert not (cache.parent / "model.onnx").exists()


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "it cannot be unpacked"), (b"no archive", "it cannot be unpacked")]
)
def test_a_damaged_archive_is_told_as_one(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(RunError, match=words):
        load_predictor(tmp_path / "a.tar.gz")


def test_an_archive_without_a_model_or_with_two_is_refused(
    pack: Callable[..., Path], tmp_path: Path, run_dir: Path
) -> None:
    with tarfile.open(tmp_path / "none.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("classes.json"))
    with pytest.raises(RunError, match=r"no model.onnx in this archive"):
        open_archive(tmp_path / "none.tar.gz")
    with tarfile.open(tmp_path / "two.tar.gz", "w:gz") as archive:
        for inner in ("a", "b"):
            archive.add(run_dir / "model.onnx", f"{inner}/model.onnx")
    with pytest.raises(RunError, match="it holds 2 models"):
        open_archive(tmp_path / "two.tar.gz")


def test_the_newest_models_stay_and_older_ones_go_once_they_are_not_used(
    pack: Callable[..., Path], cache: Path
) -> None:
    cache.mkdir(parents=True)
    long_ago = time.time() - 10 * 24 * 3600
    for number in range(12):
        (cache / f"old{number}").mkdir()
        os.utime(cache / f"old{number}", (long_ago + number, long_ago + number))
    (cache / "recent").mkdir()
    kept = open_archive(pack())
    left = {one.name for one in cache.iterdir()}
    assert left == {kept.name, "recent", *(f"old{number}" for number in range(6, 12))}


def test_a_run_is_named_by_its_folder_its_name_its_model_or_its_archive(
    pack: Callable[..., Path], run_dir: Path, tmp_path: Path
) -> None:
    assert open_run(str(run_dir), runs_dir=tmp_path) == run_dir
    assert open_run("run", runs_dir=tmp_path) == run_dir
    assert open_run(str(run_dir / "model.onnx"), runs_dir=tmp_path) == run_dir / "model.onnx"
    assert (open_run(str(pack()), runs_dir=tmp_path) / "model.onnx").is_file()
    assert is_archive("S3://b/MODEL.TAR.GZ")
    assert not is_archive("model.onnx")


class Shop:
    """A place of archives that counts what is asked of it."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.downloads, self.version = archive, 0, "1"

    def find_version(self, address: str) -> str:
        return self.version

    def download(self, address: str, target: Path) -> None:
        self.downloads += 1
        shutil.copy(self.archive, target)


def test_an_archive_elsewhere_is_downloaded_once_for_each_version(pack: Callable[..., Path]) -> None:
    shop = Shop(pack())
    first = fetch_archive("s3://b/model.tar.gz", shop)
    assert fetch_archive("s3://b/model.tar.gz", shop) == first
    assert shop.downloads == 1
    assert names.MODEL_ARCHIVE not in {one.name for one in first.parent.iterdir()}
    shop.version = "2"
    assert fetch_archive("s3://b/model.tar.gz", shop) != first
    assert shop.downloads == 2


def test_an_address_that_is_no_archive_and_a_place_without_s3_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected an archive of a run in S3"):
        open_run("s3://b/run/", runs_dir=tmp_path)
    with pytest.raises(RunError, match="addresses in S3 are not read here"):
        open_run("s3://b/model.tar.gz", runs_dir=tmp_path)
