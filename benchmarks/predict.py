"""How fast `classifold predict` names many files, and that its memory does not grow with them.

    python benchmarks/predict.py [FOLDER] [--run RUN] [--files 5000] [--peer-files 1000] [--rounds 3]
        [--ways ours bare]

Makes a hundred 500x375 JPEGs as benchmarks/decode.py does, and folders of hard links to them under new names.
The model is that of RUN; without one a run is trained on `classifold example` first, for a minute. Each round
runs one after another, each a whole process, on a tenth of its files and on all of them:

    ours   classifold predict RUN FOLDER, into a CSV file
    bare   the same with the model as it is without distance and rule, so that no picture is unknown
    plain  ONNX Runtime with its defaults in a loop: one picture is read, then the model is asked, and so on
    keras  model.predict of model.keras over image_dataset_from_directory with prefetch, batches of 32

Pictures a second are those that the larger folder has more, over the seconds that it takes more: starting up
is not in it, but told beside it. Processor time per picture, of all cores, is counted in the same way; other
work on the machine changes it little. Memory is the largest resident set of the process. Medians over the
rounds; writes benchmarks/results/predict.json. About eight minutes on two cores; `--files 100000` some twenty
per round.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from decode import count_cores, describe_machine, list_files, make_set

RESULTS = Path(__file__).parent / "results" / "predict.json"
PACKAGES = ("classifold", "onnxruntime", "numpy", "simplejpeg", "pillow", "keras", "tensorflow")
NUM_PICTURES = 100
OURS = ("ours", "bare")
WAYS = (*OURS, "plain", "keras")
PLAIN = """
import sys
from pathlib import Path
import numpy as np, onnxruntime
from classifold.pictures.decode import load_picture
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx", providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[1]
with open(sys.argv[3], "w") as output:
    for path in sorted(Path(sys.argv[2]).iterdir()):
        pixels = load_picture(path, size=size, max_pixels=10**8)[None].astype(np.float32)
        answer = session.run(["probabilities"], {"pixels": pixels})[0][0]
        output.write(f"{path.name},{answer.argmax()},{answer.max()}\\n")
"""
KERAS = """
import sys
import keras, tensorflow as tf
model = keras.models.load_model(sys.argv[1] + "/model.keras", compile=False)
size = model.inputs[0].shape[1]
dataset = keras.utils.image_dataset_from_directory(
    sys.argv[2], labels=None, image_size=(size, size), batch_size=32, shuffle=False, verbose=False
)
answers = model.predict(dataset.prefetch(tf.data.AUTOTUNE), verbose=0)
with open(sys.argv[3], "w") as output:
    for path, answer in zip(dataset.file_paths, answers, strict=True):
        output.write(f"{path},{answer.argmax()},{answer.max()}\\n")
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="photographs to make the pictures from")
    parser.add_argument("--run", type=Path, help="a run folder (default: one is trained)")
    parser.add_argument("--files", type=int, default=5000, help="for ours")
    parser.add_argument("--peer-files", type=int, default=1000, help="for the others, which are slower")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = args.run or train_run(Path(scratch))
        pictures = list_files(make_set(Path(scratch) / "middle", NUM_PICTURES, args.folder))
        counts = {way: args.files if way in OURS else args.peer_files for way in WAYS if way in args.ways}
        for count in sorted({size for most in counts.values() for size in sizes_of(most)}):
            link_files(pictures, Path(scratch) / f"files{count}", count)
        make_bare(run_dir, Path(scratch) / "bare")
        rounds = [measure_round(run_dir, Path(scratch), counts) for _ in range(args.rounds)]
    ways = {way: summarise([results[way] for results in rounds]) for way in counts}
    report = {
        "command": "python benchmarks/predict.py" + (f" {args.folder.name}" if args.folder else ""),
        "settings": {"files": args.files, "peer_files": args.peer_files, "rounds": args.rounds},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "ways": ways,
        "ours_of": {
            way: round(ways["ours"]["pictures_per_second"] / ways[way]["pictures_per_second"], 2)
            for way in ways
            if way != "ours" and "ours" in ways
        },
    }
    print_table(report)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def sizes_of(count: int) -> tuple[int, int]:
    """Return the two numbers of files that a way is given."""
    return count // 10, count


