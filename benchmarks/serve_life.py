"""How fast `classifold serve` starts, stops and reloads the model, and what batches would gain.

    python benchmarks/serve_life.py --run RUN [--rounds 5]

- start: from the command to the first `200` of /health/ready, with one worker and with two; and the processor
  seconds that it takes, which other programs on the machine do not change.
- stop: from SIGTERM to the end of an idle server.
- reload: eight clients send requests without a pause, and SIGHUP comes five times. How many requests failed,
  and the longest answer during a reload, beside the longest one otherwise.
- batches: pictures a second of the model alone, one thread per core, and 1, 2, 4 and 8 pictures per call;
  in turn, medians of the rounds.

Writes benchmarks/results/serve_life.json. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from classifold.machine import count_cores
from classifold.predict.predictor import load_predictor
from decode import describe_machine
from serve_process import read_memory, read_processor_seconds, start_ours, stop

RESULTS = Path(__file__).parent / "results" / "serve_life.json"
SIZES = (1, 2, 4, 8)
CLIENTS, RELOADS = 8, 5
LIMIT_S = 2.0


def main() -> int:
    """Measure, print, and return 1 where starting takes two seconds or more, or a request is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as scratch:
        starts = {workers: measure_start(args.run, workers, args.rounds, Path(scratch)) for workers in (1, 2)}
        change = measure_change(args.run, Path(scratch))
    report = {
        "command": "python benchmarks/serve_life.py --run RUN",
        "settings": {"rounds": args.rounds, "clients": CLIENTS, "reloads": RELOADS},
        "machine": describe_machine(),
        "start": starts,
        "new_model": change,
        "batches": measure_batches(args.run, args.rounds),
        "load_average": [round(one, 2) for one in (*loads, os.getloadavg()[0])],
    }
    print(json.dumps(report, indent=2))
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if starts[1]["seconds"] >= LIMIT_S or change["failed"] else 0


def measure_start(run: Path, workers: int, rounds: int, scratch: Path) -> dict[str, float]:
    """Return the medians of seconds, processor seconds, MB of memory, and seconds to stop."""
    rows = []
    for _ in range(rounds):
        began = time.perf_counter()
        process, _ = start_ours(run, "--workers", workers, log=scratch / "log")
        seconds = time.perf_counter() - began
        used = read_processor_seconds(process.pid)
        memory = sum(read_memory(one) for one in (process.pid, *children_of(process.pid))) / 1e6
        began = time.perf_counter()
        stop(process)
        rows.append((seconds, used, memory, time.perf_counter() - began))
    names = ("seconds", "processor_seconds", "memory_mb", "stop_seconds")
    return {name: round(statistics.median(row[place] for row in rows), 2) for place, name in enumerate(names)}


def children_of(number: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True, check=False)
    return list(map(int, done.stdout.split()))


def measure_change(run: Path, scratch: Path) -> dict[str, Any]:
    """Return how many requests failed while the model was reloaded, and the longest answers."""
    log = scratch / "change.log"
    process, port = start_ours(run, "--log-format", "none", log=log)
    picture = make_picture()
    answers: list[tuple[float, float, bool]] = []
    ended = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not ended.is_set():
            began = time.perf_counter()
            try:
                connection.request("POST", "/predict", picture, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                answer.read()
                is_good = answer.status == 200
            except (OSError, http.client.HTTPException):
                is_good = False
                connection.close()
            answers.append((began, time.perf_counter() - began, is_good))

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(5)
    spans = []
    for number in range(RELOADS):
        began = time.perf_counter()
        process.send_signal(signal.SIGHUP)
        while log.read_text().count("reloaded: ") <= number:
            time.sleep(0.01)
        spans.append((began, time.perf_counter()))
        time.sleep(1)
    ended.set()
    for client in clients:
        client.join()
    stop(process)

    def meets(start: float, seconds: float) -> bool:
        return any(start < end and start + seconds > begin for begin, end in spans)

    during = [seconds for start, seconds, _ in answers if meets(start, seconds)]
    quiet = [seconds for start, seconds, _ in answers if not meets(start, seconds)]
    return {
        "requests": len(answers),
        "failed": sum(not is_good for _, _, is_good in answers),
        "load_seconds": round(statistics.median(end - begin for begin, end in spans), 2),
        "longest_ms_while_loading": round(1000 * max(during)),
        "longest_ms_otherwise": round(1000 * max(quiet)),
        "median_ms_otherwise": round(1000 * statistics.median(quiet)),
    }


def make_picture() -> bytes:
    """Return a JPEG of 500x375 with smooth structure and noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375))
    noise = rng.normal(0, 6, (375, 500, 3))
    stream = io.BytesIO()
    Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(
        stream, "JPEG", quality=88
    )
    return stream.getvalue()


def measure_batches(run: Path, rounds: int) -> dict[str, Any]:
    """Return pictures a second by the number of pictures per call, one thread per core."""
    predictor = load_predictor(run)
    side, cores = predictor.image_size, count_cores()
    pixels = np.random.default_rng(0).integers(0, 256, (max(SIZES), side, side, 3)).astype(np.uint8)
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    with ThreadPoolExecutor(cores) as pool:
        for number in range(rounds + 1):
            for size in SIZES:
                calls = cores * max(SIZES) * 4 // size
                began = time.perf_counter()
                list(
                    pool.map(
                        lambda size: predictor.run_pixels(pixels[:size], is_one_call=True), [size] * calls
                    )
                )
                if number:  # the first round warms up
                    rates[size].append(calls * size / (time.perf_counter() - began))
    return {
        "backbone": predictor.card.backbone,
        "pictures_per_second": {size: round(statistics.median(found), 1) for size, found in rates.items()},
    }


if __name__ == "__main__":
    raise SystemExit(main())
