"""What the model says about one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn


class Probabilities(dict[str, float]):
    """A dict that cannot be changed; unlike a `MappingProxyType`, it can be pickled and written as JSON."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("probabilities cannot be changed; copy them first: dict(prediction.probabilities)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:  # copying and unpickling would set the items one by one
        return type(self), (dict(self),)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one picture.

    Attributes:
        label: Name of the most probable class; None where the picture cannot be read.
        probability: Its probability, 0..1; None where the picture cannot be read.
        probabilities: Probability of each class by name, the most probable first; at most `top_k`. A dict
            that cannot be changed.
        error: Why the picture cannot be read; empty where it can.
        path: The picture's path; None if it was not given as a path.
        name: The path as text, or the place of a frame in its video, such as `clip.mp4#t=12.5`; empty if the
            picture was given as neither.
        unknown: Whether the picture is unknown: it is unlike the training pictures, or the model is too
            unsure. `label` is then only its best guess. None where the picture cannot be read.
        distance: How far the picture is from the training pictures, where 1 is the limit; None where it
            cannot be read, or the model was made by a release that did not measure it.

    Example:
        >>> import classifold
        >>> prediction = classifold.load("runs/first").predict("photo.jpg")
        >>> prediction.label
        'green'
        >>> list(prediction.probabilities)[0] == prediction.label
        True
        >>> if prediction.unknown:
        ...     print("none of the classes")
    """

    label: str | None
    probability: float | None
    probabilities: Mapping[str, float] = field(hash=False)
    error: str = ""
    path: Path | None = None
    unknown: bool | None = None
    distance: float | None = None
    name: str = ""

    def __repr__(self) -> str:
        where = f", name={self.name!r}" if self.name else ""
        if self.path is not None:
            where = f", path={str(self.path)!r}"
        if self.label is None or self.probability is None:
            return f"Prediction(error={self.error!r}{where})"
        unknown = ", unknown=True" if self.unknown else ""
        return f"Prediction({self.label!r}, {self.probability:.3f}{unknown}{where})"
