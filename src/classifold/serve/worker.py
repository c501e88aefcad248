"""One of several processes of a server: `python -m classifold.serve.worker SOCKET PIPE`, options on stdin."""

from __future__ import annotations

import os
import socket
import sys

from classifold.errors import ClassifoldError
from classifold.processes import end_with_parent, prepare_process
from classifold.progress import say
from classifold.serve.access_log import AccessLog
from classifold.serve.hangup import ignore_hangup
from classifold.serve.options import load_options
from classifold.serve.process import ServerProcess


def main(port_number: int, ready: int) -> int:
    """Serve until a signal ends it, and return the exit code.

    Args:
        port_number: Number of the open socket that listens.
        ready: Number of the open pipe that is told once requests are answered.
    """
    prepare_process()
    end_with_parent()
    ignore_hangup()
    options = load_options(sys.stdin.buffer.read())

    def tell(model_line: str) -> None:
        os.write(ready, model_line.encode("utf-8"))
        os.close(ready)

    try:
        server = ServerProcess(options, AccessLog(options.log_format))
        with socket.socket(fileno=port_number) as port:
            server.run(port, when_ready=tell)
    except ClassifoldError as error:
        for line in str(error).split("\n"):
            say(line)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
