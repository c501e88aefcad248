"""`train` in the container: train on what SageMaker put into /opt/ml, and write the result there.

Exit codes: 0 done, 1 a mistake in data or machine (or a bug of ours), 2 in settings, 143 stopped by SIGTERM
after saving the best model so far. SageMaker calls a stopped job Stopped whatever its code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from classifold import names
from classifold.container.pid_one import run_as_child
from classifold.counts import choose, count_of
from classifold.errors import (
    KILLED_FOR_MEMORY,
    MEMORY_HINT_IN_JOB,
    MEMORY_USED_UP,
    ClassifoldError,
    DiskError,
    Fault,
    HostError,
    Interrupted,
    JobError,
    RunError,
    explain_disk,
)
from classifold.processes import prepare_process
from classifold.progress import log_plainly, say, use_plain_lines
from classifold.sagemaker.ml_folder import Cluster, MlFolder

if TYPE_CHECKING:
    from classifold.container.order import JobOrder
    from classifold.training.hosts import HostInfo

# Environment variable that names another folder in place of /opt/ml.
ML_DIR_VARIABLE = "CLASSIFOLD_ML_DIR"
STOPPED = 128 + signal.SIGTERM
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "onnxruntime")
# Hints for a job, in place of those for a person at a machine, by words of the fault.
_CURES = {
    "disk is full": "raise VOLUME_GB, then launch again",
    "memory": MEMORY_HINT_IN_JOB,
}


def main() -> int:
    """Run the training job in /opt/ml as process 1 of a container, and return the exit code."""
    prepare_process()
    use_plain_lines()  # the local mode of SageMaker's SDK gives the container a terminal, but keeps a log
    ml = MlFolder(Path(os.environ.get(ML_DIR_VARIABLE, names.ML_DIR)))
    return run_as_child(lambda: run(ml.root), died=lambda number: _fail(ml, _explain_death(number, ml)))


def run(ml_dir: Path) -> int:
    """Run the training job of a folder and return the exit code.

    The result is in its `model` folder afterwards; if the job was stopped, that has the best model so far. If
    the job failed, `output/failure` says why.

    Args:
        ml_dir: A folder with the layout of /opt/ml.
    """
    from classifold.training.interruption import ending_gently

    ml = MlFolder(ml_dir)
    _prepare_output()
    with contextlib.suppress(OSError):
        ml.failure_path.unlink()  # from an earlier start in the same folder
    with ending_gently() as interruption:
        try:
            _work(ml)
            return 0
        except (KeyboardInterrupt, Interrupted) as stop:
            interruption.arrive()
            return _stop(ml, stop)
        except Exception as error:
            if interruption.came:  # C++ code turns an interruption into other errors
                interruption.arrive()
                return _stop(ml, error)
            return _fail(ml, error)


def _prepare_output() -> None:
    """Flush each line when it is printed, escape what the stream cannot encode, and show our own log."""
    import io

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    log_plainly()
    logging.getLogger("classifold").setLevel(logging.INFO)


def _say(text: str) -> None:
    # A log that cannot be written must not end the run.
    with contextlib.suppress(OSError):
        for line in text.rstrip("\n").split("\n"):
            say(line)


def _stop(ml: MlFolder, stop: BaseException) -> int:
    """Report what was saved of a job that was stopped, and return the exit code.

    SageMaker also stops the hosts of a job when one of them failed. That host may have been killed before it
    could write a failure file, so the others write one. SageMaker ignores it if the user stopped the job.
    """
    from classifold.sagemaker.failure_file import describe_fault

    _say(_describe_stop(stop))
    with contextlib.suppress(JobError):
        cluster = ml.read_cluster()
        if len(cluster.hosts) > 1:
            others = ", ".join(host for host in cluster.hosts if host != cluster.current)
            what = f"it was stopped, as SageMaker does when another host of the job ({others}) ended"
            hint = "the log of that host says why; `classifold launch --resume` resumes from the checkpoint"
            error = JobError(Fault(f"host {cluster.current}", what, hint=hint))
            _write_failure(ml, describe_fault(error))
    return STOPPED


def _describe_stop(stop: BaseException) -> str:
    if isinstance(stop, Interrupted):
        return f"stopped: {stop.faults[0].what}"
    return "stopped before anything was learned"


# The work


def _work(ml: MlFolder) -> None:
    """Train, and write the result to the model folder.

    Raises:
        Interrupted: The job was stopped; the best model so far is in the model folder, if there is one.
    """
    import tempfile

    from classifold.container.order import read_order

    _say(describe_machine(ml.model_dir))
    with tempfile.TemporaryDirectory(prefix="classifold-", ignore_cleanup_errors=True) as scratch:
        order = read_order(ml, Path(scratch))
        for line in _describe_order(order):
            _say(line)
        try:
            _train(order)
        except (KeyboardInterrupt, Interrupted):
            if order.cluster.current != order.cluster.hosts[0]:
                raise
            # A run folder that exists is complete: the run was finished before the signal came.
            if not order.run_dir.exists():
                with _deaf():
                    raise _deliver_reached(order, ml) from None
        if order.cluster.current == order.cluster.hosts[0]:
            with _deaf():
                deliver_run(order.run_dir, ml)


def describe_machine(folder: Path) -> str:
    """Return one line on the machine: versions, cores, memory, GPUs, and the free disk space at `folder`."""
    import importlib.metadata
    import platform
    import shutil

    import classifold
    from classifold.machine import count_cores, list_gpus, memory_bytes

    versions = [f"classifold {classifold.__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    facts = [count_of(count_cores(), "core"), f"{memory_bytes() / 1e9:.1f} GB memory"]
    facts.append(" and ".join(list_gpus()) or "no GPU")
    with contextlib.suppress(OSError):
        facts.append(f"{shutil.disk_usage(folder).free / 1e9:.1f} GB disk free")
    return f"{', '.join(versions)}; {', '.join(facts)}"


def _describe_order(order: JobOrder) -> Iterator[str]:
    counts = [f"{len(order.sets.pictures[name])} {name}" for name in names.SETS]
    yield f"job {order.name}: {len(order.sets.class_names)} classes; {', '.join(counts)} pictures"
    cluster = order.cluster
    if len(cluster.hosts) > 1:
        rank = cluster.hosts.index(cluster.current)
        yield f"host {cluster.current}, number {rank + 1} of {len(cluster.hosts)}"
    for name, places in order.sets.present.items():
        verb = choose(len(places), "is", "are")
        yield f"{len(places)} of the {len(order.sets.pictures[name])} {name} pictures {verb} on this host"
    for note in order.notes:
        yield f"note: {note}"


def _train(order: JobOrder) -> None:
    from classifold.report.page import write_report_of_training
    from classifold.training.run import train_model

    cluster = order.cluster
    if cluster.interface:  # tells NVIDIA's NCCL how to reach the other machines
        os.environ.setdefault("NCCL_SOCKET_IFNAME", cluster.interface)
    summary = train_model(
        order.config,
        add_report=write_report_of_training,
        name=order.name,
        checkpoint_dir=order.checkpoint_dir,
        host=cluster.current,
        this_host=_describe_host(cluster),
        sets=order.sets,
    )
    if summary is None:
        _say(f"done: this host's share of training; {cluster.hosts[0]} writes the model")
        return
    share, count = summary.metrics["scores"]["accuracy"]["value"], summary.metrics["num_pictures"]
    # Not as name=value, since SageMaker would read that as a metric of an epoch.
    _say(f"evaluation: {100 * share:.1f} % of {count} pictures right")


def _describe_host(cluster: Cluster) -> HostInfo:
    """Return the rank of this machine among the job's machines, and how to reach the first one."""
    from classifold.training.hosts import HostInfo

    return HostInfo(
        rank=cluster.hosts.index(cluster.current),
        count=len(cluster.hosts),
        address=f"{cluster.hosts[0]}:{names.HOSTS_PORT}",
        names=cluster.hosts,
    )


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore SIGTERM and SIGINT while files that belong together are moved.

    This takes seconds, and SageMaker sends SIGKILL only two minutes after SIGTERM.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deliver_run(run_dir: Path, ml: MlFolder) -> None:
    """Move a finished run to the model folder, and check it there.

    Args:
        run_dir: The run folder.
        ml: The folder /opt/ml of the job.

    Raises:
        RunError: An artefact is missing, damaged or does not load.
        DiskError: The disk is full, or the model folder cannot be written.
    """
    from classifold.atomic import deliver_content
    from classifold.run_folder import check_run

    hint = "most likely a fault of this machine's disk: launch again"
    if not run_dir.is_dir():
        raise RunError(Fault(str(ml.model_dir), "the run left no run folder", hint=hint))
    deliver_content(run_dir, ml.model_dir)
    check_run(ml.model_dir, is_whole=True, where=str(ml.model_dir), hint=hint)
    _say(f"done: the run is in {ml.model_dir}, checked")


