"""Facts in a picture's header: how its colours are stored, JPEG quality, camera, time of taking, profile.

Nothing is decoded. Damaged metadata are ignored: the pixels can be read without them.
"""

from __future__ import annotations

import calendar
import functools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from classifold.pictures.formats import HEAD_BYTES, TGA_FOOTER, identify_format
from classifold.pictures.pillow_warnings import quiet_pillow
from classifold.pictures.raster import open_reader

# Markers of ITU T.81, table B.1: frames (C4, C8 and CC are none), tables, start of the scan, APP1 and APP2.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TABLES, _SCAN, _APP1, _APP2 = 0xDB, 0xDA, 0xE1, 0xE2
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
# The luminance table of ITU T.81, annex K.1, in zigzag order: libjpeg's table for quality 50.
_TABLE_AT_50 = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40),
    *(58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103),
    *(104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)
_MAKE, _MODEL, _CHANGED, _EXIF_BLOCK, _TAKEN = 271, 272, 306, 0x8769, 36867
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
# X, Y and Z of the red, green and blue primaries of sRGB, adapted to D50 (IEC 61966-2-1 as an ICC profile).
_SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
# A profile is far from sRGB where one of these numbers differs by more. Display P3, which phones write,
# differs by 0.09 and looks much the same; Adobe RGB by 0.17 and ProPhoto RGB by 0.36, which look pale.
_FAR = 0.12
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "alpha", 6: "alpha"}
_PILLOW_MODES = {"1": "grey", "L": "grey", "P": "palette", "CMYK": "CMYK", "LAB": "LAB"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a picture's header says; the attributes are those of `datacheck.photo.Photo`."""

    format: str
    mode: str = "RGB"
    jpeg_quality: int | None = None
    camera: str = ""
    taken: float | None = None
    profile: str = ""


def read_facts(data: bytes) -> Facts:
    """Return the facts of a file that was decoded before.

    Args:
        data: The whole file.
    """
    kind = identify_format(data[:HEAD_BYTES]) or ("tga" if data.endswith(TGA_FOOTER) else "")
    try:
        if kind == "jpeg":
            return _read_jpeg(data)
        if kind == "png":
            return _read_png(data)
        if kind == "webp":
            return _read_webp(data)
        return _read_other(data, kind)
    except Exception:  # readers of metadata raise nearly anything for damaged ones
        return Facts(kind)


def _read_jpeg(data: bytes) -> Facts:
    mode, quality, exif, icc = "RGB", None, b"", []
    for marker, start, end in _iter_segments(data):
        if marker in _FRAMES and end - start > 7:
            mode = {1: "grey", 4: "CMYK"}.get(data[start + 7], "RGB")
        elif marker == _TABLES and quality is None:
            quality = _estimate_quality(data[start + 2 : end])
        elif marker == _APP1 and not exif and data.startswith(_EXIF, start + 2):
            exif = data[start + 2 : end]
        elif marker == _APP2 and data.startswith(_ICC, start + 2):
            icc.append(data[start + 2 + len(_ICC) : end])
    # Each part starts with its number and the number of parts.
    profile = b"".join(part[2:] for part in sorted(icc))
    camera, taken = _read_exif(exif)
    return Facts("jpeg", mode, quality, camera, taken, name_far_profile(profile))


def _iter_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, offset of the length, offset of the end) of the segments before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:  # a fill byte, or a marker without a segment
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _SCAN:
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        yield marker, at + 2, end
        at = end


def _estimate_quality(tables: bytes) -> int:
    """Return the quality at which libjpeg would write the first of these tables (ITU T.81, B.2.4.1).

    libjpeg multiplies its table by 5000 / quality up to 50, and by 200 - 2 quality above (`jcparam.c`).
    Numbers of 8 bits end at 255, so these tell nothing.
    """
    found = struct.unpack_from(">64H" if tables[0] >> 4 else "64B", tables, 1)
    known = [(one, base) for one, base in zip(found, _TABLE_AT_50, strict=True) if one != 255]
    if not known:
        return 1
    percent = 100 * sum(one for one, _ in known) / sum(base for _, base in known)
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return 100 if max(found) == 1 else min(max(round(quality), 1), 100)


def _read_exif(block: bytes) -> tuple[str, float | None]:
    """Return camera and time of taking, as far as an EXIF block has them."""
    if not block:
        return "", None
    with quiet_pillow():
        exif = Image.Exif()
        exif.load(block)
        inner = exif.get_ifd(_EXIF_BLOCK)
    make, model = (_clean(exif.get(tag)) for tag in (_MAKE, _MODEL))
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    return camera, _parse_time(inner.get(_TAKEN)) or _parse_time(exif.get(_CHANGED))


