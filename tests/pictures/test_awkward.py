"""Every awkward file ends in a picture or in a named reason, in bounded time and memory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from classifold.pictures.decode import load_picture, read_picture
from classifold.pictures.limits import PictureError

MAX_PIXELS = 20_000_000
MEGABYTES_BOUND = 400
SECONDS_A_FILE = 10

READ_ALL = """
import json, sys, time
from pathlib import Path
from classifold.machine import peak_memory_mb
from classifold.pictures.decode import read_picture
from classifold.pictures.limits import PictureError
answers, slowest = {}, 0.0
for path in sorted(Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        start = time.perf_counter()
        try:
            answers[str(path)] = list(read_picture(path, max_pixels=int(sys.argv[2])).shape)
        except PictureError as error:
            answers[str(path)] = error.reason
        slowest = max(slowest, time.perf_counter() - start)
# Not ru_maxrss, which on Linux begins with that of the tests' own process.
print(json.dumps({"answers": answers, "slowest": slowest, "peak": peak_memory_mb()}))
"""


@pytest.fixture(scope="module")
def answers(awkward):
    command = [sys.executable, "-W", "error", "-c", READ_ALL, str(awkward), str(MAX_PIXELS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr, "a library wrote to the terminal"
    return json.loads(done.stdout)


def test_every_file_ends_in_a_picture_or_a_named_reason(answers):
    assert len(answers["answers"]) >= 1200
    for path, answer in answers["answers"].items():
        if isinstance(answer, str):
            assert len(answer) > 10, path
            assert "0x" not in answer.replace("marker 0x", ""), path
        else:
            assert len(answer) == 3, path
            assert answer[2] == 3, path


def test_no_file_takes_long_or_much_memory(answers):
    assert answers["slowest"] < SECONDS_A_FILE
    assert answers["peak"] < MEGABYTES_BOUND


def test_what_pillow_reads_soundly_is_read_at_its_size(awkward, answers):
    kinds = {"jpeg", "png", "webp", "bmp", "tiff", "gif", "pnm", "jp2", "j2k", "ftyp:avif", "ftyp:avis"}
    refused = []
    with (awkward / "TABLE.tsv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            answer = answers["answers"][str(awkward / row["path"])]
            if row["magic"] in kinds and row["pillow_result"] == "ok":
                if isinstance(answer, str):
                    refused.append(row["path"])
                else:
                    assert sorted(answer[:2]) == sorted([int(row["width"]), int(row["height"])])
    # Floats, 32 bits and L*a*b* have no place in 8-bit RGB; hopper.p7 is a thumbnail of the program XV; the
    # rest is damaged, which Pillow may overlook.
    expected = {
        "pillow/10ct_32bit_128.tiff",
        "pillow/16_bit_binary_pgm.tiff",
        "pillow/apng/chunk_no_fctl.png",
        "pillow/broken_data_stream.png",
        "pillow/hopper.Lab.tif",
        "pillow/hopper.p7",
        "pillow/lab-green.tif",
        "pillow/lab-red.tif",
        "pillow/lab.tif",
        "pillow/truncated_end_chunk.png",
    }
    assert set(refused) == expected


@pytest.mark.parametrize("scene", ["Landscape", "Portrait"])
def test_the_orientation_series_show_one_scene(awkward, scene):
    squares = [
        load_picture(
            awkward / "exif_orientation" / f"{scene}_{n}.jpg", size=64, max_pixels=MAX_PIXELS
        ).astype(int)
        for n in range(1, 9)
    ]
    sizes = {
        read_picture(awkward / "exif_orientation" / f"{scene}_{n}.jpg", max_pixels=MAX_PIXELS).shape
        for n in range(1, 9)
    }
    assert sizes == {(1200, 1800, 3) if scene == "Landscape" else (1800, 1200, 3)}
    for square in squares[1:]:
        # The files name their own number in the middle, so they are alike and not equal.
        assert np.abs(square - squares[0]).mean() < 12


def test_a_cut_download_is_a_reason_with_its_cure(awkward):
    with pytest.raises(PictureError, match="cut short"):
        read_picture(awkward / "pillow" / "truncated_jpeg.jpg", max_pixels=MAX_PIXELS)
