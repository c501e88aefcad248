"""How training scales over hosts: processes pinned to cores here, and a reckoning for many GPUs.

    python benchmarks/scaling.py [--runs 3] [--output FILE]

Here: 1, 2 and 4 hosts, processes in a network of their own (util-linux's `unshare`), host n pinned to core n
modulo the number of cores; one global batch, so a host's part of it shrinks. Pictures a second of the
second epoch, and the bytes a step that all hosts together put on the network, beside what a ring needs at
least. The losses of every number of hosts are compared.

Reckoned: how efficient 8 to 64 GPUs are, one a host, from the gradient's bytes of real backbones (counted)
and assumed speeds of a GPU and of the network. docs/scaling.md says what that leaves out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from classifold.machine import count_cores

HOSTS = (1, 2, 4)
BATCH, PICTURES, PORT = 64, 1024, 29500
BACKBONES = ("EfficientNetLite0", "MobileNetV2", "ResNet50", "ConvNeXtTiny")
SHARES = (0.3, 1.0)
GPUS = (8, 16, 32, 64)
# Pictures that a GPU learns a second, and gigabits a second of a machine's network: assumed.
SPEEDS, NETWORKS = (300, 1000, 3000), (10, 25, 100)
BATCH_OF_GPU = 64


def main() -> int:
    """Measure, reckon, print and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    parser.add_argument("--count", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        print(json.dumps(be_host(*map(int, options.host.split("/")))))
    elif options.inside:
        print(json.dumps(run_hosts(options.inside)))
    elif options.count:
        print(json.dumps(count_gradient(options.count)))
    else:
        answer = {
            "command": "python benchmarks/scaling.py",
            "cores": count_cores(),
            "load_average": [round(one, 1) for one in os.getloadavg()],
            "batch": BATCH,
            "here": measure_here(options.runs),
            "reckoned": reckon([ask("--count", name) for name in BACKBONES]),
        }
        print(json.dumps(answer, indent=1))
        if options.output:
            options.output.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
        same = {tuple(one["losses"]) for one in answer["here"]}
        spread = max(max(abs(a - b) for a, b in zip(x, y, strict=True)) for x in same for y in same)
        print(f"losses differ by at most {spread:.1e}")
        return 1 if spread > 1e-5 else 0
    return 0


def ask(*words: str, before: tuple[str, ...] = ()) -> Any:
    """Run this file with some words, and return the JSON of its last line."""
    command = [*before, sys.executable, __file__, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


# Here


def measure_here(runs: int) -> list[dict[str, Any]]:
    """Return the medians for every number of hosts, which take turns."""
    before = ("unshare", "--net", "--map-root-user") if shutil.which("unshare") else ()
    found: dict[int, list[Any]] = {count: [] for count in HOSTS}
    for _ in range(runs):
        for count in HOSTS:
            found[count].append(ask("--inside", str(count), before=before))
            print(count, found[count][-1], flush=True)
    answer = []
    for count, many in found.items():
        middle = {name: statistics.median(one[name] for one in many) for name in many[0] if name != "losses"}
        answer.append({"hosts": count, **middle, "losses": many[0]["losses"]})
    return answer


def run_hosts(count: int) -> dict[str, Any]:
    """Start the hosts in a network where nobody else is; return what the first one says."""
    if os.geteuid() == 0 and shutil.which("ip"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    words = [sys.executable, __file__, "--host"]
    others = [
        subprocess.Popen([*words, f"{rank}/{count}"], stdout=subprocess.DEVNULL) for rank in range(1, count)
    ]
    first = subprocess.run([*words, f"0/{count}"], stdout=subprocess.PIPE, text=True, check=True)
    for one in others:
        one.wait()
    return dict(json.loads(first.stdout.splitlines()[-1]))


def be_host(rank: int, count: int) -> dict[str, Any]:
    """Train two epochs as one of the hosts; return what the second one took."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank % count_cores()]})
    from classifold.settings.loader import build_config
    from classifold.training.backend import start_keras
    from classifold.training.hosts import HostInfo, leave_hosts, share_devices

    this_host = HostInfo(rank, count, f"127.0.0.1:{PORT}")
    start_keras("jax", seed=0, this_host=this_host if count > 1 else None)
    hosts = share_devices(this_host)
    config = build_config(
        {"BATCH_SIZE": BATCH, "EARLY_STOPPING_PATIENCE": 0, "WARMUP_EPOCHS": 0.0, "BACKEND": "jax"}
    )
    rows, marks = train(config, hosts)
    leave_hosts(hosts)
    steps = PICTURES // BATCH
    gradient = 4 * NUM_WEIGHTS
    return {
        "pictures_per_second": round(PICTURES / rows[1].seconds, 1),
        "step_ms": round(1000 * rows[1].seconds / steps, 1),
        "network_mb_per_step": round((marks[1] - marks[0]) / steps / 1e6, 3),
        "ring_mb_per_step": round(2 * (count - 1) * gradient / 1e6, 3),
        "losses": [row.loss for row in rows],
    }


WIDTHS = (64, 128, 256)
SIDE = 14
NUM_WEIGHTS = sum(9 * a * b + b for a, b in zip((16, *WIDTHS), WIDTHS, strict=False)) + WIDTHS[-1] * 10 + 10


def train(config: Any, hosts: Any) -> tuple[list[Any], list[int]]:
    """Train a small network on random activations; return its epochs, and the bytes sent after each."""
    import keras
    import numpy as np

    from classifold.training.feed import Feed, Reached
    from classifold.training.fit import begin_training
    from classifold.training.recipe import Stage

    generator = np.random.default_rng(0)
    numbers = np.arange(PICTURES)
    rows = hosts.count_rows(BATCH)
    lanes = numbers % BATCH
    mine = numbers[(lanes >= hosts.rank * rows) & (lanes < (hosts.rank + 1) * rows)]
    content = generator.normal(size=(PICTURES, SIDE, SIDE, 16)).astype(np.float32)[mine]
    labels = (generator.integers(0, 10, PICTURES))[mine]
    few = np.arange(hosts.rank, 64, hosts.count)
    pixels = x = keras.Input((SIDE, SIDE, 16))
    for width in WIDTHS:
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(10)(x))
    held = generator.normal(size=(64, SIDE, SIDE, 16)).astype(np.float32)[few]
    feed = Feed(
        begin_epoch=lambda _: None,
        read_training=lambda indices: content[indices],
        read_validation=lambda indices: held[indices],
        training_labels=labels,
        validation_labels=few % 10,
        class_weights=np.ones(10, np.float32),
        hosts=hosts,
        training_numbers=mine,
        validation_numbers=few,
    )
    reached = Reached()
    stage = Stage("fine_tune", share=1.0, num_epochs=2, peak=1e-3, number=1)
    training = begin_training(model, stage, feed, config, reached=reached)
    marks = [count_sent() for is_epoch_over in training.steps() if is_epoch_over]
    return reached.rows, marks


def count_sent() -> int:
    """Return the bytes that went over this network so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return sum(int(line.partition(":")[2].split()[8]) for line in lines if line.strip().startswith("lo:"))


# Reckoned


def count_gradient(name: str) -> dict[str, Any]:
    """Return how many bytes the gradient of a backbone's learning part has, for each share that learns."""
    from classifold.settings.loader import build_config
    from classifold.training.backend import start_keras
    from classifold.training.model import build_classifier, split_parts

    start_keras("tensorflow", seed=0)
    weights = {} if name == "EfficientNetLite0" else {"BACKBONE_WEIGHTS": None}
    classifier = build_classifier(build_config({"BACKBONE": name, **weights}), ["a", "b"])
    sizes = {}
    for share in SHARES:
        learning = split_parts(classifier, share).learning
        count = sum(math.prod(variable.shape) for variable in learning.trainable_variables)
        sizes[str(share)] = 4 * count
    return {"backbone": name, "gradient_bytes": sizes}


def reckon(backbones: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the efficiency of many GPUs: computing over computing and then exchanging in a ring."""
    rows = []
    for one in backbones:
        for share, size in one["gradient_bytes"].items():
            for speed in SPEEDS:
                for network in NETWORKS:
                    step = BATCH_OF_GPU / speed
                    efficiency = {
                        count: round(step / (step + 2 * (count - 1) / count * size * 8 / (network * 1e9)), 3)
                        for count in GPUS
                    }
                    rows.append(
                        {
                            "backbone": one["backbone"],
                            "share": float(share),
                            "gradient_mb": round(size / 1e6, 1),
                            "pictures_per_second_of_a_gpu": speed,
                            "network_gbit": network,
                            "efficiency": efficiency,
                        }
                    )
    return rows


if __name__ == "__main__":
    sys.exit(main())
