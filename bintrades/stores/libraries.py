"""The libraries that plugins need: what is said where one is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError
from bintrades.util.packages import install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Library:
    """What a plugin has asked for. hint: what to install; None where it is there."""

    package: str
    hint: str | None


_asked: ContextVar[list[Library] | None] = ContextVar("_asked", default=None)


@contextmanager
def libraries_asked_for() -> Iterator[list[Library]]:
    """Have a list of the libraries that require_library() is called for in this context."""
    asked: list[Library] = []
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)


def require_library(module: str, *, package: str = "", extra: str) -> None:
    """Raise ConfigError unless *module*, of *package*, can be imported; it is not imported here.

    For check_store and open_store of a plugin that imports its library where it uses it, so that
    its options can be listed and checked without the library. *package* is what is to be installed,
    where its name is not that of the module; *extra* is the extra that has it. Any thread.
    """
    package = package or module
    hint = None if _is_there(module) else install_hint(package, extra)
    asked = _asked.get()
    if asked is not None:
        asked.append(Library(package, hint))
    if hint is not None:
        raise ConfigError(f"needs {package}, which is not installed: {hint}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that a submodule would be in
        return False
