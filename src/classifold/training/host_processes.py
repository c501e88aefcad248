"""`train --hosts N`: hosts that are processes of this machine, watched until the first has the run folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from classifold import errors, names
from classifold.asking import asked_as, record_asked
from classifold.errors import KILLED_FOR_MEMORY, ClassifoldError, Fault, HostError, Interrupted, UsageError
from classifold.processes import PYTHON
from classifold.progress import hide_progress, log_plainly, say
from classifold.settings.config import Config
from classifold.settings.loader import build_config
from classifold.settings.rules import find_host_problem

if TYPE_CHECKING:
    from classifold.training.run import RunSummary

# Once a host has ended, the first one has so long to save what was learned, and the others to end too.
_SAVING_SECONDS, _GRACE_SECONDS = 45.0, 15.0
_LAST_LINES = 20


@dataclass
class Order:
    """What a process reads from its standard input.

    Attributes:
        settings: Settings of the run, as JSON has them.
        name: Name of the run.
        archive: Also write model.tar.gz.
        rank: Number of this host, from 0.
        count: Number of hosts.
        address: `HOST:PORT` where they meet.
        asked: How the training was started, as `record_asked` returns it, for hints.
    """

    settings: dict[str, Any]
    name: str
    archive: bool
    rank: int
    count: int
    address: str
    asked: dict[str, Any] = field(default_factory=dict)


def train_on_hosts(config: Config, count: int, *, archive: bool, name: str | None) -> RunSummary:
    """Train on several processes of this machine, as on several machines, and return the finished run.

    Ctrl-C and SIGTERM are passed on to all of them. Where one ends before its time the others end too.

    Args:
        config: The settings.
        count: Number of processes.
        archive: Also write model.tar.gz into the run folder.
        name: Name of a stopped run to resume; None begins a new one.

    Raises:
        ClassifoldError: What a host reported when it ended.
        HostError: A host was killed, or said nothing.
        Interrupted: After a signal, once what was reached was saved.
        UsageError: The batch has fewer pictures than there are hosts.
    """
    from classifold.training.interruption import collecting_signals
    from classifold.training.run import RunSummary, choose_run_dir

    if crowded := find_host_problem(config, count, where="--hosts"):
        raise UsageError(crowded)
    say(f"starting {count} hosts on this machine")
    name = name or choose_run_dir(config, None, datetime.now().astimezone()).name
    settings, address = config.model_dump(mode="json"), f"{names.LOOPBACK}:{_find_port()}"
    order = Order(settings, name, archive, 0, count, address, record_asked())
    with contextlib.ExitStack() as stack, collecting_signals() as signals:
        stack.callback(_remove_left, Path(config.RUNS_DIR) / name, count)
        hosts = [stack.enter_context(_start(order, rank)) for rank in range(count)]
        _wait(hosts, signals)
        _raise_first(hosts, name)
        said = hosts[0].read_answer()
    archive_path = None if said["archive"] is None else Path(said["archive"])
    return RunSummary(
        Path(said["run_dir"]), said["metrics"], said["seconds"], said["notes"], archive=archive_path
    )


def _remove_left(run_dir: Path, count: int) -> None:
    """Remove what hosts that were killed left of their work; the state to resume from is the first one's."""
    from classifold.training.unfinished import partial_of_host

    for rank in range(count):
        shutil.rmtree(partial_of_host(run_dir, rank), ignore_errors=True)


def _find_port() -> int:
    with socket.socket() as one:
        one.bind((names.LOOPBACK, 0))
        return int(one.getsockname()[1])


@dataclass
class _Process:
    """A host's process, and what it says."""

    rank: int
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    log: IO[bytes] | None
    was_silent: bool = False

    def read_answer(self) -> dict[str, Any]:
        """Return the JSON that it printed at its end; empty where it printed none."""
        self.output.seek(0)
        with contextlib.suppress(ValueError):
            return dict(json.loads(self.output.read()))
        return {}

    def tell_log(self) -> None:
        """Show the end of what a host but the first had to say."""
        if self.log is not None:
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
            for line in lines:
                say(f"host {self.rank + 1}: {line}")


@contextlib.contextmanager
def _start(order: Order, rank: int) -> Iterator[_Process]:
    """Start a host; leaving the context ends it."""
    from classifold.processes import start_process

    text = json.dumps(asdict(order) | {"rank": rank}).encode()
    with contextlib.ExitStack() as stack:
        told = stack.enter_context(tempfile.TemporaryFile())
        told.write(text)
        told.seek(0)
        output = stack.enter_context(tempfile.TemporaryFile())
        # The first one alone has the terminal: the others would say the same.
        log = stack.enter_context(tempfile.TemporaryFile()) if rank else None
        words = [*PYTHON, "-m", "classifold.training.host_processes"]
        process = stack.enter_context(start_process(words, stdin=told, stdout=output, stderr=log))
        yield _Process(rank, process, output, log)


