"""`predict --watch DIR`: finds the pictures that arrive in a folder, once they are complete.

The folder is listed again and again. Notifications by the system (inotify) would save that, but a network
disk sends none for what other machines write, and they do not say when a picture is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from classifold.dataset.leftovers import reason_to_pass_over
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.walk import find_reason_no_picture
from classifold.predict.answered import Answered
from classifold.predict.predictor import Prediction
from classifold.predict.sources import Source, file_source

# Minimum seconds between two listings of the folder; after a slow listing, this multiple of its duration.
SECONDS: Final = 1.0
_REST: Final = 2.0
# An unreadable picture that changed so few seconds ago may still be arriving: it is read once more then.
_SETTLE: Final = 10.0
# Seconds after which a request to stop is seen at the latest.
_NAP: Final = 0.1

# Endings of downloads that get their own name when they are complete.
_UNFINISHED: Final = (".part", ".partial", ".filepart", ".crdownload", ".opdownload", ".download", ".tmp")

_Stamp = tuple[int, int]


class Watcher:
    """Finds new and changed pictures in a folder and in those below it.

    A picture is complete if its size and time were the same in two looks. One that is changed later is found
    again; one that is removed and comes back unchanged is not. Links to folders are not followed.

    Args:
        folder: The folder to watch.
        skipped: Files and folders below it that are not watched.
        is_new_only: Pass over what is there at the first look.
        answered: What was answered before; passed over at the first look, unless it changed since.
        tell: Called with a line when the folder cannot be read, and when it can be read again.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        skipped: Sequence[Path] = (),
        is_new_only: bool = False,
        answered: Answered | None = None,
        tell: Callable[[str], object] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = os.fspath(folder)
        real = os.path.realpath(folder)
        self._skipped = {
            os.path.join(self._root, os.path.relpath(os.path.realpath(one), real))  # noqa: PTH118
            for one in skipped
        }
        self._is_new_only, self._answered = is_new_only, answered or Answered()
        self._tell, self._clock = tell, clock
        self._is_first = True
        # Files that were found or passed over, and those that may still change; by path. The first are kept
        # when a file vanishes, since all do while a network disk is away.
        self._known: dict[str, _Stamp] = {}
        self._waiting: dict[str, _Stamp] = {}
        self._held: dict[str, tuple[_Stamp, float]] = {}
        self._unread: set[str] = set()

    def watch(
        self,
        predict: Callable[[Iterable[Source]], Iterator[Prediction]],
        *,
        is_stopping: Callable[[], bool],
    ) -> Iterator[Prediction]:
        """Yield the predictions of what arrives, until it is asked to stop.

        Args:
            predict: Returns the predictions of complete pictures, in their order.
            is_stopping: Asked between two pictures, and several times a second in between.
        """
        while not is_stopping():
            started = self._clock()
            found = self.look()
            until = self._clock() + max(SECONDS, _REST * (self._clock() - started))
            for prediction in predict(file_source(Path(one)) for one in found) if found else ():
                if prediction.probabilities is not None or self._is_final(prediction):
                    yield prediction
                if is_stopping():
                    return
            while not is_stopping() and (rest := until - self._clock()) > 0:
                time.sleep(min(_NAP, rest))

    def look(self) -> list[str]:
        """Return the paths of pictures that are new or changed, and complete; called about once a second."""
        waiting: dict[str, _Stamp] = {}
        found = []
        for entry in self._walk():
            try:
                status = entry.stat()
            except OSError:  # removed in the meantime, or a link that leads nowhere
                continue
            path, stamp = entry.path, (status.st_size, status.st_mtime_ns)
            if self._known.get(path) == stamp:
                continue
            if self._is_first and self._is_done(path, status):
                self._known[path] = stamp
            elif self._waiting.get(path) != stamp or self._is_held(path, stamp):
                waiting[path] = stamp
            else:
                self._known[path] = stamp
                if not find_reason_no_picture(entry):
                    found.append(path)  # no Path, which takes more memory than all that is kept of it
        self._waiting, self._is_first = waiting, self._is_first and self._root in self._unread
        return found

    def _is_done(self, path: str, status: os.stat_result) -> bool:
        """Return whether a picture that is there at the first look is passed over."""
        if self._is_new_only:
            return True
        # A picture that was moved here has an old time of writing, but not of its last change.
        changed = max(status.st_mtime, status.st_ctime)
        return self._answered.has(file_source(Path(path)).name, changed=changed)

    def _is_held(self, path: str, stamp: _Stamp) -> bool:
        held, until = self._held.get(path, (None, 0.0))
        return held == stamp and self._clock() < until

    def _is_final(self, prediction: Prediction) -> bool:
        """Return whether an unreadable picture is answered as such, not looked at once more later."""
        path = os.fspath(prediction.path or "")
        stamp = self._known.pop(path, (0, 0))
        if not os.path.exists(path):  # noqa: PTH110 - False also where the disk is away
            return False
        is_second = self._held.pop(path, (None, 0.0))[0] == stamp
        if is_second or time.time() - stamp[1] / 1e9 > _SETTLE:
            self._known[path] = stamp
            return True
        self._held[path] = stamp, self._clock() + _SETTLE
        return False

    def _walk(self) -> Iterator[os.DirEntry[str]]:
        """Yield the files in the folder and below it, in the order of names; a folder's own ones first."""
        waiting = [self._root]
        while waiting:
            folders = []
            for entry in self._list(waiting.pop()):
                if reason_to_pass_over(entry.name) or entry.path in self._skipped:
                    continue
                if entry.name.lower().endswith(_UNFINISHED):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry
            waiting += reversed(folders)

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        """Return what is in a folder; nothing, and a note the first time, where it cannot be read."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: (clean_name(entry.name), os.fsencode(entry.name)))
        except OSError as error:
            # A folder below it may have been removed since it was listed, which is no news.
            is_news = folder == self._root or not isinstance(error, FileNotFoundError)
            if is_news and folder not in self._unread:
                self._unread.add(folder)
                self._tell(f"note: {folder} cannot be read ({error.strerror}); waiting until it can be")
            return []
        if folder in self._unread:
            self._unread.remove(folder)
            self._tell(f"note: {folder} can be read again")
        return found
