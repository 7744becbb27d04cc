"""Ports of this machine that nobody else reaches, for the gateway and the viewer."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def bound(port: int) -> socket.socket:
    """A socket that listens on `port`, 0 for a free one.  Raises `OSError` or `OverflowError`, and leaves nothing open."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen(128)
    except BaseException:
        found.close()
        raise
    return found
