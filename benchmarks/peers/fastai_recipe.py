"""fastai's `vision_learner` and `fine_tune`, with the defaults that its documentation uses.

    PYTHON fastai_recipe.py SPLIT_DIR OUT_JSON --seed N [--epochs N]

`ImageDataLoaders.from_folder` with `Resize(224)` and `aug_transforms()`, batches of 64, `fine_tune(5)`:
one frozen epoch, five with one-cycle rates that differ by layer; channels last, which its documentation
offers for speed. The weights are handed in by timm's own argument, which `vision_learner` passes on, so that
nothing is downloaded; normalisation is what timm says for the backbone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastai.vision.all import (
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    set_seed,
    vision_learner,
)
from task import IMAGE_SIZE, MODEL_NAME, Clock, parse_arguments, save_timm_weights, write_result

NUM_WORKERS = 2


def main() -> None:
    args = parse_arguments(__doc__)
    clock = Clock()
    set_seed(args.seed)
    tuned_epochs = 5 if args.epochs is None else max(1, args.epochs - 1)
    with tempfile.TemporaryDirectory() as folder:
        dls = ImageDataLoaders.from_folder(
            args.split_dir,
            train="training",
            valid="validation",
            item_tfms=Resize(IMAGE_SIZE),
            batch_tfms=aug_transforms(),
            num_workers=NUM_WORKERS,
        )
        weights = {"file": str(save_timm_weights(Path(folder)))}
        learner = vision_learner(
            dls, MODEL_NAME, metrics=accuracy, path=folder, pretrained_cfg_overlay=weights
        )
        learner.to_channelslast(use_amp=False)
        clock.lap("build")
        learner.fine_tune(tuned_epochs)
        clock.lap("fine_tune")
        learner.export("model.pkl")
        clock.lap("save")
        evaluation = dls.test_dl(get_image_files(args.split_dir / "evaluation"), with_labels=True)
        _, score = learner.validate(dl=evaluation)
        clock.lap("evaluate")
    packages = ("fastai", "timm", "torch", "torchvision")
    write_result(args.output, accuracy=score, epochs=1 + tuned_epochs, clock=clock, packages=packages)


if __name__ == "__main__":
    main()
