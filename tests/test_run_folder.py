"""Unpacking what came from far away: whole and safe, or nothing at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold import run_folder
from classifold.archive import ArchiveError, ArchiveReader
from classifold.errors import DataError, DiskError, RunError
from classifold.run_folder import check_output, check_run, unpack_archive, write_archive


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


CHECK_IN_LITTLE_ROOM = """
import sys
from pathlib import Path

from classifold import run_folder

run_folder._JSON_ROOM = 100 << 20
run_folder.check_run(Path(sys.argv[1]), is_whole=False, where="s3://bucket/model.tar.gz")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone bounds the memory of a process")
def test_json_that_would_fill_the_memory_is_damage(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    (tmp_path / "metrics.json").write_text("[" + "[]," * 3_000_000 + "[]]")
    # In a process of its own: one that ran other tests has memory to spare, which no bound takes away.
    answer = run_python("-c", CHECK_IN_LITTLE_ROOM, tmp_path)
    assert "classifold.errors.RunError" in answer.err
    assert "metrics.json is damaged: it takes too much memory" in answer.err


def test_a_model_that_reads_other_files_is_damage_of_a_run(tmp_path: Path) -> None:
    weights = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="/etc/passwd")
    model = onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(initializer=[weights]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RunError, match=r"model\.onnx does not load: its weights are in another file"):
        check_run(tmp_path, is_whole=False, where="s3://bucket/model.tar.gz")


# What is made to break whoever unpacks it


def header(kind: bytes, *, size: int = 0, name: str = "member", content: bytes = b"") -> bytes:
    """Return a tar header that says `size`, and `content` behind it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def described(record: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header(kind, size=len(record), content=record)


def record(key: str, value: str) -> bytes:
    """Return a record of an extended header, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return f"{length}".encode() + rest


