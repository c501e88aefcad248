"""Unpacking what came from far away: whole and safe, or nothing at all."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold import run_folder
from classifold.errors import RunError
from classifold.run_folder import check_run, unpack_archive


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "model.tar.gz",
        (entry("./", tarfile.DIRTYPE), b""),
        (entry("./checkpoint", tarfile.DIRTYPE), b""),
        (entry("./checkpoint/saved_model.pb"), b"graph"),
        (entry("model.h5"), b"weights"),
    )
    unpack_archive(archive, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint" / "saved_model.pb").read_bytes() == b"graph"
    assert (tmp_path / "run" / "model.h5").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "bad",
    [
        entry("../outside"),
        entry("a/../../outside"),
        entry("/outside"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.LNKTYPE, "model.h5"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("device", tarfile.CHRTYPE),
        entry("back\\slash"),
    ],
    ids=lambda info: info.name,
)
def test_an_archive_that_would_write_elsewhere_or_link_is_refused_whole(
    tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    (tmp_path / "deep").mkdir()
    archive = pack(tmp_path / "model.tar.gz", (entry("model.h5"), b"weights"), (bad, b"evil"))
    with pytest.raises(RunError, match=r"leads out of the folder|a link or a device"):
        unpack_archive(archive, tmp_path / "deep" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "model.tar.gz"]
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_file_cannot_be_written_through_a_name_that_came_before(tmp_path: Path) -> None:
    archive = pack(tmp_path / "model.tar.gz", (entry("model.h5"), b"one"), (entry("./model.h5"), b"two"))
    with pytest.raises(RunError, match="same file twice"):
        unpack_archive(archive, tmp_path / "run")


def test_an_archive_larger_than_any_run_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "MAX_BYTES", 1000)
    archive = pack(tmp_path / "model.tar.gz", (entry("a"), b"0" * 900), (entry("b"), b"0" * 900))
    with pytest.raises(RunError, match="it holds more than"):
        unpack_archive(archive, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@given(cut=st.integers(min_value=0, max_value=400))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_download_that_was_cut_short_is_named_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    content = bytes(range(256)) * 40
    whole = pack(folder / "whole.tar.gz", (entry("model.h5"), content)).read_bytes()
    archive = folder / "model.tar.gz"
    archive.write_bytes(whole[: min(cut, len(whole) - 12)])
    with pytest.raises(RunError, match="cannot be unpacked"):
        unpack_archive(archive, folder / "run")
    assert not (folder / "run").exists()


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(gzip.compress(b"<html>not what you want</html>" * 40))
    with pytest.raises(RunError, match="cannot be unpacked"):
        unpack_archive(tmp_path / "model.tar.gz", tmp_path / "run")


def test_a_run_without_its_files_is_named_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(RunError) as caught:
        check_run(tmp_path, is_whole=True, where="s3://bucket/model.tar.gz")
    said = str(caught.value)
    assert "model.keras is missing" in said
    assert "metrics.json is damaged" in said
    assert "metrics.json is missing" not in said


@pytest.mark.parametrize("content", ["[" * 200_000, '"' + "x" * 3_000 + '"'], ids=["deep", "large"])
def test_json_that_is_made_to_break_its_reader_is_damage(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "MAX_JSON_BYTES", 250_000 if content[0] == "[" else 2_000)
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        check_run(tmp_path, is_whole=False, where="s3://bucket/model.tar.gz")


@pytest.mark.parametrize("before", [(), ((entry("model.h5"), b"weights"),)], ids=["first", "later"])
def test_a_name_that_would_fill_the_memory_is_refused(tmp_path: Path, before: tuple[Any, ...]) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 20
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for info, content in before:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        assert archive.fileobj is not None
        archive.fileobj.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size))
    with pytest.raises(RunError, match="a name in it has 8,388,608 bytes"):
        unpack_archive(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