def _clean(text: object) -> str:
    return " ".join(str(text or "").replace("\0", " ").split())[:80]


def _parse_time(text: object) -> float | None:
    """Return seconds since 1970 by the camera's own clock; None where its clock was not set."""
    found = _TIME.match(str(text or ""))
    if found is None:
        return None
    year, month, day, *rest = (int(one) for one in found.groups())
    if year < 1980 or not 1 <= month <= 12 or not 1 <= day <= 31:
        return None
    return float(calendar.timegm((year, month, day, *rest)))


def _read_png(data: bytes) -> Facts:
    mode, exif, profile = _PNG_COLOURS.get(data[25], "RGB"), b"", b""
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            break
        if name == b"tRNS":
            mode = "alpha"
        elif name == b"eXIf":
            exif = data[at + 8 : at + 8 + size]
        elif name == b"iCCP":
            profile = _inflate_profile(data[at + 8 : at + 8 + size])
        at += size + 12
    camera, taken = _read_exif(exif)
    return Facts("png", "16 bit" if data[24] == 16 else mode, None, camera, taken, name_far_profile(profile))


def _inflate_profile(chunk: bytes) -> bytes:
    """Return the profile in an iCCP chunk: a name, a zero, the method, then compressed data; 4 MB at most."""
    import zlib

    return zlib.decompressobj().decompress(chunk[chunk.index(b"\0") + 2 :], 2**22)


def _read_webp(data: bytes) -> Facts:
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(data[at : at + 4], data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    header, lossless = chunks.get(b"VP8X", b"\0"), chunks.get(b"VP8L", b"\0" * 5)
    has_alpha = header[0] & 0x10 or lossless[4] & 0x10
    camera, taken = _read_exif(chunks.get(b"EXIF", b""))
    profile = name_far_profile(chunks.get(b"ICCP", b""))
    return Facts("webp", "alpha" if has_alpha else "RGB", None, camera, taken, profile)


def _read_other(data: bytes, kind: str) -> Facts:
    with quiet_pillow(), open_reader(kind, data) as image:
        info: dict[Any, Any] = image.info
        # Pillow reads a GIF whose palette is grey as a grey picture.
        mode = "palette" if kind == "gif" else _PILLOW_MODES.get(image.mode, "RGB")
        if image.mode.startswith("I") or max(_bits_of(image)) > 8:
            mode = "16 bit"
        elif image.has_transparency_data:
            mode = "alpha"
        camera, taken = _read_exif(image.getexif().tobytes()) if kind != "gif" else ("", None)
        return Facts(kind, mode, None, camera, taken, name_far_profile(info.get("icc_profile") or b""))


def _bits_of(image: Any) -> tuple[int, ...]:
    """Return the bits per sample of a TIFF; (8,) for others."""
    tags = getattr(image, "tag_v2", {})
    return tuple(tags.get(258, (8,)))


@functools.lru_cache(maxsize=64)
def name_far_profile(profile: bytes) -> str:
    """Return the name of a colour profile (ICC.1:2022) that is far from sRGB; "" for others and for none.

    Args:
        profile: The profile; of one without a matrix, such as a printer's, nothing is said.
    """
    if profile[16:20] != b"RGB ":
        return ""
    tags = {}
    for number in range(min(int.from_bytes(profile[128:132]), 100)):
        name, at, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        tags[name] = profile[at : at + size]
    far = 0.0
    for name, expected in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _SRGB, strict=True):
        if name not in tags:
            return ""
        found = [value / 65536 for value in struct.unpack_from(">3i", tags[name], 8)]
        far = max(far, *(abs(one - other) for one, other in zip(found, expected, strict=True)))
    return _describe_profile(tags.get(b"desc", b"")) if far > _FAR else ""


def _describe_profile(tag: bytes) -> str:
    """Return the text of a profile's description, in the form of version 2 or the first one of version 4."""
    if tag[:4] == b"mluc":
        size, at = struct.unpack_from(">II", tag, 20)
        text = tag[at : at + size].decode("utf-16-be", errors="replace")
    else:
        text = tag[12 : 12 + int.from_bytes(tag[8:12])].decode("latin-1")
    return _clean(text) or "an unnamed profile"
