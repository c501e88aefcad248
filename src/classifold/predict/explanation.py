"""`predict --explain DIR`: every picture's heat map, and its nearest training pictures."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from classifold.counts import count_of
from classifold.errors import DataError
from classifold.machine import count_cores
from classifold.pictures.limits import PictureError, read_bytes
from classifold.pictures.whole import load_whole
from classifold.predict.explanation_files import Answered, ExplanationFiles
from classifold.predict.explanation_target import NEIGHBOURS_DIR, PICTURES_DIR
from classifold.predict.inputs import Inputs, count_pictures, find_sources, list_local
from classifold.predict.predictor import Prediction, Predictor, Then, map_ordered
from classifold.predict.sources import Source
from classifold.predict.training_pictures import find_training_pictures
from classifold.progress import say
from classifold.trust.explained import Explained, PictureExplainer
from classifold.trust.overlay import MOST_SIDE, draw_overlay, fit

_NEIGHBOUR_SIDE: Final = 224  # pixels of the longer side
_QUALITY: Final = 88
# After 4 pictures, the estimated time for all of them is printed if it is more than 30 seconds.
_TIMED, _LONG = 4, 30.0


@dataclass(frozen=True, slots=True)
class _Result:
    """A picture's prediction, and what explains it; None where the picture cannot be read."""

    prediction: Prediction
    answered: Answered | None


class Explaining:
    """Predicts pictures, and writes what explains each answer into a folder as they pass."""

    def __init__(
        self, predictor: Predictor, *, run_dir: Path, files: ExplanationFiles, data_dir: Path | None
    ) -> None:
        self._predictor, self._files = predictor, files
        self._explainer: PictureExplainer = predictor.build_explainer()
        reference = self._explainer.reference
        keys = frozenset(reference.keys) if reference else frozenset()
        # Found once: walking the training set for each picture would take longer than explaining it.
        self._training = find_training_pictures(run_dir, keys, data_dir=data_dir) if keys else {}
        self._thumbnails: dict[str, str | None] = {}
        self._lock = threading.Lock()

    @property
    def notes(self) -> list[str]:
        """What is missing from the explanations, one line each."""
        if self._explainer.reference is None:
            return ["there is no reference.npz beside the model, so no training pictures are named"]
        if not self._training:
            what = "the training pictures were not found, so only their names are shown"
            return [f"{what}; --data DIR says where they are"]
        return []

    def predict_paths(
        self,
        paths: Sequence[str | Path],
        *,
        inputs: Inputs | None = None,
        num_workers: int | None = None,
        then: Then | None = None,
        tell: Callable[[str], object] = say,
    ) -> Iterator[Prediction]:
        """Yield one Prediction per picture as `Predictor.predict_paths` does; each is explained before.

        Args:
            paths: What `find_sources` takes.
            inputs: How they are found and read; None for the defaults.
            num_workers: Number of threads; None means one per core.
            then: Called in the thread with each picture that could be read.
            tell: Called with a line on how long it takes, if that is long.

        Raises:
            DataError: Paths are missing or hold no picture.
            OSError: The folder cannot be written.
        """
        total = count_pictures(paths)
        sources = find_sources(paths, inputs)
        started = time.monotonic()
        work = map_ordered(
            lambda item: self._explain(*item, then),
            enumerate(sources, start=1),
            num_workers=num_workers or count_cores(),
            ahead=count_cores(),
            close=sources.close,
        )
        for number, result in enumerate(work, start=1):
            if number == _TIMED < (total or 0):
                tell_time(total or 0, (time.monotonic() - started) / number, tell=tell)
            self._files.add(result.prediction, result.answered)
            yield result.prediction

    def _explain(self, number: int, source: Source, then: Then | None) -> _Result:
        predictor = self._predictor
        card = predictor.card
        try:
            given = source.read()
            # Read once, for the two forms that it is needed in.
            content = read_bytes(given, max_pixels=predictor.max_pixels) if isinstance(given, Path) else given
            pixels = predictor.read_picture(content)
            whole = load_whole(
                content, side=MOST_SIDE, max_pixels=predictor.max_pixels, sample_bits=card.sample_bits
            )
        except PictureError as error:
            return _Result(Prediction(source, error=error.reason), None)
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror or error}"
            return _Result(Prediction(source, error=reason), None)
        outputs = predictor.run_pixels(pixels[None])
        index = int(outputs.probabilities[0].argmax())
        (explained,) = self._explainer.explain(pixels[None], [index])
        prediction = Prediction(
            source,
            outputs.probabilities[0],
            unknown=bool(predictor.find_unknown(outputs)[0]),
            distance=None if outputs.distances is None else float(outputs.distances[0]),
        )
        if then:
            then(prediction, given)
        return _Result(prediction, self._write_pictures(number, whole, explained))

    def _write_pictures(self, number: int, whole: Image.Image, explained: Explained) -> Answered:
        name = f"{PICTURES_DIR}/{number:06}.jpg"
        shown = draw_overlay(whole, explained.heat_map) if explained.heat_map.is_shown else fit(whole)
        shown.save(self._files.place(name), "JPEG", quality=_QUALITY)
        thumbnails = tuple(self._write_thumbnail(one.key) for one in explained.neighbours)
        return Answered(name, shown.size, explained, thumbnails)

    def _write_thumbnail(self, key: str) -> str | None:
        """Write a training picture's thumbnail, once; return its name, None where the picture is not here."""
        with self._lock:
            if key in self._thumbnails:
                return self._thumbnails[key]
            self._thumbnails[key] = name = self._make_thumbnail(key)
            return name

    def _make_thumbnail(self, key: str) -> str | None:
        picture = self._training.get(key)
        if picture is None:
            return None
        limit, bits = self._predictor.max_pixels, self._predictor.card.sample_bits
        try:
            content = picture.read_bytes(max_pixels=limit)
            small = load_whole(content, side=_NEIGHBOUR_SIDE, max_pixels=limit, sample_bits=bits)
        except (PictureError, DataError):
            return None
        small.thumbnail((_NEIGHBOUR_SIDE, _NEIGHBOUR_SIDE), Image.Resampling.LANCZOS)
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        name = f"{NEIGHBOURS_DIR}/{digest}.jpg"
        small.save(self._files.place(name), "JPEG", quality=_QUALITY)
        return name


