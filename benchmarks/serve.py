"""How many requests a second `classifold serve` answers, and how late, beside FastAPI, BentoML and LitServe.

    python benchmarks/serve.py --run RUN [FOLDER] [--peers-python PYTHON] [--rounds 3] [--seconds 8]
        [--clients 1 4 16 64] [--ways classifold fastapi bentoml litserve predict]

A hundred JPEGs as benchmarks/decode.py makes them, from the photographs of FOLDER or drawn: 45 of 320x240, 45
of 500x375 and 10 of 4000x3000. Each server runs alone, a fresh process for each round, with the same model;
which comes first changes from round to round:

    classifold  `classifold serve RUN`, as it is
    fastapi     FastAPI and Keras with model.keras, see benchmarks/peers/serve_fastapi.py
    bentoml     BentoML with model.onnx and adaptive batching, see benchmarks/peers/serve_bentoml.py
    litserve    LitServe with model.onnx and batching, see benchmarks/peers/serve_litserve.py
    predict     `classifold predict RUN` on the same pictures, to compare the rate with

The peers decode with our decoder, so that all have the same pixels and the same work; the probabilities that
each server answers are compared, and a difference above 0.001 ends the benchmark. The load comes from
benchmarks/serve_load.py, a process of its own on the same cores. Medians over the rounds; memory is that of
all of a server's processes at the end, a shared page counted in parts. Writes benchmarks/results/serve.json.
With three rounds about 12 minutes on two cores.

The peers need an environment of their own:

    python -m venv PEERS
    PEERS/bin/pip install . -r benchmarks/peers/requirements-serve.txt
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from decode import describe_machine, list_files, make_set
from predict import link_files, measure, sizes_of
from serve_process import find_port, list_family, read_memory, read_processor_seconds, stop

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "serve.json"
PACKAGES = ("classifold", "onnxruntime", "starlette", "uvicorn", "httptools", "uvloop", "simplejpeg")
PEER_PACKAGES = (
    "fastapi", "uvicorn", "bentoml", "litserve", "keras", "tensorflow", "tensorflow-cpu", "onnxruntime"
)  # fmt: skip
MIX = {"small": 45, "middle": 45, "large": 10}
SERVERS = ("classifold", "fastapi", "bentoml", "litserve")
WAYS = (*SERVERS, "predict")
PREDICTED = 1000  # files for `classifold predict`
MOST_DIFFERENCE = 1e-3
STARTING = 120.0  # seconds


def main() -> None:
    args = parse_arguments()
    ways = [way for way in args.ways if way in ("classifold", "predict") or args.peers_python]
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_pictures(Path(scratch), args.folder)
        pictures = list_files(folder)
        for count in sizes_of(PREDICTED):
            link_files(pictures, Path(scratch) / f"files{count}", count)
        rounds = [
            {way: measure_way(way, folder, args) for way in turn(ways, number)}
            for number in range(args.rounds)
        ]
    report = build_report(rounds, args)
    print_table(report)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="photographs to make the pictures from")
    parser.add_argument("--run", type=Path, required=True, help="a run folder")
    parser.add_argument("--peers-python", type=Path, help="a Python with the peers; without one, ours alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement, after 2 to warm up")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.run = args.run.resolve()
    return args


def turn(ways: Sequence[str], number: int) -> list[str]:
    """Return the ways beginning with another one in each round."""
    start = number % len(ways)
    return [*ways[start:], *ways[:start]]


def make_pictures(scratch: Path, source: Path | None) -> Path:
    """Return a folder of JPEGs of three sizes, mixed by their names."""
    folder = scratch / "pictures"
    folder.mkdir()
    for name, count in MIX.items():
        for number, path in enumerate(list_files(make_set(scratch / name, count, source))):
            place = number * sum(MIX.values()) // count
            path.rename(folder / f"{place:03}-{name}.jpg")
    return folder


# ---- one measurement


def measure_way(way: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return a way's figures in one round, and the probabilities that a server answered for each picture."""
    if way == "predict":
        rate, spent = measure_predict(args.run, folder.parent)
        print(f"predict    {rate:8.1f} pictures/s  {spent:6.1f} ms of cores", flush=True)
        return {"pictures_per_second": rate, "processor_ms_per_picture": spent}
    with running(way, args) as (process, port, seconds_to_start):
        loads = [run_load(process.pid, port, folder, clients, args.seconds) for clients in args.clients]
        memory = sum(map(read_memory, list_family(process.pid)))
    for load in loads:
        print(f"{way:10} {describe(load)}", flush=True)
    answers = {name: read_answer(way, body) for load in loads for name, body in load.pop("answers").items()}
    return {
        "seconds_to_start": round(seconds_to_start, 2),
        "memory_mb": round(memory / 1e6),
        "loads": loads,
        "answers": answers,
    }


