"""From pictures to batches: read and decoded once by all cores, kept while they fit, augmented from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault, limit_faults
from classifold.machine import count_workers
from classifold.pictures.decode import load_picture
from classifold.pictures.limits import PictureError
from classifold.progress import show_progress
from classifold.settings.config import Config
from classifold.training.array_cache import ArrayCache, blocks
from classifold.training.feature_cache import hash_content

# The most faulty pictures that are named one by one.
# Weights of red, green and blue in the brightness that a person sees (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A picture's sides may be stretched apart by so much besides the zoom that both share.
_STRETCH = 0.08


class PictureReader:
    """The pictures of one set as squares of pixels.

    Args:
        pictures: The pictures, in files of their own or in shards.
        config: The settings: size, limits, threads, and what to do with a picture that cannot be read.
        cache: Where decoded pictures are kept.
        name: Name of the set, for the progress bar.
        numbers: The pictures' numbers among those of all hosts, shape (N,); None: their indices, 0 to N - 1.

    Attributes:
        augmentation: The settings of augmentation, `config` until training sets others.
        pictures: The pictures that can be read.
        numbers: Numbers of `pictures` among the pictures of all hosts, shape (N,).
        unreadable: (key, reason) of each picture that cannot be read.

    Raises:
        DataError: If a picture cannot be read and the settings say that this is fatal, or a shard is damaged.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        config: Config,
        *,
        cache: ArrayCache,
        name: str,
        numbers: NDArray[np.intp] | None = None,
    ) -> None:
        self._config = self.augmentation = config
        self._pool = ThreadPoolExecutor(count_workers(config.NUM_WORKERS), thread_name_prefix="pictures")
        size = config.IMAGE_SIZE
        self._kept = cache.open((len(pictures), size, size, 3), np.uint8, name=f"pixels-{name}")
        numbers = np.arange(len(pictures)) if numbers is None else numbers
        good, self.unreadable = self._read_all(pictures, name)
        self._places = np.array(good, np.intp)
        self.pictures, self.numbers = [pictures[place] for place in good], numbers[self._places]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self.pictures)

    def _read_all(self, pictures: Sequence[Picture], name: str) -> tuple[list[int], list[tuple[str, str]]]:
        """Read every picture once; return the indices of the good ones, and (key, reason) of the others."""
        good: list[int] = []
        unreadable: list[tuple[str, str]] = []
        with show_progress(f"reading the {name} pictures", len(pictures)) as advance:
            for places in blocks(len(pictures)):
                bad = self._read_block(places, pictures)
                good += [place for place in places.tolist() if place not in bad]
                unreadable += [(pictures[place].key, reason) for place, reason in bad.items()]
                advance(len(places))
        if unreadable and self._config.UNREADABLE_PICTURES == "fail":
            raise DataError(*_name_unreadable(unreadable, name))
        return good, unreadable

    def _read_block(self, places: NDArray[np.intp], pictures: Sequence[Picture]) -> dict[int, str]:
        """Read pictures, unless they are kept from before; return why some could not be read."""
        if self._kept is not None and self._kept.holds(places):
            return {}
        answers = list(self._pool.map(self._try, [pictures[place] for place in places]))
        bad = {
            place: one for place, one in zip(places.tolist(), answers, strict=True) if isinstance(one, str)
        }
        if self._kept is not None:
            for place, one in zip(places, answers, strict=True):
                if not isinstance(one, str):
                    self._kept.array[place] = one
            if not bad:  # else it is read again, to say why
                self._kept.mark(places)
        return bad

    def _try(self, picture: Picture) -> NDArray[np.uint8] | str:
        try:
            return self._load(picture)
        except PictureError as error:
            return error.reason
        except OSError as error:
            return error.strerror or str(error)

    def _load(self, picture: Picture) -> NDArray[np.uint8]:
        config = self._config
        content = picture.read_bytes(max_pixels=config.MAX_PIXELS)
        return load_picture(
            content,
            size=config.IMAGE_SIZE,
            max_pixels=config.MAX_PIXELS,
            sample_bits=config.SAMPLE_BITS,
        )

    def read(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return pictures as the model sees them in evaluation: (N, size, size, 3) uint8.

        Raises:
            DataError: If a file that could be read before cannot be read any more.
        """
        if self._kept is not None:
            return np.asarray(self._kept.array[self._places[np.asarray(indices, np.intp)]])
        return np.stack(list(self._pool.map(self._load_again, [self.pictures[i] for i in indices])))

    def _load_again(self, picture: Picture) -> NDArray[np.uint8]:
        answer = self._try(picture)
        if isinstance(answer, str):
            what = f"it was changed or moved away while it was in use: {answer}"
            hint = "leave the pictures as they are, and run the command again"
            raise DataError(Fault(picture.where, what, hint=hint))
        return answer

    def hash_files(self, indices: Sequence[int] | NDArray[np.intp]) -> list[bytes]:
        """Return the hash of each picture's file by which its features are kept; b"" where it is gone."""
        return list(self._pool.map(self._hash_file, [self.pictures[index] for index in indices]))

    def _hash_file(self, picture: Picture) -> bytes:
        try:
            return hash_content(picture.read_bytes(max_pixels=self._config.MAX_PIXELS))
        except (PictureError, OSError):
            return b""

    def read_augmented(self, indices: Sequence[int] | NDArray[np.intp], variant: int) -> NDArray[np.uint8]:
        """Return augmented pictures, (N, size, size, 3) uint8.

        Args:
            indices: Indices into `pictures`.
            variant: Which of a picture's augmented versions; the same number gives the same pixels.
        """
        seeds = [[self._config.RANDOM_SEED, variant, int(self.numbers[index])] for index in indices]
        generators = map(np.random.default_rng, seeds)
        changed = self._pool.map(
            lambda pair: augment(pair[0], self.augmentation, pair[1]),
            zip(self.read(indices), generators, strict=True),
        )
        return np.stack(list(changed))


def _name_unreadable(unreadable: Sequence[tuple[str, str]], name: str) -> list[Fault]:
    hint = "replace or remove it, or set UNREADABLE_PICTURES = 'skip'"
    faults = [Fault(f"{name}/{key}", reason, hint=hint) for key, reason in unreadable]
    return limit_faults(faults, noun="picture", what="cannot be read either", hint=hint)


# OpenCV's own threads would fight with ours for the cores.
cv2.setNumThreads(1)


def augment(picture: NDArray[np.uint8], config: Config, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a changed copy of a square picture: moved, turned, zoomed, flipped, and in another light.

    Args:
        picture: (size, size, 3) RGB.
        config: The ranges; all of them zero leaves the picture as it is.
        generator: The only source of randomness; the same state gives the same picture.

    Returns:
        (size, size, 3) RGB, uint8.
    """
    matrix = draw_transform(config, generator, size=picture.shape[0])
    changed = cv2.warpAffine(
        picture,
        matrix,
        picture.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    lit = _change_light(changed, config, generator)
    if generator.random() < config.ERASING_PROBABILITY:
        _erase(lit, generator)
    return lit


def draw_transform(config: Config, generator: np.random.Generator, *, size: int) -> NDArray[np.float64]:
    """Return the affine map (2, 3) from the new picture's pixels to the old one's."""
    angle, shear = np.deg2rad(generator.uniform(-1, 1, 2) * (config.ROTATION_RANGE, config.SHEAR_RANGE))
    zoom = 1 + generator.uniform(-1, 1) * config.ZOOM_RANGE
    stretch = 1 + generator.uniform(-1, 1) * min(_STRETCH, config.ZOOM_RANGE)
    shift = generator.uniform(-1, 1, 2) * (config.WIDTH_SHIFT_RANGE, config.HEIGHT_SHIFT_RANGE) * size
    flips = np.where(generator.random(2) < 0.5, -1, 1)
    flips = np.where([config.HORIZONTAL_FLIP is not False, config.VERTICAL_FLIP is not False], flips, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([zoom * stretch, zoom / stretch] * flips)
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre + shift - linear @ centre])


def _change_light(
    picture: NDArray[np.uint8], config: Config, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Scale saturation about grey, contrast about the mean, then brightness: one affine map of colours."""
    draws = generator.uniform(-1, 1, 3)
    brightness, contrast, saturation = 1 + draws * (
        config.BRIGHTNESS_RANGE,
        config.CONTRAST_RANGE,
        config.SATURATION_RANGE,
    )
    if brightness == contrast == saturation == 1:
        return picture
    mean = float(picture.mean(axis=(0, 1)) @ _LUMA)
    colours = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    # cv2.transform rounds and clips to 0..255.
    lit: NDArray[np.uint8] = cv2.transform(picture, np.hstack([brightness * contrast * colours, offset]))
    return lit


def _erase(picture: NDArray[np.uint8], generator: np.random.Generator) -> None:
    """Paint a rectangle of 2 to 20 % of the picture with one random colour, in place."""
    size = picture.shape[0]
    area, ratio = generator.uniform(0.02, 0.2), np.exp(generator.uniform(np.log(0.4), np.log(2.5)))
    height = min(size, max(1, round(size * np.sqrt(area * ratio))))
    width = min(size, max(1, round(size * np.sqrt(area / ratio))))
    top, left = generator.integers(0, size - height + 1), generator.integers(0, size - width + 1)
    picture[top : top + height, left : left + width] = generator.integers(0, 256, 3)
