"""How good and how fast `classifold train` is beside what a user would run instead, on the same backbone.

    python benchmarks/peers.py FOLDER [FOLDER ...] [--seeds 5] [--peers NAME,NAME]
        [--ours "NAME:SET=VALUE ..."] [--same-epochs] [--environments DIR] [--environment NAME=PYTHON]
        [--timm-train CHECKOUT/train.py] [--again CONTENDER] [--output FILE] [--summary]

For each folder and seed (SPLIT_SEED and RANDOM_SEED alike) the folder is divided once; then ours, with
default settings or with each set that `--ours` names, and every peer in benchmarks/peers/ run one after
another, who comes first changing with the seed. Each is a process of its own, timed from outside from start
to end: libraries, reading, training, saving a model, measuring it on the evaluation set. All start from the
ImageNet weights of EfficientNet-Lite0 and run as their documentation advises; each peer's file says how.
`--same-epochs` adds each peer with as many epochs as ours with the first settings had in that division.

Every run is kept in benchmarks/results/peers.json as soon as it is over, and what is there is not run again:
the command can be stopped, gone on with, and given a few contenders at a time. Peers on Keras run in this
Python, the others in environments that are made once from benchmarks/peers/requirements-*.txt below
--environments, or that --environment names (torch=PYTHON). timm_script needs a checkout of
timm's repository. Hours, most of them the peers'.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold.machine import count_cores

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "peers.json"
ENVIRONMENTS = HERE.parent / ".test" / "peers"
NEAR = 0.01  # a peer within one point of us is one to be faster than
SHARE = 1 / 3  # of its time
PACKAGES = ("classifold", "keras", "tensorflow", "onnxruntime", "numpy")
Run = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A script of benchmarks/peers/, the requirements it runs with, and the epochs if not its own."""

    script: str
    environment: str
    epochs: int | None = None
    has_epochs: bool = True


PEERS = {
    "logistic": Peer("logistic.py", "torch", has_epochs=False),
    "keras_guide": Peer("keras_guide.py", "keras"),
    "keras_guide_30": Peer("keras_guide.py", "keras", epochs=30, has_epochs=False),
    "fastai_recipe": Peer("fastai_recipe.py", "torch"),
    "timm_script": Peer("timm_script.py", "torch"),
    "pytorch_plain": Peer("pytorch_plain.py", "torch"),
}


