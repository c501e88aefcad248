"""A model in memory: classifies pictures given as paths, bytes, Pillow images or arrays."""

from __future__ import annotations

import functools
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast, overload

from classifold.api.arguments import (
    check_count,
    check_seconds,
    check_share,
    check_top_k,
    is_folder,
    is_one,
    parse_picture_path,
)
from classifold.api.explanation import Explanation, explain_picture
from classifold.api.paths import parse_path
from classifold.api.prediction import Prediction, Probabilities
from classifold.errors import DataError, Fault, UsageError
from classifold.machine import count_cores
from classifold.model_card import MOST_IMAGE_SIZE
from classifold.pictures.given import (
    Given,
    GivenOrFile,
    check_given,
    is_open_file,
    load_given,
    name_given,
    read_open_file,
)
from classifold.pictures.limits import PictureError
from classifold.pictures.samples import LEAST_BITS, MOST_BITS, SampleBits
from classifold.predict.archives import open_run
from classifold.predict.inputs import S3_SCHEME, Inputs, find_sources
from classifold.predict.predictor import Predictor, load_predictor, map_ordered
from classifold.predict.ranking import rank_probabilities
from classifold.predict.sources import Source, file_source, unreadable_source
from classifold.predict.videos import is_video
from classifold.progress import say
from classifold.settings.config import Config
from classifold.settings.loader import build_config
from classifold.settings.words import describe_field
from classifold.trust.answering import check_one_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from classifold.api.run import Run
    from classifold.aws.s3_pictures import S3Pictures
    from classifold.trust.explained import PictureExplainer

_DEFAULT_MAX_PIXELS: int = Config.model_fields["MAX_PIXELS"].default
# Number of pictures per thread that are taken from the caller in advance.
_AHEAD = 4


