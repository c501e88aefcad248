"""Packing by many workers: the same bytes for any number of them, and a stopped run goes on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.aws.s3_reader import S3Reader
from classifold.dataset.scan import load_sets
from classifold.dataset.split import split_dataset
from classifold.errors import DataError, MissingExtraError
from classifold.packing.pack import pack_sets
from classifold.settings.loader import build_config

MB = 10**6
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """60 pictures of two classes, some of them deeper, of which about ten fill a MB."""
    generator = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "pets" / ("cat", "dog")[number % 2] / ("", "deep")[number % 5 == 0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(PNG + generator.bytes(80_000 + number))
    return tmp_path / "pets"


@pytest.fixture
def listed(pictures: Path, tmp_path: Path) -> Path:
    """The split of a listing of them."""
    # With hashes the sets are the same in every run; addresses would draw others in another folder.
    rows = [
        f"{path},{path.stat().st_size},{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in sorted(pictures.rglob("*.png"))
    ]
    (tmp_path / "listed.csv").write_text("key,size,sha256\n" + "".join(rows))
    values = {"DATA_MANIFEST": str(tmp_path / "listed.csv"), "MANIFEST_ROOT": str(pictures)}
    return split_dataset(build_config(values)).split_dir


@pytest.fixture
def in_files(listed: Path, pictures: Path, tmp_path: Path) -> Path:
    """The same sets as folders of files."""
    from classifold.dataset.manifest import iter_manifest
    from classifold.names import SETS, set_manifest

    for name in SETS:
        for line in iter_manifest(listed / set_manifest(name)):
            place = tmp_path / "files" / name / line.key
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(line.source, place)
    shutil.copy(listed / "split.json", tmp_path / "files")
    return tmp_path / "files"


def look(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def pack(sets_dir: Path, name: str, **options: Any) -> Any:
    return pack_sets(sets_dir, sets_dir.with_name(name), shard_mb=1, **options)


def test_files_a_listing_and_two_workers_all_give_the_bytes_of_plain_packing(listed, in_files, tmp_path):
    pytest.importorskip("distributed")
    pack_sets(in_files, tmp_path / "plain", shard_mb=1)
    expected = look(tmp_path / "plain")
    assert len(expected) > 6
    for name, folder, workers in (("one", listed, 1), ("two", listed, 2), ("three", in_files, 1)):
        summary = pack(folder, name, num_workers=workers)
        assert look(tmp_path / name) == expected
        assert set(summary.written) == {one for one in expected if one.endswith(".tar")}
    sets = load_sets(tmp_path / "two")
    assert [note for note in sets.notes if "changed" in note] == []
    assert sum(map(len, sets.pictures.values())) == 60


def test_packing_again_writes_only_what_changed(listed, in_files, tmp_path):
    pack(in_files, "shards")
    assert pack(in_files, "shards").written == ()
    last = max((in_files / "training").rglob("*.png"))
    last.unlink()
    assert len(pack(in_files, "shards").written) == 1
    assert load_sets(tmp_path / "shards").class_names == ("cat", "dog")
    assert not [path for path in tmp_path.iterdir() if "classifold" in path.name]


def test_shares_on_several_machines_and_a_last_run_give_the_same_folder(listed, tmp_path):
    pack(listed, "whole")
    for number in (2, 1, 3):
        assert pack(listed, "shares", share=(number, 3)) is None
        assert not (tmp_path / "shares").exists()
    assert pack(listed, "shares").written == ()
    assert look(tmp_path / "shares") == look(tmp_path / "whole")


def test_a_run_that_was_stopped_goes_on_with_the_shards_that_are_whole(listed, tmp_path, pictures):
    hidden = tmp_path / "hidden"
    victim = max(pictures.rglob("*.png"))
    victim.rename(hidden)
    with pytest.raises(DataError) as caught:
        pack(listed, "shards")
    assert [fault.where for fault in caught.value.faults] == [str(victim)]
    assert caught.value.faults[0].hint
    assert not (tmp_path / "shards").exists()
    hidden.rename(victim)
    assert len(pack(listed, "shards").written) == 1
    pack(listed, "whole")
    assert look(tmp_path / "shards") == look(tmp_path / "whole")


def test_a_picture_of_another_size_than_listed_is_named(listed, pictures):
    victim = min(pictures.rglob("*.png"))
    victim.write_bytes(JPEG + b"ab")
    with pytest.raises(DataError, match="it has 5 bytes"):
        pack(listed, "shards")


def test_what_is_in_s3_is_read_through_the_reader_and_checked_by_its_etag(tmp_path):
    rows = [f'b,p/{"ab"[n % 2]}/{n}.jpg,{n + 4},,"e{n}"\n' for n in range(40)]
    (tmp_path / "far.csv").write_text("".join(rows))
    split_dir = split_dataset(build_config({"DATA_MANIFEST": str(tmp_path / "far.csv")})).split_dir

    def read(source: str) -> tuple[bytes, str]:
        number = int(source.rpartition("/")[2].removesuffix(".jpg"))
        return JPEG + b"x" * (number + 1), f'"e{number}"'

    assert pack(split_dir, "shards", reader=read).num_pictures == 40
    with pytest.raises(DataError, match="changed since it was listed"):
        pack(split_dir, "other", reader=lambda source: (read(source)[0], "new"))
    with pytest.raises(DataError, match="nothing here reads such addresses"):
        pack(split_dir, "none")


@pytest.mark.parametrize("deaths", [1, 10**6])
def test_a_worker_that_dies_is_replaced_and_one_that_always_dies_is_one_clear_error(
    tmp_path, monkeypatch, deaths
):
    pytest.importorskip("distributed")
    # Of each death Dask starts a new process; two for a shard are enough to give it up, by default four are.
    monkeypatch.setitem(dask_config()["distributed"]["scheduler"], "allowed-failures", 1)
    rows = [f"s3://b/{'ab'[n % 2]}/{n}.jpg,{n + 4}\n" for n in range(40)]
    (tmp_path / "far.csv").write_text("source-ref,size\n" + "".join(rows))
    split_dir = split_dataset(build_config({"DATA_MANIFEST": str(tmp_path / "far.csv")})).split_dir
    (tmp_path / "deaths").mkdir()
    reader = Deadly(str(tmp_path / "deaths"), deaths)
    if deaths == 1:
        assert pack(split_dir, "shards", num_workers=2, reader=reader).num_pictures == 40
        assert [path.name for path in (tmp_path / "deaths").iterdir()] == ["0"]
        return
    with pytest.raises(DataError, match="died again and again"):
        pack(split_dir, "shards", num_workers=2, reader=reader)


def dask_config() -> dict[str, Any]:
    import dask.config
    import distributed  # noqa: F401 - puts its part in

    return dask.config.config


class Deadly:
    """A reader whose process dies the first few times; a file in a folder stands for each death."""

    def __init__(self, folder: str, deaths: int) -> None:
        self.folder, self.deaths = folder, deaths

    def __call__(self, source: str) -> tuple[bytes, str]:
        number = int(source.rpartition("/")[2].removesuffix(".jpg"))
        for death in range(self.deaths):
            # Only one process can create a file, so that two never take the same death.
            with contextlib.suppress(FileExistsError):
                (Path(self.folder) / str(death)).touch(exist_ok=False)
                os._exit(1)
        return JPEG + b"x" * (number + 1), ""


# What a manifest may name


def tamper(split_dir: Path, **fields: Any) -> str:
    """Change fields of the first line of the training manifest; return the source that it had."""
    path = split_dir / "training.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    line = json.loads(first)
    path.write_text(json.dumps({**line, "size": None, **fields}) + "\n" + "".join(rest))
    return str(line["source-ref"])


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "folder link"])
def test_a_file_outside_the_listing_s_folder_is_never_packed(listed, pictures, tmp_path_factory, way):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    secret = elsewhere / "secret.png"
    secret.write_bytes(PNG + b"secret")
    (pictures / "link.png").symlink_to(secret)
    (pictures / "folder").symlink_to(elsewhere)
    source = {
        "absolute": str(secret),
        "dots": str(pictures / os.path.relpath(secret, pictures)),
        "link": str(pictures / "link.png"),
        "folder link": str(pictures / "folder" / "secret.png"),
    }[way]
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    tamper(listed, **{"source-ref": source, "identity": digest})
    with pytest.raises(DataError, match=r"outside the listing's folder, at .*secret.png") as caught:
        pack(listed, "shards")
    assert "MANIFEST_ROOT" in caught.value.faults[0].hint
    assert not listed.with_name("shards").exists()
    folders = [str(listed.parent), str(elsewhere)]
    assert pack(listed, "shards", roots=folders).num_pictures == 60


@pytest.mark.parametrize("kind", ["text", "fifo", "folder", "huge", "empty"])
def test_only_ordinary_files_that_are_pictures_are_packed(listed, pictures, kind):
    path = pictures / "odd.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.write_bytes(PNG)
        os.truncate(path, 10**12)  # a hole: no disk is used
    else:
        path.write_bytes(b"[default]\naws_secret_access_key = x\n" if kind == "text" else b"")
    tamper(listed, **{"source-ref": str(path), "size": 8})
    what = {"text": "holds no picture", "huge": "1000000 MB is more", "empty": "an empty file"}
    with pytest.raises(DataError, match=what.get(kind, "not an ordinary file")):
        pack(listed, "shards")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="this system has no /dev/zero")
def test_a_device_is_never_read(listed, tmp_path):
    tamper(listed, **{"source-ref": "/dev/zero", "size": 8})
    with pytest.raises(DataError, match="not an ordinary file"):
        pack(listed, "shards", roots=["/dev"])


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "../../x.png"},
        {"key": "/etc/x.png"},
        {"size": -1},
        {"source-ref": "a\0b"},
        {"key": "x\ud800/a"},
    ],
)
def test_a_manifest_that_was_tampered_with_is_one_line(listed, fields):
    tamper(listed, **fields)
    with pytest.raises(DataError, match="the manifest is damaged") as caught:
        pack(listed, "shards")
    assert len(caught.value.faults) == 1


def test_a_source_at_another_address_than_s3_is_not_fetched(listed):
    tamper(listed, **{"source-ref": "file:///etc/passwd", "size": 8})
    with pytest.raises(DataError, match="not an s3:// address"):
        pack(listed, "shards", reader=S3Reader(build_config({})))


@pytest.mark.parametrize("entry", ["1", '["../x", 512, 1, 1]', '["a/b", 512]', "{", "[null, 1, 1, 1]"])
def test_notes_of_a_shard_that_were_tampered_with_are_one_line(listed, tmp_path, entry):
    pack(listed, "shards")
    notes = tmp_path / "shards" / "training" / ".shard-00000.tar.json"
    lines = notes.read_text().splitlines(keepends=True)
    notes.write_text("".join([*lines[:2], entry + "\n", *lines[3:]]))
    (tmp_path / "shards" / "shards.json").write_text("")
    with pytest.raises(DataError, match="notes of the shard are damaged"):
        pack(listed, "shards")


def test_of_a_split_in_files_a_link_that_is_no_picture_is_not_packed(in_files, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "credentials"
    secret.write_text("[default]")
    (in_files / "training" / "cat" / "x.png").symlink_to(secret)
    for way in (pack, lambda folder, name: pack_sets(folder, folder.with_name(name), shard_mb=1)):
        with pytest.raises(
            DataError, match=r"x\.png: the picture cannot be packed: the file holds no picture"
        ):
            way(in_files, "shards")


def test_a_split_json_that_is_a_link_is_not_carried_into_the_shards(in_files, listed, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "credentials"
    secret.write_text("[default]")
    for folder in (in_files, listed):
        (folder / "split.json").unlink()
        (folder / "split.json").symlink_to(secret)
        with pytest.raises(DataError, match=r"it is a link, to .*credentials"):
            pack(folder, "shards")
    with pytest.raises(DataError, match=r"it is a link, to .*credentials"):
        pack_sets(in_files, in_files.with_name("shards"), shard_mb=1)


def test_without_dask_its_install_is_named(listed, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(MissingExtraError, match="pip install distributed"):
        pack(listed, "shards", num_workers=2)


def test_reading_a_set_in_order_opens_every_shard_once_and_goes_forward(listed, tmp_path, monkeypatch):
    from classifold.pictures import source as members

    pack(listed, "shards")
    opened: list[Path] = []
    read: list[tuple[Path, int]] = []
    plain = members._Descriptor

    class Watched(plain):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            self.path = path
            super().__init__(path)

        def read(self, offset: int, size: int) -> bytes:
            read.append((self.path, offset))
            return super().read(offset, size)

    members._open_shard.cache_clear()
    monkeypatch.setattr(members, "_Descriptor", Watched)
    for picture in load_sets(tmp_path / "shards").pictures["training"]:
        picture.read_bytes(max_pixels=MB)
    assert len(opened) == len(set(opened)) > 2
    assert read == sorted(read)


PACK = """
import sys
from pathlib import Path
from classifold.packing.pack import pack_sets
if __name__ == "__main__":
    print(pack_sets(Path(sys.argv[1]), Path(sys.argv[2]), shard_mb=1, num_workers=2).num_pictures)
"""


def test_several_workers_pack_on_a_disk_without_locks(listed, run_python, poor_disk, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "pack.py").write_text(PACK)
    environment = poor_disk(lock_error=errno.ENOLCK)
    done = run_python(tmp_path / "pack.py", listed, tmp_path / "shards", env=environment)
    assert done.out == "60\n", done.err
    said = "does not support locks: let no other run write there now"
    # A slow machine gets lines of progress as well.
    notes = [line for line in done.err.splitlines() if not line.startswith("packing: ")]
    assert notes == [f"note: the disk of {tmp_path / 'shards'} {said}"]


def test_a_disk_that_keeps_open_files_when_they_are_deleted(listed, mount_image):
    disk = mount_image("exfat")
    assert pack_sets(listed, disk / "shards", shard_mb=1).num_pictures == 60
    assert [path.name for path in disk.iterdir()] == ["shards"]