def _deliver_reached(order: JobOrder, ml: MlFolder) -> Interrupted:
    """Move the best model so far to the model folder, and return the error that reports it."""
    from classifold.atomic import deliver_content

    reached = order.run_dir.with_name(order.run_dir.name + names.INTERRUPTED_ENDING)
    if not reached.is_dir():
        return Interrupted(Fault("training", "nothing was learned yet that could be kept"))
    deliver_content(reached, ml.model_dir)
    return Interrupted(Fault("training", f"the best model so far is in {ml.model_dir}"))


# The end of a job that failed


def _fail(ml: MlFolder, error: BaseException) -> int:
    """Report the error in the log and in the failure file, and return the exit code."""
    import traceback

    from classifold.sagemaker.failure_file import describe_bug, describe_fault

    known = _explain(error)
    if known is None:
        _say("".join(traceback.format_exception(error)))
        text, code = describe_bug(error), 1
    else:
        _say(str(known))
        text, code = describe_fault(known), known.exit_code
    _write_failure(ml, text)
    return code


def _write_failure(ml: MlFolder, text: str) -> None:
    with contextlib.suppress(OSError):
        ml.failure_path.parent.mkdir(parents=True, exist_ok=True)
        ml.failure_path.write_text(text, encoding="utf-8")


def _explain(error: BaseException) -> ClassifoldError | None:
    """Return the user's mistake behind an exception, with a hint that fits a job; None for a bug of ours."""
    known: ClassifoldError | None = None
    if isinstance(error, ClassifoldError):
        known = error
    elif isinstance(error, OSError):
        known = explain_disk(error, "training")
    elif isinstance(error, MemoryError) or _is_device_full(error):
        known = JobError(Fault("training", MEMORY_USED_UP))
    return None if known is None else type(known)(*map(_cure_in_job, known.faults))


