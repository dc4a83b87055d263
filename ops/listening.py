"""Whether a broker can listen where it is told to."""

from __future__ import annotations

import errno
import socket

from shared.errors import ConfigError


def check_can_listen(host: str, port: int, *, instead: str) -> None:
    """Make sure that an address is this machine's and its port free.

    Args:
        host: name or address.
        port: TCP port.
        instead: what else to do when the address is another machine's; ends the sentence.

    Raises:
        ConfigError: nobody can listen there; the message says what to do.
    """
    if not host:  # a socket would take it for every address there is
        raise ConfigError("this command starts a broker, but broker.host is empty: give --host 127.0.0.1")
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server((host, port), family=family).close()
    except socket.gaierror as error:
        raise ConfigError(_not_here(host, instead)) from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(_not_here(host, instead)) from error
        raise ConfigError(_refused(host, port, error)) from error


def _not_here(host: str, instead: str) -> str:
    return (
        f"this command starts a broker of its own, and {host} (broker.host) is no address of this machine: "
        f"give --host 127.0.0.1{instead}"
    )


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EACCES:
        return f"not allowed to listen on {host}:{port}: choose a port from 1024 on with --port"
    reason = error.strerror
    return f"can't listen on {host}:{port} ({reason}): is another broker running? Choose another with --port"
