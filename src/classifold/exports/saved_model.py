"""A TensorFlow SavedModel that takes encoded pictures: it decodes, orients (EXIF) and resizes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from classifold import names
from classifold.exports.keras_function import load_function, save_function
from classifold.exports.onnx_bytes import (
    COLUMNS_REVERSED,
    EXIF_START,
    IMAGE,
    MOST_ENTRIES,
    ORIENTATION_TAG,
    ROWS_REVERSED,
    SHORT,
    SWAPPED,
)
from classifold.model_card import ModelCard

# A camera writes the EXIF block into the first segment of a JPEG, which has at most 64 KB.
_HEAD: Final = 1 << 16


def write_saved_model(run_dir: Path, folder: Path, *, card: ModelCard) -> None:
    """Write a SavedModel from a batch of files' bytes, string (N,), to probabilities and distances.

    Args:
        run_dir: The run folder.
        folder: The new folder; the model card lies in its assets.
        card: The model card.
    """
    import tensorflow as tf

    size = card.image_size
    network = load_function(run_dir, image_size=size, has_distance=bool(card.distance), batch=None)
    takes = tf.TensorSpec((size, size, 3), tf.float32)

    def answer(image: Any) -> dict[str, Any]:
        pixels = tf.map_fn(lambda one: read_picture(one, size=size), image, fn_output_signature=takes)
        return network(pixels)

    save_function(answer, folder, takes=tf.TensorSpec((None,), tf.string, name=IMAGE))
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / f"{names.MODEL_CARD}.json").write_text(card.to_json(), encoding="utf-8")


def read_picture(content: Any, *, size: int) -> Any:
    """Return a picture as the model takes it, float32 (S, S, 3), RGB.

    Args:
        content: A file's bytes, string of shape (): JPEG, PNG, GIF or BMP.
        size: S, in pixels.
    """
    import tensorflow as tf

    decoded = tf.cond(
        tf.io.is_jpeg(content),
        # TensorFlow's own default is the fast DCT, which other decoders do not use.
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    decoded.set_shape((None, None, 3))
    resized = tf.image.resize(decoded, (size, size), method="bilinear", antialias=True)
    # Training sees whole numbers.
    return _turn(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), read_orientation(content))


def _turn(pixels: Any, orientation: Any) -> Any:
    import tensorflow as tf

    def is_one_of(numbers: Sequence[int]) -> Any:
        return tf.reduce_any(orientation == tf.constant(numbers, tf.int64))

    turned = tf.where(is_one_of(SWAPPED), tf.transpose(pixels, (1, 0, 2)), pixels)
    for axis, reversing in enumerate((ROWS_REVERSED, COLUMNS_REVERSED)):
        turned = tf.where(is_one_of(reversing), tf.reverse(turned, [axis]), turned)
    return turned


def read_orientation(content: Any) -> Any:
    """Return the EXIF orientation of a JPEG, 1 to 8, int64 of shape (); 1 if the file has none.

    Args:
        content: A file's bytes, string of shape ().
    """
    import tensorflow as tf

    head = tf.strings.substr(content, 0, _HEAD)
    # Zeros behind it, so that it is long enough for at least one place.
    numbers = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64)
    padded = tf.concat([numbers, tf.zeros([len(EXIF_START)], tf.int64)], 0)
    count = tf.size(numbers)
    is_start = tf.ones([count], tf.bool)
    for offset, one in enumerate(EXIF_START):
        if one is not None:
            is_start &= padded[offset : offset + count] == one
    start = tf.argmax(tf.cast(tf.concat([is_start, [False]], 0), tf.int32))
    start += len(EXIF_START)
    is_little = _byte(padded, start) == ord("I")
    directory = start + _number(padded, start + 4, is_little, count=4)
    places = tf.range(MOST_ENTRIES, dtype=tf.int64)
    entries = directory + 2 + 12 * places
    is_ours = (
        (places < _number(padded, directory, is_little))
        & (_number(padded, entries, is_little) == ORIENTATION_TAG)
        & (_number(padded, entries + 2, is_little) == SHORT)
    )
    value = tf.reduce_max(
        tf.where(is_ours, _number(padded, entries + 8, is_little), tf.constant(0, tf.int64))
    )
    return tf.where(tf.reduce_any(is_start) & (value >= 1) & (value <= 8), value, tf.constant(1, tf.int64))


def _byte(numbers: Any, place: Any) -> Any:
    import tensorflow as tf

    # A damaged block may point anywhere; a place that is not there gives the last byte, a zero.
    last = tf.size(numbers, out_type=tf.int64) - 1
    return tf.gather(numbers, tf.clip_by_value(place, 0, last))


def _number(numbers: Any, place: Any, is_little: Any, *, count: int = 2) -> Any:
    """Return the number of `count` bytes at one or several places, in the block's byte order."""
    import tensorflow as tf

    parts = [_byte(numbers, place + index) for index in range(count)]
    big = sum(part * 256 ** (count - 1 - index) for index, part in enumerate(parts))
    little = sum(part * 256**index for index, part in enumerate(parts))
    return tf.where(is_little, little, big)
