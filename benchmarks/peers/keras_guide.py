"""The recipe of Keras's guide "Transfer learning & fine-tuning", for any number of classes.

    PYTHON keras_guide.py SPLIT_DIR OUT_JSON --seed N [--epochs N]

As in the guide: pictures stretched to one size, batches of 64, RandomFlip("horizontal"), RandomRotation(0.1),
the frozen base in inference mode, pooling, Dropout(0.2), Dense; Adam with its defaults for 2 epochs, then
everything with Adam(1e-5) for 1. These are the numbers of the guide's example; its text speaks of 20 and 10,
which `--epochs 30` gives: of the epochs that are asked for, two thirds are frozen. Different from the guide:
the side is 224; the pictures come from `image_dataset_from_directory`, as it advises for one's own; they are
cached and shuffled before they are augmented and not after, so that every epoch sees new variants.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import tensorflow as tf
from task import IMAGE_SIZE, Clock, list_classes, parse_arguments, write_result

from classifold.training.lite0 import build_lite0, load_lite0_weights

BATCH_SIZE = 64


def main() -> None:
    args = parse_arguments(__doc__)
    clock = Clock()
    keras.utils.set_random_seed(args.seed)
    frozen_epochs = 2 if args.epochs is None else round(args.epochs * 2 / 3)
    tuned_epochs = 1 if args.epochs is None else args.epochs - frozen_epochs
    class_names = list_classes(args.split_dir)
    training, validation, evaluation = (
        load_pictures(args.split_dir / name, class_names) for name in ("training", "validation", "evaluation")
    )
    augment = keras.Sequential([keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)])
    training = (
        training.cache()
        .shuffle(4096, seed=args.seed)
        .batch(BATCH_SIZE)
        .map(lambda x, y: (augment(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    validation = validation.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE).cache()
    evaluation = evaluation.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    clock.lap("list")

    base = build_lite0(IMAGE_SIZE)  # scales 0..255 itself
    load_lite0_weights(base)
    base.trainable = False
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3))
    x = base(inputs, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(len(class_names))(x))
    compile_model(model, keras.optimizers.Adam())
    clock.lap("build")
    model.fit(training, epochs=frozen_epochs, validation_data=validation, verbose=2)
    clock.lap("frozen")
    base.trainable = True
    compile_model(model, keras.optimizers.Adam(1e-5))
    model.fit(training, epochs=tuned_epochs, validation_data=validation, verbose=2)
    clock.lap("fine_tune")
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
    clock.lap("save")
    accuracy = model.evaluate(evaluation, return_dict=True, verbose=0)["accuracy"]
    clock.lap("evaluate")
    packages = ("keras", "tensorflow", "numpy")
    epochs = frozen_epochs + tuned_epochs
    write_result(args.output, accuracy=accuracy, epochs=epochs, clock=clock, packages=packages)


def load_pictures(folder: Path, class_names: list[str]) -> tf.data.Dataset:
    return keras.utils.image_dataset_from_directory(
        folder,
        class_names=class_names,
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        batch_size=None,
        shuffle=False,
        verbose=False,
    )


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])


if __name__ == "__main__":
    main()
