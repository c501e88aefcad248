"""The machines of a training job: from the first status to the last, one host or several on one network."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.engine import DockerRun, PullError, Run, ScriptRun, network_of
from lab.host import FAILURE_LIMIT, Host
from lab.job import Job
from lab.storage import JobLog, JobStorage, StorageError


@dataclass
class Behaviour:
    """How the lab's machines behave.

    Attributes:
        stop_seconds: From SIGTERM to SIGKILL.
        script: Python code that runs in the place of the image; empty: the image.
        capacity_errors: How many of the next jobs find no machine.
        sync_seconds: How often checkpoints are sent.
        start_seconds: How long a machine takes to come.
        download_seconds: How long the pictures take at least to be there.
        wait_seconds: How long there is no spot machine after one was taken back.
        hosting: How models are served: `process`, the image's program as a process of its own, or `docker`.
        serve_script: Python code that serves in the place of that program; empty: the program.
        serve_start_seconds: How long a container may take at most until it answers /ping.
        invoke_seconds: How long it may take to answer a request.
        bake_seconds: How long an update's new containers are watched, and a roll-back or deletion takes.
    """

    stop_seconds: float = 120.0
    script: str = ""
    capacity_errors: int = 0
    sync_seconds: float = 0.5
    start_seconds: float = 0.0
    download_seconds: float = 0.0
    wait_seconds: float = 0.0
    hosting: str = "process"
    serve_script: str = ""
    serve_start_seconds: float = 60.0
    invoke_seconds: float = 60.0
    bake_seconds: float = 0.2


class Machine(threading.Thread):
    """Runs one job to its end."""

    def __init__(self, job: Job, *, account: str, role: Any, behaviour: Behaviour) -> None:
        super().__init__(daemon=True, name=job.name)
        self.job = job
        self.account = account
        self.role = role
        self.behaviour = behaviour
        self.script = behaviour.script
        self.storage = JobStorage(account, role)

    def run(self) -> None:
        """Go the whole way; a mistake of the lab's own is a job that failed and says so."""
        try:
            while self._run_once() == "interrupted":
                self.job.enter("Interrupted")
                how = self._pass_time(self.behaviour.wait_seconds)
                # There is no machine now that could be taken back.
                self.job.interrupt.clear()
                self.job.is_taken_at_once = False
                if how in ("stopped", "MaxWaitTimeExceeded"):
                    self._end_without_machine(how)
                    return
                self.job.enter("Starting")
        except StorageError as refused:
            self._fail(f"ClientError: Data transfer failed: {refused}")
        except PullError as failed:
            self._fail(f"ClientError: Cannot pull the training image: {failed}")
        except Exception:
            self._fail(f"InternalServerError: the lab has a mistake: {traceback.format_exc()[-900:]}")

    def _fail(self, reason: str) -> None:
        self.job.reason = reason[:FAILURE_LIMIT]
        self.job.enter("Failed", status="Failed")

    def _run_once(self) -> str:
        """Run on the machines; return how it ended: completed, failed, stopped, interrupted or exceeded."""
        if self.behaviour.capacity_errors > 0:
            self.behaviour.capacity_errors -= 1
            self._fail(
                "CapacityError: Unable to provision requested ML compute capacity. "
                "Please retry using a different ML instance type."
            )
            return "failed"
        how = self._pass_time(self.behaviour.start_seconds)
        if how in ("stopped", "MaxWaitTimeExceeded"):
            self._end_without_machine(how)
        if how:
            return how
        with tempfile.TemporaryDirectory(prefix="lab-job-", ignore_cleanup_errors=True) as name:
            return self._run_in(Path(name))

    def _pass_time(self, seconds: float) -> str:
        """Wait, and return what came meanwhile: stopped, MaxWaitTimeExceeded, interrupted or nothing."""
        until = time.time() + seconds
        while True:
            how = self._find_end_of_waiting(time.time())
            if how or time.time() >= until:
                return how
            time.sleep(0.02)

    def _find_end_of_waiting(self, now: float) -> str:
        job = self.job
        if job.abandon.is_set() or job.stop.is_set():
            return "stopped"
        if self._has_waited_too_long(now):
            return "MaxWaitTimeExceeded"
        is_on_machine = job.secondary != "Interrupted"
        return "interrupted" if is_on_machine and job.is_spot and job.interrupt.is_set() else ""

    def _has_waited_too_long(self, now: float) -> bool:
        longest = self.job.request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        return self.job.is_spot and now - self.job.created > longest

    def _end_without_machine(self, how: str) -> None:
        if how == "MaxWaitTimeExceeded":
            self.job.enter("Stopping", status="Stopping")
        self.job.enter("Stopped" if how == "stopped" else how, status="Stopped")

    def _run_in(self, folder: Path) -> str:
        job = self.job
        began = time.time()
        job.started = job.started or began
        if not job.stop.is_set():
            job.enter("Downloading")
        hosts = self._lay_out(folder)
        if self._pass_time(self.behaviour.download_seconds) == "interrupted":
            job.trained_seconds += time.time() - began
            return "interrupted"
        for host in hosts:
            host.fetch_checkpoints()
        if not job.stop.is_set():
            job.enter("Training")
        with contextlib.ExitStack() as stack:
            self._start(hosts, stack)
            how = self._watch(hosts)
        if not job.is_taken_at_once:
            for host in hosts:
                host.push()
        job.trained_seconds += time.time() - began
        if how != "interrupted":
            self._end(how, hosts)
        return how

    # Before

    def _lay_out(self, folder: Path) -> list[Host]:
        names = [f"algo-{number}" for number in range(1, self.job.num_hosts + 1)]
        hosts = [Host(self.job, self.storage, folder / name, name, names) for name in names]
        for host in hosts:
            host.lay_out()
        return hosts

    def _start(self, hosts: Sequence[Host], stack: contextlib.ExitStack) -> None:
        """Start every host's program; leaving the stack ends what still runs."""
        name = f"lab-{os.getpid()}-{self.job.name}-{int(time.time() * 1000) % 1_000_000}"
        network = ""
        if len(hosts) > 1 and not self.script:
            is_isolated = bool(self.job.request.get("EnableNetworkIsolation"))
            network = stack.enter_context(network_of(name, is_isolated=is_isolated))
        for host in hosts:
            log = JobLog(self.account, self.job.region, self.role, self.job.name, host=host.name)
            # Where the job ends by a refusal of S3's its program must end too.
            stack.callback(_end_program, host)
            host.follow(self._start_program(host, f"{name}-{host.name}", network), log)

    def _start_program(self, host: Host, name: str, network: str) -> Run:
        environment = {
            **self.job.request.get("Environment", {}),
            "TRAINING_JOB_NAME": self.job.name,
            "TRAINING_JOB_ARN": self.job.arn,
            "AWS_REGION": self.job.region,
        }
        if self.script:
            return ScriptRun(self.script, host.tree, environment)
        return DockerRun(self.job.request, host.tree, environment, name=name, host=host.name, network=network)

    # While

    def _watch(self, hosts: Sequence[Host]) -> str:
        """Follow the programs to their end; ask them to end where the job must, and insist after a while."""
        how, deadline, next_sync = "", 0.0, 0.0
        while any(host.exit_code is None for host in hosts):
            now = time.time()
            if not how:
                how = self._find_reason_to_end(now, hosts)
                if how:
                    self._ask_to_end(how, hosts)
                    deadline = now + self.behaviour.stop_seconds
            elif now > deadline or self.job.abandon.is_set():
                for host in hosts:
                    host.kill()
                deadline = now + 10
            if now > next_sync:
                for host in hosts:
                    host.push()
                next_sync = now + self.behaviour.sync_seconds
            time.sleep(0.05)
        for host in hosts:
            host.finish_log()
        if how:
            return how
        return "failed" if any(host.exit_code for host in hosts) else "completed"

    def _ask_to_end(self, how: str, hosts: Sequence[Host]) -> None:
        if how.startswith("Max"):
            self.job.enter("Stopping", status="Stopping")
        for host in hosts:
            if how == "interrupted" and self.job.is_taken_at_once:
                host.kill()
            else:
                host.terminate()

    def _find_reason_to_end(self, now: float, hosts: Sequence[Host]) -> str:
        job, limits = self.job, self.job.request["StoppingCondition"]
        if job.abandon.is_set() or job.stop.is_set():
            return "stopped"
        if job.interrupt.is_set() and job.is_spot:
            return "interrupted"
        failed = next((host for host in hosts if host.exit_code), None)
        if failed is not None:
            # One that fails ends the job, and so the others.
            job.failed_host = failed.name
            return "failed"
        ran = job.trained_seconds + now - job.transitions[-1]["StartTime"]
        if ran > limits.get("MaxRuntimeInSeconds", 86400):
            return "MaxRuntimeExceeded"
        return "MaxWaitTimeExceeded" if self._has_waited_too_long(now) else ""

    # After

    def _end(self, how: str, hosts: Sequence[Host]) -> None:
        job = self.job
        if how == "failed":
            job.reason = _find_reason(hosts, job.failed_host)
        job.enter("Uploading")
        self._upload(hosts, is_whole=how == "completed")
        if how == "completed":
            job.enter("Completed", status="Completed")
        elif how == "failed":
            job.enter("Failed", status="Failed")
        else:
            job.enter("Stopped" if how == "stopped" else how, status="Stopped")

    def _upload(self, hosts: Sequence[Host], *, is_whole: bool) -> None:
        """Store model.tar.gz, and output.tar.gz where there is output; of a job cut short, what there is."""
        where = f"{self.job.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job.name}/output"
        models = [host.tree / "model" for host in hosts]
        if is_whole or any(any(one.iterdir()) for one in models):
            self.storage.upload_tar(models, f"{where}/model.tar.gz")
            self.job.artefacts = f"{where}/model.tar.gz"
        outputs = [host.tree / "output" / "data" for host in hosts]
        if any(any(one.iterdir()) for one in outputs):
            self.storage.upload_tar(outputs, f"{where}/output.tar.gz")


def _end_program(host: Host) -> None:
    """End a program that still runs, and wait until it has ended: a network is removed after its hosts."""
    host.kill()
    if host.run is not None:
        host.run.process.wait(60)


def _find_reason(hosts: Sequence[Host], failed: str) -> str:
    """Return FailureReason: what a failure file begins with, and the exit code of the host that failed.

    AWS does not say which host's file counts. Here it is that of the one that failed first, and where this
    one left none, as after SIGKILL, the first of the others'.
    """
    order = sorted(hosts, key=lambda host: (host.name != failed and bool(failed), not host.exit_code))
    said = next((text for host in order if (text := host.read_failure())), "")
    tail = f", exit code: {order[0].exit_code}"
    return f"AlgorithmError: {said}"[: FAILURE_LIMIT - len(tail)] + tail
