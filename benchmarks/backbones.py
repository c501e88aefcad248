"""Which backbone costs what: answers, every way to train it, memory, and where it is cut.

    python benchmarks/backbones.py [--backbone NAME ...] [--rounds 3] [--docs FILE] [--output FILE]

Each backbone is built as `train` builds it, 224 x 224 pixels, ten classes, with random weights, so nothing
is downloaded: its speed does not depend on them. Four works, each in a process of its own with its peak
memory:

- forward: from pixels to features on ONNX Runtime, batches of 16. It is what `predict` costs, and what
  training the head alone costs: every picture goes once through the frozen backbone.
- head: a step of the head on features that are at hand.
- fine_tune: a step at the default FINE_TUNE_SHARE on activations that are at hand.
- whole: a step of the whole backbone (FINE_TUNE_SHARE = 1), pixels at hand.

Steps are Keras's train_on_batch with the optimizer, loss and batch (32) of the default settings on
TensorFlow; the first call, which traces, is timed for itself. Medians of the rounds. "cut" is the share of
the backbone's layers with weights that really lies above the place where it is cut for fine_tune. ViT-S/16
needs keras-hub and is left out with the reason where that is missing. Writes
benchmarks/results/backbones.json; --docs also puts the table into a page, with the figures of
benchmarks/results/gpu.json where gpu.py has left some.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classifold.machine import count_cores, peak_memory_mb
from classifold.settings.config import Config
from classifold.settings.loader import build_config

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "backbones.json"
GPU_RESULTS = HERE / "results" / "gpu.json"
VIT = "ViT-S/16"
BACKBONES = ("EfficientNetLite0", "MobileNetV3Large", "EfficientNetV2B0", "ConvNeXtTiny", "ResNet50", VIT)
WORKS = ("forward", "head", "fine_tune", "whole")
CLASSES = tuple("abcdefghij")
ANSWER_BATCH = 16
# Rounds of the quick works last at least so long, so that the clock does not matter.
ROUND_SECONDS = 1.0
PACKAGES = ("classifold", "keras", "keras-hub", "tensorflow", "onnxruntime", "tf2onnx", "numpy")
BEGIN, END = "<!-- made by benchmarks/backbones.py -->", "<!-- end of what was made -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", action="append", metavar="NAME", help="default: all six")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", type=Path, help="a page with the two marks, between which the table goes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure_here(*args.one, rounds=args.rounds)))
        return
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/backbones.py", *sys.argv[1:]]),
        "settings": {"image_size": 224, "batch": 32, "answer_batch": ANSWER_BATCH, "rounds": args.rounds},
        **describe_machine(),
        "backbones": {},
    }
    for name in args.backbone or BACKBONES:
        report["backbones"][name] = {work: measure(name, work, args.rounds) for work in WORKS}
        print(build_rows({name: report["backbones"][name]}, {})[0], flush=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    gpu = json.loads(GPU_RESULTS.read_text(encoding="utf-8")) if GPU_RESULTS.exists() else {}
    table = build_table(report, gpu)
    print(table)
    if args.docs:
        put_between_marks(args.docs, table)


def measure(name: str, work: str, rounds: int) -> dict[str, Any]:
    """Return what a process of its own measured, or why it could not."""
    if name == VIT and importlib.util.find_spec("keras_hub") is None:
        return {"skipped": "keras-hub is not installed"}
    command = [sys.executable, __file__, "--one", name, work, "--rounds", str(rounds)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1][:300]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer | {"process_seconds": round(time.perf_counter() - started, 1)}


# In a process of its own


def measure_here(name: str, work: str, *, rounds: int) -> dict[str, Any]:
    from classifold.training.backend import start_keras

    start_keras("tensorflow", seed=0)
    from classifold.training.model import build_classifier

    with tempfile.TemporaryDirectory() as scratch:
        source = save_vit(Path(scratch) / "vit") if name == VIT else name
        config = build_config({"BACKBONE": source, "BACKBONE_WEIGHTS": None, "BACKEND": "tensorflow"})
        classifier = build_classifier(config, CLASSES)
        if work == "forward":
            answer = measure_forward(classifier, Path(scratch), rounds)
        else:
            share = {"head": 0.0, "fine_tune": config.FINE_TUNE_SHARE, "whole": 1.0}[work]
            answer = measure_steps(classifier, config, share, rounds)
    answer["pictures_per_second"] = round(statistics.median(answer["rounds"]), 2)
    answer["peak_memory_mb"] = round(peak_memory_mb())
    return answer


def measure_forward(classifier: Any, scratch: Path, rounds: int) -> dict[str, Any]:
    from classifold.inference import open_session, run_session
    from classifold.training.export import export_onnx
    from classifold.training.model import split_parts

    started = time.perf_counter()
    path, frozen = scratch / "frozen.onnx", split_parts(classifier, 0.0).frozen
    export_onnx(frozen, path)
    seconds = time.perf_counter() - started
    session = open_session(path)
    pixels = draw((ANSWER_BATCH, *frozen.inputs[0].shape[1:]))
    expected = frozen.predict_on_batch(pixels)
    difference = np.linalg.norm(run_session(session, pixels) - expected) / np.linalg.norm(expected)
    return {
        "parameters_m": round(classifier.backbone.count_params() / 1e6, 2),
        "onnx_mb": round(path.stat().st_size / 1e6, 1),
        "export_seconds": round(seconds, 1),
        "relative_difference": float(f"{difference:.1e}"),
        "rounds": repeat(lambda: run_session(session, pixels), ANSWER_BATCH, rounds),
    }


def measure_steps(classifier: Any, config: Config, share: float, rounds: int) -> dict[str, Any]:
    from classifold.training.model import split_parts
    from classifold.training.recipe import build_loss, build_optimizer

    learning = split_parts(classifier, share).learning
    learning.compile(
        optimizer=build_optimizer(config),
        loss=build_loss(config),
        weighted_metrics=["accuracy"],
        jit_compile=False,  # as training does on TensorFlow
    )
    inputs = draw((config.batch_size, *learning.inputs[0].shape[1:]))
    labels = np.eye(len(CLASSES), dtype=np.float32)[np.arange(config.batch_size) % len(CLASSES)]
    weights = np.ones(config.batch_size, np.float32)

    def step() -> None:
        learning.train_on_batch(inputs, labels, sample_weight=weights, return_dict=True)

    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    return {
        "cut": round(find_share(classifier.backbone, learning), 3),
        "learning_layers": sum(1 for layer in learning.layers if layer.trainable_weights),
        "learning_parameters_m": round(sum(w.numpy().size for w in learning.trainable_weights) / 1e6, 2),
        "cut_shape": list(learning.inputs[0].shape[1:]),
        "first_call_seconds": round(first, 1),
        "rounds": repeat(step, config.batch_size, rounds),
    }


def find_share(backbone: Any, learning: Any) -> float:
    """Return the share of the backbone's layers with weights that are in the part that learns."""
    from classifold.training.model import _is_fixed, _leaves

    above = {id(leaf) for leaf in _leaves(learning)}
    weighted = [leaf for leaf in _leaves(backbone) if leaf.weights and not _is_fixed(leaf)]
    return sum(1 for leaf in weighted if id(leaf) in above) / len(weighted)


