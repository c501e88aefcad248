"""Identifies a file's format by its first bytes, never by its name or extension."""

from __future__ import annotations

import re

HEAD_BYTES = 160
"""Number of a file's first bytes that `identify_format` and `name_content` need."""

FORMAT_NAMES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "gif": "GIF",
    "heif": "HEIC",
    "avif": "AVIF",
    "jpeg2000": "JPEG 2000",
    "pnm": "PNM",
    "tga": "TGA",
    "pcx": "PCX",
    "sgi": "SGI",
}
PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif"}
    | {".tiff", ".heic", ".heif", ".hif", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".tga", ".icb", ".vda", ".vst", ".pcx", ".sgi"}
)
"""File extensions of pictures; a file with one of them is never skipped silently."""

NO_PICTURE = "no picture"

RAW_PICTURE = "a camera's raw picture"

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
)
# Cameras' raw files that TIFF readers do not accept: Olympus, Panasonic, Fujifilm, Sigma, Minolta, Canon
# before CR2.
_RAW_SIGNATURES = (
    (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILM", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
)  # fmt: skip
# Picture formats that are not read, and other contents that are found under a picture's name.
_OTHER_CONTENT = (
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"DDS ", "a DDS picture"),
    (b"qoif", "a QOI picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"#?RGBE", "a Radiance HDR picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"Y\xa6j\x95", "a Sun raster picture"),
    (b"AT&TFORM", "a DjVu picture"),
    (b"BPG\xfb", "a BPG picture"),
    (b"FLIF", "a FLIF picture"),
    (b"\x8aMNG\r\n\x1a\n", "an MNG picture"),
    (b"\x8bJNG\r\n\x1a\n", "a JNG picture"),
    (b"II\xbc", "a JPEG XR picture"),
    (b"gimp xcf", "a GIMP picture"),
    (b"/* XPM */", "an XPM picture"),
    (b"! XPM2", "an XPM picture"),
    (b"\xd7\xcd\xc6\x9a", "a WMF picture"),
    (b"BLP1", "a BLP picture"),
    (b"BLP2", "a BLP picture"),
    (b"\xabKTX ", "a KTX picture"),
    (b"icns", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS picture"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB ", "a MATLAB file"),
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Bitmap headers have 12 to 124 bytes; a text that starts with "BM" has a huge number there.
_BMP_HEADER_LIMIT = 256
_PNM = re.compile(rb"P[1-6][ \t\n\v\f\r]+[0-9#]|P7\n")
_FLOAT_PNM = re.compile(rb"P[fF]4?[ \t\n\v\f\r]+[0-9]")
_XBM = re.compile(rb"#define[ \t]+\w+_width[ \t]")
# A PostScript document of pages starts alike, without the second word.
_EPS = re.compile(rb"%!PS-Adobe-[0-9.]+ EPSF-")
_SGI_DIMENSIONS = (b"\0\1", b"\0\2", b"\0\3")
# Matroska and WebM, MPEG program and elementary streams, Windows Media, Flash, Ogg.
_VIDEO_SIGNATURES = (
    *(b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"0&\xb2u\x8ef\xcf\x11", b"FLV\x01"),
    b"OggS\0",
)
TGA_FOOTER = b"TRUEVISION-XFILE.\0"
"""The last bytes of a TGA file of version 2."""

_TGA_DEPTHS = {1: (8, 16), 2: (15, 16, 24, 32), 3: (8, 16)}


def identify_format(head: bytes) -> str | None:
    """Return the format of a picture that starts with `head`.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, or more.

    Returns:
        A key of `FORMAT_NAMES`, or None for everything else.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            # Raw files of Canon and Phase One start like TIFF, and no TIFF reader accepts them.
            return None if _is_raw(head) else kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and 0 < int.from_bytes(head[14:18], "little") <= _BMP_HEADER_LIMIT:
        return "bmp"
    return _identify_by_brand(head) or _identify_by_header(head)


def _identify_by_brand(head: bytes) -> str | None:
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def _identify_by_header(head: bytes) -> str | None:
    """Return the format of a picture whose first two to four bytes other formats use as well."""
    if _PNM.match(head):
        return "pnm"
    # Version, run-length encoding and bits per sample.
    if head[:1] == b"\n" and head[1:2] in b"\0\2\3\4\5" and head[2:3] == b"\1" and head[3:4] in b"\1\2\4\x08":
        return "pcx"
    # Compression, bytes per sample and number of dimensions.
    if (
        head[:2] == b"\x01\xda"
        and head[2:3] in b"\0\1"
        and head[3:4] in b"\1\2"
        and head[4:6] in _SGI_DIMENSIONS
    ):
        return "sgi"
    return "tga" if _is_tga(head) else None


def _is_tga(head: bytes) -> bool:
    """Return whether these are the 18 header bytes of a TGA picture (Truevision TGA 2.0).

    TGA has no signature, so every field is checked against its possible values; without a colour map, the
    fields of the colour map must be zero.
    """
    if len(head) < 18:
        return False
    has_map, kind, depth, flags = head[1], head[2], head[16], head[17]
    if kind & 7 not in _TGA_DEPTHS or kind & ~8 != kind & 7 or depth not in _TGA_DEPTHS[kind & 7]:
        return False
    if has_map:  # colours may come with a map that they do not need
        is_sound = has_map == 1 and head[5:7] != b"\0\0" and head[7] in (15, 16, 24, 32)
    else:
        is_sound = kind & 7 != 1 and not head[3:8].strip(b"\0")
    has_size = head[12:14] != b"\0\0" and head[14:16] != b"\0\0"
    return is_sound and has_size and not flags & 0xC0 and flags & 15 in (0, 1, 8)


def name_content(head: bytes) -> str:
    """Return the content of a file that is not a readable picture, in words for the user."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "nothing but zeros"
    if _is_raw(head):
        return RAW_PICTURE
    if _EPS.match(head):
        return "an EPS picture"
    for signature, content in _OTHER_CONTENT:
        if head.startswith(signature):
            return content
    if head[4:8] == b"ftyp":
        return "a video"
    return _name_by_structure(head) or _name_text(head)


def _is_raw(head: bytes) -> bool:
    if head[:2] in (b"II", b"MM") and (head[8:10] == b"CR" or head[8:12] in (b"IIII", b"MMMM")):
        return True
    return b"crx " in _brands(head) or head.startswith(_RAW_SIGNATURES)


def _name_by_structure(head: bytes) -> str:
    """Return the content of a format without a signature, "" for unknown formats."""
    if head[128:132] == b"DICM":
        return "a DICOM picture"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "a video"
    if head.startswith(_VIDEO_SIGNATURES):
        return "a video"
    if head[:4] == b"\1\0\0\0" and head[40:44] == b" EMF":
        return "an EMF picture"
    # Two values after the file's size, and 8 bits per pixel after number of frames, width and height.
    if head[4:6] in (b"\x11\xaf", b"\x12\xaf") and head[12:14] == b"\x08\0":
        return "a FLIC picture"
    # Reserved, kind, number of pictures; a TGA picture has zeros in place of the number.
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and head[4:6] != b"\0\0":
        return "an icon" if head[2] == 1 else "a cursor"
    return ""


def _name_text(head: bytes) -> str:
    if _FLOAT_PNM.match(head):
        return "a PFM picture of floating-point values"
    if _XBM.match(head):
        return "an XBM picture"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing or other XML"
    return NO_PICTURE


def describe_content(head: bytes) -> str:
    """Return why a file is no picture to us, as a sentence: "the file is empty", "the file holds a video"."""
    return f"the file holds {name_content(head)}" if head else "the file is empty"


def is_unread_picture(content: str) -> bool:
    """Return whether a result of `name_content` is a picture in a format that is not read."""
    return content != NO_PICTURE and content.endswith(("picture", "icon", "cursor", "floating-point values"))


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of an ISO base media file's `ftyp` box (ISO/IEC 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
