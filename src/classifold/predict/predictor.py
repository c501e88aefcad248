"""Predicts the classes of pictures from model.onnx alone, without TensorFlow and without pickles."""

from __future__ import annotations

import difflib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.walk import check_folder, walk_pictures
from classifold.errors import DataError, Fault, RunError
from classifold.inference import ModelFileError, limited_model, open_session, run_session
from classifold.machine import count_cores
from classifold.model_card import CLASS_MAPS, ModelCard, parse_card
from classifold.pictures.given import Given, load_given
from classifold.pictures.limits import PictureError
from classifold.settings.config import Config

A = TypeVar("A")
B = TypeVar("B")
_DEFAULT_MAX_PIXELS: int = Config.model_fields["MAX_PIXELS"].default
_RUN_HINT = "give a run folder that `classifold train` made, or the model.onnx inside it"
_DAMAGED_HINT = "the file is damaged or was cut short: copy the run folder again, or train again"
_HINT = "name files or folders of pictures"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's prediction for one picture, or the reason why there is none.

    Attributes:
        path: Path of the picture's file, as it was given or found.
        probabilities: float32, shape (C,), in the order of `Predictor.class_names`; None for an unreadable
            picture.
        error: Why the picture could not be read; empty if it could.
    """

    path: Path
    probabilities: NDArray[np.float32] | None = None
    error: str = ""


class Predictor:
    """A model in memory, with the classes and the picture size that belong to it.

    One object may be used from several threads.
    """

    def __init__(self, session: Any, card: ModelCard, *, max_pixels: int | None = None) -> None:
        self._session = session
        self.card = card
        # The card may come from somebody else, and a picture of that many pixels must fit into memory.
        self._max_pixels = max_pixels or min(card.max_pixels, _DEFAULT_MAX_PIXELS)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return self.card.class_names

    @property
    def image_size(self) -> int:
        """Side in pixels of the square pictures that the model takes."""
        return self.card.image_size

    @property
    def max_pixels(self) -> int:
        """A picture file with more pixels is refused, not decoded."""
        return self._max_pixels

    def predict_pixels(self, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities (N, C) float32 of a batch of pictures.

        Args:
            pixels: RGB values 0..255, shape (N, S, S, 3) with S the `image_size`, uint8 or float32.

        Raises:
            ValueError: The shape is another one.
        """
        size = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected pixels of shape (N, {size}, {size}, 3), got {pixels.shape}")
        if not len(pixels):
            return np.zeros((0, len(self.class_names)), np.float32)
        return run_session(self._session, pixels, output=self.card.output)

    def predict_given(self, source: Given) -> NDArray[np.float32]:
        """Return the probabilities (C,) float32 of one picture.

        Args:
            source: A path, a file's bytes, a Pillow image, or an array of pixels.

        Raises:
            PictureError: It cannot be read as a picture.
            UsageError: It is none of these.
        """
        pixels = load_given(
            source, size=self.image_size, max_pixels=self.max_pixels, sample_bits=self.card.sample_bits
        )
        probabilities: NDArray[np.float32] = self.predict_pixels(pixels[None])[0]
        return probabilities

    def predict_paths(
        self, paths: Sequence[Path], *, batch_size: int = 32, num_workers: int | None = None
    ) -> Iterator[Prediction]:
        """Return one Prediction per picture, in the order of `paths`; within a folder in the order of names.

        Each thread reads a picture and runs the model on it, so that no core waits for another, and at most
        one picture per thread is in memory. An unreadable picture gives a Prediction with the reason.

        Args:
            paths: Picture files, and folders that are walked to any depth.
            batch_size: Half the number of pictures that are read ahead of the consumer.
            num_workers: Number of threads; None means one per core.

        Raises:
            DataError: Paths are missing or hold no picture; with all of them, before any picture is read.
        """
        sources = find_sources(paths)
        return map_ordered(
            self._predict, sources, num_workers=num_workers or count_cores(), ahead=2 * batch_size
        )

    def _predict(self, path: Path) -> Prediction:
        try:
            return Prediction(path, probabilities=self.predict_given(path))
        except PictureError as error:
            return Prediction(path, error=error.reason)
        except OSError as error:
            return Prediction(path, error=f"the file cannot be read: {error.strerror or error}")


def map_ordered(
    work: Callable[[A], B], items: Iterable[A], *, num_workers: int, ahead: int
) -> Generator[B, None, None]:
    """Yield work(item) in order; threads compute at most `ahead` + `num_workers` results in advance.

    Args:
        work: What a thread does with one item.
        items: Taken one by one, as threads become free.
        num_workers: Number of threads.
        ahead: Number of further items that are taken before the consumer asks for them.
    """
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="predict")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead + num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also after Ctrl-C, or when the consumer stops early: waiting work is cancelled.
        pool.shutdown(wait=True, cancel_futures=True)


def load_predictor(run: Path, *, max_pixels: int | None = None) -> Predictor:
    """Load the model of a run folder, or a model.onnx by itself.

    Args:
        run: Path of the folder or the file.
        max_pixels: Limit of a picture's pixels; None means the model card's value, or the default of
            MAX_PIXELS if that is smaller.

    Raises:
        RunError: There is no model, the file is damaged or has no model card, or the model does not match
            its card.
    """
    path = _find_model(run)
    with limited_model(path):
        session = _load_session(path)
        card = _read_card(session, path)
        _check_ends(session, card, path)
        predictor = Predictor(session, card, max_pixels=max_pixels)
        _check_answer(predictor, path)
    return predictor


