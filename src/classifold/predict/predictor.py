"""Predicts the classes of pictures from model.onnx alone, without TensorFlow and without pickles."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import Fault, RunError
from classifold.inference import ModelFileError, limited_model, open_session, run_outputs
from classifold.machine import count_cores
from classifold.model_card import CLASS_MAPS, ModelCard, parse_card
from classifold.pictures.given import Given, load_given
from classifold.pictures.limits import PictureError
from classifold.predict.exported import EXTENSIONS, explain_bytes
from classifold.predict.inputs import Inputs, Sources, find_sources
from classifold.predict.model_check import DAMAGED_HINT, check_ends, check_outputs, explain_engine
from classifold.predict.model_file import RUN_HINT, find_model
from classifold.predict.sources import Source
from classifold.settings.config import Config
from classifold.trust.answering import Rule, choose_rule
from classifold.trust.explained import NUM_NEIGHBOURS, PictureExplainer, find_reference

A = TypeVar("A")
B = TypeVar("B")
_DEFAULT_MAX_PIXELS: int = Config.model_fields["MAX_PIXELS"].default


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's prediction for one picture, or the reason why there is none.

    Attributes:
        source: The picture.
        probabilities: float32, shape (C,), in the order of `Predictor.class_names`; None for an unreadable
            picture.
        error: Why the picture could not be read; empty if it could.
        unknown: Whether the model does not answer: the picture is too far from the training pictures, or the
            most probable class not probable enough. False for an unreadable picture.
        distance: From the training pictures, where 1 is the limit; None without a picture, or if the model
            measures none.
    """

    source: Source
    probabilities: NDArray[np.float32] | None = None
    error: str = ""
    unknown: bool = False
    distance: float | None = None

    @property
    def name(self) -> str:
        """What answers call the picture."""
        return self.source.name

    @property
    def path(self) -> Path | None:
        """Path of the picture's file; None for a picture that is no file of its own on this machine."""
        return self.source.path


Then = Callable[[Prediction, Given], object]
"""What is done with a prediction and its picture, while that is at hand."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model computes for a batch of pictures.

    Attributes:
        probabilities: float32, shape (N, C).
        distances: From the training pictures, where 1 is the limit, float32, shape (N,); None: the model
            measures none.
        embeddings: What distances are computed from, float32, shape (N, D); None where it was not asked for.
    """

    probabilities: NDArray[np.float32]
    distances: NDArray[np.float32] | None = None
    embeddings: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says about one picture.

    Attributes:
        probabilities: float32, shape (C,).
        unknown: See `Prediction`.
        distance: See `Prediction`.
    """

    probabilities: NDArray[np.float32]
    unknown: bool
    distance: float | None


class Predictor:
    """A model in memory, with the classes and the picture size that belong to it.

    One object may be used from several threads.
    """

    def __init__(
        self,
        session: Any,
        card: ModelCard,
        *,
        max_pixels: int | None = None,
        rule: Rule | None = None,
        path: Path | None = None,
    ) -> None:
        self._session, self.path = session, path
        self.card = card
        self.rule = rule or Rule()
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
        return self.run_pixels(pixels).probabilities

    def run_pixels(
        self,
        pixels: NDArray[np.uint8] | NDArray[np.float32],
        *,
        with_embeddings: bool = False,
        is_one_call: bool = False,
    ) -> Outputs:
        """Return what the model computes for a batch of at least one picture.

        Args:
            pixels: RGB values 0..255, shape (N, S, S, 3) with S the `image_size`, uint8 or float32.
            with_embeddings: Return the embeddings as well, if the model has them.
            is_one_call: Run the whole batch in this thread, in one call; else several pictures share the
                cores, one per call.
        """
        card = self.card
        wanted = {
            "probabilities": card.output,
            "distances": card.distance,
            "embeddings": card.embedding if with_embeddings else "",
        }
        named = {part: output for part, output in wanted.items() if output}
        arrays = run_outputs(self._session, pixels, outputs=list(named.values()), is_one_call=is_one_call)
        return Outputs(**dict(zip(named, arrays, strict=True)))

    def find_unknown(self, outputs: Outputs) -> NDArray[np.bool_]:
        """Return which pictures of a batch the model does not answer, shape (N,)."""
        return self.rule.find_unknown(outputs.probabilities.max(axis=1), outputs.distances)

    def build_explainer(self, *, num_neighbours: int = NUM_NEIGHBOURS) -> PictureExplainer:
        """Return what explains this model's answers.

        Args:
            num_neighbours: Training pictures to name for each picture, where the model has a reference set.

        Raises:
            RunError: The reference set is damaged, or belongs to another model.
        """
        session, reference = self._session, None
        if self.path is not None:
            # A session of its own, with the class maps, which this one leaves out to be quick.
            session = open_session(self.path)
            reference = find_reference(self.path, session, self.card)
        return PictureExplainer(session, self.card, reference, num_neighbours=num_neighbours)

    def read_picture(self, source: Given) -> NDArray[np.uint8]:
        """Return the pixels of one picture as the model takes them, shape (S, S, 3).

        Args:
            source: A path, a file's bytes, a Pillow image, or an array of pixels.

        Raises:
            PictureError: It cannot be read as a picture.
            UsageError: It is none of these.
        """
        return load_given(
            source, size=self.image_size, max_pixels=self.max_pixels, sample_bits=self.card.sample_bits
        )

    def predict_given(self, source: Given) -> Answer:
        """Return what the model says about one picture; arguments and errors as for `read_picture`."""
        outputs = self.run_pixels(self.read_picture(source)[None])
        return Answer(
            outputs.probabilities[0],
            unknown=bool(self.find_unknown(outputs)[0]),
            distance=None if outputs.distances is None else float(outputs.distances[0]),
        )

    def predict_paths(
        self,
        paths: Sequence[str | Path],
        *,
        inputs: Inputs | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        then: Then | None = None,
    ) -> Iterator[Prediction]:
        """Return one Prediction per picture, in the order of `paths`; within a folder in the order of names.

        Each thread reads a picture and runs the model on it, so that no core waits for another, and at most
        one picture per thread is in memory. An unreadable picture gives a Prediction with the reason.

        Args:
            paths: What `find_sources` takes: files, folders that are walked to any depth, and others.
            inputs: How they are found and read; None for the defaults.
            batch_size: Half the number of pictures that are read ahead of the consumer.
            num_workers: Number of threads; None means one per core.
            then: Called in the thread with each picture that could be read.

        Raises:
            DataError: Paths are missing or hold no picture; with all of them, before any picture is read.
        """
        return self.predict_sources(
            find_sources(paths, inputs), batch_size=batch_size, num_workers=num_workers, then=then
        )

    def predict_sources(
        self,
        sources: Iterable[Source],
        *,
        batch_size: int = 32,
        num_workers: int | None = None,
        then: Then | None = None,
    ) -> Iterator[Prediction]:
        """Return one Prediction per source, in their order, as `predict_paths` does.

        Args:
            sources: Pictures, taken one by one as threads become free.
            batch_size: Half the number of pictures that are read ahead of the consumer.
            num_workers: Number of threads; None means one per core.
            then: Called in the thread with each picture that could be read.
        """
        return map_ordered(
            lambda source: self._predict(source, then),
            sources,
            num_workers=num_workers or count_cores(),
            ahead=2 * batch_size,
            close=sources.close if isinstance(sources, Sources) else None,
        )

    def _predict(self, source: Source, then: Then | None) -> Prediction:
        try:
            given = source.read()
            answer = self.predict_given(given)
        except PictureError as error:
            return Prediction(source, error=error.reason)
        except OSError as error:
            return Prediction(source, error=f"the file cannot be read: {error.strerror or error}")
        prediction = Prediction(
            source, answer.probabilities, unknown=answer.unknown, distance=answer.distance
        )
        if then:
            then(prediction, given)
        return prediction


def map_ordered(
    work: Callable[[A], B],
    items: Iterable[A],
    *,
    num_workers: int,
    ahead: int,
    close: Callable[[], object] | None = None,
) -> Generator[B, None, None]:
    """Yield work(item) in order; threads compute at most `ahead` + `num_workers` results in advance.

    Args:
        work: What a thread does with one item.
        items: Taken one by one, as threads become free.
        num_workers: Number of threads.
        ahead: Number of further items that are taken before the consumer asks for them.
        close: Called at the end, and when the consumer stops early or is interrupted, before waiting for the
            threads.
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
        # Also after Ctrl-C, or when the consumer stops early: what the threads wait for is cut off, and work
        # that waits is cancelled.
        if close is not None:
            close()
        pool.shutdown(wait=True, cancel_futures=True)


