"""Whether `classifold predict` needs no more memory for 100,000 pictures, however they are named.

    python benchmarks/predict_inputs.py [--count 1000 10000 100000] [--ways folder pattern names web video]
                                        [--busy] [--output FILE]

Makes folders of hard links to a hundred drawn JPEGs of 320 x 240 under ever new names, a thousand in each, as
predict_many.py does, with the tests' own model of 16 pixels, which costs next to nothing. Each way is a whole
process, `classifold predict RUN ... --output FILE.csv`:

    folder    the folder of all
    pattern   'FOLDER/**/*.jpg'
    names     their names on standard input, each before a NUL character
    web       as many addresses of a server on this machine, on standard input; at most 10,000, as Python's
              own server takes longer than the command
    video     one frame for each picture, of a made video of 160 x 120

Memory is the largest resident set of the process, as the system notes it. Writes
benchmarks/results/predict_inputs.json; about ten minutes on two cores.
"""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from predict_many import SECONDS, Way, read_mb, run_ways

RESULTS = Path(__file__).parent / "results" / "predict_inputs.json"
PACKAGES = ("classifold", "onnxruntime", "numpy", "simplejpeg", "urllib3", "av")
MOST_FROM_THE_WEB = 10_000
RATE = 25


def main() -> None:
    run_ways(__doc__, WAYS, packages=PACKAGES, results=RESULTS)


def predict(
    run_dir: Path, words: list[str], count: int, *, names: list[str] | None = None, end: str = "\0"
) -> dict[str, Any]:
    """Run the command; return its seconds, its rate, and its memory in MB.

    Args:
        run_dir: The run.
        words: What names the pictures, and further options.
        count: Number of answers that are expected.
        names: What is written to standard input.
        end: What each of these ends with.
    """
    output = run_dir.parent / "answers.csv"
    command = [sys.executable, "-P", "-m", "classifold", "predict", str(run_dir), *words]
    started = time.monotonic()
    with tempfile.TemporaryFile() as listed:
        listed.write("".join(name + end for name in names or []).encode())
        listed.seek(0)
        with subprocess.Popen(
            [*command, "--output", str(output)], stdin=listed, stderr=subprocess.DEVNULL
        ) as process:
            # The system's own figure for a child that has ended includes its parent, which holds the names.
            most = 0.0
            while process.poll() is None:
                most = max(most, read_mb(process.pid, "VmHWM"))
                time.sleep(SECONDS)
    seconds = time.monotonic() - started
    with output.open(encoding="utf-8") as rows:
        answers = sum(1 for _ in rows) - 1
    if process.returncode or answers != count:
        raise SystemExit(f"{command[4:]}: exit code {process.returncode}, {answers} answers of {count}")
    return {
        "pictures": count,
        "seconds": round(seconds, 2),
        "pictures_per_second": round(count / seconds),
        "most_memory_mb": round(most, 1),
    }


def predict_folder(run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    return predict(run_dir, [str(photos)], count)


def predict_pattern(run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    return predict(run_dir, [f"{photos}/**/*.jpg"], count)


def predict_names(run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    return predict(run_dir, ["-"], count, names=sorted(map(str, photos.rglob("*.jpg"))))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that keeps connections and prints nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def predict_web(run_dir: Path, photos: Path, _count: int) -> dict[str, Any]:
    handler = functools.partial(Quiet, directory=str(photos))
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))[:MOST_FROM_THE_WEB]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        addresses = [f"http://127.0.0.1:{server.server_port}/{name}" for name in names]
        figures = predict(run_dir, ["-"], len(names), names=addresses, end="\n")
        server.shutdown()
        thread.join()
    return figures


def predict_video(run_dir: Path, photos: Path, count: int) -> dict[str, Any]:
    path = photos.parent / f"{count}.mp4"
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (120, 160, 3), np.uint8)
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(pixels, number, axis=1), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    figures = predict(run_dir, [str(path), "--every", str(1 / RATE)], count)
    path.unlink()
    return figures


WAYS: dict[str, Way] = {
    "folder": predict_folder,
    "pattern": predict_pattern,
    "names": predict_names,
    "web": predict_web,
    "video": predict_video,
}


if __name__ == "__main__":
    main()
