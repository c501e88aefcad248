"""A picture in any form that a Python program has it: a path, a file's bytes, a Pillow image, an array."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from classifold.errors import Fault, UsageError
from classifold.pictures.decode import load_image, load_picture
from classifold.pictures.limits import PictureError, check_bytes
from classifold.pictures.samples import SampleBits

Given = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""A picture as `load_given` takes it."""
GivenOrFile = Given | IO[bytes]
"""The same, or a file that is open for reading, of which `read_open_file` makes bytes."""

_FORMS = "a path, the bytes of a file, a file open for reading, a Pillow image, or an array of pixels"
_READ_AT_ONCE = 1 << 20
# Mode of the Pillow image with the same content as an array, by the array's number of channels.
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Pillow reads an image's file when its pixels are first needed, and two threads must not do that at once.
_pillow_lock = threading.Lock()


def load_given(
    source: Given, *, size: int, max_pixels: int, sample_bits: SampleBits = "auto"
) -> NDArray[np.uint8]:
    """Return a picture as the model takes it, whatever form it comes in.

    A Pillow image that was opened and not yet changed is read from its file, so that it gives the same pixels
    as the file's path; any other one, and an array, are taken as they are.

    Args:
        source: A path, a file's bytes, a Pillow image, or an array of values 0..255, uint8, of shape
            (height, width), (height, width, 1), RGB (height, width, 3), or with an alpha channel after
            these.
        size: The square's side in pixels.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS, for 16-bit samples.

    Returns:
        Pixels, shape (size, size, 3), RGB, uint8.

    Raises:
        PictureError: It cannot be read as a picture.
        UsageError: It is none of these.
    """
    limits: dict[str, Any] = {"size": size, "max_pixels": max_pixels, "sample_bits": sample_bits}
    if isinstance(source, str | os.PathLike):
        return load_picture(Path(os.fsdecode(source)), **limits)  # a path object may give bytes
    if isinstance(source, bytes | bytearray | memoryview):
        return load_picture(bytes(source), **limits)
    if not isinstance(source, Image.Image):
        return load_image(_to_image(as_pixels(source)), **limits)
    with _pillow_lock:
        content = _read_unchanged(source, max_pixels=max_pixels)
        if content is None:
            return load_image(source, **limits)
    return load_picture(content, **limits)


def check_given(source: object) -> None:
    """Refuse what is no picture in any form, before anything is read.

    Raises:
        UsageError: It is something else, with what it should be.
    """
    if isinstance(source, bytes | bytearray | memoryview | Image.Image):
        return
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise _refuse("the path is empty", hint="name a picture file")
        return
    if not is_open_file(source):
        as_pixels(source)


def is_open_file(source: Any) -> bool:
    """Tell a file that a program has opened, or what can be read like one, from the other forms."""
    # Asked of the object, since the wrapper of a temporary file has `read` only there.
    return not isinstance(source, Image.Image) and callable(getattr(source, "read", None))


def read_open_file(file: IO[bytes], *, max_pixels: int) -> bytes:
    """Return all bytes of an open file, from its beginning, and leave its position where it was.

    What cannot be rewound, such as a download, is read from where it is, and is used up.

    Args:
        file: A file open for reading in binary mode, an `io.BytesIO`, or the like.
        max_pixels: Limit of the pixels; what is too large for such a picture is refused.

    Raises:
        PictureError: It cannot be read, for instance since it is closed, or is too large.
        UsageError: It was opened in text mode.
    """
    try:
        if not file.seekable():
            return _read_pieces(file, max_pixels=max_pixels)
        place = file.tell()
        try:
            check_bytes(file.seek(0, os.SEEK_END), max_pixels=max_pixels)
            file.seek(0)
            return _read_pieces(file, max_pixels=max_pixels)
        finally:
            file.seek(place)
    except (PictureError, UsageError):
        raise
    except UnicodeDecodeError:
        raise _refuse_text(file) from None
    except Exception as error:  # downloads, archives and decompressors raise their own types
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"the open file cannot be read: {reason}") from error


