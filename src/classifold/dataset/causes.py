"""Why files cannot be read as pictures, and what the user can do about each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Part of a reason, and the cure. A reason names what the file holds in the words of `formats.name_content`.
_CURES = {
    "Git LFS pointer": "run `git lfs pull` where the pictures were cloned",
    "HEIC": 'install what reads HEIC: pip install "classifold[heif]"',
    "video": "take pictures out of the videos, for instance `ffmpeg -i clip.mp4 -vf fps=1 clip-%04d.jpg`",
    "raw picture": "export the camera's raw pictures as JPEG or TIFF",
    "DICOM": "convert the DICOM pictures to PNG, for instance with DCMTK's dcmj2pnm",
    "archive": "unpack the archives",
    "web page": "download the pictures again: a server sent web pages in their place",
    "PDF document": "save the pages of the PDF documents as pictures",
    "which is not read": "save the pictures as JPEG or PNG",
    "which cannot be read": "save the pictures as JPEG or PNG",
}
# Contents that explain a folder without pictures, while texts and tables beside pictures are usual.
TELLING_CONTENT = frozenset(
    {"a video", "a PDF document", "a ZIP archive or an office document", "a gzip archive", "a RAR archive"}
    | {"a Git LFS pointer: run `git lfs pull`"}
)


def find_cures(reasons: Iterable[str]) -> list[str]:
    """Return what to do about the reasons for which something is known, in the order of the reasons."""
    cures = (next((cure for part, cure in _CURES.items() if part in reason), "") for reason in reasons)
    return list(dict.fromkeys(filter(None, cures)))


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return how many files there are for each reason: "12 hidden, 3 left by the system"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