def describe(load: dict[str, Any]) -> str:
    wrong = {status: count for status, count in load["statuses"].items() if status != "200"}
    return (
        f"{load['clients']:3} clients {load['requests_per_second']:8.1f} requests/s  "
        f"p50 {load['p50_ms'] or 0:8.1f} ms  p99 {load['p99_ms'] or 0:8.1f} ms  "
        f"{load['server_ms_per_request']:6.1f} ms of cores  {wrong or ''}"
    )


def measure_predict(run: Path, scratch: Path) -> tuple[float, float]:
    """Return pictures a second of `classifold predict`, and ms of cores for each, its start not counted."""
    spent = []
    for count in sizes_of(PREDICTED):
        words = ["predict", str(run), str(scratch / f"files{count}"), "--format", "csv"]
        output = scratch / "predicted.csv"
        command = [sys.executable, "-P", "-m", "classifold", *words, "--output", str(output)]
        spent.append(measure(command)[:2])
        output.unlink()
    few, many = sizes_of(PREDICTED)
    seconds, cores = (after - before for before, after in zip(*spent, strict=True))
    return round((many - few) / seconds, 2), round(1000 * cores / (many - few), 2)


def run_load(pid: int, port: int, folder: Path, clients: int, seconds: float) -> dict[str, Any]:
    before = read_processor_seconds(pid)
    words = [str(port), str(folder), "--clients", str(clients), "--seconds", str(seconds)]
    done = subprocess.run(
        [sys.executable, str(HERE / "serve_load.py"), *words], check=True, stdout=subprocess.PIPE
    )
    load = dict(json.loads(done.stdout))
    used = read_processor_seconds(pid) - before
    load["server_ms_per_request"] = round(1000 * used / max(1, load["requests_with_warm_up"]), 2)
    return load


def read_answer(way: str, body: str) -> list[float]:
    """Return the probabilities in a server's answer, in the order of the classes' names."""
    answer = json.loads(body)
    if way == "classifold":
        classes = answer["predictions"][0]["classes"]
        return [one["confidence"] for one in sorted(classes, key=lambda one: one["class_name"])]
    return list(answer[0] if way == "bentoml" else answer["probabilities"])


# ---- servers


@contextmanager
def running(way: str, args: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """Start a server; yield its process, its port, and the seconds until it answered; stop it at the end."""
    port = find_port()
    command, environment = build_command(way, args, port)
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=HERE / "peers",
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(process, way, port, began + STARTING)
        yield process, port, time.perf_counter() - began
    finally:
        stop(process)


def build_command(way: str, args: argparse.Namespace, port: int) -> tuple[list[str], dict[str, str]]:
    run, python = str(args.run), str(args.peers_python)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "BENTOML_DO_NOT_TRACK": "True"}
    if way == "classifold":
        # All classes, so that the probabilities can be compared.
        words = ["serve", run, "--port", str(port), "--top-k", "1000"]
        return [sys.executable, "-P", "-m", "classifold", *words], {}
    # The decoder of the source beside this file, whatever is installed for the peers.
    quiet["PYTHONPATH"] = str(HERE.parent / "src")
    if way == "bentoml":
        words = ["-m", "bentoml", "serve", "serve_bentoml:Classifier", "--port", str(port)]
        return [python, *words], {**quiet, "RUN": run}
    return [python, f"serve_{way}.py", run, str(port)], quiet


def wait_for(process: subprocess.Popen[bytes], way: str, port: int, deadline: float) -> None:
    """Return when the server answers a request for its interface, which all of them offer."""
    path = {"classifold": "/health/ready", "bentoml": "/readyz", "litserve": "/health"}.get(way, "/docs")
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{way} ended with {process.returncode} before it answered")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"{way} did not answer within {STARTING:.0f} s")


