"""What 20,000 damaged files do to the reading: no crash of the command, no hang, memory that stays bounded.

    python benchmarks/check_damaged.py [--files 20000] [--seed 0]

Makes small pictures in every usual form of JPEG, PNG, WebP, GIF, TIFF and AVIF, damages each copy in one of
seven ways (flipped bytes, a cut, edited headers, large numbers in headers, blocks that are zeroed, doubled or
removed), and reads and measures all of them as `classifold check` does. Counts what was read, refused, or
ended a worker, with the longest time of one file and the largest memory of one worker. Writes
benchmarks/results/check_damaged.json. A quarter of a minute on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from classifold.datacheck.measures import measure_one
from classifold.machine import count_cores
from classifold.pictures.workers import start_workers

RESULTS = Path(__file__).parent / "results" / "check_damaged.json"
MAX_PIXELS = 100_000_000
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # The workers import this file by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_damaged(Path(scratch), count=args.files, seed=args.seed)
        report = read_all(paths)
    report = {"command": "python benchmarks/check_damaged.py", "when": time.strftime("%Y-%m-%d"), **report}
    print(json.dumps(report, indent=2))
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def read_all(paths: list[str]) -> dict[str, Any]:
    """Read and measure the files in worker processes, as a check does; return what happened."""
    sys.path.insert(0, str(Path(__file__).parent))
    from check_damaged import fail, read_timed

    files = list(enumerate(paths))
    batches = [files[at : at + BATCH] for at in range(0, len(files), BATCH)]
    start = time.perf_counter()
    with start_workers(count_cores()) as workers:
        found = [one for batch in workers.map(batches, read_timed, failed=fail) for one in batch]
    outcomes: Counter[str] = Counter()
    for number, reason, _ in found:
        kind = Path(paths[number]).suffix[1:]
        ended = reason.startswith(("its decoder", "decoding it", "the system ended"))
        outcomes[f"{kind}: {'ended a worker' if ended else 'refused' if reason else 'read'}"] += 1
    slowest = max(found, key=lambda one: one[2])
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "files": len(paths),
        "answered": len(found),
        "seconds": round(time.perf_counter() - start, 1),
        "cores": count_cores(),
        "longest_seconds_of_one_file": round(slowest[2], 3),
        "peak_memory_of_a_worker_mb": round(
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6
        ),
        "outcomes": dict(sorted(outcomes.items())),
        "ended_a_worker": sorted(
            {reason for _, reason, _ in found if reason.startswith(("its", "decoding", "the system"))}
        ),
    }


def read_timed(number: int, path: str) -> tuple[int, str, float]:
    """Return the number, the reason why the file cannot be read or "", and the seconds it took."""
    start = time.perf_counter()
    measured = measure_one(number, path, max_pixels=MAX_PIXELS)
    return number, measured.reading.reason or "", time.perf_counter() - start


def fail(number: int, reason: str) -> tuple[int, str, float]:
    return number, reason, 0.0


def write_damaged(folder: Path, *, count: int, seed: int) -> list[str]:
    """Write damaged pictures; return their paths. The same seed gives the same files."""
    whole = list(make_whole())
    paths = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        kind, data = whole[number % len(whole)]
        path = folder / f"{number:06}.{kind}"
        path.write_bytes(damage(kind, data, chance))
        paths.append(str(path))
    return paths


def make_whole() -> Iterator[tuple[str, bytes]]:
    """Yield format and bytes of small pictures in the usual forms of each format."""
    noise = np.random.default_rng(0)
    coarse = Image.fromarray(noise.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = coarse.resize((72, 56), Image.Resampling.BICUBIC)
    deep = Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16) << 8) + 77)
    alpha = picture.convert("RGBA")
    alpha.putalpha(picture.convert("L"))
    exif = Image.Exif()
    exif[271], exif[274] = "Camera", 6
    frames = [picture.rotate(turn) for turn in (90, 180)]
    forms: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("jpeg", picture, {}),
        ("jpeg", picture, {"progressive": True, "exif": exif}),
        ("jpeg", picture, {"subsampling": 0, "quality": 95, "restart_marker_blocks": 2}),
        ("jpeg", picture.convert("CMYK"), {}),
        ("jpeg", picture.convert("L"), {"optimize": True}),
        ("png", picture, {}),
        ("png", alpha, {"exif": exif}),
        ("png", picture.quantize(16), {"transparency": 3}),
        ("png", deep, {}),
        ("png", picture.convert("1"), {}),
        ("webp", picture, {}),
        ("webp", alpha, {"exif": exif}),
        ("webp", alpha, {"lossless": True}),
        ("webp", picture, {"save_all": True, "append_images": frames}),
        ("gif", picture, {}),
        ("gif", picture, {"save_all": True, "append_images": frames}),
        ("tiff", picture, {}),
        ("tiff", picture, {"compression": "tiff_lzw"}),
        ("tiff", picture, {"compression": "tiff_adobe_deflate"}),
        ("tiff", picture, {"compression": "jpeg"}),
        ("tiff", deep, {"compression": "packbits"}),
        ("tiff", alpha, {}),
        ("tiff", picture.convert("1"), {"compression": "group4"}),
        ("avif", picture, {"speed": 10}),
        ("avif", alpha, {"speed": 10, "exif": exif}),
    ]
    for kind, image, options in forms:
        file = io.BytesIO()
        image.save(file, kind, **options)
        yield kind, file.getvalue()


def damage(kind: str, data: bytes, chance: random.Random) -> bytes:
    """Return the file with one kind of damage."""
    ways = [_flip, _cut, _edit_header, _put_large_numbers, _zero, _double, _remove]
    damaged = bytes(chance.choice(ways)(bytearray(data), chance))
    # Else most damage to a PNG ends at its checksums, before any decoder sees it.
    return mend_checksums(damaged) if kind == "png" and chance.random() < 0.7 else damaged


def _flip(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return data


def _cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def _edit_header(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 4))):
        data[chance.randrange(min(400, len(data)))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return data


def _put_large_numbers(data: bytearray, chance: random.Random) -> bytearray:
    size = chance.choice((2, 4, 4))
    at = chance.randrange(min(400, len(data) - size))
    value = chance.choice((2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 9_999, 30_000))
    data[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))
    return data


def _zero(data: bytearray, chance: random.Random) -> bytearray:
    at, size = _choose_block(data, chance)
    data[at : at + size] = bytes(size)
    return data


def _double(data: bytearray, chance: random.Random) -> bytearray:
    at, size = _choose_block(data, chance)
    return data[: at + size] + data[at:]


def _remove(data: bytearray, chance: random.Random) -> bytearray:
    at, size = _choose_block(data, chance)
    return data[:at] + data[at + size :]


def _choose_block(data: bytearray, chance: random.Random) -> tuple[int, int]:
    at = chance.randrange(len(data))
    return at, min(chance.choice((1, 4, 16, 100, 1000)), len(data) - at)


def mend_checksums(data: bytes) -> bytes:
    """Return a PNG with right checksums, as far as its chunks can be followed."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        size = struct.unpack_from(">I", mended, at)[0]
        if at + 12 + size > len(mended):
            break
        struct.pack_into(">I", mended, at + 8 + size, zlib.crc32(mended[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(mended)


if __name__ == "__main__":
    main()