def draw(shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers in the range of pixels for pictures, else such as activations are."""
    generator = np.random.default_rng(0)
    if shape[-1] == 3:
        return generator.integers(0, 256, shape).astype(np.float32)
    return generator.normal(size=shape).astype(np.float32)


def repeat(work: Callable[[], object], num_pictures: int, rounds: int) -> list[float]:
    """Return pictures a second of each round, after one call that does not count."""
    started = time.perf_counter()
    work()
    calls = max(1, round(ROUND_SECONDS / (time.perf_counter() - started)))
    speeds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            work()
        speeds.append(round(calls * num_pictures / (time.perf_counter() - started), 2))
    return speeds


def save_vit(folder: Path) -> str:
    """Write ViT-S/16 with random weights as a KerasHub preset, and return its name for BACKBONE."""
    import keras_hub

    keras_hub.models.ViTBackbone(
        image_shape=(224, 224, 3),
        patch_size=16,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
    ).save_to_preset(str(folder))
    keras_hub.layers.ViTImageConverter(image_size=(224, 224), scale=1 / 127.5, offset=-1.0).save_to_preset(
        str(folder)
    )
    return str(folder)


# The table


def build_table(report: dict[str, Any], gpu: dict[str, Any]) -> str:
    lines = [
        f"Pictures a second on {report['machine']['cores']} cores of {report['machine']['processor']},"
        f" measured on {report['machine']['when']}; memory is the peak of the process in GB.",
        "",
        "| backbone | parameters, M | forward | head step | fine-tuning step, by default |"
        " of which above the cut | step of the whole | memory: forward, fine-tuning, whole | GPU: whole |",
        "|---|---|---|---|---|---|---|---|---|",
        *build_rows(report["backbones"], gpu),
    ]
    return "\n".join(lines)


def build_rows(backbones: dict[str, Any], gpu: dict[str, Any]) -> list[str]:
    rows = []
    for name, works in backbones.items():
        cells = [f"`{name}`" if name != VIT else name]
        problem = next((w.get("skipped") or w.get("failed") for w in works.values() if "rounds" not in w), "")
        if problem:
            rows.append(f"| {cells[0]} | {problem} | | | | | | | |")
            continue
        forward, head, tune, whole = (works[work] for work in WORKS)
        memory = ", ".join(f"{one['peak_memory_mb'] / 1e3:.1f}" for one in (forward, tune, whole))
        speeds = [one["pictures_per_second"] for one in (forward, head, tune)]
        cells += [f"{forward['parameters_m']:.1f}", *map(write_speed, speeds), f"{100 * tune['cut']:.0f} %"]
        cells += [write_speed(whole["pictures_per_second"]), memory, find_gpu_speed(gpu, name)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_speed(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 20 else f"{speed:.1f}"


def find_gpu_speed(gpu: dict[str, Any], name: str) -> str:
    """Return what gpu.py measured of Keras on JAX, arrays on the device; "not measured" where it did not."""
    speed = gpu.get("models", {}).get(name, {}).get("best", {}).get("keras, on the device")
    return "not measured" if speed is None or gpu.get("tiny") else f"{speed:,.0f} ({gpu['device']})"


def put_between_marks(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, also_found, after = rest.partition(END)
    if not found or not also_found:
        raise SystemExit(f"{page} lacks the line {BEGIN} or {END}")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    installed = {d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions()}
    return {
        "machine": {
            "when": time.strftime("%Y-%m-%d"),
            "cores": count_cores(),
            "processor": find_processor(),
            "python": platform.python_version(),
            "load_average": [round(value, 1) for value in os.getloadavg()],
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES if name in installed},
    }


def find_processor() -> str:
    rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
