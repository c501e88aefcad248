"""Pictures are found by their keys, however the disk spells names, and never outside of the folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from classifold.dataset.by_key import find_by_key, leads_into


def test_a_name_that_the_disk_spells_otherwise_is_found(tmp_path: Path) -> None:
    spelled = (
        tmp_path / unicodedata.normalize("NFD", "B\u00e4ume") / unicodedata.normalize("NFD", "\u00e9.png")
    )
    spelled.parent.mkdir()
    spelled.write_bytes(b"")
    key = "B\u00e4ume/\u00e9.png"
    found = find_by_key([key], [tmp_path / "missing", tmp_path])
    assert found[key].path.samefile(spelled)
    assert (found[key].class_name, found[key].key) == ("B\u00e4ume", key)


def test_a_key_that_leads_out_of_the_folder_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "data" / "red").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"")
    keys = ["../secret.png", "red/../../secret.png", str(tmp_path / "secret.png"), "red/\0", "", "red"]
    assert find_by_key(keys, [tmp_path / "data"]) == {}


def test_where_a_link_leads_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "own.png").write_bytes(b"")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "in.png").symlink_to("own.png")
    (folder / "circle.png").symlink_to("circle.png")
    (tmp_path / "link").symlink_to(folder)
    assert leads_into(folder / "own.png", tmp_path / "link")
    assert leads_into(folder / "in.png", folder)
    assert not leads_into(folder / "out.png", folder)
    assert not leads_into(folder / "circle.png", folder)
