"""How fast a GPU trains through Keras on JAX, beside PyTorch and what the card can do at most.

    pip install "jax[cuda12]" keras numpy simplejpeg pillow pydantic click rich onnxruntime boto3 jinja2 \
        opencv-python-headless                                       # and torch, timm for the comparison
    PYTHONPATH=src python benchmarks/gpu.py [--model NAME ...] [--engine keras] [--engine torch] [--rounds 1]
        [--batches 64,128,256,512] [--pictures FOLDER] [--tiny] [--output FILE]

Training steps of the whole network (batch normalisation too, ten classes, AdamW, cross-entropy, bfloat16
with float32 weights) at 224 x 224 pixels, in pictures a second:

- keras, on the device: one compiled stateless step of Keras on JAX; arrays are on the device before the
  clock runs.
- keras, from the host: Keras's train_on_batch on float32 arrays in host memory, as `train` calls it.
- keras, from the cache; from JPEGs: the same, and each batch comes from `train`'s own PictureReader by all
  cores: augmented from the decoded cache, or read and decoded as well. "pictures alone" is that without any
  training.
- torch, on the device; from the host: PyTorch with channels_last, bfloat16 autocast, torch.compile, a fused
  AdamW and cuDNN's search for the fastest kernels; from the host out of pinned memory. timm's models;
  without timm a ResNet-50 from this file.

On the device every batch size is tried until one does not fit; the rest is measured at the fastest. Each
engine and model is a process of its own; medians of five repeats of at least a second after a warm-up, and
of the rounds, which alternate the engines. "floor" is the larger of operations / peak rate and bytes /
bandwidth: the operations of the step as XLA counts them before it compiles, the bytes that the compiled
step touches, and the card's data sheet. Where JAX or torch is missing the reason stands in its place.
--tiny (32 pixels, few pictures, any processor) only shows that all of it runs. Writes
benchmarks/results/gpu.json. One model and engine at a time fits into ten minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "gpu.json"
MODELS = {"ResNet50": "resnet50", "EfficientNetV2B0": "tf_efficientnetv2_b0"}  # Keras's and timm's names
ENGINES = ("keras", "torch")
CLASSES = tuple("abcdefghij")
PACKAGES = ("classifold", "jax", "jaxlib", "keras", "torch", "timm", "numpy", "simplejpeg")
REPEATS = 5
# TFLOP/s of dense bfloat16 (float16 on the T4, which has no bfloat16) and TB/s, by NVIDIA's data sheets:
# "H100 Tensor Core GPU", "H200 Tensor Core GPU", "A100 80GB", "L4 Tensor Core GPU", "T4 Tensor Core GPU".
# The sheets of H100, H200 and L4 give twice the operations, for sparse matrices.
CARDS = {
    "H200": (989, 4.8),
    "H100": (989, 3.35),
    "A100": (312, 2.0),
    "L4": (121, 0.3),
    "T4": (65, 0.32),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", choices=list(MODELS), help="default: both")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="default: both")
    parser.add_argument("--batches", default="64,128,256,512")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="JPEGs to read (default: drawn ones of 500 x 375)")
    parser.add_argument("--tiny", action="store_true", help="small and quick: only shows that it runs")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "MODEL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure_here(*args.one, args=args)
        return
    report: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu.py", *sys.argv[1:]]),
        "tiny": args.tiny,
        "device": "",
        **describe_machine(),
        "models": {},
    }
    for name in args.model or MODELS:
        runs = [
            (engine, measure(engine, name, sys.argv[1:]))
            for _ in range(args.rounds)
            for engine in args.engine or ENGINES
        ]
        report["models"][name] = summarise(runs)
        report["device"] = next((r["device"] for _, rows in runs for r in rows if "device" in r), "")
        print_model(name, report["models"][name])
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(engine: str, name: str, words: list[str]) -> list[dict[str, Any]]:
    """Return the rows that a process of its own wrote, and why it ended where it did not end well."""
    if importlib.util.find_spec({"keras": "jax"}.get(engine, engine)) is None:
        return [{"skipped": f"{engine}: {'JAX' if engine == 'keras' else 'torch'} is not installed"}]
    command, rows = [sys.executable, __file__, *words, "--one", engine, name], []
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        for line in process.stdout or ():  # what was told stays, however the process ends
            if line.startswith("{"):
                print(line, end="", file=sys.stderr, flush=True)
                rows.append(json.loads(line))
        if code := process.wait():
            log.seek(0)
            reason = (log.read().strip().splitlines() or ["no word"])[-1][:300]
            rows.append({"failed": f"{engine} ended with {code}: {reason}"})
    return rows


def summarise(runs: list[tuple[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return the medians of every way and batch, the best batch of every way, and the floor."""
    rows = [row for _, found in runs for row in found]
    speeds: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if "way" in row:
            speeds.setdefault(row["way"], {}).setdefault(str(row["batch"]), []).extend(row["rounds"])
    medians = {
        way: {batch: round(statistics.median(values), 1) for batch, values in found.items()}
        for way, found in speeds.items()
    }
    return {
        "best": {way: max(found.values()) for way, found in medians.items()},
        "pictures_per_second": medians,
        "floor": [row for row in rows if "floor" in row],
        "not_measured": [
            row.get("skipped") or row.get("failed") for row in rows if row.keys() & {"skipped", "failed"}
        ],
        "rows": rows,
    }


