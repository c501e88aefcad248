"""Starts the server: opens the port, loads the model, and serves until a signal ends it."""

from __future__ import annotations

import importlib.util

from classifold.errors import Fault, MissingExtraError
from classifold.names import install
from classifold.serve.options import ServeOptions

# Imported by this room alone, from the extra `serve`.
_PACKAGES = ("starlette", "uvicorn", "httptools", "uvloop", "python_multipart", "prometheus_client")


def check_extra() -> None:
    """Check that the packages of the extra `serve` are installed.

    Raises:
        MissingExtraError: They are not; with how to install them.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"the server needs packages that are not installed: {', '.join(missing)}"
        raise MissingExtraError(Fault("classifold serve", what, hint=install("serve")))


def serve(options: ServeOptions) -> None:
    """Serve a model until a signal ends it; what is printed goes to standard error.

    Raises:
        MissingExtraError: The extra `serve` is not installed.
        ServeError: The port cannot be opened.
        ClassifoldError: The model cannot be loaded.
    """
    check_extra()
    from classifold.serve.access_log import AccessLog
    from classifold.serve.hangup import ignore_hangup
    from classifold.serve.listening import describe_place, open_port

    ignore_hangup()
    log = AccessLog(options.log_format)
    with open_port(options.host, options.port) as port:
        number = port.getsockname()[1]

        def tell(model_line: str) -> None:
            log.say(f"serving {model_line}", event="start")
            for line in describe_place(options, number):
                log.say(line, event="start")

        if options.workers == 1:
            from classifold.serve.process import ServerProcess

            server = ServerProcess(options, log)
            server.run(port, when_ready=tell)
        else:
            from classifold.serve.workers import Workers

            for model_line in Workers(options, port, log).run():
                tell(f"{model_line}, by {options.workers} workers")
    log.say("stopped", event="stopped")
