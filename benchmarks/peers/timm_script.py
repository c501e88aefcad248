"""timm's own train.py and validate.py, with their defaults but for what is named here.

    PYTHON timm_script.py SPLIT_DIR OUT_JSON --seed N [--epochs N] --timm-train CHECKOUT/train.py

train.py is part of timm's repository and not of its wheel; it takes the timm beside it. Its documentation has
no example of fine-tuning. What it is told here: the pretrained weights, the number of classes, the CPU,
channels last, two loading processes, 20 epochs instead of 300, and batches of 32 instead of 128: small sets
would have two or three updates an epoch. The rate follows from the batch by its own rule (0.1 for 256), the
rest is default: SGD, cosine with 5 epochs of warm-up, RandomResizedCrop, flip, colour jitter, label smoothing
0.1, every epoch validated and saved. The checkpoint that was best on the validation set is measured by
validate.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from task import MODEL_NAME, Clock, list_classes, parse_arguments, save_timm_weights, write_result

EPOCHS = 20
BATCH_SIZE = 32


def main() -> None:
    args = parse_arguments(__doc__)
    if args.timm_train is None:
        raise SystemExit("timm's script: --timm-train CHECKOUT/train.py is missing")
    clock = Clock()
    epochs = EPOCHS if args.epochs is None else args.epochs
    num_classes = str(len(list_classes(args.split_dir)))
    with tempfile.TemporaryDirectory() as folder:
        weights = save_timm_weights(Path(folder))
        clock.lap("weights")
        run_script(
            args.timm_train,
            *("--data-dir", str(args.split_dir), "--train-split", "training", "--val-split", "validation"),
            *("--model", MODEL_NAME, "--pretrained", "--pretrained-path", str(weights)),
            *("--num-classes", num_classes, "--device", "cpu", "--workers", "2", "--channels-last"),
            *("--epochs", str(epochs), "--batch-size", str(BATCH_SIZE), "--seed", str(args.seed)),
            *("--output", folder, "--experiment", "run"),
        )
        clock.lap("train")
        results = Path(folder) / "results.json"
        run_script(
            args.timm_train.with_name("validate.py"),
            *("--data-dir", str(args.split_dir), "--split", "evaluation", "--model", MODEL_NAME),
            *("--num-classes", num_classes, "--device", "cpu", "--workers", "2", "--channels-last"),
            *("--checkpoint", str(Path(folder) / "run" / "model_best.pth.tar")),
            *("--results-file", str(results), "--results-format", "json"),
        )
        accuracy = json.loads(results.read_text())["top1"] / 100
    clock.lap("evaluate")
    packages = ("torch", "torchvision")
    beside = (args.timm_train.parent / "timm" / "version.py").read_text().split("'")[1]
    write_result(
        args.output, accuracy=accuracy, epochs=epochs, clock=clock, packages=packages, timm_checkout=beside
    )


def run_script(path: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(path), *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
