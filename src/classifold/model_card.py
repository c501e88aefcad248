"""The model card in every format of a model: the classes, the picture size and what the numbers mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from classifold.errors import FILE_FAULT_LIMIT, Fault, RunError

CARD_FORMAT: Final = 1
# Side in pixels of the largest square that pictures are resized to: twice what the settings allow.
MOST_IMAGE_SIZE: Final = 2048
# The outputs of model.onnx beside the probabilities, as training names them in a card.
DISTANCE, EMBEDDING, CLASS_MAPS = "distance", "embedding", "class_maps"
_Text = Annotated[str, Field(max_length=1024)]
_Name = Annotated[str, Field(min_length=1, max_length=1024)]


class ModelInput(BaseModel):
    """What the model wants to be fed; anything but this would be fed wrongly, so it is refused."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: _Text = "pixels"
    layout: Literal["NHWC"] = "NHWC"
    colour: Literal["RGB"] = "RGB"
    range: tuple[Literal[0], Literal[255]] = (0, 255)


class ErrorStep(BaseModel):
    """A share of wrong answers that can be promised, and the minimum confidence that keeps it.

    Attributes:
        max_error: At most this share of the answers is wrong, 0..1.
        min_confidence: Pictures with less confidence are unknown.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    max_error: float = Field(gt=0, le=1)
    min_confidence: float = Field(ge=0, le=1)


class Answering(BaseModel):
    """When the model answers, and when it says "unknown".

    Attributes:
        min_confidence: Pictures with less confidence are unknown, 0..1.
        max_distance: Pictures at a larger distance are unknown; distances are scaled so that this is 1.
        max_error: The share of wrong answers that `min_confidence` was chosen for; None: none was asked for.
        false_refusals: The share of validation pictures whose distance is above `max_distance`.
        error_steps: Other shares of wrong answers, ascending; at most 200.
        num_pictures: Evaluation pictures that `error_steps` were chosen on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    min_confidence: float = Field(ge=0, le=1)
    max_distance: float = Field(default=1.0, gt=0)
    max_error: float | None = Field(default=None, gt=0, le=1)
    false_refusals: float = Field(default=0.05, ge=0, le=1)
    error_steps: tuple[ErrorStep, ...] = Field(default=(), max_length=1000)
    num_pictures: int = Field(default=0, ge=0)


class ModelCard(BaseModel):
    """What is needed to use the model without anything but the model's own file.

    Attributes:
        class_names: In the order of the model's outputs.
        image_size: Side in pixels of the square that pictures are resized to.
        max_pixels: A picture with more pixels is refused, not decoded.
        sample_bits: How many bits of 16-bit samples are in use, or "auto", as in training.
        input: Name of the model's input, and the layout, colour order and range of its pixels.
        resize: How pictures are brought to `image_size`; there is one way, and any other is refused.
        output: Name of the model's output.
        backbone: Name of the backbone.
        run: Name of the run that made the model.
        classifold: The release of classifold that made it.
        answering: When the model answers; None in a model of an earlier release, which always answers.
        distance: Name of the output of `model.onnx` with each picture's distance, shape (N,); "" for none.
        embedding: Name of the output with what the distance is computed from, shape (N, D); "" for none.
        class_maps: Name of the output with the part of each class's logit that each place of the picture
            adds, shape (N, C, h, w); "" where the head does not allow it. Their mean over the places plus a
            constant of the class is the logit.
    """

    # Keys that a later release adds are passed over; what this one relies on is checked.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal[1]
    class_names: tuple[_Name, ...] = Field(min_length=1, max_length=100_000)
    image_size: int = Field(ge=1, le=MOST_IMAGE_SIZE)
    max_pixels: int = Field(ge=1)
    sample_bits: Annotated[int, Field(ge=8, le=16)] | Literal["auto"] = "auto"
    input: ModelInput = ModelInput()
    resize: Literal["squash, antialiased bilinear"] = "squash, antialiased bilinear"
    output: _Text = "probabilities"
    backbone: _Text = ""
    run: _Text = ""
    classifold: _Text = ""
    answering: Answering | None = None
    distance: _Text = ""
    embedding: _Text = ""
    class_maps: _Text = ""

    @field_validator("class_names")
    @classmethod
    def _check_unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a class name comes twice")
        return value

    def to_json(self) -> str:
        """Return the content of classes.json, which `parse_card` reads."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def parse_card(text: str, *, where: Path) -> ModelCard:
    """Return the card that `text`, a JSON object, describes.

    Args:
        text: The model card from the model file's metadata.
        where: The model file, for the message.

    Raises:
        RunError: With every fault of the card.
    """
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        hint = "train again, or take the file from the run folder where it was made"
        if any(problem["loc"] == ("format",) for problem in error.errors()):
            hint = f"this release reads model cards of format {CARD_FORMAT}; upgrade classifold"
        faults = []
        for problem in error.errors()[:FILE_FAULT_LIMIT]:
            part = ".".join(map(str, problem["loc"])) or "text"
            faults.append(Fault(str(where), f"the model card's {part} is wrong: {problem['msg']}", hint))
        raise RunError(*faults) from None
