"""What a file is, from its first bytes alone; names and endings are never believed."""

from __future__ import annotations

HEAD_BYTES = 64
"""How many of a file's first bytes `identify_format` and `name_content` want to see."""

FORMAT_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "gif": "GIF",
    "heif": "HEIC",
}
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif"}
    | {".tiff", ".heic", ".heif", ".hif"}
)
"""Endings under which people keep pictures: such a file is never passed over in silence."""

NO_PICTURE = "no picture"

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
# Pictures of kinds that are not read, and what stands under a picture's name by mistake.
_OTHER_CONTENT = (
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"DDS ", "a DDS picture"),
    (b"qoif", "a QOI picture"),
    (b"\0\0\1\0", "an icon"),
    (b"\0\0\2\0", "a cursor"),
    (b"icns", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Bitmap headers have 12 to 124 bytes; a text that starts with "BM" has a huge number there.
_BMP_HEADER_LIMIT = 256


def identify_format(head: bytes) -> str | None:
    """Return the kind of picture that starts with `head`, by content.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, or more.

    Returns:
        "jpeg", "png", "webp", "bmp", "tiff", "gif", "heif", or None for everything else.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            # A Canon raw file is a TIFF by its first bytes, and no picture that a TIFF reader understands.
            return None if head[8:10] == b"CR" else kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and 0 < int.from_bytes(head[14:18], "little") <= _BMP_HEADER_LIMIT:
        return "bmp"
    brands = _brands(head)
    if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS:
        return "heif"
    return None


def name_content(head: bytes) -> str:
    """Return what a file that is no picture to us holds, as a person would say it."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "nothing but zeros"
    if _brands(head) & _AVIF_BRANDS:
        return "an AVIF picture"
    for signature, content in _OTHER_CONTENT:
        if head.startswith(signature):
            return content
    if head[8:10] == b"CR":
        return "a camera's raw picture"
    if head[4:8] == b"ftyp":
        return "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing or other XML"
    return NO_PICTURE


def is_unread_picture(content: str) -> bool:
    """Tell whether `name_content`'s answer is a picture, of a kind that is not read."""
    return content != NO_PICTURE and content.endswith(("picture", "icon", "cursor"))


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file's `ftyp` box (ISO/IEC 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
