"""Damaged files of every format: each is read or refused with a reason, soon, and no process ends."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from check_damaged import read_all, write_damaged
from classifold.pictures.decode import inspect_picture, inspect_whole
from classifold.pictures.limits import PictureError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_thousand_damaged_files_end_no_process_and_take_no_time_or_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))  # the processes import the work by its name
    report = read_all(write_damaged(tmp_path, count=1000, seed=1))
    assert report["answered"] == 1000
    assert report["ended_a_worker"] == []
    assert report["longest_seconds_of_one_file"] < 5
    outcomes = report["outcomes"]
    for kind in ("jpeg", "png", "webp", "gif", "tiff", "avif"):
        assert outcomes[f"{kind}: read"] > 0 < outcomes[f"{kind}: refused"]


@given(st.sampled_from(["jpeg", "png", "webp", "gif", "tiff"]), st.binary(max_size=300))
def test_any_bytes_after_a_signature_are_refused_with_a_reason_or_read(kind: str, rest: bytes) -> None:
    start = {
        "jpeg": b"\xff\xd8\xff",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "webp": b"RIFF\x40\0\0\0WEBPVP8 ",
        "gif": b"GIF89a",
        "tiff": b"II*\0\x08\0\0\0",
    }[kind]
    for read in (inspect_picture, inspect_whole):
        # Anything but this error would end the command.
        with contextlib.suppress(PictureError):
            read(start + rest, max_pixels=1_000_000)