def print_model(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: pictures a second, by batch", flush=True)
    for way, speeds in found["pictures_per_second"].items():
        print(f"  {way:26}", "  ".join(f"{batch}: {speed:,.1f}" for batch, speed in speeds.items()))
    for row in found["floor"]:
        print(f"  floor at batch {row['batch']}: {row['floor']}")
    for reason in found["not_measured"]:
        print(f"  not measured: {reason}")
    best = found["best"]
    if {"keras, on the device", "torch, on the device"} <= best.keys():
        ratio = best["keras, on the device"] / best["torch, on the device"]
        print(f"  Keras on JAX to PyTorch, on the device: {ratio:.2f}")


# In a process of its own


def measure_here(engine: str, name: str, *, args: argparse.Namespace) -> None:
    batches = [4, 8] if args.tiny else [int(word) for word in args.batches.split(",")]
    size = 32 if args.tiny else 224
    ways = Keras(name, size) if engine == "keras" else Torch(name, size)
    tell(device=ways.device)
    speeds = {}
    for batch in batches:
        try:
            speeds[batch] = statistics.median(
                timed(ways, f"{engine}, on the device", batch, *ways.on_device(batch), tiny=args.tiny)
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tell(failed=f"{engine}: batch {batch} does not fit into the memory")
            break
    if not speeds:
        return
    batch = max(speeds, key=lambda one: speeds[one])
    step, wait = ways.from_host(batch)
    timed(ways, f"{engine}, from the host", batch, step, wait, tiny=args.tiny)
    if isinstance(ways, Keras):
        tell(batch=batch, **ways.find_costs(batch))
        measure_pictures(ways, batch, step, wait, args)


def measure_pictures(
    ways: Keras, batch: int, step: Callable[..., Any], wait: Callable[[], Any], args: argparse.Namespace
) -> None:
    """Measure training from pictures, as `train` reads them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.pictures or draw_pictures(Path(scratch), 32 if args.tiny else 2048)
        for name, memory in (("from the cache", 64e9), ("from JPEGs", 0.0)):
            with open_reader(folder, ways.size, memory) as read:
                # One batch after the other, as long as it takes.
                timed(ways, f"pictures alone, {name}", batch, lambda: read(batch), lambda: None, args.tiny)
                timed(ways, f"keras, {name}", batch, lambda: step(read(batch)), wait, args.tiny)


def timed(
    ways: Any, way: str, batch: int, step: Callable[..., Any], wait: Callable[[], Any], tiny: bool = False
) -> list[float]:
    """Tell and return pictures a second of each repeat; `wait` returns when the device has done all steps."""
    started = time.perf_counter()
    step()
    wait()
    first = time.perf_counter() - started
    for _ in range(2):
        step()
    wait()
    started = time.perf_counter()
    step()
    wait()
    count = 1 if tiny else max(3, round(1 / (time.perf_counter() - started)))
    speeds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        speeds.append(round(count * batch / (time.perf_counter() - started), 1))
    tell(way=way, batch=batch, rounds=speeds, steps=count, first_seconds=round(first, 1), **ways.memory())
    return speeds


def tell(**row: Any) -> None:
    print(json.dumps(row), flush=True)


def is_out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(words in text for words in ("resource_exhausted", "outofmemory", "out of memory"))


def draw_batch(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (batch, size, size, 3)).astype(np.float32)
    return pixels, np.arange(batch) % len(CLASSES)


class Keras:
    """Training steps through Keras on JAX, of the model as `train` builds it."""

    def __init__(self, name: str, size: int) -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
        from classifold.training.backend import start_keras

        keras = start_keras("jax", seed=0)
        keras.config.set_dtype_policy("mixed_bfloat16")
        import jax

        from classifold.settings.loader import build_config
        from classifold.training.model import build_classifier

        self.jax, self.keras, self.size = jax, keras, size
        self.device = jax.devices()[0].device_kind
        config = build_config({"BACKBONE": name, "BACKBONE_WEIGHTS": None, "IMAGE_SIZE": size})
        classifier = build_classifier(config, CLASSES)
        self.model = keras.Model(classifier.model.inputs, classifier.logits)
        self.optimizer = keras.optimizers.AdamW(1e-3)
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.optimizer.build(self.model.trainable_variables)
        self.costs: dict[int, tuple[Any, Any]] = {}

    def on_device(self, batch: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        inputs = [self.jax.device_put(array) for array in draw_batch(batch, self.size)]
        holder = [self.copy_state(), None]
        lowered = self.build_step().lower(holder[0], *inputs)
        compiled = lowered.compile()
        self.costs[batch] = (lowered.cost_analysis(), compiled.cost_analysis())

        def work() -> None:
            holder[:] = compiled(holder[0], *inputs)

        return work, lambda: self.jax.block_until_ready(holder[1])

    def build_step(self) -> Any:
        model, optimizer, loss, jax = self.model, self.optimizer, self.loss, self.jax

        def measure_loss(trainable: Any, fixed: Any, pixels: Any, labels: Any) -> Any:
            logits, fixed = model.stateless_call(trainable, fixed, pixels, training=True)
            return loss(labels, logits), fixed

        @partial(jax.jit, donate_argnums=0)
        def step(state: Any, pixels: Any, labels: Any) -> Any:
            trainable, fixed, slots = state
            find = jax.value_and_grad(measure_loss, has_aux=True)
            (value, fixed), gradients = find(trainable, fixed, pixels, labels)
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            return (trainable, fixed, slots), value

        return step

    def copy_state(self) -> tuple[list[Any], ...]:
        """Return the variables as arrays of their own: the step takes over the memory of what it is given."""
        model = self.model
        kinds = (model.trainable_variables, model.non_trainable_variables, self.optimizer.variables)
        return tuple([self.jax.numpy.copy(one.value) for one in kind] for kind in kinds)

    def from_host(self, batch: int) -> tuple[Callable[..., Any], Callable[[], Any]]:
        self.model.compile(optimizer=self.optimizer, loss=self.loss, jit_compile=True)
        pixels, labels = draw_batch(batch, self.size)

        def work(given: np.ndarray = pixels) -> None:
            self.model.train_on_batch(given, labels, return_dict=True)

        # Keras hands the new weights back as arrays that the device may still be working on.
        return work, lambda: self.jax.block_until_ready([one.value for one in self.model.variables])

    def find_costs(self, batch: int) -> dict[str, Any]:
        """Return what a step must compute and what it touches, and the floor that follows."""
        before, after = map(as_dict, self.costs[batch])
        operations, touched = before.get("flops"), after.get("bytes accessed")
        return {
            "floor": find_floor(self.device, batch, operations, touched),
            "gflop_per_picture": round(operations / batch / 1e9, 2) if operations else None,
            "mb_per_picture": round(touched / batch / 1e6, 1) if touched else None,
        }

    def memory(self) -> dict[str, float]:
        found = self.jax.devices()[0].memory_stats() or {}
        return {"peak_gb": round(found["peak_bytes_in_use"] / 1e9, 2)} if "peak_bytes_in_use" in found else {}


def as_dict(costs: Any) -> dict[str, float]:
    """Return JAX's cost analysis, which some versions give as a list of one."""
    found: dict[str, float] = (costs[0] if isinstance(costs, list) else costs) or {}
    return found


def find_floor(
    device: str, batch: int, operations: float | None, touched: float | None
) -> dict[str, Any] | str:
    """Return the pictures a second that the card cannot exceed, by its operations and by its bytes."""
    card = next((name for name in CARDS if re.search(rf"\b{name}\b", device)), None)
    if card is None or not operations or not touched:
        return f"not known for {device}"
    rate, bandwidth = CARDS[card]
    by_operations, by_bytes = operations / rate / 1e12, touched / bandwidth / 1e12
    return {
        "card": card,
        "by_operations": round(batch / by_operations),
        "by_bytes": round(batch / by_bytes),
        "pictures_per_second": round(batch / max(by_operations, by_bytes)),
    }


# The pictures


def draw_pictures(folder: Path, count: int) -> Path:
    """Write JPEGs of 500 x 375, about 70 kB each, in two classes."""
    import simplejpeg

    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((25, 25, 1), np.uint8))
        picture ^= noise.integers(0, 16, picture.shape, dtype=np.uint8)
        path = folder / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(picture, quality=85))
    return folder


