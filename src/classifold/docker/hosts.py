"""Several containers that train together: their network, the ones beside the first, and how to end them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from classifold import names
from classifold.docker.engine import run_docker, start_docker
from classifold.docker.start import Start, build_command
from classifold.errors import KILLED_FOR_MEMORY, Fault
from classifold.sagemaker.failure_file import read_faults
from classifold.sagemaker.ml_folder import MlFolder

Tell = Callable[[str], None]

KILLED = 137
_AGAIN_SECONDS = 3.0
# Time for the other containers to end after the first one has ended.
_GRACE_SECONDS = 60.0
# Number of last lines that are kept, for an error message.
_KEPT_LINES = 50


@contextlib.contextmanager
def network_of(start: Start) -> Iterator[None]:
    """Make the network of a job's containers, if it has one, and remove it at the end.

    Under isolation it reaches only the other containers, as on SageMaker.

    Raises:
        DockerError: The engine refuses.
    """
    if not start.network:
        yield
        return
    words = ["network", "create", "--driver", "bridge", *(["--internal"] if start.is_isolated else [])]
    run_docker([*words, start.network], doing="make a network for the hosts")
    try:
        yield
    finally:
        run_docker(["network", "rm", start.network], doing="remove the hosts' network", check=False)


def stream_lines(process: subprocess.Popen[str], lines: list[str], tell: Tell) -> None:
    """Call `tell` with every line of a container until it ends; the last ones are kept in `lines`."""
    for line in process.stdout or ():
        lines.append(line.rstrip("\r\n"))
        del lines[:-_KEPT_LINES]
        tell(lines[-1])


def stop_container(process: subprocess.Popen[str], container: str, *, at_once: bool) -> None:
    """End a container: SIGTERM now and SIGKILL after 120 seconds, in a thread; or SIGKILL `at_once`."""
    if at_once:
        run_docker(["kill", container], doing="end the container", check=False)
        return
    threading.Thread(target=_stop_gently, args=(process, container), daemon=True).start()


def _stop_gently(process: subprocess.Popen[str], container: str) -> None:
    """Send SIGTERM until the container ends, and SIGKILL after 120 seconds."""
    end = time.monotonic() + names.STOP_SECONDS
    # Repeated, since a signal that comes before the job has a handler is lost; further ones are ignored.
    while time.monotonic() < end:
        # If there is no container yet, the command that starts it is ended.
        if run_docker(["kill", "--signal", "TERM", container], doing="stop it", check=False).returncode:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_AGAIN_SECONDS)
            return
    run_docker(["kill", container], doing="end the container", check=False)


def end_container(process: subprocess.Popen[str], container: str) -> None:
    """Make sure that no container is left, not even one that was made but never started."""
    if process.poll() != 0:
        run_docker(["rm", "--force", container], doing="remove the container", check=False)
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


class Companions:
    """The containers beside the first one; leaving the context ends them."""

    def __init__(self, starts: Sequence[Start], tell: Tell) -> None:
        self._starts, self._tell = starts, tell
        self._running: list[tuple[Start, subprocess.Popen[str], threading.Thread]] = []

    def __enter__(self) -> Companions:
        for start in self._starts:
            process = start_docker(build_command(start), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            thread = threading.Thread(target=self._stream, args=(start, process), daemon=True)
            thread.start()
            self._running.append((start, process, thread))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._wait()
        for start, process, thread in self._running:
            if process.poll() != 0:
                run_docker(["rm", "--force", start.container], doing="remove the container", check=False)
            thread.join(_AGAIN_SECONDS)
            end_container(process, start.container)

    def _stream(self, start: Start, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError):  # its output was closed
            stream_lines(process, [], lambda line: self._tell(f"{start.host}: {line}"))

    def _wait(self) -> None:
        end = time.monotonic() + _GRACE_SECONDS
        for _, process, _ in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))

    def stop(self, *, at_once: bool) -> None:
        """Ask all of them to end."""
        for start, process, _ in self._running:
            stop_container(process, start.container, at_once=at_once)

    def find_faults(self) -> list[Fault]:
        """Wait for the containers to end, and return their faults, except that another host is gone."""
        self._wait()
        faults: list[Fault] = []
        for start, process, _ in self._running:
            with contextlib.suppress(OSError):
                text = MlFolder(start.ml_dir).failure_path.read_text(encoding="utf-8")
                its_faults = read_faults(text, where=f"host {start.host}")
                faults += [fault for fault in its_faults if fault.where != "hosts"]
            if process.poll() == KILLED:
                hint = "take fewer hosts, or give Docker more memory"
                faults.append(Fault(f"host {start.host}", KILLED_FOR_MEMORY, hint=hint))
        return faults