def _find_model(run: Path) -> Path:
    if run.is_dir():
        if (run / names.MODEL_ONNX).is_file():
            return run / names.MODEL_ONNX
        raise RunError(_no_model(run))
    if not run.exists():
        raise RunError(Fault(str(run), "no such run folder or model", _near_runs(run) or _RUN_HINT))
    if run.name.endswith((".tar.gz", ".tgz")):
        hint = f"unpack it first: mkdir run && tar -xzf {run.name} -C run"
        raise RunError(Fault(str(run), "expected a run folder or model.onnx, got an archive", hint))
    # Opening a pipe could block forever.
    if run.suffix.lower() != Path(names.MODEL_ONNX).suffix or not run.is_file():
        raise RunError(Fault(str(run), "expected a run folder or model.onnx, got another file", _RUN_HINT))
    return run


def _no_model(folder: Path) -> Fault:
    """Return the fault for a folder without a model, which is often the folder of all runs."""
    runs = sorted(path.parent for path in folder.glob(f"*/{names.MODEL_ONNX}"))
    if runs:
        newest = max(runs, key=lambda path: (path.stat().st_mtime, path.name))
        what = f"this folder holds {len(runs)} run{'s' if len(runs) > 1 else ''}, and is not a run itself"
        return Fault(str(folder), what, f"name one of them; the newest is {newest}")
    if folder.name.endswith(names.INTERRUPTED_ENDING):
        what = (
            f"this run was interrupted: its best model so far is here as {names.MODEL_KERAS}, no other format"
        )
        hint = f"finish it: classifold train --resume; or start from it: classifold train --from {folder}"
        return Fault(str(folder), what, hint)
    return Fault(str(folder), f"no {names.MODEL_ONNX} in this folder", _RUN_HINT)


def _near_runs(run: Path) -> str:
    """Return a hint with the run beside it whose name is most similar, "" if none is."""
    beside = {path.parent.name: path.parent for path in run.parent.glob(f"*/{names.MODEL_ONNX}")}
    near = difflib.get_close_matches(run.name, beside, n=1, cutoff=0.6)
    return f"did you mean {beside[near[0]]}?" if near else ""


def _load_session(path: Path) -> Any:
    try:
        # Only heat maps need the class maps, from a session of their own.
        return open_session(path, without=(CLASS_MAPS,))
    except ModelFileError as error:
        raise RunError(Fault(str(path), f"this model cannot be opened: {error}", _RUN_HINT)) from error
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = _explain(error)
        raise RunError(
            Fault(str(path), f"not a model that can be loaded ({reason})", _DAMAGED_HINT)
        ) from error


def _explain(error: Exception) -> str:
    """Return ONNX Runtime's error message, which can be long, in a few words."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "allocate memory" in text or "bad_alloc" in text:
        return "it needs more memory than is allowed"
    return text[:160]


def _read_card(session: Any, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(names.MODEL_CARD)
    if text is None:
        what = "this model has no model card, so its classes and its picture size are not known"
        raise RunError(Fault(str(path), what, _RUN_HINT))
    return parse_card(text, where=path)


def _check_ends(session: Any, card: ModelCard, path: Path) -> None:
    """Check that the model has the input and the output that its card names."""
    for kind, wanted, found in (
        ("input", card.input.name, [end.name for end in session.get_inputs()]),
        ("output", card.output, [end.name for end in session.get_outputs()]),
    ):
        if wanted not in found:
            what = f"the model card names the {kind} {wanted!r}, the model has {', '.join(found)}"
            raise RunError(Fault(str(path), what, _DAMAGED_HINT))


def _check_answer(predictor: Predictor, path: Path) -> None:
    """Run the model on one grey picture: the output must be probabilities of the card's classes."""
    size, width = predictor.image_size, len(predictor.class_names)
    try:
        answer = predictor.predict_pixels(np.full((1, size, size, 3), 127, np.uint8))
    except Exception as error:
        what = (
            f"the model does not accept pictures of {size} x {size} pixels as its card says "
            f"({_explain(error)})"
        )
        raise RunError(Fault(str(path), what, _DAMAGED_HINT)) from error
    if answer.shape != (1, width):
        what = f"the model card names {width} classes, the model's output has shape {answer.shape}"
        raise RunError(Fault(str(path), what, _DAMAGED_HINT))
    if not np.all((answer >= 0) & (answer <= 1)) or abs(float(answer.sum()) - 1) > 1e-3:
        raise RunError(Fault(str(path), "the model's outputs are not probabilities", _DAMAGED_HINT))


def find_sources(paths: Sequence[Path]) -> Iterator[Path]:
    """Return the picture files in `paths`, in that order; within a folder in the order of names.

    A file is accepted with any name. In a folder, hidden and junk files and files that are not pictures are
    skipped. Folders are walked lazily, so that memory does not depend on the number of files.

    Raises:
        DataError: Paths are missing or hold no picture; with all of them, before the first file is yielded.
    """
    faults = [fault for path in paths for fault in _faults_of(path)]
    if not paths:
        faults.append(Fault("predict", "no pictures were named", _HINT))
    if faults:
        raise DataError(*faults)
    return _chain(paths)


def _chain(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path, _ in walk_pictures(folder, Counter()))


def _faults_of(path: Path) -> Sequence[Fault]:
    if not path.is_dir():
        return () if path.exists() else (Fault(str(path), "no such file or folder", "check the path"),)
    try:
        check_folder(path)
        has_pictures = next(_walk(path), None) is not None
    except DataError as error:
        return error.faults
    return () if has_pictures else (Fault(str(path), "this folder holds no pictures", _HINT),)
