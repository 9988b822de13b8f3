"""Copies of the process of the tests, as plugins and their libraries make them."""

from __future__ import annotations

import os
import socket
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def copy_of_the_process() -> Iterator[None]:
    """Have a copy of this process live until the end of the context."""
    ours, theirs = socket.socketpair()
    with ours, theirs, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are other threads
        copy = os.fork()
        if copy == 0:
            ours.close()
            theirs.send(b"x")  # it has done what is done after a fork
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        try:
            assert ours.recv(1)
            yield
        finally:
            ours.close()
            os.waitpid(copy, 0)
