"""Which names the disk of a new split takes and tells apart, found by trying them there."""

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

# What disks answer to a name that they do not take. ENOENT is exFAT's answer through FUSE.
_REFUSED = {errno.EINVAL, errno.ENOENT, errno.ENAMETOOLONG, errno.EILSEQ}
# What Windows and its file systems do not take in a name, and names that mean devices there.
_BAD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_NAME_BYTES = 120
_SCRATCH = ".classifold-names"


def is_refused_name(error: OSError) -> bool:
    """Tell whether the disk answered that it does not take a name."""
    return error.errno in _REFUSED


def fold_name(name: str) -> str:
    """Return a name as a disk may see it that tells apart neither case nor the spelling of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_folding(folder: Path) -> bool:
    """Tell whether the disk of a folder takes names for one that differ in case or in Unicode's spelling."""
    with _scratch(folder) as scratch:
        (scratch / "caf\u00e9").mkdir()
        return (scratch / "CAF\u00c9").exists() or (scratch / "cafe\u0301").exists()


def changes_endings(folder: Path) -> bool:
    """Tell whether the disk of a folder cuts dots or blanks off the end of a name, or refuses them."""
    with _scratch(folder) as scratch:
        for name in ("dot.", "blank "):
            with contextlib.suppress(OSError):
                (scratch / name).mkdir()
        return {entry.name for entry in scratch.iterdir()} != {"dot.", "blank "}


def check_class_names(folder: Path, class_names: Iterable[str], *, split_dir: Path) -> None:
    """Refuse classes that the disk cannot hold side by side, each in a folder of its name.

    Args:
        folder: A folder on that disk, for trying; it is left as it was.
        class_names: Names of the classes.
        split_dir: Folder of the split, for the message.

    Raises:
        DataError: With every class whose name the disk does not take, changes, or takes for another one's.
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
    """Return what two spellings of one folder have in common, where the disk numbers its folders."""
    number = place.stat().st_ino
    return (number, "") if number else (0, fold_name(name))


def iter_safe_keys(key: str, digest: str) -> Iterator[str]:
    """Yield keys to try in turn for a picture whose own key the disk does not take, or has already.

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
    # A disk with an alphabet of its own takes these at least.
    yield f"{class_name}/{digest[:24].lower()}{suffix if suffix.isascii() else ''}"


def make_safe(name: str) -> str:
    """Return a name without what some disks refuse in one."""
    name = _BAD_CHARACTERS.sub("_", name)
    name = re.sub(r"[. ]+$", "_", name)
    return f"_{name}" if _DEVICES.fullmatch(name) else name


def _shorten(name: str, limit: int) -> str:
    """Return a name of at most so many bytes."""
    return os.fsencode(name)[:limit].decode("utf-8", "ignore")


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which is removed with all that is in it."""
    scratch = folder / _SCRATCH
    scratch.mkdir()
    try:
        yield scratch
    finally:
        for entry in list(scratch.iterdir()):
            entry.rmdir()
        scratch.rmdir()
