"""The user errors as a tree; any other exception is a bug in classifold.

ClassifoldError            exit 1
├── SettingsError          exit 2   config.py, --set, hyperparameters
├── UsageError             exit 2   the command line
├── DataError              exit 1   pictures, folders, splits
├── BackboneError          exit 1   unknown backbone, weights that cannot be loaded
├── RunError               exit 1   a run folder that is missing, damaged or refused
├── DiskError              exit 1   full, read-only, not permitted
├── MissingExtraError      exit 1   an optional part is not installed
├── AwsError               exit 1   credentials, permissions, quotas, buckets, the network
│   └── MissingError       exit 1   a bucket, object, role or job that does not exist
├── DockerError            exit 1   the engine, the image, the registry
├── JobError               exit 1   a training job that failed or was refused
├── HostError              exit 1   another host of the run that ended, or never connected
├── ServeError             exit 1   a server that cannot start, or cannot go on
└── Interrupted            exit 130 Ctrl-C or SIGTERM, after the progress was saved
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.counts import count_of
from classifold.printable import make_printable as make_printable


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `where: what, got GOT`, and the cure.

    Attributes:
        where: The setting, file, folder or command that it is about.
        what: What is wrong, and what was expected.
        hint: The cure, as an instruction to the user; left out when empty.
        got: The value that was found, already printable; left out when empty.
    """

    where: str
    what: str
    hint: str = ""
    got: str = ""

    def format(self) -> str:
        """Return the `error:` line, and the `hint:` line where there is a hint."""
        got = f", got {self.got}" if self.got else ""
        line = f"error: {make_printable(f'{self.where}: {self.what}{got}')}"
        return f"{line}\nhint: {make_printable(self.hint)}" if self.hint else line


def name_failure(doing: str) -> str:
    """Return the `where` of an action that failed: "cannot make the bucket" for "make the bucket"."""
    return f"cannot {doing}"


# Of faults of one kind, this many are shown at most; of the faults of one damaged file of ours, fewer.
FAULT_LIMIT, FILE_FAULT_LIMIT = 20, 5


def limit_faults(
    faults: Sequence[Fault], *, noun: str = "", what: str = "not listed here", hint: str = "fix these first"
) -> list[Fault]:
    """Return the faults to show: the first `FAULT_LIMIT`, and one that says how many more there are.

    Args:
        faults: All that were found, in the order in which they are shown.
        noun: What one of the others is about, such as "shard"; may be empty.
        what: What is said of the others.
        hint: What to do about the others.
    """
    more = len(faults) - FAULT_LIMIT
    count = count_of(more, f"more {noun}") if noun else f"{more:,} more"
    rest = [Fault(count, what, hint=hint)] if more > 0 else []
    return [*faults[:FAULT_LIMIT], *rest]


class ClassifoldError(Exception):
    """A mistake that the user can correct; holds all faults that were found, at least one.

    Attributes:
        faults: Each says where something is wrong (`where`), what (`what`), and the cure (`hint`).

    Example:
        >>> import classifold
        >>> try:
        ...     classifold.load("no/such/run")
        ... except classifold.ClassifoldError as error:
        ...     print(error.faults[0].what)
        no such run folder or model
    """

    exit_code = 1

    def __init__(self, *faults: Fault) -> None:
        if not faults:
            raise ValueError("a user error needs at least one fault")
        super().__init__(*faults)
        self.faults: Sequence[Fault] = faults

    def __str__(self) -> str:
        return "\n".join(fault.format() for fault in self.faults)


class SettingsError(ClassifoldError):
    """A setting is unknown, of the wrong type, out of range, or config.py cannot be read."""

    exit_code = 2


class UsageError(ClassifoldError):
    """The command line asks for something that is not possible."""

    exit_code = 2


class DataError(ClassifoldError):
    """The pictures or their folders cannot be used."""


class BackboneError(ClassifoldError):
    """The backbone is unknown or its weights cannot be loaded."""


class RunError(ClassifoldError):
    """A run folder is missing or damaged, or its files do not fit together."""