FILE = header(tarfile.REGTYPE, size=4, content=b"data")
MAP = b"2\n0\n1\n2000000000\n1\n"
HOSTILE = {
    "old sparse": (header(tarfile.GNUTYPE_SPARSE, size=4, content=b"data"), "a sparse file"),
    "sparse 1.0": (
        described(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0"))
        + header(tarfile.REGTYPE, size=len(MAP), content=MAP),
        "a sparse file",
    ),
    "sparse 0.1": (described(record("GNU.sparse.map", "0,1,2000000000,1")) + FILE, "a sparse file"),
    "sparse 0.0": (described(record("GNU.sparse.offset", "2000000000")) + FILE, "a sparse file"),
    "global header": (described(record("path", "evil"), tarfile.XGLTYPE) + FILE, "a global header"),
    "Solaris header": (described(record("path", "evil"), tarfile.SOLARIS_XHDTYPE) + FILE, "a global header"),
    "names of names": (
        described(b"evil\0", tarfile.GNUTYPE_LONGNAME) * 5_000 + FILE,
        "a header for another header",
    ),
    "headers of headers": (described(record("path", "evil")) * 5_000 + FILE, "a header for another header"),
    "link names": (described(b"evil\0", tarfile.GNUTYPE_LONGLINK) * 5_000 + FILE, "kind that is not known"),
    "two kinds in turn": (
        (described(b"evil\0", tarfile.GNUTYPE_LONGNAME) + described(record("path", "evil"))) * 5_000,
        "a header for another header",
    ),
    "header without member": (described(record("path", "evil")), "ends in the middle"),
    "huge header": (header(tarfile.XHDTYPE, size=1 << 33), "a name in it has 8,589,934,592 bytes"),
    "negative size": (header(tarfile.REGTYPE, size=-512), "a file of negative size, got -512"),
    "size of 2 TB": (header(tarfile.REGTYPE, size=1 << 41), "it holds more than"),
    "size of 2 TB as text": (described(record("size", str(1 << 41))) + FILE, "it holds more than"),
    "size that is negative text": (described(record("size", "-1")) + FILE, "size is not a number, got '-1'"),
    "size of many digits": (described(record("size", "9" * 5_000)) + FILE, "size is not a number"),
    "record of no length": (described(b"0 path=evil\n") + FILE, "malformed"),
    "record that is too long": (described(b"99 path=evil\n") + FILE, "malformed"),
    "record of no value": (described(b"8 path\n\n") + FILE, "malformed"),
    "folder with bytes": (header(tarfile.DIRTYPE, size=512, content=b"x" * 512), "bytes of its own"),
    "deep name": (described(record("path", "/".join("a" * 400))) + FILE, "a name that is too long"),
    "long name": (described(record("path", "a" * 300)) + FILE, "a name that is too long"),
    "no name": (header(tarfile.REGTYPE, name=".", size=4, content=b"data"), "a file without a name"),
    "escape codes": (described(record("path", "\x1b[2J")) + FILE, "cannot be shown"),
    "zero byte": (described(record("path", "a\0b")) + FILE, "leads out of the folder"),
    "folder below a file": (FILE + header(tarfile.REGTYPE, name="member/below"), "the same name"),
    "file above a file": (header(tarfile.REGTYPE, name="member/below") + FILE, "the same name"),
    "volume header": (header(b"V"), "kind that is not known"),
    "many entries": (
        header(tarfile.DIRTYPE) * 2_000,
        "more than 2,000 entries",
    ),
    "many folders in names": (
        b"".join(header(tarfile.REGTYPE, name=f"{n}/" + "/".join("abcdefghi")) for n in range(220)),
        "more than 2,000 files and folders",
    ),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_made_to_break_its_reader_is_refused_at_once_and_whole(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(gzip.compress(header(tarfile.REGTYPE, name="before") + content + bytes(1024)))
    began = time.process_time()
    with pytest.raises(RunError) as caught:
        unpack_archive(archive, tmp_path / "run")
    assert time.process_time() - began < 5
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert list(tmp_path.iterdir()) == [archive]


def test_long_names_are_taken_in_both_ways_in_which_tar_writes_them(tmp_path: Path) -> None:
    name = "v" * 120 + "/" + "w" * 90
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        archive, target = tmp_path / f"{form}.tar.gz", tmp_path / f"{form}"
        with tarfile.open(archive, "w:gz", format=form) as writer:
            info = entry(name)
            info.size, info.mtime = 4, 1.5
            writer.addfile(info, io.BytesIO(b"data"))
        unpack_archive(archive, target)
        assert (target / name).read_bytes() == b"data"


def test_what_was_packed_here_is_unpacked_byte_for_byte(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoint" / "variables").mkdir(parents=True)
    contents = {"model.keras": os.urandom(3 << 20), "checkpoint/variables/data": b"", "metrics.json": b"{}"}
    for name, content in contents.items():
        (run / name).write_bytes(content)
    unpack_archive(write_archive(run, tmp_path / "model.tar.gz"), tmp_path / "again")
    there = [path for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "again")): path.read_bytes() for path in there} == contents


def test_an_archive_in_several_gzip_files_is_one_and_thousands_are_refused(tmp_path: Path) -> None:
    content = FILE + bytes(1024)
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]) + bytes(512))
    unpack_archive(archive, tmp_path / "run")
    assert (tmp_path / "run" / "member").read_bytes() == b"data"
    archive.write_bytes(gzip.compress(b"") * 20_000 + gzip.compress(content))
    with pytest.raises(RunError, match="more than 100 gzip files in a row"):
        unpack_archive(archive, tmp_path / "again")


