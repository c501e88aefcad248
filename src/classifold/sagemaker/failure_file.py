"""The failure file of a training job; SageMaker shows only its beginning: cause and remedy come first."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from traceback import FrameSummary

from classifold import names
from classifold.errors import ClassifoldError, Fault

# At most this many bytes of a fault's cause and hint are shown, to leave room for the next fault.
_CAUSE_BYTES, _HINT_BYTES = 500, 300
_EXCEPTION_BYTES = 400
_REPORT = "this is a mistake in classifold itself, not yours; please report it with the log of the job"


def cut(text: str, limit: int) -> str:
    """Return the text, cut between two characters to at most `limit` bytes of UTF-8."""
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= limit:
        return whole.decode()
    return whole[: limit - 3].decode("utf-8", "ignore") + "..."


def describe_fault(error: ClassifoldError) -> str:
    """Return the content of the failure file for a user's mistake.

    The beginning has every cause with its remedy if they fit, else the first with its remedy and as many
    causes as fit; the whole text follows after an empty line.
    """
    whole = str(error)
    if len(whole.encode("utf-8", "backslashreplace")) <= names.FAILURE_LIMIT:
        return whole + "\n"
    return f"{_shorten(error.faults)}\n\n{whole}\n"


def _shorten(faults: Sequence[Fault]) -> str:
    """Return the first faults in at most as many bytes as SageMaker shows."""
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
    """Return the content for a bug of ours: the exception, its calls innermost first, then the traceback."""
    said = "".join(traceback.format_exception_only(error)).strip()
    frames = [_describe_frame(frame) for frame in reversed(traceback.extract_tb(error.__traceback__))]
    head = cut("\n".join([cut(said, _EXCEPTION_BYTES), *frames]), names.FAILURE_LIMIT - len(_REPORT) - 1)
    # A file's name may hold what UTF-8 cannot encode; this file must be written all the same.
    whole = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    return f"{head}\n{_REPORT}\n\n{whole}"


def _describe_frame(frame: FrameSummary) -> str:
    path = "/".join(Path(frame.filename).parts[-2:])
    return f"at {path}:{frame.lineno} in {frame.name}: {frame.line or ''}".rstrip(": ")


def read_faults(text: str, *, where: str) -> list[Fault]:
    """Return the faults in a failure file: the inverse of `describe_fault`, as far as that is possible.

    Args:
        text: The file's content.
        where: The `where` of a fault whose text does not name one.
    """
    faults: list[Fault] = []
    for line in text.partition("\n\n")[2].splitlines() or text.splitlines():
        kind, _, said = line.partition(": ")
        if kind == "error":
            its_where, _, what = said.partition(": ")
            faults.append(Fault(its_where, what) if what else Fault(where, its_where))
        elif kind == "hint" and faults and not faults[-1].hint:
            faults[-1] = Fault(faults[-1].where, faults[-1].what, hint=said)
    if faults or not text.strip():
        return faults
    first, hint = text.strip().splitlines()[0], "the whole text is in the log above"
    return [Fault(where, first, hint=hint)]