def _read_pieces(file: IO[bytes], *, max_pixels: int) -> bytes:
    content = bytearray()
    while piece := file.read(_READ_AT_ONCE):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise _refuse_text(file)
        content += piece
        check_bytes(len(content), max_pixels=max_pixels)
    return bytes(content)


def _refuse_text(file: object) -> UsageError:
    hint = "open the file in binary mode: open(path, 'rb')"
    return _refuse("expected a file open in binary mode", got=type(file).__name__, hint=hint)


def as_pixels(source: Any) -> NDArray[np.uint8]:
    """Return an array of pixels, checked: uint8, shape (height, width) or (height, width, 1 to 4).

    Args:
        source: An array of NumPy, or of another library that NumPy can read.

    Raises:
        UsageError: It is no array, or its type or shape is another one.
    """
    if not hasattr(source, "__array__"):
        raise _refuse(f"expected {_FORMS}", got=type(source).__name__)
    if isinstance(source, np.ma.MaskedArray):
        hint = "give the masked pixels a value first: array.filled(0)"
        raise _refuse("expected an array without a mask", got="a masked array", hint=hint)
    pixels = np.asarray(source)
    if pixels.dtype != np.uint8:
        raise _refuse(
            "expected an array of values 0..255 of type uint8",
            got=f"{pixels.dtype}{_show_range(pixels)}",
            hint=_find_conversion(pixels),
        )
    if pixels.ndim == 4:
        hint = "pass list(array) for several pictures, array[0] for the first one"
        raise _refuse("expected one picture", got=f"shape {pixels.shape}", hint=hint)
    if pixels.ndim == 3 and pixels.shape[2] not in _MODES and pixels.shape[0] in _MODES:
        hint = "the channels come last: np.moveaxis(array, 0, -1)"
        raise _refuse("expected shape (height, width, 3)", got=f"{pixels.shape}", hint=hint)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in _MODES) or not pixels.size:
        raise _refuse("expected shape (height, width, 3) or (height, width)", got=f"{pixels.shape}")
    return pixels


def name_given(source: object) -> str:
    """Return what a message calls the picture: its path, or what it is."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, Image.Image):
        return f"Pillow image of {source.width} x {source.height} pixels"
    if isinstance(source, bytes | bytearray | memoryview):
        return "picture from bytes"
    return "picture from an open file" if is_open_file(source) else "array of pixels"


def _to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, channels = planes.shape
    return Image.frombytes(_MODES[channels], (width, height), planes.tobytes())


def _read_unchanged(image: Image.Image, *, max_pixels: int) -> bytes | None:
    """Return the bytes of the file that an image will be loaded from; None where it is loaded already.

    An image that is loaded may have been changed, which it does not say.

    Raises:
        PictureError: The file is too large for a picture of `max_pixels`.
    """
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.tell():
        return None
    file = image.fp
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or a stream without places
        place = file.tell()  # type: ignore[union-attr]
        try:
            check_bytes(file.seek(0, os.SEEK_END), max_pixels=max_pixels)  # type: ignore[union-attr]
            file.seek(0)  # type: ignore[union-attr]
            return file.read()  # type: ignore[union-attr]
        finally:
            file.seek(place)  # type: ignore[union-attr]
    return None


def _refuse(what: str, *, got: str = "", hint: str = "") -> UsageError:
    return UsageError(Fault("picture", what, got=got, hint=hint))


def _show_range(pixels: NDArray[Any]) -> str:
    if pixels.dtype.kind not in "fiu" or not pixels.size:
        return ""
    return f" from {pixels.min():.4g} to {pixels.max():.4g}"


def _find_conversion(pixels: NDArray[Any]) -> str:
    """Return how to make the array one of uint8, where its values tell."""
    if pixels.dtype == np.bool_:
        return "if True is white: array.astype('uint8') * 255"
    if pixels.dtype.kind not in "fiu" or not pixels.size:
        return f"pass {_FORMS}"
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return "if 1 is white: (array * 255).round().astype('uint8')"
    if low >= 0 and high <= 255:
        rounded = "array.round()" if pixels.dtype.kind == "f" else "array"
        return f"{rounded}.astype('uint8')"
    return "scale the values to 0..255 first"