def _wait(hosts: Sequence[_Process], signals: list[int]) -> None:
    """Wait until all have ended; what does not end in time after another's failure is killed."""
    num_passed, deadline = 0, float("inf")
    while any(one.process.poll() is None for one in hosts):
        for number in signals[num_passed:]:
            num_passed += 1
            for one in hosts:
                if one.process.poll() is None:
                    one.process.send_signal(number)
        codes = [one.process.poll() for one in hosts]
        if signals:
            deadline = min(deadline, time.monotonic() + names.STOP_SECONDS)
        elif any(codes):
            grace = _SAVING_SECONDS if codes[0] is None else _GRACE_SECONDS
            deadline = min(deadline, time.monotonic() + grace)
        if time.monotonic() > deadline:
            _end_silent(hosts)
        time.sleep(0.05)


def _end_silent(hosts: Sequence[_Process]) -> None:
    """End the hosts that did not end by themselves when another did: they answer nobody."""
    for one in hosts:
        if one.process.poll() is None:
            one.was_silent = True
            one.process.kill()


def _raise_first(hosts: Sequence[_Process], name: str) -> None:
    """Raise what ended the run, if it did not end well: the cause, not what followed from it."""
    failed = [one for one in hosts if one.process.returncode]
    if not failed:
        return
    told = [_build_error(one) for one in failed]
    known = [error for error in told if error is not None]
    causes = [error for error in known if not isinstance(error, HostError | Interrupted)]
    stops = [error for error in known if isinstance(error, Interrupted)]
    killed = [one for one, error in zip(failed, told, strict=True) if error is None]
    if causes:
        raise causes[0]
    if stops and not killed:
        raise stops[0]
    for one in killed:
        one.tell_log()
    raise _explain_deaths(killed, name) if killed else known[0]


def _build_error(one: _Process) -> ClassifoldError | None:
    """Return the error that a host reported; None if it reported nothing."""
    said = one.read_answer()
    kind = getattr(errors, str(said.get("error")), None)
    if kind is None:
        return None
    faults = [Fault(**fault) for fault in said["faults"]]
    if kind is Interrupted:
        return Interrupted(*faults, kept=None if said["kept"] is None else Path(said["kept"]))
    error: ClassifoldError = kind(*faults)
    return error


def _explain_deaths(killed: Sequence[_Process], name: str) -> HostError:
    from classifold.training.unfinished import explain_resume

    # One that aborts does so because another was gone.
    first = min(killed, key=lambda one: one.process.returncode == -signal.SIGABRT)
    code = first.process.returncode
    what = f"it ended with exit code {code}; its last lines are above"
    if first.was_silent:
        what = "it did not answer the others any more, and was ended"
    elif code == -signal.SIGKILL:
        what = KILLED_FOR_MEMORY
    elif code < 0:
        what = f"it ended in the middle of a library ({signal.Signals(-code).name})"
    hint = f"fewer hosts take less memory; {explain_resume(name)}"
    return HostError(Fault(f"host {first.rank + 1}", what, hint=hint))


# In the process of a host


def main() -> int:
    """Be one host: read the order from standard input, train, print what came of it as JSON."""
    from classifold.processes import end_with_parent

    end_with_parent()
    log_plainly()
    order = Order(**json.loads(sys.stdin.buffer.read()))
    if order.rank:
        hide_progress()  # the first host shows the same
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What libraries print is no answer, and nothing that the user should know: hosts greet each other there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        with asked_as(order.asked):
            said = _train(order)
        code = 0
    except ClassifoldError as error:
        kept = getattr(error, "kept", None)
        faults = [asdict(fault) for fault in error.faults]
        said = {"error": type(error).__name__, "faults": faults, "kept": None if kept is None else str(kept)}
        code = error.exit_code
    json.dump(said, output)
    output.flush()
    sys.stderr.flush()
    # No thread of an engine, and no host that has ended, is waited for.
    os._exit(code)


def _train(order: Order) -> dict[str, Any]:
    from classifold.report.page import write_report_of_training
    from classifold.training.hosts import HostInfo
    from classifold.training.run import train_model

    summary = train_model(
        build_config(order.settings),
        archive=order.archive,
        add_report=write_report_of_training,
        name=order.name,
        is_resumable=True,
        this_host=HostInfo(
            order.rank, order.count, order.address, tuple(f"number {n + 1}" for n in range(order.count))
        ),
    )
    if summary is None:
        return {}
    return {
        "run_dir": str(summary.run_dir),
        "metrics": summary.metrics,
        "seconds": summary.seconds,
        "notes": summary.notes,
        "archive": None if summary.archive is None else str(summary.archive),
    }


if __name__ == "__main__":
    sys.exit(main())
