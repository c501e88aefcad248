"""Reads the orientation in a picture's metadata, by the rules of Pillow's `exif_transpose`."""

from __future__ import annotations

from PIL import Image

from classifold.pictures.pillow_warnings import quiet_pillow

_TAG = 0x0112
_TAG_BYTES = (b"\x12\x01", b"\x01\x12")
_XMP_NAME = b"tiff:Orientation"


def find_orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation, 1 to 8, in a file's EXIF block, or else in its XMP packet.

    Args:
        exif: The EXIF block with or without "Exif" before it; empty if the file has none.
        xmp: The XMP packet; empty if the file has none.
    """
    # Most files have no orientation; searching for the tag's bytes is much faster than parsing the block.
    if not any(tag in exif for tag in _TAG_BYTES) and _XMP_NAME not in xmp:
        return 1
    # Pillow handles every type, count and byte order, as it does for PNG, WebP and TIFF.
    holder = Image.Image()
    holder.info = {"exif": exif, "xmp": xmp}
    with quiet_pillow():
        return read_orientation(holder)


def read_orientation(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, of an open image; 1 where its metadata are damaged."""
    try:
        value = image.getexif().get(_TAG, 1)
        # The value may be a rational number.
        return int(value) if value in range(1, 9) else 1
    except Exception:
        # Pillow raises nearly anything for damaged metadata, which say nothing about the pixels.
        return 1