def main() -> None:
    args = parse_arguments()
    if not args.summary:
        drop_runs(args.output, args.again)
        failed = [
            failure
            for folder in args.folders
            for seed in range(args.seeds)
            for failure in compare(folder, seed, args)
        ]
        if failed:
            print("\nfailed, and tried again next time:", *failed, sep="\n  ")
    report = read_report(args.output)
    if report["runs"]:
        report["summary"] = summarise(report["runs"], args.ours)
        if not args.summary:
            with changing(args.output) as kept:
                kept["summary"] = report["summary"]
        print_summary(report["summary"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="names, by commas; '' for none (default: all)"
    )
    parser.add_argument(
        "--ours", action="append", metavar="NAME:SET=VALUE ...", help="default: default: ; '' for none"
    )
    parser.add_argument("--same-epochs", action="store_true")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS)
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--timm-train", type=Path, help="train.py of a checkout of timm")
    parser.add_argument(
        "--again", action="append", default=[], metavar="CONTENDER", help="forget its runs first"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--summary", action="store_true", help="run nothing, print what the file holds")
    args = parser.parse_args()
    ours = ["default:"] if args.ours is None else args.ours
    args.ours = dict(text.partition(":")[::2] for text in ours if text)
    args.peers = [name for name in args.peers.split(",") if name]
    args.environment = dict(text.partition("=")[::2] for text in args.environment)
    unknown = [name for name in args.peers if name not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if not (args.folders or args.summary):
        parser.error("name a folder of pictures, or --summary")
    if args.timm_train is None and "timm_script" in args.peers and not args.summary:
        print("timm_script is left out: it needs --timm-train CHECKOUT/train.py", flush=True)
        args.peers.remove("timm_script")
    return args


# The runs


def compare(folder: Path, seed: int, args: argparse.Namespace) -> list[str]:
    """Run what is missing of one folder and seed; return what failed."""
    contenders = list_contenders(args)
    done = {
        run["contender"]
        for run in read_report(args.output)["runs"]
        if (run["folder"], run["seed"]) == (folder.name, seed)
    }
    missing = [name for name in contenders if name not in done]
    # Who comes first changes with the seed; same epochs need ours before them.
    missing = missing[seed % len(missing) :] + missing[: seed % len(missing)] if missing else []
    missing.sort(key=lambda name: name.endswith("@same"))
    failed = []
    if missing:
        with tempfile.TemporaryDirectory() as scratch:
            config = write_config(Path(scratch), folder, seed)
            classifold(Path(scratch), "split", "--config", str(config))
            for name in missing:
                try:
                    run = measure(name, contenders[name], Path(scratch))
                except (subprocess.CalledProcessError, LookupError) as error:
                    failed.append(f"{folder.name}, seed {seed}, {name}: {error}")
                    print(failed[-1], flush=True)
                    continue
                run |= {"folder": folder.name, "seed": seed}
                print(
                    f"{folder.name:16} seed {seed} {name:26} {run['accuracy']:.4f} {run['seconds']:8.1f} s",
                    flush=True,
                )
                with changing(args.output) as report:
                    report["runs"].append(run)
    return failed


def list_contenders(args: argparse.Namespace) -> dict[str, Callable[[Path], Run]]:
    """Return for every contender's name the function that runs it in a folder that holds `split`."""
    contenders: dict[str, Callable[[Path], Run]] = {}
    for name, settings in args.ours.items():
        contenders[f"ours:{name}"] = lambda scratch, settings=settings: run_ours(scratch, settings)
    for name in args.peers:
        peer = PEERS[name]
        contenders[name] = lambda scratch, peer=peer: run_peer(scratch, peer, peer.epochs, args)
        if args.same_epochs and peer.has_epochs:
            first = f"ours:{next(iter(args.ours))}"
            contenders[f"{name}@same"] = lambda scratch, peer=peer, first=first: run_peer(
                scratch, peer, find_epochs(scratch, first, args.output), args
            )
    return contenders


def measure(name: str, work: Callable[[Path], Run], scratch: Path) -> Run:
    load = os.getloadavg()[0]
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"contender": name} | work(scratch) | {"load_average": round(load, 2), "date": date}


def write_config(scratch: Path, folder: Path, seed: int) -> Path:
    config = scratch / "config.py"
    config.write_text(
        f"DATA_LOCAL_DIR = {str(folder.resolve())!r}\nSPLIT_LOCAL_DIR = {str(scratch / 'split')!r}\n"
        f"SPLIT_SEED = {seed}\nRANDOM_SEED = {seed}\n"
    )
    return config


def classifold(place: Path, *words: str) -> float:
    """Run a command in `place`, where it keeps its state; return its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-P", "-m", "classifold", *words]
    subprocess.run(command, check=True, cwd=place, stdout=2, env=environment_variables())
    return time.perf_counter() - started


def run_ours(scratch: Path, settings: str) -> Run:
    """Train in a fresh folder, so that nothing of an earlier run is found."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        words = [word for text in shlex.split(settings) for word in ("--set", text)]
        runs_dir = Path(place) / "runs"
        seconds = classifold(
            Path(place),
            "train",
            "--config",
            str(scratch / "config.py"),
            "--set",
            f"RUNS_DIR={runs_dir}",
            *words,
        )
        (run_dir,) = (path for path in runs_dir.iterdir() if (path / "metrics.json").exists())
        metrics = json.loads((run_dir / "metrics.json").read_text())
        with (run_dir / "history.csv").open(newline="") as file:
            epochs = sum(1 for _ in csv.DictReader(file))
        parts = json.loads((run_dir / "environment.json").read_text())["seconds"]
    return {
        "accuracy": metrics["scores"]["accuracy"]["value"],
        "seconds": round(seconds, 2),
        "epochs": epochs,
        "settings": settings,
        "seconds_parts": parts,
        "num_evaluation": metrics["num_pictures"],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def run_peer(scratch: Path, peer: Peer, epochs: int | None, args: argparse.Namespace) -> Run:
    config = (scratch / "config.py").read_text()
    seed = config.rpartition("RANDOM_SEED = ")[2].strip()
    python = find_python(peer.environment, args)
    output = scratch / "result.json"
    words = [python, str(HERE / "peers" / peer.script), str(scratch / "split"), str(output), "--seed", seed]
    words += ["--epochs", str(epochs)] if epochs is not None else []
    words += ["--timm-train", str(args.timm_train.resolve())] if args.timm_train else []
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        started = time.perf_counter()
        subprocess.run(words, check=True, cwd=place, stdout=2, env=environment_variables())
        seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2)} | json.loads(output.read_text())