# ---- the report


def build_report(rounds: list[dict[str, dict[str, Any]]], args: argparse.Namespace) -> dict[str, Any]:
    difference = compare_answers(rounds)
    ways = {way: summarise([one[way] for one in rounds]) for way in rounds[0]}
    rate = ways.get("predict", {}).get("pictures_per_second")
    loads = ways.get("classifold", {}).get("loads", [])
    return {
        "command": " ".join(
            [
                f"python benchmarks/serve.py --run RUN --rounds {args.rounds} --seconds {args.seconds:g}",
                *(["--peers-python PYTHON"] if args.peers_python else []),
                *([args.folder.name] if args.folder else []),
            ]
        ),
        "settings": {"rounds": args.rounds, "seconds": args.seconds, "pictures": MIX},
        "machine": describe_machine(),
        "busy": describe_load(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "peer_versions": ask_versions(args.peers_python) if args.peers_python else {},
        "largest_difference": difference,
        "ways": ways,
        "of_predict": {
            str(load["clients"]): round(load["requests_per_second"] / rate, 3) for load in loads if rate
        },
        "rounds": rounds,
    }


def ask_versions(python: Path) -> dict[str, str]:
    """Return the versions of those of the peers' packages that are installed."""
    code = (
        "import importlib.metadata as m, json, sys; "
        "print(json.dumps({d.name: d.version for n in sys.argv[1:] for d in m.distributions(name=n)}))"
    )
    done = subprocess.run([python, "-c", code, *PEER_PACKAGES], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def describe_load() -> dict[str, float]:
    """Return the machine's load average of 15 minutes, in which the benchmark itself is contained."""
    return {"load_average_15_minutes": round(os.getloadavg()[2], 2)}


def compare_answers(rounds: list[dict[str, dict[str, Any]]]) -> float:
    """Take the answers out of the rounds; return the largest difference of a probability."""
    import numpy as np

    first: dict[str, list[float]] = {}
    largest = 0.0
    for ways in rounds:
        for way, figures in ways.items():
            for name, found in figures.pop("answers", {}).items():
                wanted = first.setdefault(name, found)
                difference = float(np.abs(np.subtract(wanted, found)).max())
                if difference > MOST_DIFFERENCE:
                    raise SystemExit(f"{way} answers {found} for {name}, another server {wanted}")
                largest = max(largest, difference)
    return largest


def summarise(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of a way over the rounds."""
    if "loads" not in rounds[0]:
        return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    loads = []
    for same in zip(*(one["loads"] for one in rounds), strict=True):
        keys = ("clients", "requests_per_second", "p50_ms", "p99_ms", "server_ms_per_request")
        medians = {key: statistics.median(load[key] for load in same) for key in keys if same[0][key]}
        failed = sum(count for load in same for status, count in load["statuses"].items() if status != "200")
        lost = sum(one["connections_lost"] for one in same)
        loads.append({**medians, "not_answered": failed, "lost": lost})
    return {
        "seconds_to_start": statistics.median(one["seconds_to_start"] for one in rounds),
        "memory_mb": statistics.median(one["memory_mb"] for one in rounds),
        "loads": loads,
    }


def print_table(report: dict[str, Any]) -> None:
    ways = {way: figures for way, figures in report["ways"].items() if "loads" in figures}
    print(f"\n{'':10}" + "".join(f"{way:>26}" for way in ways))
    for row in zip(*(figures["loads"] for figures in ways.values()), strict=True):
        cells = (f"{load['requests_per_second']:9.1f}/s p99 {load.get('p99_ms', 0):7.0f} ms" for load in row)
        print(f"{row[0]['clients']:3} clients" + "".join(f"{cell:>26}" for cell in cells))
    print("start, s  " + "".join(f"{figures['seconds_to_start']:26.1f}" for figures in ways.values()))
    print("memory, MB" + "".join(f"{figures['memory_mb']:26.0f}" for figures in ways.values()))
    print(f"predict: {report['ways'].get('predict', {}).get('pictures_per_second')} pictures/s;", end=" ")
    print(f"ours of it, by clients: {report['of_predict']}")
    print(f"largest difference of a probability: {report['largest_difference']:.1e}")


if __name__ == "__main__":
    main()
