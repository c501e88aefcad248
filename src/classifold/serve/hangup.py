"""Tells the two meanings of SIGHUP apart: reload the model, or the terminal was closed."""

from __future__ import annotations

import os
import signal


class Hangup:
    """The terminal that this process was started in, if there is one."""

    def __init__(self) -> None:
        self._terminal = next((number for number in (0, 1, 2) if os.isatty(number)), None)

    @property
    def is_terminal_closed(self) -> bool:
        """Whether the terminal that the process started in is gone, which makes the kernel send SIGHUP."""
        return self._terminal is not None and not os.isatty(self._terminal)


def ignore_hangup() -> None:
    """Let no SIGHUP end this process while it starts; the model that it loads then is the new one anyway."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