def environment_variables() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}


def find_epochs(scratch: Path, contender: str, results: Path) -> int:
    seed = int((scratch / "config.py").read_text().rpartition("RANDOM_SEED = ")[2])
    name = (scratch / "config.py").read_text().splitlines()[0]
    for run in read_report(results)["runs"]:
        if (run["contender"], run["seed"]) == (contender, seed) and f"/{run['folder']}'" in name:
            return int(run["epochs"])
    raise LookupError(f"{contender} has not run in this division, so its epochs are not known")


def find_python(name: str, args: argparse.Namespace) -> str:
    """Return the Python of an environment, which is made where it is missing."""
    if name in args.environment:
        return str(args.environment[name])
    if name == "keras":
        return sys.executable
    place = args.environments / name
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"making the environment {place}", flush=True)
        venv.create(place, with_pip=True, clear=True)
        requirements = HERE / "peers" / f"requirements-{name}.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", str(requirements)], check=True, stdout=2)
        (place / "complete").touch()
    return str(python)


# The file of results


def read_report(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {"runs": []}


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """Give the report to be changed, then write it; a second process with the same file waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (Path(tempfile.gettempdir()) / "classifold-peers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = read_report(path)
        yield report
        report |= {
            "command": "python benchmarks/peers.py FOLDER ... --timm-train CHECKOUT/train.py",
            "machine": f"{find_processor()}, {count_cores()} cores, Python {platform.python_version()}",
        }
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)


def drop_runs(path: Path, contenders: list[str]) -> None:
    if contenders:
        with changing(path) as report:
            report["runs"] = [run for run in report["runs"] if run["contender"] not in contenders]


def find_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


# The summary


def summarise(runs: list[Run], ours: dict[str, str]) -> dict[str, Any]:
    """Return for each folder a row for each contender, and whether our settings meet the goal."""
    summary: dict[str, Any] = {}
    for folder in dict.fromkeys(run["folder"] for run in runs):
        by_name: dict[str, dict[int, Run]] = {}
        for run in runs:
            if run["folder"] == folder:
                by_name.setdefault(run["contender"], {})[run["seed"]] = run
        named = [name for name in by_name if name.startswith("ours:")]
        reference = next(
            (f"ours:{name}" for name in ours if f"ours:{name}" in named), next(iter(named), None)
        )
        rows = {name: describe(seeds, by_name.get(reference or "", {})) for name, seeds in by_name.items()}
        summary[folder] = {
            "reference": reference,
            "rows": rows,
            "goal": {name: check_goal(name, rows) for name in named},
            "time_to_best_peer": find_time_to_best(rows),
        }
    return summary


def describe(seeds: dict[int, Run], reference: dict[int, Run]) -> dict[str, Any]:
    """Return the figures of one contender; differences and ratios are over the seeds that both have."""
    accuracies = [run["accuracy"] for run in seeds.values()]
    row: dict[str, Any] = {
        "seeds": len(seeds),
        "mean_accuracy": statistics.mean(accuracies),
        "standard_error": standard_error(accuracies),
        "median_seconds": statistics.median(run["seconds"] for run in seeds.values()),
        "median_epochs": statistics.median(run["epochs"] for run in seeds.values()),
    }
    shared = sorted(seeds.keys() & reference.keys())
    if shared:
        differences = [seeds[seed]["accuracy"] - reference[seed]["accuracy"] for seed in shared]
        row |= {
            "accuracy_to_reference": statistics.mean(differences),
            "standard_error_of_difference": standard_error(differences),
            "seconds_to_reference": statistics.median(
                seeds[seed]["seconds"] / reference[seed]["seconds"] for seed in shared
            ),
        }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def standard_error(values: list[float]) -> float | None:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def check_goal(name: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Say whether we are better than every peer, in at most a third of the time of the fastest near one."""
    ours = rows[name]
    peers = {peer: row for peer, row in rows.items() if not peer.startswith("ours:")}
    if not peers:
        return {}
    near = {
        peer: row["median_seconds"]
        for peer, row in peers.items()
        if row["mean_accuracy"] >= ours["mean_accuracy"] - NEAR
    }
    fastest = min(near, key=near.__getitem__, default=None)
    share = ours["median_seconds"] / near[fastest] if fastest else None
    return {
        "not_beaten": [p for p, row in peers.items() if row["mean_accuracy"] >= ours["mean_accuracy"]],
        "fastest_near_peer": fastest,
        "share_of_its_time": round(share, 3) if share else None,
        "is_fast_enough": share is None or share <= SHARE,
        "is_met": all(row["mean_accuracy"] < ours["mean_accuracy"] for row in peers.values())
        and (share is None or share <= SHARE),
    }


def find_time_to_best(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest of our settings whose mean accuracy reaches the best peer's."""
    peers = {name: row for name, row in rows.items() if not name.startswith("ours:")}
    if not peers:
        return {}
    best = max(peers, key=lambda name: peers[name]["mean_accuracy"])
    reaching = {
        name: row["median_seconds"]
        for name, row in rows.items()
        if name.startswith("ours:") and row["mean_accuracy"] >= peers[best]["mean_accuracy"]
    }
    fastest = min(reaching, key=reaching.__getitem__, default=None)
    return {
        "best_peer": best,
        "its_accuracy": peers[best]["mean_accuracy"],
        "its_seconds": peers[best]["median_seconds"],
        "ours": fastest,
        "our_seconds": reaching[fastest] if fastest else None,
    }


def print_summary(summary: dict[str, Any]) -> None:
    for folder, part in summary.items():
        print(f"\n{folder}, beside {part['reference']}")
        print(
            f"{'contender':28}{'seeds':>6}{'epochs':>8}{'accuracy':>18}{'difference':>18}{'seconds':>10}{'ratio':>8}"
        )
        for name, row in sorted(part["rows"].items(), key=lambda item: -item[1]["mean_accuracy"]):
            accuracy = with_error(row["mean_accuracy"], row["standard_error"])
            difference = with_error(row.get("accuracy_to_reference"), row.get("standard_error_of_difference"))
            ratio = f"{row['seconds_to_reference']:.2f}" if "seconds_to_reference" in row else "-"
            print(
                f"{name:28}{row['seeds']:>6}{row['median_epochs']:>8.0f}{accuracy:>18}{difference:>18}"
                f"{row['median_seconds']:>10.1f}{ratio:>8}"
            )
        for name, goal in part["goal"].items():
            print_goal(name, goal)
        best = part["time_to_best_peer"]
        if best:
            reached = f"{best['ours']} in {best['our_seconds']:.1f} s" if best["ours"] else "none of ours"
            print(
                f"the best peer's accuracy ({best['best_peer']}, {best['its_accuracy']:.4f}, "
                f"{best['its_seconds']:.1f} s) is reached by {reached}"
            )


def with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f} ± {100 * error:.2f} %" if error is not None else f"{100 * value:.2f} %"


def print_goal(name: str, goal: dict[str, Any]) -> None:
    if not goal:
        return
    beaten = (
        f"not better than {', '.join(goal['not_beaten'])}" if goal["not_beaten"] else "better than every peer"
    )
    near = goal["fastest_near_peer"]
    time_text = f"{goal['share_of_its_time']} of the time of {near}" if near else "no peer within a point"
    print(f"{name}: {'goal met' if goal['is_met'] else 'goal not met'}: {beaten}; {time_text}")


if __name__ == "__main__":
    main()
