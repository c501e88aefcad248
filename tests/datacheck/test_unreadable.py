"""Files that cannot be read are told with their kind, and cut JPEGs with what can be shown."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifold.datacheck.unreadable import explain_unreadable, find_unreadable
from classifold.dataset.index import Row, add_pictures, open_index, read_all


def test_files_that_cannot_be_read_have_the_kind_of_their_reason() -> None:
    reasons = {
        "a": "the JPEG is cut short: rows are missing; copy or download it again",
        "b": "20000 x 20000 pixels is more than MAX_PIXELS = 100000000; shrink it or raise MAX_PIXELS",
        "c": "the file holds a video",
        "d": "its decoder crashed (SIGSEGV); save it again with another program",
        "e": "the file is empty",
    }
    found = explain_unreadable(reasons.items())
    assert {one.file: one.kind for one in found} == {
        "a": "cut short",
        "b": "too large",
        "c": "wrong file type",
        "d": "unreadable",
        "e": "unreadable",
    }
    assert all(reasons[one.file] == one.reason for one in found)


def encode(*, progressive: bool) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (240, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", progressive=progressive)
    return file.getvalue()


@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_it_is_told_how_much_of_a_cut_jpeg_can_be_shown(tmp_path: Path, ending: bytes) -> None:
    whole, slow = encode(progressive=False), encode(progressive=True)
    contents = {
        "half.jpg": whole[: len(whole) // 2] + ending,
        "progressive.jpg": slow[: 3 * len(slow) // 4] + ending,
        "header.jpg": whole[:300],
        "whole.jpg": whole,
        "video.jpg": b"\0\0\0\x20ftypisom" + bytes(100),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    rows = [Row("cat", name, os.fsencode(tmp_path / name), None, None) for name in contents]
    with open_index() as index:
        add_pictures(index, rows)
        read_all(index, total=len(rows), num_workers=1, max_pixels=10**6)
        found = {one.file: one for one in find_unreadable(index, num_workers=1, max_pixels=10**6)}
    assert {name: one.kind for name, one in found.items()} == {
        "half.jpg": "cut short",
        "progressive.jpg": "cut short",
        "header.jpg": "cut short",
        "video.jpg": "wrong file type",
    }
    share = int(found["half.jpg"].reason.partition("about ")[2].partition(" %")[0])
    assert 40 <= share <= 60
    assert found["progressive.jpg"].reason.endswith("all of it can be shown, less sharp")
    assert "shown" not in found["header.jpg"].reason
