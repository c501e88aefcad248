"""The failure file of a training job: SageMaker shows its beginning, so the cause and the cure come first."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from traceback import FrameSummary

from classifold import names
from classifold.errors import ClassifoldError, Fault

# Bytes of one fault's cause, so that its cure and the next fault are still seen.
_CAUSE_BYTES, _HINT_BYTES = 500, 300
_EXCEPTION_BYTES = 400
_REPORT = "this is a mistake in classifold itself, not yours; please report it with the log of the job"


def cut(text: str, limit: int) -> str:
    """Return the text, cut to so many bytes of UTF-8 where it has more, between two characters."""
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= limit:
        return whole.decode()
    return whole[: limit - 3].decode("utf-8", "ignore") + "..."


def describe_fault(error: ClassifoldError) -> str:
    """Return what a user's mistake leaves in the failure file.

    The beginning holds every cause with its cure where there is room for them, else the first with its cure
    and as many causes as fit; what was cut stands whole below.
    """
    whole = str(error)
    if len(whole.encode("utf-8", "backslashreplace")) <= names.FAILURE_LIMIT:
        return whole + "\n"
    return f"{_shorten(error.faults)}\n\n{whole}\n"


def _shorten(faults: Sequence[Fault]) -> str:
    """Return the most important faults in no more bytes than SageMaker shows."""
    first = Fault(faults[0].where, faults[0].what, got=faults[0].got).format()
    lines = [cut(first, _CAUSE_BYTES)]
    if faults[0].hint:
        lines.append(cut(f"hint: {faults[0].hint}", _HINT_BYTES))
    for index, fault in enumerate(faults[1:], 1):
        line = cut(Fault(fault.where, fault.what, got=fault.got).format(), _CAUSE_BYTES)
        left = f"and {len(faults) - index} more, in the log"
        if len("\n".join([*lines, line, left]).encode()) > names.FAILURE_LIMIT:
            lines.append(left)
            break
        lines.append(line)
    return cut("\n".join(lines), names.FAILURE_LIMIT)


def describe_bug(error: BaseException) -> str:
    """Return what a mistake of our own leaves: the exception, the innermost calls first, then all of it."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = [_describe_frame(frame) for frame in reversed(traceback.extract_tb(error.__traceback__))]
    head = cut("\n".join([cut(said, _EXCEPTION_BYTES), *frames]), names.FAILURE_LIMIT - len(_REPORT) - 1)
    # A file's name may hold what UTF-8 cannot say, and then this file must still be written.
    whole = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    return f"{head}\n{_REPORT}\n\n{whole}"


def _describe_frame(frame: FrameSummary) -> str:
    place = "/".join(Path(frame.filename).parts[-2:])
    return f"at {place}:{frame.lineno} in {frame.name}: {frame.line or ''}".rstrip(": ")


def read_faults(text: str, *, where: str) -> list[Fault]:
    """Return the faults that a failure file tells of: the inverse of `describe_fault` as far as it goes.

    Args:
        text: The file's content.
        where: What a fault is about whose own words do not say so.
    """
    faults: list[Fault] = []
    for line in text.partition("\n\n")[2].splitlines() or text.splitlines():
        kind, _, said = line.partition(": ")
        if kind == "error":
            place, _, what = said.partition(": ")
            faults.append(Fault(place, what) if what else Fault(where, place))
        elif kind == "hint" and faults and not faults[-1].hint:
            faults[-1] = Fault(faults[-1].where, faults[-1].what, hint=said)
    if faults or not text.strip():
        return faults
    first, hint = text.strip().splitlines()[0], "the whole of it stands in the log above"
    return [Fault(where, first, hint=hint)]
