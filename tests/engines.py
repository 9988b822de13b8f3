"""Engines that tests need and that not every platform has."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NoReturn

import pytest


def missing_engine(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need_package(module: str, package: str = "") -> None:
    """Do the same unless *module* can be imported; *package* is of another name than it."""
    if find_spec(module) is None:
        missing_engine(f"{package or module} is not installed, or has no build for this platform")
