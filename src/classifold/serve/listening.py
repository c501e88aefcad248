"""Opens the port, and says where the server is and who can reach it."""

from __future__ import annotations

import errno
import os
import socket

from classifold.errors import Fault, ServeError
from classifold.serve.options import ServeOptions, is_loopback

_BACKLOG = 2048


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Name or address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        ServeError: The port is taken or not allowed, or the machine has no such address.
    """
    where = f"{host}:{port}"
    try:
        kind, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        hint = "give an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        raise ServeError(Fault(where, "the host name cannot be resolved", hint)) from error
    server = socket.socket(kind, socket.SOCK_STREAM)
    try:
        # A server that is started again takes the port of connections that are still ending.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(_BACKLOG)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise ServeError(_explain(error, where)) from error
    return server


def _explain(error: OSError, where: str) -> Fault:
    if error.errno == errno.EADDRINUSE:
        return Fault(where, "this port is taken", "stop what uses it, or choose another with --port")
    if error.errno == errno.EACCES:
        return Fault(where, "this port is not allowed", "choose one from 1024, such as --port 8080")
    hint = "give an address of this machine, such as 127.0.0.1 or 0.0.0.0"
    return Fault(where, f"this address cannot be used: {error.strerror}", hint)


def describe_place(options: ServeOptions, port: int) -> list[str]:
    """Return lines that say where the server is, who can reach it, and what protects it.

    Args:
        options: The options of the server.
        port: The port that was opened.
    """
    host = f"[{options.host}]" if ":" in options.host else options.host
    stop = f"Ctrl-C stops it; process {os.getpid()}"
    key = "requests must send the API key" if options.api_key else "no API key is set"
    if is_loopback(options.host):
        return [f"at http://{host}:{port}/, for this machine alone; {key}; {stop}"]
    return [
        f"at http://{host}:{port}/; {key}; {stop}",
        "note: everybody who reaches this machine in the network can send requests, and what is sent can be "
        "read on the way: put a proxy with TLS before it"
        + ("" if options.api_key else ", and set CLASSIFOLD_API_KEY"),
    ]
