"""`classifold predict --watch DIR`: answers for what arrives, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from classifold.cli.predict_outputs import Sorting
from classifold.dataset.walk import check_folder
from classifold.errors import Fault, UsageError
from classifold.predict.answer_files import open_rows
from classifold.predict.answer_formats import OutputFormat, Rows
from classifold.predict.answered import Answered, StreamFormat, open_appended
from classifold.predict.output import write_rows
from classifold.predict.watching import Watcher
from classifold.progress import say

if TYPE_CHECKING:
    from classifold.predict.predictor import Predictor


def check_watch(
    folder: Path | None, *, paths: Sequence[str], is_new_only: bool, explain_dir: Path | None
) -> None:
    """Refuse options that do not go together with `--watch`, and a call that names no pictures at all.

    Args:
        folder: The folder to watch; None if that was not asked for.
        paths: The pictures that were named.
        is_new_only: Whether `--new-only` was given.
        explain_dir: The folder of `--explain`; None if that was not asked for.

    Raises:
        UsageError: With all that is wrong.
    """
    faults = []
    if folder is None and is_new_only:
        faults.append(Fault("--new-only", "it is only for --watch", "add --watch DIR, or leave it out"))
    if folder is None and not paths:
        hint = "name files or folders of pictures, or --watch DIR"
        faults.append(Fault("classifold predict", "no pictures were named", hint))
    if folder is not None and paths:
        hint = "leave out the other paths, or --watch"
        faults.append(Fault("--watch", "it takes the place of PATH...", hint, got=str(paths[0])))
    if folder is not None and explain_dir is not None:
        what = "the pages of --explain are written at the end, and --watch has no end"
        faults.append(Fault("--watch", what, "leave out one of the two"))
    if faults:
        raise UsageError(*faults)


@dataclass(frozen=True)
class Watching:
    """What `--watch` was asked for.

    Attributes:
        folder: The folder to watch.
        is_new_only: Whether what is there already is passed over.
        output_path: The file that answers are appended to; None for standard output.
        output_format: The format of the answers.
        top_k: Number of classes per picture.
        sorting: `--sort-into`, if it was asked for.
    """

    folder: Path
    is_new_only: bool
    output_path: Path | None
    output_format: OutputFormat
    top_k: int
    sorting: Sorting

    def check(self) -> None:
        """Refuse what cannot be watched or written, before the work.

        Raises:
            DataError: The folder cannot be read, or its pictures would be sorted into itself.
            UsageError: The format has an end, which there is none of.
        """
        check_folder(self.folder, hint="name the folder in which pictures arrive")
        self.sorting.check_watched(self.folder)
        allowed = ("text", "csv", "jsonl") if self.output_path is None else ("csv", "jsonl")
        if self.output_format not in allowed:
            what = f"the answers of --watch cannot be written as {self.output_format}, since they have no end"
            if self.output_format == "text":
                what = "the answers of --watch are appended to a file, and text cannot be read back"
            raise UsageError(Fault("--watch", what, "choose --format csv or jsonl"))

    def run(self, predictor: Predictor, *, batch_size: int, num_workers: int | None) -> None:
        """Answer for what arrives until Ctrl-C or SIGTERM, then say how many pictures there were.

        Args:
            predictor: The model.
            batch_size: Half the number of pictures that are read ahead.
            num_workers: Number of threads; None means one per core.
        """
        with contextlib.ExitStack() as stack:
            then = self.sorting.open(stack, predictor)
            top_k = min(self.top_k, len(predictor.class_names))
            rows, answered = stack.enter_context(self._open_rows(predictor, top_k))
            watcher = Watcher(
                self.folder,
                skipped=self.sorting.folders,
                is_new_only=self.is_new_only,
                answered=answered,
                tell=say,
            )
            is_stopping = stack.enter_context(_stopping())
            say(f"watching {self.folder}; Ctrl-C ends it")
            predictions = watcher.watch(
                lambda sources: predictor.predict_sources(
                    sources, batch_size=batch_size, num_workers=num_workers, then=then
                ),
                is_stopping=is_stopping,
            )
            written = write_rows(predictions, rows, class_names=predictor.class_names, top_k=top_k)
        for line in written.describe(self.output_path):
            say(line)
        self.sorting.describe()

    @contextlib.contextmanager
    def _open_rows(self, predictor: Predictor, top_k: int) -> Iterator[tuple[Rows, Answered]]:
        path = self.output_path
        if path is not None:
            kind: StreamFormat = "csv" if self.output_format == "csv" else "jsonl"
            with open_appended(path, kind, top_k=top_k) as opened:
                yield opened
            return
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # a pipe gets each answer at once
        with open_rows(
            None,
            output_format=self.output_format,
            class_names=predictor.class_names,
            top_k=top_k,
            rule=predictor.rule,
        ) as rows:
            yield rows, Answered()


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether Ctrl-C or SIGTERM came; a second one interrupts the picture under way too."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
