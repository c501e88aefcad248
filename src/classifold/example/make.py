"""`classifold example`: draws pictures of five kinds of flowers, one folder per kind, for a first try."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from classifold.atomic import is_mount_point, move_folder
from classifold.errors import KILLED_FOR_MEMORY, DataError, Fault, disk_errors
from classifold.processes import isolated_children
from classifold.progress import show_progress

KINDS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
PICTURES_PER_CLASS = 100

# A process takes a third of a second to start, which is not worth it for fewer pictures.
PICTURES_PER_PROCESS = 25
MAX_PROCESSES = 8


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture to draw: the `number`-th (from 1) of its kind under a seed."""

    kind: str
    number: int
    seed: int

    @property
    def key(self) -> str:
        """The picture's path below the example's folder."""
        return f"{self.kind}/{self.kind}_{self.number:04d}.jpg"

    def draw(self) -> bytes:
        """Return the JPEG file's content, which depends only on kind, number and seed."""
        from numpy.random import default_rng

        from classifold.example.photograph import draw_flower_picture

        return draw_flower_picture(self.kind, default_rng([self.seed, KINDS.index(self.kind), self.number]))


def draw_example(target_dir: Path, *, seed: int = 0, pictures_per_class: int = PICTURES_PER_CLASS) -> int:
    """Draw the example's pictures into a new folder, which appears atomically.

    The same seed gives the same bytes under one version of Pillow and NumPy, and a picture
    does not depend on how many others are drawn.

    Args:
        target_dir: The folder to create, with one sub-folder per kind; it must be empty or not exist.
        seed: Seed, 0 or more; the same seed draws the same pictures.
        pictures_per_class: Number of pictures of each kind, 1 or more.

    Returns:
        The number of pictures drawn.

    Raises:
        DataError: If the target holds something, is a file, or cannot be replaced; if a number is too small.
        DiskError: If the disk is full, read-only or forbidden.
    """
    place = _check_request(target_dir, seed=seed, pictures_per_class=pictures_per_class)
    drawings = [Drawing(kind, number, seed) for number in range(1, pictures_per_class + 1) for kind in KINDS]
    with disk_errors(target_dir), _new_folder(place) as folder:
        for kind in KINDS:
            (folder / kind).mkdir()
        with show_progress("drawing", len(drawings)) as advance:
            for count in _draw_all(drawings, folder):
                advance(count)
    return len(drawings)


def _check_request(target_dir: Path, *, seed: int, pictures_per_class: int) -> Path:
    """Return where the target really is, or raise with everything that is wrong."""
    faults = []
    if seed < 0:
        faults.append(Fault("seed", "expected 0 or more", "choose another seed", str(seed)))
    if pictures_per_class < 1:
        faults.append(
            Fault(
                "pictures per class", "expected 1 or more", "80 or more train well", str(pictures_per_class)
            )
        )
    with disk_errors(target_dir):
        place = target_dir.resolve()
        faults += _check_place(target_dir, place)
    if faults:
        raise DataError(*faults)
    return place


def _check_place(shown: Path, place: Path) -> list[Fault]:
    where = str(shown)
    if not place.exists():
        return []
    if not place.is_dir():
        return [Fault(where, "it is a file, not a folder", "move it away or name another folder")]
    if any(place.iterdir()):
        return [Fault(where, "the folder is not empty", "name a new folder, or delete this one first")]
    if place == Path.cwd() or is_mount_point(place):
        # An empty folder is replaced by the finished one, which is not possible for these two.
        hint = f"name a new folder inside it, for instance {shown / 'flowers'}"
        return [Fault(where, "the working folder or a whole disk cannot be replaced", hint)]
    return []


@contextlib.contextmanager
def _new_folder(place: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `place`; it is renamed to `place` at the end, or deleted on a failure."""
    made = [parent for parent in place.parents if not parent.exists()]
    folder = place.parent / f".example-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True)
        yield folder
        move_folder(folder, place)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError) and error.errno:
            # Without the hidden folder's name, which the user does not know.
            raise OSError(error.errno, error.strerror) from error
        raise


def _draw_all(drawings: Sequence[Drawing], folder: Path) -> Iterator[int]:
    """Draw into `folder`, in several processes if that is faster; yield the numbers of finished pictures."""
    processes = min(len(os.sched_getaffinity(0)), MAX_PROCESSES, len(drawings) // PICTURES_PER_PROCESS)
    if processes < 2:
        for drawing in drawings:
            (folder / drawing.key).write_bytes(drawing.draw())
            yield 1
        return
    with _drawing_processes([drawings[start::processes] for start in range(processes)], folder) as pipes:
        working = list(pipes)
        while working:
            ready = wait(working)
            for pipe in [each for each in working if each in ready]:
                news = _receive(pipe)
                if isinstance(news, Exception):
                    raise news
                if news == 0:
                    working.remove(pipe)
                yield news


@contextlib.contextmanager
def _drawing_processes(shares: Sequence[Sequence[Drawing]], folder: Path) -> Iterator[list[Connection]]:
    """Start one process per share; all of them are ended at the end of the context."""
    # Spawned, since a fork of a process with threads (TensorFlow's) may hang.
    context = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    try:
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_draw_share, args=(share, folder, theirs), daemon=True)
            with isolated_children():
                process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _draw_share(share: Sequence[Drawing], folder: Path, pipe: Connection) -> None:
    """Draw one share; send 1 after each picture, 0 at the end, or the exception.

    If the first process has ended, sending fails and this process ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process handles Ctrl-C
    with contextlib.suppress(BrokenPipeError):
        try:
            for drawing in share:
                (folder / drawing.key).write_bytes(drawing.draw())
                pipe.send(1)
            pipe.send(0)
        except BrokenPipeError:
            raise
        except Exception as error:  # the first process raises it
            pipe.send(error)


def _receive(pipe: Connection) -> int | Exception:
    try:
        news: int | Exception = pipe.recv()
    except EOFError:
        hint = "close other programs, then run the command again"
        return DataError(Fault("a process that draws", KILLED_FOR_MEMORY, hint=hint))
    return news