def test_an_archive_with_another_checksum_is_damaged(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(FILE + bytes(1024)))
    packed[-8] ^= 1
    (tmp_path / "model.tar.gz").write_bytes(packed)
    with pytest.raises(RunError, match=r"cannot be unpacked: .*\nhint: fetch it again"):
        unpack_archive(tmp_path / "model.tar.gz", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_far_larger_than_its_archive_is_refused_in_front_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "RATIO_ALLOWANCE", 10_000)
    zeros, text = bytes(5_000_000), b"".join(b"%d,0.5\n" % n for n in range(200_000))
    archive = pack(tmp_path / "model.tar.gz", (entry("zeros"), zeros))
    with pytest.raises(RunError, match=r"it holds more than \d MB"):
        unpack_archive(archive, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    archive = pack(tmp_path / "model.tar.gz", (entry("predictions.csv"), text))
    unpack_archive(archive, tmp_path / "run")
    assert (tmp_path / "run" / "predictions.csv").stat().st_size == len(text)


@pytest.mark.parametrize("falls_after", [0, 2])
def test_the_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, falls_after: int) -> None:
    asked = []

    def measure(_: object) -> SimpleNamespace:
        asked.append(1)
        free = 10**9 if len(asked) <= falls_after else 101 * 10**6
        return SimpleNamespace(total=10**12, free=free, used=0)

    archive = pack(tmp_path / "model.tar.gz", (entry("a"), os.urandom(3_000_000)))
    # The disk's own figures: another process fills it between two looks.
    monkeypatch.setattr(shutil, "disk_usage", measure)
    monkeypatch.setattr(run_folder, "_BETWEEN_CHECKS", 1 << 20)
    monkeypatch.setattr(run_folder, "_RESERVE", (100 if falls_after == 0 else 200) * 10**6)
    with pytest.raises(DiskError, match=r"model.tar.gz: a file in it takes \d MB, and the disk has \d MB"):
        unpack_archive(archive, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def good_archive() -> bytes:
    """Return a small archive with headers of every kind that is taken, not compressed."""
    content = io.BytesIO()
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(fileobj=content, mode="w", format=form) as writer:
            for name in (f"{form}/" + "n" * 120, f"{form}/model.h5"):
                info = entry(name)
                info.size, info.mtime = 700, 1.5
                writer.addfile(info, io.BytesIO(bytes(range(100)) * 7))
        content.seek(-content.tell() % 512 or 0, io.SEEK_END)
    return content.getvalue()


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_archive_is_unpacked_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(good_archive())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b"0157LKSxgVX \x80\xff")))
    for start in range(0, len(content) - 511, 512):  # most changed headers would end at their checksum
        block = content[start : start + 512]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * 32 + sum(block[156:])
            content[start + 148 : start + 156] = b"%06o\0 " % total
    folder = tmp_path_factory.mktemp("changed")
    (folder / "model.tar.gz").write_bytes(gzip.compress(bytes(content)))
    try:
        unpack_archive(folder / "model.tar.gz", folder / "run")
    except RunError as error:
        said = str(error)
        assert (len(said.splitlines()), (folder / "run").exists()) == (2, False)
    else:
        assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert {path.name for path in folder.iterdir()} <= {"model.tar.gz", "run"}


@given(st.binary(max_size=3_000), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_an_archive_or_are_refused(content: bytes, is_compressed: bool) -> None:
    packed = io.BytesIO(gzip.compress(content) if is_compressed else content)
    reader, count = ArchiveReader(packed, max_bytes=10_000), 0
    with contextlib.suppress(ArchiveError):
        for member in reader:
            count += sum(map(len, reader.read(member)))
    assert count <= 10_000


BOMBS = """
import gzip, resource, sys
from pathlib import Path
from classifold import run_folder
from classifold.errors import RunError

run_folder.RATIO_ALLOWANCE = 20_000_000
room = 60 << 20
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for archive in sorted(Path(sys.argv[1]).glob("*.tar.gz")):
    try:
        run_folder.unpack_archive(archive, Path(sys.argv[1]) / "run")
    except RunError as error:
        print(archive.name, len(str(error).splitlines()))
    else:
        print(archive.name, "unpacked")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are Linux's")
def test_bombs_cost_little_memory_and_time(tmp_path: Path) -> None:
    million = bytes(1 << 20)
    draw = random.Random(0)
    bombs: dict[str, Callable[[], bytes]] = {
        "zeros": lambda: header(tarfile.REGTYPE, size=80 << 20) + million * 80,
        "behind the end": lambda: bytes(1024) + million * 80,
        "records": lambda: described(record("k", "v") * 10_000),
        "noise": lambda: draw.randbytes(1 << 20),
    }
    for name, make in bombs.items():
        (tmp_path / f"{name}.tar.gz").write_bytes(gzip.compress(make()))
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, tmp_path], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{name}.tar.gz 2" for name in sorted(bombs)]
    assert {path.suffix for path in tmp_path.iterdir()} == {".gz"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A run folder, with two files that are not its own."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoint" / "variables").mkdir(parents=True)
    for name in ("metrics.json", "report.html", "checkpoint/variables/a.index", "answers.csv", "deep.html"):
        (run_dir / name).touch()
    return run_dir


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "checkpoint/variables/a.index"])
def test_a_file_of_a_run_is_not_replaced_by_an_answer(kept: Path, name: str) -> None:
    with pytest.raises(DataError, match="would be replaced"):
        check_output(kept / name)


@pytest.mark.parametrize("name", ["answers.csv", "deep.html", "new.html", "model.onnx", "../metrics.json"])
def test_any_other_file_may_be_replaced(kept: Path, name: str) -> None:
    check_output(kept / name)


def test_a_run_is_known_through_a_link_too(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(kept)
    with pytest.raises(DataError, match="this file belongs to the run in run"):
        check_output(tmp_path / "link" / "metrics.json")
