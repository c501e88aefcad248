"""How large, how fast and how good every export of a run is, beside its model.onnx.

    python benchmarks/exports.py RUN DATA

RUN is a run folder, DATA the folder of its three sets. Runs `classifold export` for every format in every
precision, in turn; each is run over the evaluation pictures and timed in turn with model.onnx, on one core,
one picture at a time. Refused exports are in the table like the others. Writes
benchmarks/results/exports.json; some three minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from decode import describe_machine

RESULTS = Path(__file__).parent / "results" / "exports.json"
PACKAGES = ("onnxruntime", "onnxruntime-extensions", "tensorflow", "keras", "ai-edge-litert", "openvino")
PLANS = (
    ("onnx-bytes", "savedmodel-bytes", "litert", "openvino", "tfjs", "int8", "triton"),
    ("litert", "openvino", "tfjs", "--half"),
    ("litert", "openvino", "--int8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("data", type=Path, help="the folder of its three sets")
    parser.add_argument("--max-loss", default="0.01")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        given = [
            one
            for plan in PLANS
            for one in export(args.run, args.data, plan, Path(scratch) / "exports", args.max_loss)
        ]
    report = {
        "command": f"python benchmarks/exports.py RUN {args.data.name} --max-loss {args.max_loss}",
        "machine": describe_machine(),
        "load_before": round(load, 2),
        "seconds": round(time.monotonic() - started),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "run": args.run.resolve().name,
        "exports": {one["name"]: {"refusal": one["refusal"], **one["figures"]} for one in given},
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report["exports"])


def export(run: Path, data: Path, plan: tuple[str, ...], output: Path, max_loss: str) -> list[dict[str, Any]]:
    words = [word for one in plan for word in ((one,) if one.startswith("--") else ("--to", one))]
    options = ["--data", str(data), "--output", str(output), "--max-loss", max_loss, "--json"]
    command = [sys.executable, "-P", "-m", "classifold", "export", str(run), *words, *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    exports: list[dict[str, Any]] = json.loads(done.stdout)["exports"]
    return exports


def print_table(exports: dict[str, dict[str, Any]]) -> None:
    print("| export | MB | pictures/s | model.onnx beside it | accuracy | difference | same class | "
          "probability differs by | distance differs by | unknown changed |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, one in exports.items():
        rate = one["rate"]
        print(
            f"| `{name}`{' (refused)' if one['refusal'] else ''} | {one['bytes'] / 1e6:.1f} | "
            f"{rate['export']:.0f} | {rate['model_onnx']:.0f} | {one['accuracy']:.3f} | "
            f"{100 * one['difference']:+.1f} % ({100 * one['low']:+.1f} to {100 * one['high']:+.1f}) | "
            f"{100 * one['agreement']:.1f} % | {one['largest_probability_difference']:.2g} | "
            f"{one['largest_distance_difference']:.2g} | {100 * one['unknown_changed']:.1f} % |"
        )


if __name__ == "__main__":
    main()
