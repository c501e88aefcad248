"""A shard is a plain tar file: any tar program reads it, and it is the same wherever it is written."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.dataset.tar_writer import SourceError, TarWriter, archive_size, build_header, member_size

# Whatever a name on a disk can be once it is valid Unicode, and not a folder's.
PART = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=120)
NAME = st.lists(PART.filter(lambda part: part not in (".", "..")), min_size=2, max_size=3).map("/".join)
SIZES = st.one_of(st.integers(0, 1100), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 10**14))


def write(path: Path, files: dict[str, bytes]) -> dict[str, tuple[int, int, int]]:
    source = path.with_name("source")
    places = {}
    with TarWriter(path) as tar:
        for name, content in files.items():
            source.write_bytes(content)
            places[name] = tar.add(name, source)
        digest = tar.finish()
        assert tar.size == path.stat().st_size
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return places


FILES = {
    "roses/1.jpg": b"rose",
    "roses/empty.png": b"",
    "日本/写真 1.jpg": b"x" * 512,
    "tulips/" + "long " * 40 + ".jpg": b"y" * 513,
    "tulips/2026/july/a\nb.jpg": b"z" * 3_000_000,
}


def test_the_same_files_give_the_same_bytes_everywhere(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", FILES)
    digest = hashlib.sha256((tmp_path / "shard.tar").read_bytes()).hexdigest()
    assert digest == "f57265d77b61943151f01f3526ea13bac9d4f6bd5af6974882a1eaf799712ff4"


def test_python_s_tarfile_reads_every_file_of_nobody_and_no_time(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", FILES)
    with tarfile.open(tmp_path / "shard.tar", "r:") as tar:
        members = tar.getmembers()
        assert {one.name: tar.extractfile(one).read() for one in members} == FILES
    assert {(one.mode, one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {
        (0o644, 0, 0, "", "", 0)
    }


@pytest.mark.skipif(not shutil.which("tar"), reason="this system has no tar")
def test_the_system_s_tar_unpacks_it(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", FILES)
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "-xf", tmp_path / "shard.tar", "-C", tmp_path / "out"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES


def test_each_place_leads_to_the_file_s_bytes(tmp_path: Path) -> None:
    places = write(tmp_path / "shard.tar", FILES)
    whole = (tmp_path / "shard.tar").read_bytes()
    for name, (offset, size, crc32) in places.items():
        assert whole[offset : offset + size] == FILES[name]
        assert crc32 == zlib.crc32(FILES[name])
        assert offset % 512 == 0


@settings(max_examples=60, deadline=None)
@given(NAME, SIZES)
def test_the_room_of_a_file_is_known_before_it_is_packed(name: str, size: int) -> None:
    assert member_size(name, size) == len(build_header(name, size)) + -(-size // 512) * 512


def test_the_size_of_a_shard_is_known_before_it_is_written(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", FILES)
    content = sum(member_size(name, len(content)) for name, content in FILES.items())
    assert (tmp_path / "shard.tar").stat().st_size == archive_size(content)


def test_a_file_that_cannot_be_read_is_no_error_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with TarWriter(tmp_path / "shard.tar") as tar:
        with pytest.raises(SourceError, match="No such file"):
            tar.add("a/b", tmp_path / "gone")
        with pytest.raises(SourceError, match="not an ordinary file"):
            tar.add("a/b", tmp_path / "folder")