class DiskError(ClassifoldError):
    """The disk is full or read-only, or the folder may not be written."""


class MissingExtraError(ClassifoldError):
    """An optional part of the package is not installed."""


class AwsError(ClassifoldError):
    """AWS refused, or cannot be reached: credentials, permissions, quotas, a foreign bucket, the network."""


class MissingError(AwsError):
    """A bucket, an object, a role or a job does not exist."""


class DockerError(ClassifoldError):
    """The container engine is missing, an image cannot be built or pushed, or a container failed."""


class JobError(ClassifoldError):
    """A training job failed, or cannot be started as requested."""


class HostError(ClassifoldError):
    """Another host of the same run ended, or never connected."""


class ServeError(ClassifoldError):
    """The server cannot start, or cannot go on: its port, its address, its processes."""


class Interrupted(ClassifoldError):  # noqa: N818 - not a failure
    """Ctrl-C or SIGTERM ended the work early, after the progress was saved.

    Attributes:
        kept: The folder with the best model so far, None where there is none yet.
    """

    exit_code = 130

    def __init__(self, *faults: Fault, kept: Path | None = None) -> None:
        super().__init__(*faults)
        self.kept = kept


# Memory that ran out, in one wording: it shows as an exception, or as a process that the system killed.
MEMORY_USED_UP = "the memory is used up"
KILLED_FOR_MEMORY = "it was killed, most likely because the memory ran out"
MEMORY_HINT = "close other programs, or lower BATCH_SIZE, CACHE_GB or IMAGE_SIZE"
MEMORY_HINT_IN_JOB = "choose a larger INSTANCE_TYPE, or lower BATCH_SIZE, CACHE_GB or IMAGE_SIZE"

_DISK_CURES = {
    errno.ENOSPC: ("the disk is full", "free some space or choose another disk, then run the command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run the command again"),
    errno.EROFS: ("the disk is read-only", "choose a folder on a disk that can be written"),
    errno.EACCES: ("permission denied", "choose another folder or change its owner or mode"),
    errno.EPERM: ("operation not permitted", "choose another folder or change its owner or mode"),
    errno.ENOTDIR: ("it is a file, not a folder", "move the file away or choose another folder"),
    errno.EEXIST: ("it is a file, not a folder", "move the file away or choose another folder"),
    errno.EISDIR: ("it is a folder, not a file", "move the folder away or choose another name"),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "shorten the file's name"),
    errno.EFBIG: ("the file is too large for this disk", "choose another disk"),
    errno.EIO: ("the disk reports an input/output error", "check the disk, or choose another one"),
    errno.EBUSY: ("it is in use", "close what uses it, unmount what is mounted there, or choose another one"),
    errno.EXDEV: ("its disk cannot rename or move it", "choose a folder on another disk"),
    errno.EILSEQ: ("its disk does not accept this name", "choose another name or another disk"),
    errno.EMFILE: ("too many files are open", "raise the limit, for instance with ulimit -n 4096"),
}


def explain_disk(error: OSError, where: Path | str) -> DiskError | None:
    """Return an OSError as a DiskError if it means that the disk refuses to write, else None.

    Args:
        error: The error that the system raised.
        where: The folder or file that was being written, as the user knows it; used if `error` names none.
    """
    if error.filename is None and "temporary directory" in str(error.strerror):  # raised by tempfile
        hint = "set the environment variable TMPDIR to a folder that can be written"
        return DiskError(
            Fault("temporary files", "there is no folder for them that can be written", hint=hint)
        )
    if error.errno not in _DISK_CURES:
        return None
    what, hint = _DISK_CURES[error.errno]
    return DiskError(Fault(where=str(error.filename or where), what=what, hint=hint))


@contextlib.contextmanager
def disk_errors(where: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals to write under `where` into a DiskError.

    Args:
        where: The folder or file that is being written, as the user knows it.

    Raises:
        DiskError: For a full, read-only or forbidden disk; any other OSError passes through.
    """
    try:
        yield
    except OSError as error:
        known = explain_disk(error, where)
        if known is None:
            raise
        raise known from error