@contextlib.contextmanager
def open_explaining(
    folder: Path,
    predictor: Predictor,
    *,
    run_dir: Path,
    paths: Sequence[str | Path],
    data_dir: Path | None = None,
) -> Iterator[Explaining]:
    """Yield what predicts and explains pictures; the folder appears at the end, whole, or not at all.

    Args:
        folder: The folder to write; new, empty, or of an earlier `--explain`, which is replaced.
        predictor: The model.
        run_dir: The run folder, or the model's path.
        paths: What will be explained; `folder` must not be in one of them.
        data_dir: Where the training pictures are; None means the folder that the run names.

    Raises:
        DataError: `folder` holds something else or is among the pictures, or `data_dir` is no folder.
        DiskError: `folder` cannot be written.
    """
    home = run_dir if run_dir.is_dir() else run_dir.parent
    with ExplanationFiles.open(
        folder, paths=list_local(paths), card=predictor.card, rule=predictor.rule
    ) as files:
        yield Explaining(predictor, run_dir=home, files=files, data_dir=data_dir)


def tell_time(total: int, seconds_each: float, *, tell: Callable[[str], object] = say) -> None:
    """Say how long all pictures take, if that is long.

    Args:
        total: Number of pictures.
        seconds_each: Seconds that one takes.
        tell: Called with the line.
    """
    seconds = total * seconds_each
    if seconds < _LONG:
        return
    minutes = max(1, round(seconds / 60))
    length = count_of(minutes, "minute") if minutes < 100 else f"{minutes / 60:.0f} hours"
    tell(f"explaining {count_of(total, 'picture')} takes about {length}")