def train_run(scratch: Path) -> Path:
    """Train a run on the made example, its head only; return its folder."""
    settings = {
        "DATA_LOCAL_DIR": scratch / "pictures",
        "SPLIT_LOCAL_DIR": scratch / "split",
        "RUNS_DIR": scratch / "runs",
        "EPOCHS": 0,
        "HEAD_EPOCHS": 3,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    example = ["example", str(scratch / "pictures"), "--pictures-per-class", "20"]
    for command in (example, ["split", *words], ["train", *words]):
        subprocess.run([sys.executable, "-P", "-m", "classifold", *command], check=True, stdout=2)
    (run_dir,) = (path for path in (scratch / "runs").iterdir() if path.is_dir())
    return run_dir


def make_bare(run_dir: Path, folder: Path) -> None:
    """Copy a run's model without distance, embedding, class maps and rule, as earlier releases made it."""
    import onnx

    from classifold.model_outputs import remove_outputs

    others = ("distance", "embedding", "class_maps")
    model = onnx.load_from_string(remove_outputs((run_dir / "model.onnx").read_bytes(), others))
    (stored,) = (one for one in model.metadata_props if one.key == "classifold")
    card = json.loads(stored.value)
    for key in ("answering", *others):
        card.pop(key, None)
    stored.value = json.dumps(card)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")


def link_files(pictures: list[Path], folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:07}.jpg").hardlink_to(pictures[number % len(pictures)])


def measure_round(run_dir: Path, scratch: Path, counts: dict[str, int]) -> dict[str, list[dict[str, float]]]:
    """Run every way on both of its folders; return the files, seconds and MB of each run."""
    results: dict[str, list[dict[str, float]]] = {way: [] for way in counts}
    for way, count in counts.items():
        for size in sizes_of(count):
            output = scratch / f"{way}.csv"
            model_dir = scratch / "bare" if way == "bare" else run_dir
            seconds, processor, memory = measure(
                build_command(way, model_dir, scratch / f"files{size}", output)
            )
            rows = len(output.read_text().splitlines())
            if rows not in (size, size + 1):  # our command writes a header
                raise SystemExit(f"{way} answered {rows} of {size} pictures")
            figures = {"seconds": seconds, "processor_seconds": processor, "peak_memory_mb": memory}
            results[way].append({"files": size, **figures})
            print(
                f"{way:6}{size:8} files {seconds:8.1f} s {processor:8.1f} s of cores {memory:8.0f} MB",
                flush=True,
            )
            output.unlink()
    return results


def build_command(way: str, run_dir: Path, folder: Path, output: Path) -> list[str]:
    if way in OURS:
        options = ["--format", "csv", "--output", str(output)]
        return [sys.executable, "-P", "-m", "classifold", "predict", str(run_dir), str(folder), *options]
    code = {"plain": PLAIN, "keras": KERAS}[way]
    return [sys.executable, "-P", "-c", code, str(run_dir), str(folder), str(output)]


def measure(command: list[str]) -> tuple[float, float, float]:
    """Return a command's seconds, its processor seconds, and its largest resident memory in MB, by /proc."""
    started, used, peak = time.perf_counter(), used_by_children(), 0.0
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        peak = max(peak, peak_mb(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:5])} ended with {process.returncode}")
    return time.perf_counter() - started, used_by_children() - used, peak


def used_by_children() -> float:
    """Return the processor seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_mb(pid: int) -> float:
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) * 1024 / 1e6 for row in rows if row.startswith("VmHWM:")), 0.0)


def summarise(rounds: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians of a way, and every round's figures."""
    few, many = (
        {key: [results[index][key] for results in rounds] for key in rounds[0][0]} for index in (0, 1)
    )
    more = many["files"][0] - few["files"][0]
    rates = [more / (b - a) for a, b in zip(few["seconds"], many["seconds"], strict=True)]
    used = zip(few["processor_seconds"], many["processor_seconds"], strict=True)
    return {
        "pictures_per_second": round(statistics.median(rates), 1),
        "processor_ms_per_picture": round(statistics.median(1000 * (b - a) / more for a, b in used), 3),
        "files": [int(few["files"][0]), int(many["files"][0])],
        "seconds": [round(statistics.median(part["seconds"]), 2) for part in (few, many)],
        "peak_memory_mb": [round(statistics.median(part["peak_memory_mb"])) for part in (few, many)],
        "rounds": rounds,
    }


def print_table(report: dict[str, Any]) -> None:
    heads = "pictures/s   ours x  ms of cores   files, seconds and MB of the whole process"
    print(f"\n{count_cores()} cores  {heads}")
    for way, result in report["ways"].items():
        ratio = f"{report['ours_of'][way]:.2f}" if way in report["ours_of"] else ""
        runs = zip(result["files"], result["seconds"], result["peak_memory_mb"], strict=True)
        cells = "".join(f"{files:9}{seconds:8.1f} s{memory:6} MB" for files, seconds, memory in runs)
        spent = result["processor_ms_per_picture"]
        print(f"{way:8}{result['pictures_per_second']:12.1f}{ratio:>9}{spent:13.2f}{cells}")
    ours, bare = (report["ways"].get(way, {}).get("processor_ms_per_picture") for way in OURS)
    if ours and bare:
        print(f"with the distance {ours / bare - 1:+.1%} processor time")


if __name__ == "__main__":
    main()