class Model:
    """A model in memory, which `load` returns; needs neither TensorFlow nor Keras.

    One object may be used from several threads.

    Example:
        >>> import classifold
        >>> model = classifold.load("runs/first")
        >>> model
        Model('runs/first', 3 classes, pictures of 224 x 224 pixels)
        >>> model.predict("photo.jpg").label
        'green'
        >>> with open("photo.jpg", "rb") as file:
        ...     model.predict(file.read()).label
        'green'
        >>> for prediction in model.predict_iter(["photos"]):
        ...     if prediction.error:
        ...         print(prediction.path, prediction.error)
    """

    def __init__(self, predictor: Predictor, path: Path) -> None:
        self._predictor, self._path = predictor, path

    def __repr__(self) -> str:
        size, count = self.image_size, len(self.class_names)
        classes = f"{count} class" if count == 1 else f"{count} classes"
        return f"Model({str(self._path)!r}, {classes}, pictures of {size} x {size} pixels)"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return self._predictor.class_names

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that each picture is resized to."""
        return self._predictor.image_size

    # A `str` is an iterable of `str`, and an array one of arrays, so the overloads overlap: the first wins.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, source: GivenOrFile, *, top_k: int | None = None
    ) -> Prediction: ...

    @overload
    def predict(self, source: Iterable[GivenOrFile], *, top_k: int | None = None) -> list[Prediction]: ...

    def predict(
        self, source: GivenOrFile | Iterable[GivenOrFile], *, top_k: int | None = None
    ) -> Prediction | list[Prediction]:
        """Return the prediction for one picture, or a list of them for several.

        Whatever its form, a picture is read as in training: turned upright by its EXIF orientation,
        transparency on white, resized to the model's square.

        Args:
            source: One picture: a path, the bytes of a file, a file open in binary mode, a Pillow image, or a
                NumPy array of values 0..255, uint8, of shape (height, width) for grey, (height, width, 3) for
                RGB, or (height, width, 4) with an alpha channel. Or a list of pictures, in any mix of these
                forms; a folder's path in the list stands for all pictures below it.
            top_k: Number of classes in `Prediction.probabilities`; None means all.

        Returns:
            One Prediction for one picture. For a list, a list in the same order; a picture in it that cannot
            be read has the reason in `error` and the label None.

        Raises:
            ClassifoldError: A single picture cannot be read, an item has none of these forms, or a folder
                holds no pictures.

        Example:
            >>> import classifold
            >>> from PIL import Image
            >>> model = classifold.load("runs/first")
            >>> with Image.open("photo.jpg") as image:
            ...     model.predict(image, top_k=1).label
            'green'
            >>> [one.label for one in model.predict(["photo.jpg", "photo.jpg"])]
            ['green', 'green']
        """
        top_k = check_top_k(top_k)
        if not is_one(source):
            return list(self.predict_iter(cast(Iterable[GivenOrFile], source), top_k=top_k))
        one = cast(GivenOrFile, source)
        taken = self._take(one)
        if is_folder(taken.path):
            hint = "put it into a list: model.predict([folder])"
            raise UsageError(Fault(name_given(one), "expected one picture", got="a folder", hint=hint))
        prediction = self._answer(taken, top_k)
        if prediction.error:
            raise DataError(Fault(name_given(one), prediction.error))
        return prediction

    def predict_iter(
        self, sources: Iterable[GivenOrFile], *, top_k: int | None = None, every: float = 1.0
    ) -> Iterator[Prediction]:
        """Yield one prediction per picture, in their order, for any number of pictures.

        One thread per core reads and classifies pictures, a few ahead of the caller, so memory does not
        depend on their number. The iterable may be a generator.

        Args:
            sources: Pictures in the forms that `predict` takes; a folder stands for all pictures below it,
                and a video for its frames, if the package av is installed. Files in a folder that are no
                pictures are passed over, and counted on standard error at the end.
            top_k: Number of classes in `Prediction.probabilities`; None means all.
            every: Seconds between two frames of a video.

        Raises:
            ClassifoldError: An item has none of these forms, or a folder holds no pictures.

        Example:
            >>> import classifold
            >>> model = classifold.load("runs/first")
            >>> sum(one.label == "green" for one in model.predict_iter(["photos/green"])) > 8
            True
        """
        top_k = check_top_k(top_k)
        if is_one(sources):
            sources = [cast(GivenOrFile, sources)]
        num_workers = count_cores()
        every = check_seconds("every", every)
        return map_ordered(
            lambda source: self._answer(source, top_k),
            self._spread(sources, every),
            num_workers=num_workers,
            ahead=_AHEAD * num_workers,
        )

    def explain(self, source: GivenOrFile, *, class_name: str | None = None) -> Explanation:
        """Return why the model names a picture so: a heat map, and its nearest training pictures.

        It takes about two seconds, as it runs the model on about 160 variants of the picture, or about 225
        where the model has no class maps.

        Args:
            source: One picture, in any form that `predict` takes.
            class_name: The class to explain; None means the most probable one.

        Raises:
            ClassifoldError: The picture cannot be read, there is no such class, or reference.npz is damaged
                or belongs to another model.

        Example:
            >>> import classifold
            >>> model = classifold.load("runs/first")
            >>> model.explain("photo.jpg").label
            'green'
        """
        taken = self._take(source)
        try:
            return explain_picture(
                taken.read(), predictor=self._predictor, explainer=self._explainer, class_name=class_name
            )
        except PictureError as error:
            raise DataError(Fault(name_given(source), error.reason)) from error

    @functools.cached_property
    def _explainer(self) -> PictureExplainer:
        return self._predictor.build_explainer()

    def _spread(self, sources: Iterable[GivenOrFile], every: float) -> Generator[Source, None, None]:
        """Yield the pictures, those of a folder one by one; each is checked before a thread gets it."""
        inputs = Inputs(every=every, max_pixels=self._predictor.max_pixels)
        for source in sources:
            taken = self._take(source)
            if taken.path is not None and (is_folder(taken.path) or is_video(taken.path)):
                yield from find_sources([taken.path], inputs)
            else:
                yield taken
        for line in inputs.passed.describe():
            say(line)

    def _take(self, source: GivenOrFile) -> Source:
        """Return a picture for a thread; an open file is read here, since the caller may close it next.

        Raises:
            UsageError: It is no picture in any form.
        """
        check_given(source)
        if isinstance(source, str | os.PathLike):
            return file_source(parse_picture_path(source))
        if not is_open_file(source):
            given = cast(Given, source)
            return Source("", None, lambda: given)
        try:
            content = read_open_file(cast(IO[bytes], source), max_pixels=self._predictor.max_pixels)
        except PictureError as error:
            return unreadable_source("", error.reason)
        return Source("", None, lambda: content)

    def _answer(self, source: Source, top_k: int | None) -> Prediction:
        path, name = source.path, source.name
        try:
            answer = self._predictor.predict_given(source.read())
        except PictureError as error:
            return Prediction(None, None, Probabilities(), error=error.reason, path=path, name=name)
        top_k = top_k or len(self.class_names)
        ranking = rank_probabilities(answer.probabilities, self.class_names, top_k=top_k)
        return Prediction(
            *ranking[0],
            Probabilities(ranking),
            path=path,
            name=name,
            unknown=answer.unknown,
            distance=answer.distance,
        )


def load(
    run: str | os.PathLike[str] | Run,
    *,
    max_pixels: int | None = None,
    threshold: float | None = None,
    error: float | None = None,
    always_answer: bool = False,
) -> Model:
    """Load the model of a run, to predict with it; needs no extra.

    Only `model.onnx` is read, and nothing is unpickled, so a run from somebody else is safe to load.

    Which pictures are unknown is decided by the model's own rule, or by one of the last three arguments. A
    model of an earlier release has no rule: it always answers, unless there is a threshold.

    Args:
        run: A run folder or its path, the path of a `model.onnx` or of a `model.tar.gz` by itself, or the
            address of a `model.tar.gz` in S3.
        max_pixels: Pictures with more pixels are refused; None means the run's own MAX_PIXELS, but never more
            than the default of that setting.
        threshold: Minimum confidence, 0 to 1: pictures are unknown where the most probable class has a lower
            probability.
        error: Raise the minimum confidence until, on average, at most this share of the answers is wrong,
            such as 0.01. Assumes that new pictures come from the same source as the evaluation pictures.
        always_answer: Answer every picture, whatever it shows.

    Raises:
        ClassifoldError: There is no model, it is damaged, or it cannot promise so small an error.

    Example:
        >>> import classifold
        >>> classifold.load("runs/first").class_names
        ('blue', 'green', 'red stripes')
        >>> classifold.load("runs/first", always_answer=True).predict("photo.jpg").unknown
        False
    """
    if max_pixels is not None:
        max_pixels = check_count("max_pixels", max_pixels, "a number of pixels from 1")
    check_one_option(
        "classifold.load", {"threshold": threshold, "error": error, "always_answer": always_answer}
    )
    path = _find_run(run)
    predictor = load_predictor(
        path,
        max_pixels=max_pixels,
        threshold=check_share("threshold", threshold, "a probability from 0 to 1"),
        max_error=check_share("error", error, "a share between 0 and 1, such as 0.01", is_open=True),
        always=always_answer,
    )
    return Model(predictor, path)


def _find_run(run: str | os.PathLike[str] | Run) -> Path:
    if isinstance(run, str) and run[:5].lower() == S3_SCHEME:
        return open_run(run, runs_dir=Path(), open_s3=_open_s3)
    return parse_path(run, where="classifold.load")


def _open_s3() -> S3Pictures:
    from classifold.aws.s3_pictures import S3Pictures

    return S3Pictures(build_config({}), max_pixels=_DEFAULT_MAX_PIXELS)


def load_picture(
    source: GivenOrFile,
    size: int = 224,
    *,
    max_pixels: int = _DEFAULT_MAX_PIXELS,
    sample_bits: SampleBits = "auto",
) -> NDArray[np.uint8]:
    """Return a picture exactly as training reads it, to feed it to a model of yours or of a run folder.

    Args:
        source: A picture in any form that `Model.predict` takes.
        size: The square's side in pixels, 1 to 2048: `image_size` in the run's classes.json.
        max_pixels: Pictures with more pixels are refused.
        sample_bits: The run's setting SAMPLE_BITS, for 16-bit samples: 8 to 16, or "auto".

    Returns:
        Values 0..255, RGB, shape (size, size, 3), uint8.

    Raises:
        ClassifoldError: The picture cannot be read, with the reason; or an argument is out of range.

    Example:
        >>> import classifold
        >>> pixels = classifold.load_picture("photo.jpg", size=224)
        >>> pixels.shape, pixels.dtype
        ((224, 224, 3), dtype('uint8'))
    """
    check_given(source)
    size = check_count("size", size, f"a number of pixels from 1 to {MOST_IMAGE_SIZE}", most=MOST_IMAGE_SIZE)
    max_pixels = check_count("max_pixels", max_pixels, "a number of pixels from 1")
    if sample_bits != "auto":
        wanted = describe_field(Config.model_fields["SAMPLE_BITS"])
        sample_bits = check_count("sample_bits", sample_bits, wanted, least=LEAST_BITS, most=MOST_BITS)
    try:
        if isinstance(source, str | os.PathLike):
            picture: Given = parse_picture_path(source)
        elif is_open_file(source):
            picture = read_open_file(cast(IO[bytes], source), max_pixels=max_pixels)
        else:
            picture = cast(Given, source)
        return load_given(picture, size=size, max_pixels=max_pixels, sample_bits=sample_bits)
    except PictureError as error:
        raise DataError(Fault(name_given(source), error.reason)) from error
