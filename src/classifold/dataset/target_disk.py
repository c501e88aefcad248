"""Finds out which names the disk of a new split accepts and distinguishes, by trying them there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from classifold.dataset.name_bytes import clean_name
from classifold.errors import DataError, Fault, limit_faults

# Errors which mean that a disk does not accept a name. ENOENT is that of exFAT through FUSE.
_REFUSED = {errno.EINVAL, errno.ENOENT, errno.ENAMETOOLONG, errno.EILSEQ}
# Characters that Windows and its file systems do not accept in a name, and names of devices there.
_BAD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_NAME_BYTES = 120
_SCRATCH = ".classifold-names"


def is_refused_name(error: OSError) -> bool:
    """Return whether an error means that the disk does not accept a name."""
    return error.errno in _REFUSED


def fold_name(name: str) -> str:
    """Return a name as a disk may see it that ignores case and the spelling of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_folding(folder: Path) -> bool:
    """Return whether the disk of a folder treats names as equal that differ in case or Unicode spelling."""
    with _scratch(folder) as scratch:
        (scratch / "caf\u00e9").mkdir()
        return (scratch / "CAF\u00c9").exists() or (scratch / "cafe\u0301").exists()


def changes_endings(folder: Path) -> bool:
    """Return whether the disk of a folder removes dots or blanks at the end of a name, or refuses them."""
    with _scratch(folder) as scratch:
        for name in ("dot.", "blank "):
            with contextlib.suppress(OSError):
                (scratch / name).mkdir()
        return {entry.name for entry in scratch.iterdir()} != {"dot.", "blank "}


def check_class_names(folder: Path, class_names: Iterable[str], *, split_dir: Path) -> None:
    """Refuse classes for which the disk cannot have one folder each, named like the class.

    Args:
        folder: A folder on that disk in which names are tried; it is left unchanged.
        class_names: Names of the classes.
        split_dir: Folder of the split, for the message.

    Raises:
        DataError: The disk refuses a class's name, changes it, or treats it like another one's; with each.
    """
    with _scratch(folder) as scratch:
        faults = list(_try_names(scratch, sorted(class_names), split_dir=split_dir))
    if faults:
        raise DataError(*limit_faults(faults))


def _try_names(scratch: Path, class_names: list[str], *, split_dir: Path) -> Iterator[Fault]:
    hint = "rename the class folder, or set SPLIT_LOCAL_DIR to a folder on another disk"
    made: dict[tuple[int, str], str] = {}
    for name in class_names:
        where, place = f"class {name!r}", scratch / name
        try:
            place.mkdir()
        except FileExistsError:
            other = made.get(_identify(place, name)) or made.get((0, fold_name(name)), "another class")
            what = f"the disk of {split_dir} takes it and {other!r} for the same folder"
            yield Fault(where, what, hint=hint.replace("the class folder", "one of the two class folders"))
        except OSError as error:
            if not is_refused_name(error):
                raise
            what = (
                "its name is too long for"
                if error.errno == errno.ENAMETOOLONG
                else "its name is not accepted by"
            )
            yield Fault(where, f"{what} the disk of {split_dir}", hint=hint)
        else:
            made[_identify(place, name)] = made[0, fold_name(name)] = name
    there = {clean_name(entry.name) for entry in scratch.iterdir()}
    for name in dict.fromkeys(made.values()):
        if clean_name(name) not in there:
            yield Fault(f"class {name!r}", f"the disk of {split_dir} changes its name", hint=hint)


def _identify(place: Path, name: str) -> tuple[int, str]:
    """Return a key that is equal for two spellings of one folder: its inode if it has one, else the name."""
    number = place.stat().st_ino
    return (number, "") if number else (0, fold_name(name))


def iter_safe_keys(key: str, digest: str) -> Iterator[str]:
    """Yield keys to try in turn for a picture whose own key the disk does not accept, or has already.

    Args:
        key: `<class>/<sub>/<file>`; the class stays as it is.
        digest: The content's hash in hexadecimal, which makes the names unique.
    """
    class_name, *folders, name = PurePosixPath(key).parts
    path, mark = PurePosixPath(name), digest[:12].lower()
    suffix = make_safe(_shorten(make_safe(path.suffix), 20)) if path.suffix else ""
    stem = _shorten(make_safe(path.stem), _NAME_BYTES - len(os.fsencode(suffix)) - len(mark) - 1)
    # Shortened names may end in a blank again.
    safe = [make_safe(_shorten(make_safe(folder), _NAME_BYTES)) for folder in folders]
    yield "/".join((class_name, *folders, f"{stem}-{mark}{suffix}"))
    yield "/".join((class_name, *safe, f"{stem}-{mark}{suffix}"))
    # A disk with a small alphabet accepts at least these.
    yield f"{class_name}/{digest[:24].lower()}{suffix if suffix.isascii() else ''}"


def make_safe(name: str) -> str:
    """Return a name with an underscore in place of each character that some disks refuse."""
    name = _BAD_CHARACTERS.sub("_", name)
    name = re.sub(r"[. ]+$", "_", name)
    return f"_{name}" if _DEVICES.fullmatch(name) else name


def _shorten(name: str, limit: int) -> str:
    """Return a name cut to at most `limit` bytes."""
    return os.fsencode(name)[:limit].decode("utf-8", "ignore")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which is removed with its content at the end."""
    scratch = folder / _SCRATCH
    scratch.mkdir()
    try:
        yield scratch
    finally:
        for entry in list(scratch.iterdir()):
            entry.rmdir()
        scratch.rmdir()