def _is_device_full(error: BaseException) -> bool:
    """Tell whether TensorFlow or JAX ran out of GPU memory; neither raises a MemoryError for it."""
    return type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)[:2000]


def _cure_in_job(fault: Fault) -> Fault:
    cures = [cure for words, cure in _CURES.items() if words in fault.what]
    return Fault(fault.where, fault.what, got=fault.got, hint=cures[0]) if cures else fault


def _explain_death(number: int, ml: MlFolder) -> ClassifoldError:
    """Return the error of a child process that a signal ended, which could not report it itself."""
    if number == signal.SIGKILL:
        return JobError(Fault("training", KILLED_FOR_MEMORY))
    if number == signal.SIGBUS:  # the disk had no room for a page of a memory-mapped file
        return DiskError(Fault("training", "the disk is full"))
    with contextlib.suppress(JobError):
        cluster = ml.read_cluster()
        if number == signal.SIGABRT and len(cluster.hosts) > 1:  # JAX aborts if another host does not answer
            from classifold.training.hosts import lost_host

            return HostError(lost_host(_describe_host(cluster)))
    what = f"it ended in the middle of a library ({signal.Signals(number).name})"
    hint = "set BACKEND to the other engine, or choose another INSTANCE_TYPE; the log may say more"
    return JobError(Fault("training", what, hint=hint))


if __name__ == "__main__":
    sys.exit(main())