@contextlib.contextmanager
def open_reader(folder: Path, size: int, memory: float) -> Iterator[Callable[[int], np.ndarray]]:
    """Give a function from a number to so many augmented pictures, float32, ever new ones."""
    from classifold.dataset.walk import iter_pictures
    from classifold.settings.loader import build_config
    from classifold.training.array_cache import ArrayCache
    from classifold.training.pipeline import PictureReader

    config = build_config({"IMAGE_SIZE": size})
    reader = PictureReader(list(iter_pictures(folder)), config, cache=ArrayCache(memory, None), name="all")
    order, place = np.random.default_rng(0), [0]

    def read(batch: int) -> np.ndarray:
        place[0] += 1
        indices = order.integers(0, len(reader), batch)
        return reader.read_augmented(indices, place[0]).astype(np.float32)

    with contextlib.closing(reader):
        yield read


# PyTorch


class Torch:
    """Training steps through PyTorch, as its performance guide advises."""

    def __init__(self, name: str, size: int) -> None:
        import torch

        self.torch, self.size = torch, size
        self.place = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.cuda.get_device_name() if self.place == "cuda" else "cpu"
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(0)
        self.model = self.build_model(name).to(self.place, memory_format=torch.channels_last).train()
        fused = self.place == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3, weight_decay=0.004, fused=fused)
        self.loss = torch.nn.CrossEntropyLoss()
        self.compiled = torch.compile(self.model)

    def build_model(self, name: str) -> Any:
        if importlib.util.find_spec("timm"):
            import timm

            return timm.create_model(MODELS[name], pretrained=False, num_classes=len(CLASSES))
        if name == "ResNet50":
            return build_resnet50(self.torch.nn, len(CLASSES))
        raise SystemExit(f"timm is not installed, which has {MODELS[name]}")

    def on_device(self, batch: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        pixels, labels = self.load(*self.draw(batch))
        return lambda: self.step(pixels, labels), self.wait

    def from_host(self, batch: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        host = self.draw(batch)
        if self.place == "cuda":
            host = tuple(one.pin_memory() for one in host)
        return lambda: self.step(*self.load(*host)), self.wait

    def draw(self, batch: int) -> tuple[Any, ...]:
        pixels, labels = draw_batch(batch, self.size)
        planes = self.torch.from_numpy(pixels).permute(0, 3, 1, 2)  # which is channels_last in memory
        return planes, self.torch.from_numpy(labels)

    def load(self, *tensors: Any) -> list[Any]:
        return [one.to(self.place, non_blocking=True) for one in tensors]

    def step(self, pixels: Any, labels: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.torch.autocast(self.place, dtype=self.torch.bfloat16):
            value = self.loss(self.compiled(pixels / 127.5 - 1), labels)
        value.backward()
        self.optimizer.step()

    def wait(self) -> None:
        if self.place == "cuda":
            self.torch.cuda.synchronize()

    def memory(self) -> dict[str, float]:
        found = self.torch.cuda.max_memory_allocated() / 1e9 if self.place == "cuda" else 0
        return {"peak_gb": round(found, 2)} if found else {}


def build_resnet50(nn: Any, num_classes: int) -> Any:
    """Return ResNet-50 v1.5 (He et al. 2015, with the stride in the 3 x 3 convolution)."""

    def normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Any:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            self.inner = nn.Sequential(
                normed(inputs, width, 1),
                nn.ReLU(inplace=True),
                normed(width, width, 3, stride),
                nn.ReLU(inplace=True),
                normed(width, 4 * width, 1),
            )
            same = inputs == 4 * width and stride == 1
            self.beside = nn.Identity() if same else normed(inputs, 4 * width, 1, stride)
            self.end = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            return self.end(self.inner(x) + self.beside(x))

    layers = [normed(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            layers.append(Block(channels, width, stride if number == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def describe_machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "machine": {
            "when": time.strftime("%Y-%m-%d"),
            "cores": cores,
            "processor": find_processor(),
            "python": platform.python_version(),
        },
        "versions": versions,
    }


def find_processor() -> str:
    with contextlib.suppress(OSError):
        for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