def load_predictor(
    run: Path,
    *,
    max_pixels: int | None = None,
    threshold: float | None = None,
    max_error: float | None = None,
    always: bool = False,
) -> Predictor:
    """Load the model of a run folder, or a model.onnx by itself.

    At most one of the last three arguments replaces the model's own rule on which pictures it answers.

    Args:
        run: Path of the folder or the file.
        max_pixels: Limit of a picture's pixels; None means the model card's value, or the default of
            MAX_PIXELS if that is smaller.
        threshold: Pictures with less confidence are unknown, 0..1.
        max_error: At most this share of the answers may be wrong, 0..1.
        always: Answer every picture.

    Raises:
        RunError: There is no model, the file is damaged or has no model card, or the model does not match
            its card.
        UsageError: The model cannot promise so small an error.
    """
    path = find_model(run)
    with limited_model(path):
        session = _load_session(path)
        card = _read_card(session, path)
        check_ends(session, card, path)
        check_outputs(session, card, path)
    rule = choose_rule(
        card.answering, where=str(path), threshold=threshold, max_error=max_error, always=always
    )
    return Predictor(session, card, max_pixels=max_pixels, rule=rule, path=path)


def _load_session(path: Path) -> Any:
    try:
        # Only heat maps need the class maps, from a session of their own.
        return open_session(path, without=(CLASS_MAPS,))
    except ModelFileError as error:
        raise RunError(Fault(str(path), f"this model cannot be opened: {error}", RUN_HINT)) from error
    except Exception as error:  # onnxruntime's exceptions have no common base
        if EXTENSIONS in str(error):
            raise RunError(explain_bytes(path)) from error
        reason = explain_engine(error)
        raise RunError(
            Fault(str(path), f"not a model that can be loaded ({reason})", DAMAGED_HINT)
        ) from error


def _read_card(session: Any, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(names.MODEL_CARD)
    if text is None:
        what = "this model has no model card, so its classes and its picture size are not known"
        raise RunError(Fault(str(path), what, RUN_HINT))
    return parse_card(text, where=path)
