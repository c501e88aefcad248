"""The formats that `classifold export` writes: what each takes, what it needs, how its files are called."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from classifold.errors import Fault, MissingExtraError, UsageError
from classifold.names import MODEL_KERAS, MODEL_ONNX, install

Precision = Literal["float32", "float16", "int8"]
Takes = Literal["pixels", "bytes"]
# The options that ask for a precision, and how a folder of it ends.
_OPTIONS: Final = {"float16": "--half", "int8": "--int8"}
_ENDINGS: Final = {"float32": "", "float16": "-half", "int8": "-int8"}
# Packages by the name under which they are imported, where pip calls them otherwise.
_PIP_NAMES: Final = {"ai_edge_litert": "ai-edge-litert", "onnxruntime_extensions": "onnxruntime-extensions"}
# dist/tf.min.js of the npm package @tensorflow/tfjs.
TFJS_LIBRARY: Final = "tf.min.js"
ADDED_HINT: Final = (
    "it is dist/tf.min.js of the npm package @tensorflow/tfjs; name it with --tfjs-library FILE, or copy it "
    "beside the page"
)
_KERAS: Final = ("tensorflow", "keras", "tf_keras")


@dataclass(frozen=True)
class ExportFormat:
    """A format that a model can be exported to.

    Attributes:
        name: As `--to` takes it.
        summary: What it is for, in a few words.
        model: The model's file or folder below the export's folder; `{name}` is the run's name.
        takes: What the model is fed: pixels of the right size, or an encoded picture as it is.
        source: The file of the run folder that it is made from.
        packages: What it needs beside the base install, as imported.
        precisions: The precisions that it can have, the default first.
        added: A file that the user adds, since it is part of no package for Python; empty for none.
    """

    name: str
    summary: str
    model: str
    takes: Takes
    source: str
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...] = ("float32",)
    added: str = ""


FORMATS: Final = (
    ExportFormat(
        name="onnx-bytes",
        summary="ONNX Runtime, from an encoded picture",
        model="model.onnx",
        takes="bytes",
        source=MODEL_ONNX,
        packages=("onnx", "onnxruntime_extensions"),
    ),
    ExportFormat(
        name="savedmodel-bytes",
        summary="TensorFlow, from encoded pictures",
        model="saved_model",
        takes="bytes",
        source=MODEL_KERAS,
        packages=_KERAS,
    ),
    ExportFormat(
        name="litert",
        summary="LiteRT: phones, small computers",
        model="model.tflite",
        takes="pixels",
        source=MODEL_KERAS,
        packages=(*_KERAS, "ai_edge_litert"),
        precisions=("float32", "float16", "int8"),
    ),
    ExportFormat(
        name="openvino",
        summary="OpenVINO: Intel processors",
        model="model.xml",
        takes="pixels",
        source=MODEL_ONNX,
        packages=("onnx", "openvino"),
        precisions=("float32", "float16", "int8"),
    ),
    ExportFormat(
        name="tfjs",
        summary="TensorFlow.js, with a page that runs it",
        model="model.json",
        takes="pixels",
        source=MODEL_KERAS,
        packages=_KERAS,
        precisions=("float32", "float16"),
        added=TFJS_LIBRARY,
    ),
    ExportFormat(
        name="int8",
        summary="ONNX with 8-bit weights and activations",
        model="model.onnx",
        takes="pixels",
        source=MODEL_ONNX,
        packages=("onnx",),
        precisions=("int8",),
    ),
    ExportFormat(
        name="triton",
        summary="NVIDIA Triton's model repository",
        model="{name}/1/model.onnx",
        takes="pixels",
        source=MODEL_ONNX,
        packages=("onnx",),
    ),
)
FORMAT_NAMES: Final = tuple(one.name for one in FORMATS)


@dataclass(frozen=True)
class Target:
    """One export that was asked for: a format in one precision."""

    format: ExportFormat
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """Name of its folder and of its row in tables, such as "litert-int8"."""
        is_only = self.format.precisions == (self.precision,)
        return self.format.name if is_only else f"{self.format.name}{_ENDINGS[self.precision]}"

    @property
    def is_calibrated(self) -> bool:
        """Whether it is made with training pictures."""
        return self.precision == "int8"


def find_format(name: str) -> ExportFormat:
    """Return the format of this name; it must be one of `FORMAT_NAMES`."""
    return next(one for one in FORMATS if one.name == name)


def describe_precisions(one: ExportFormat) -> str:
    """Return the precisions of a format as a table shows them, such as "float32, --half, --int8"."""
    first, *others = one.precisions
    return ", ".join([first, *(_OPTIONS[precision] for precision in others)])


def choose_targets(formats: Sequence[str], *, precision: Precision | None) -> list[Target]:
    """Return the exports that are asked for, each once, in the order of `FORMATS`.

    Args:
        formats: Names of formats.
        precision: For those formats that have it; the others are written as ever. None: the default.

    Raises:
        UsageError: No format has this precision.
    """
    chosen = [one for one in FORMATS if one.name in formats]
    if precision is not None and not any(precision in one.precisions for one in chosen):
        having = [one.name for one in FORMATS if {precision, "float32"} <= set(one.precisions)]
        what = f"not available for {' and '.join(one.name for one in chosen)}"
        hint = f"it is available for {', '.join(having[:-1])} and {having[-1]}"
        raise UsageError(Fault(_OPTIONS[precision], what, hint))
    return [
        Target(one, precision if precision is not None and precision in one.precisions else one.precisions[0])
        for one in chosen
    ]


def list_missing(one: ExportFormat) -> list[str]:
    """Return the packages that a format needs and that are not installed, as pip calls them."""
    missing = [package for package in one.packages if importlib.util.find_spec(package) is None]
    return [_PIP_NAMES.get(package, package.replace("_", "-")) for package in missing]


def check_packages(targets: Sequence[Target]) -> None:
    """Refuse formats whose packages are not installed.

    Raises:
        MissingExtraError: With every format that lacks one, and what to install.
    """
    faults = [
        Fault(
            f"--to {one.format.name}",
            f"it needs packages that are not installed: {', '.join(missing)}",
            install("export"),
        )
        for one in targets
        if (missing := list_missing(one.format))
    ]
    if faults:
        raise MissingExtraError(*faults)
