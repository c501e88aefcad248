"""A logistic regression on the frozen backbone's features, with PyTorch, timm and scikit-learn.

    PYTHON logistic.py SPLIT_DIR OUT_JSON --seed N

Eager PyTorch in inference mode, channels last, batches of 32 from a DataLoader with two workers, timm's
evaluation transform with the whole picture stretched to the side; standardised features, the strength by the
accuracy on the validation set. It has no epochs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import joblib
import numpy as np
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from task import MODEL_NAME, Clock, list_classes, parse_arguments, save_timm_weights, write_result
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
BATCH_SIZE = 32
NUM_WORKERS = 2


def main() -> None:
    args = parse_arguments(__doc__)
    clock = Clock()
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        weights = {"file": str(save_timm_weights(Path(folder)))}
        model = timm.create_model(MODEL_NAME, pretrained=True, num_classes=0, pretrained_cfg_overlay=weights)
        model = model.eval().to(memory_format=torch.channels_last)
        clock.lap("build")
        class_names = list_classes(args.split_dir)
        sets = {
            name: compute_features(model, args.split_dir / name, class_names)
            for name in ("training", "validation", "evaluation")
        }
        clock.lap("features")
        candidates = [
            make_pipeline(
                StandardScaler(), LogisticRegression(C=strength, max_iter=2000, random_state=args.seed)
            ).fit(*sets["training"])
            for strength in STRENGTHS
        ]
        best = max(candidates, key=lambda candidate: candidate.score(*sets["validation"]))
        clock.lap("fit")
        torch.save(model.state_dict(), Path(folder) / "backbone.pth")
        joblib.dump(best, Path(folder) / "head.joblib")
        clock.lap("save")
    accuracy = best.score(*sets["evaluation"])
    packages = ("timm", "torch", "torchvision", "scikit-learn")
    write_result(args.output, accuracy=accuracy, epochs=0, clock=clock, packages=packages)


def compute_features(
    model: torch.nn.Module, folder: Path, class_names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    settings = timm.data.resolve_model_data_config(model) | {"crop_pct": 1.0, "crop_mode": "squash"}
    pictures = ImageFolder(
        folder, timm.data.create_transform(**settings, is_training=False), allow_empty=True
    )
    if pictures.classes != class_names:
        raise SystemExit(f"{folder} has the classes {pictures.classes}, expected {class_names}")
    features, labels = [], []
    with torch.inference_mode():
        for pixels, numbers in DataLoader(pictures, BATCH_SIZE, num_workers=NUM_WORKERS):
            features.append(model(pixels.to(memory_format=torch.channels_last)).numpy())
            labels.append(numbers.numpy())
    return np.concatenate(features), np.concatenate(labels)


if __name__ == "__main__":
    main()
