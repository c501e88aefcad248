"""Whether `classifold serve` keeps its memory for ten minutes under load: RSS of every process over time.

    python benchmarks/serve_soak.py --run RUN [--minutes 10] [--clients 16] [--workers 1]

Clients of benchmarks/serve_load.py send JPEGs of 320x240, 500x375 and 4000x3000 all the while, and one
picture a second is sent to /explain. Every two seconds the resident memory, descriptors and threads of all
processes are read. The first fifth is not judged: sessions, buffers and threads come into being then. Of the
rest a straight line is fitted through the medians of ten parts (Theil and Sen's: the median of all slopes).
Ends with 1 if the line rises by more than 5 % of the memory over the time judged, if descriptors or threads
grow, or if any request was answered with 500. Writes benchmarks/results/serve_soak.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from decode import describe_machine, list_files, make_set
from serve_process import count_descriptors, count_threads, list_family, start_ours, stop

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "serve_soak.json"
MIX = {"small": 45, "middle": 45, "large": 10}
EVERY = 2.0  # seconds
NOT_JUDGED, PARTS, MOST_RISE = 0.2, 10, 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="a run folder")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        for name, count in MIX.items():
            make_set(folder / name, count, None)
        load, samples = soak(args, folder, Path(scratch) / "log")
    verdict = judge(samples, load)
    report = {
        "command": f"python benchmarks/serve_soak.py --run RUN --minutes {args.minutes:g}",
        "settings": {"clients": args.clients, "workers": args.workers, "pictures": MIX},
        "machine": describe_machine(),
        "load": load,
        **verdict,
        "samples": samples[:: max(1, len(samples) // 60)],
    }
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=2))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if verdict["wrong"] else 0


def soak(args: argparse.Namespace, folder: Path, log: Path) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Put a server under load; return what the load generator says, and what was read every two seconds."""
    seconds = 60 * args.minutes
    process, port = start_ours(args.run, "--workers", args.workers, "--log-format", "none", log=log)
    ended = threading.Event()
    explaining = threading.Thread(target=explain_on, args=(port, list_files(folder), ended), daemon=True)
    try:
        words = [str(port), str(folder), "--clients", str(args.clients), "--seconds", str(seconds)]
        command = [sys.executable, str(HERE / "serve_load.py"), *words, "--warm-up", "0"]
        client = subprocess.Popen(command, stdout=subprocess.PIPE)
        explaining.start()
        samples = read_samples(process.pid, seconds)
        answer, _ = client.communicate(timeout=120)
    finally:
        ended.set()
        stop(process)
    load = json.loads(answer)
    load.pop("answers")
    return load, samples


def explain_on(port: int, files: list[Path], ended: threading.Event) -> None:
    """Ask for an explanation once a second, whether it is given or refused for the load."""
    for path in itertools.cycle(files):
        if ended.wait(1):
            return
        request = urllib.request.Request(f"http://127.0.0.1:{port}/explain", data=path.read_bytes())
        request.add_header("Content-Type", "image/jpeg")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


def read_samples(pid: int, seconds: float) -> list[dict[str, float]]:
    samples, began = [], time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        samples.append(
            {
                "seconds": round(passed, 1),
                "rss_mb": round(sum(map(read_rss, list_family(pid))) / 1e6, 1),
                "descriptors": count_descriptors(pid),
                "threads": count_threads(pid),
            }
        )
        time.sleep(EVERY)
    return samples


def read_rss(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it has ended."""
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(row.split()[1]) for row in rows if row.startswith("VmRSS:")), 0)


def judge(samples: list[dict[str, float]], load: dict[str, Any]) -> dict[str, Any]:
    """Return the slope of the memory, and in sentences what is wrong.

    Args:
        samples: As `read_samples` returns them.
        load: What the load generator said.
    """
    judged = samples[int(NOT_JUDGED * len(samples)) :]
    size = max(1, len(judged) // PARTS)
    parts = [judged[start : start + size] for start in range(0, len(judged), size)]
    points = [
        tuple(statistics.median(one[name] for one in part) for name in ("seconds", "rss_mb"))
        for part in parts
    ]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2)]
    slope = statistics.median(slopes)
    length = judged[-1]["seconds"] - judged[0]["seconds"]
    rise = slope * length / points[0][1]
    wrong = []
    if rise > MOST_RISE:
        wrong.append(f"memory rises by {rise:.1%} in {length:.0f} s")
    for name in ("descriptors", "threads"):
        first, last = parts[0][0][name], statistics.median(one[name] for one in parts[-1])
        if last > first + 2:
            wrong.append(f"{name}: {first:g} at first, {last:g} at the end")
    if load["statuses"].get("500"):
        wrong.append(f"{load['statuses']['500']} requests were answered with 500")
    return {
        "rss_mb": {
            "first": points[0][1],
            "last": points[-1][1],
            "most": max(one["rss_mb"] for one in samples),
        },
        "slope_mb_per_hour": round(3600 * slope, 2),
        "rise": round(rise, 4),
        "wrong": wrong,
    }


if __name__ == "__main__":
    sys.exit(main())
