"""Why files cannot be read as pictures, and what the user can do about each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from classifold.counts import choose

# Part of a reason, and the cure. A reason says what the file contains in the words of `formats.name_content`.
_CURES = {
    "Git LFS pointer": "run `git lfs pull` where the pictures were cloned",
    "HEIC": "install support for HEIC: pip install pillow-heif",
    "video": "take pictures out of the videos, for instance `ffmpeg -i clip.mp4 -vf fps=1 clip-%04d.jpg`",
    "raw picture": "export the camera's raw pictures as JPEG or TIFF",
    "DICOM": "convert the DICOM pictures to PNG, for instance with DCMTK's dcmj2pnm",
    "archive": "unpack the archives",
    "web page": "download the pictures again: a server sent web pages in their place",
    "PDF document": "save the pages of the PDF documents as pictures",
    "which is not read": "save the pictures as JPEG or PNG",
    "which cannot be read": "save the pictures as JPEG or PNG",
}
# Contents that explain why a folder has no pictures; texts and tables beside pictures are usual.
TELLING_CONTENT = frozenset(
    {"a video", "a PDF document", "a ZIP archive or an office document", "a gzip archive", "a RAR archive"}
    | {"a Git LFS pointer: run `git lfs pull`"}
)


_FILES_THAT, _NOT_READ = "files that hold ", ", which is not read"


def find_cures(reasons: Iterable[str]) -> list[str]:
    """Return the known cures of some reasons, each once, in the order of the reasons."""
    cures = (next((cure for part, cure in _CURES.items() if part in reason), "") for reason in reasons)
    return list(dict.fromkeys(filter(None, cures)))


# What one file of a kind is called, and several, where that is not the reason itself.
_NUMBERS = {
    "no picture": ("no picture", "no pictures"),
    "link to a folder": ("link to a folder", "links to folders"),
    "link to a folder above": ("link to a folder above", "links to folders above"),
    "broken link": ("broken link", "broken links"),
    "not an ordinary file": ("not an ordinary file", "not ordinary files"),
    "file that cannot be opened": ("file that cannot be opened", "files that cannot be opened"),
    "images without an annotation": ("image without an annotation", "images without an annotation"),
    "folder marks": ("folder mark", "folder marks"),
    "no picture by their endings": ("no picture by its ending", "no pictures by their endings"),
}


def describe_counts(counts: Mapping[str, int], examples: Mapping[str, str] | None = None) -> str:
    """Return how many files there are for each reason: "12 hidden, 3 left by the system".

    Args:
        counts: Files by reason.
        examples: One file for some of the reasons.
    """
    return ", ".join(
        f"{count} {choose(count, *_inflect(reason))}"
        + (f" ({choose(count, '', 'such as ')}{examples[reason]})" if examples and reason in examples else "")
        for reason, count in counts.items()
    )


def _inflect(reason: str) -> tuple[str, str]:
    """Return a reason as it is said of one file, and of several."""
    if reason.startswith(_FILES_THAT):
        return reason.replace(_FILES_THAT, "file that holds ", 1), reason
    kind = reason.removesuffix(_NOT_READ)
    if kind == reason:
        return _NUMBERS.get(reason, (reason, reason))
    kinds = kind.replace(" picture", " pictures") if " picture" in kind else f"{kind}s"
    return reason, f"{kinds}, which are not read"
