"""Finds plugins by their names and imports them, if nobody else may change their code."""

from __future__ import annotations

import importlib.util
import logging
import os
import stat
import sys
import traceback
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError
from bintrades.stores.built_in import ENTRY_POINTS, is_shipped
from bintrades.stores.hookspecs import PROJECT
from bintrades.util.text import can_be_said, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_CALLERS = ("importlib", f"{os.sep}pluggy{os.sep}")
"""In the names of files that call a plugin's code."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A drop-in file or an entry point; neither, where there is none or more than one.

    instead_of: what the entry point of that name means, which is another plugin.
    """

    file: Path | None = None
    point: EntryPoint | None = None
    instead_of: str | None = None


class Finder:
    """Finds and imports plugins by name; a drop-in file wins over an installed package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drop_ins = drop_ins(folder)
        self._installed = installed()

    @property
    def names(self) -> list[str]:
        """The names of all plugins that there are, in alphabetical order."""
        return sorted({*self._drop_ins, *self._installed})

    def origin(self, name: str) -> Origin:
        """Return where load() takes a plugin from; nothing is imported."""
        path = self._drop_ins.get(name)
        points = self._installed.get(name, [])
        if path is None:
            return Origin(None, points[0] if len(points) == 1 else None)
        others = [point.value for point in points if not is_the_same(path, point)]
        return Origin(path, instead_of=others[0] if others else None)

    def load(self, name: str) -> object:
        """Return what the file or the entry point gives; raises ConfigError."""
        path = self._drop_ins.get(name)
        points = self._installed.get(name, [])
        if path is not None:
            if place := _anybodys(path):
                raise ConfigError(
                    f"{name} is not run: everybody may change {place}; allowed:"
                    " code that only its owner may change, as after chmod -R o-w"
                )
            if instead_of := self.origin(name).instead_of:
                log.warning(
                    "plugin %s: %s is used instead of %s",
                    name,
                    path,
                    instead_of,
                    extra={"event": "plugin_overridden"},
                )
            return guarded(name, "imported", lambda: import_file(name, path))
        if len(points) > 1:
            modules = " and ".join(point.value for point in points)
            raise ConfigError(f"{name} is offered by {modules}; uninstall all but one")
        if not points:
            raise ConfigError(self._unknown(name))
        return guarded(name, "imported", points[0].load)

    def _unknown(self, name: str) -> str:
        names = self.names
        return (
            f"there is no plugin {name!r}{did_you_mean(name, names)}; allowed, "
            f"from {self._folder} and installed packages: {', '.join(names)};"
            " a store of another name has plugin = one of these in its section"
        )


def drop_ins(folder: Path) -> dict[str, Path]:
    """Return the plugins that are files in *folder*, by their names."""
    return {path.stem: path for path in folder.glob("*.py") if not path.name.startswith(("_", "."))}


def is_the_same(path: Path, point: EntryPoint) -> bool:
    """Whether *path* is the file that *point* means, of those that come with us, or a copy of it.

    Then it is one plugin, as in a checkout, and not one in the place of another.
    """
    if not is_shipped(point):
        return False
    try:
        spec = importlib.util.find_spec(point.module)
        origin = spec.origin if spec else None
        return origin is not None and Path(origin).read_bytes() == path.read_bytes()
    except (ImportError, OSError):
        return False


def _anybodys(path: Path) -> Path | None:
    """Return by which place everybody may change the code in *path*, if by one.

    That is the file or what Python has compiled of it, or a folder above them, unless nobody may
    rename there what belongs to others (/tmp).
    """
    compiled = Path(importlib.util.cache_from_source(str(path)))
    for file in (path.absolute(), path.resolve(), compiled.absolute()):
        owner = None  # of what lies in the place that is looked at
        for place in (file, *file.parents) if file.exists() else ():
            found = place.stat()
            is_safe = found.st_mode & stat.S_ISVTX and owner in (0, os.geteuid())
            if found.st_mode & stat.S_IWOTH and not is_safe:
                return place
            owner = found.st_uid
    return None


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points by name, several only where packages contradict each other."""
    found: dict[str, dict[str, EntryPoint]] = defaultdict(dict)
    for point in (*ENTRY_POINTS, *entry_points(group=PROJECT)):
        found[point.name][point.value] = point
    return {name: list(points.values()) for name, points in found.items()}


def import_file(name: str, path: Path) -> object:
    """Import *path* under a name that cannot hide, or be hidden by, another module."""
    module_name = f"_bintrades_plugin_{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # noqa: S101 - the name ends with .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def guarded(
    name: str, done: str, do: Callable[[], object], source: str = "its entry point"
) -> object:
    """Return what *do* returns; whatever it raises, sys.exit() included, is a ConfigError."""
    try:
        return do()
    except BaseException as error:
        text = f"{error}" if can_be_said(error) else "which has no text"
        raise ConfigError(
            f"{name} cannot be {done}: {_place(error) or source}:"
            f" {type(error).__name__}: {text}; allowed: a plugin that can be"
        ) from error


def _place(error: BaseException) -> str | None:
    """Return file and line, in the plugin rather than in what it calls; None: in neither."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not any(each in frame.filename for each in _CALLERS)
    ]
    if not frames:
        return None
    *_, last = (frame for frame in frames if frame.filename == frames[0].filename)
    return f"{last.filename}, line {last.lineno}"
