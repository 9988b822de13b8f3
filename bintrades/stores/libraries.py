"""The libraries that plugins need: what is said where one is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from bintrades.errors import ConfigError
from bintrades.util.packages import install_hint


def require_library(module: str, *, package: str = "", extra: str) -> None:
    """Raise ConfigError unless *module*, of *package*, can be imported; it is not imported here.

    For check_store and open_store of a plugin that imports its library where it uses it, so that
    its options can be listed and checked without the library. *package* is what is to be installed,
    where its name is not that of the module; *extra* is the extra that has it. Any thread.
    """
    if find_spec(module) is None:
        package = package or module
        raise ConfigError(
            f"needs {package}, which is not installed: {install_hint(package, extra)}"
        )
