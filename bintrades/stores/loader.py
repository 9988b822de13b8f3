"""Finds, checks and isolates storage plugins (see hookspecs for what a plugin implements)."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import re
import stat
import sys
import traceback
from collections import Counter, defaultdict
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from bintrades.errors import BintradesError, ConfigError
from bintrades.stores import hookspecs
from bintrades.util.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bintrades.model import Bar

log = logging.getLogger(__name__)

_SPEC_MARK = f"{hookspecs.PROJECT}_spec"
_SECRET_NAME = re.compile("pass|pwd|secret|token|key|credential|auth", re.IGNORECASE)
_SHORTEST_SECRET = 4  # to hide a shorter one would spoil every text

BUILT_IN = EntryPoint("mongodb", "bintrades.stores.mongodb.store", hookspecs.PROJECT)
"""An entry point in setup.cfg; here too, so that a checkout runs without being installed."""


class Store:
    """One storage plugin: every call reaches this plugin and no other.

    pluggy stops a hook call at the first implementation that raises, so a call to all plugins at
    once would let one keep bars from the others. Make Stores when every plugin is registered: a
    caller made earlier would reach the plugins that came later.

    All calls but check() belong to one thread, the plugin's own. They raise what the plugin
    raises, except for sys.exit() and its like (a KeyboardInterrupt, too: Ctrl-C is not for
    plugins), which become a BintradesError.
    """

    def __init__(self, plugins: pluggy.PluginManager, name: str) -> None:
        self.name = name
        others = plugins.get_plugins() - {plugins.get_plugin(name)}
        self._check = plugins.subset_hook_caller("check_store", others)
        self._open = plugins.subset_hook_caller("open_store", others)
        self._write = plugins.subset_hook_caller("store_bars", others)
        self._close = plugins.subset_hook_caller("close_store", others)

    def check(self, options: Mapping[str, str]) -> None:
        """Raise ConfigError if *options* are wrong; touches neither network nor disk."""
        self._call(self._check, options=dict(options))

    def open(self, options: Mapping[str, str]) -> None:
        """Connect; raise ConfigError for a bad option, anything else for "not reachable now"."""
        self._call(self._open, options=dict(options))

    def write(self, bars: Sequence[Bar]) -> None:
        """Make *bars* durable; raise RejectedBars for those the store will never take."""
        self._call(self._write, bars=bars)

    def close(self) -> None:
        """Let go of connections and files."""
        self._call(self._close)

    def _call(self, hook: pluggy.HookCaller, **arguments: object) -> None:
        try:
            hook(**arguments)
        except Exception:
            raise
        except BaseException as error:  # else sys.exit() in a plugin ends a thread of ours
            raise BintradesError(f"plugin {self.name}: {hook.name} raised {error!r}") from error


def available(folder: Path) -> list[str]:
    """Return the names of all plugins that can be enabled, in alphabetical order."""
    return sorted({*_drop_ins(folder), *_installed()})


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """Return *text* with *** for what stands in an option whose name speaks of a secret."""
    for name, value in options.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def load_stores(names: Sequence[str], folder: Path) -> list[Store]:
    """Return the plugins called *names*, in that order, from *folder* and installed packages.

    Raises ConfigError naming every problem, not only the first. Imports the plugins' code.
    """
    stores, problems = find_stores(names, folder)
    if problems:
        raise ConfigError(*problems)
    return stores


def find_stores(names: Sequence[str], folder: Path) -> tuple[list[Store], list[str]]:
    """Return those of the plugins that can be used, and what is wrong with the others."""
    problems = [
        f"[stores] enabled: {name} is named {count} times"
        for name, count in Counter(names).items()
        if count > 1
    ]
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    finder = _Finder(folder)
    usable = []
    for name in dict.fromkeys(names):
        try:
            _register(plugins, name, finder.load(name))
            usable.append(name)
        except ConfigError as error:
            problems.extend(error.problems)
    return [Store(plugins, name) for name in usable], problems


class _Finder:
    """Finds and imports plugins by name; a drop-in file wins over an installed package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drop_ins = _drop_ins(folder)
        self._installed = _installed()

    def load(self, name: str) -> object:
        path = self._drop_ins.get(name)
        points = self._installed.get(name, [])
        if path is not None:
            if place := _anybodys(path):
                raise ConfigError(
                    f"[stores] enabled: {name} is not run: everybody may change {place}; allowed:"
                    " code that only its owner may change, as after chmod -R o-w"
                )
            if points:
                log.warning("plugin %s: %s is used instead of %s", name, path, points[0].value)
            return _guarded(name, lambda: _import_file(name, path))
        if len(points) > 1:
            modules = " and ".join(point.value for point in points)
            raise ConfigError(
                f"[stores] enabled: {name} is offered by {modules}; uninstall all but one"
            )
        if not points:
            raise ConfigError(self._unknown(name))
        return _guarded(name, points[0].load)

    def _unknown(self, name: str) -> str:
        names = sorted({*self._drop_ins, *self._installed})
        return (
            f"[stores] enabled: there is no plugin {name!r}{did_you_mean(name, names)}; allowed, "
            f"from {self._folder} and installed packages: {', '.join(names)}"
        )


def _drop_ins(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.py") if not path.name.startswith(("_", "."))}


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


def _installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points by name, several only where packages contradict each other."""
    found: dict[str, dict[str, EntryPoint]] = defaultdict(dict)
    for point in (BUILT_IN, *entry_points(group=hookspecs.PROJECT)):
        found[point.name][point.value] = point
    return {name: list(points.values()) for name, points in found.items()}


def _import_file(name: str, path: Path) -> object:
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


def _guarded(name: str, load: Callable[[], object]) -> object:
    """Return what *load* returns; whatever it raises, sys.exit() included, is a ConfigError."""
    try:
        return load()
    except BaseException as error:
        raise ConfigError(
            f"[stores] enabled: {name} cannot be imported: {_place(error)}:"
            f" {type(error).__name__}: {error}; allowed: a plugin that can be"
        ) from error


def _place(error: BaseException) -> str:
    """Return file and line, in the plugin rather than in what it calls."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    if not frames:
        return "its entry point"
    *_, last = (frame for frame in frames if frame.filename == frames[0].filename)
    return f"{last.filename}, line {last.lineno}"


def _register(plugins: pluggy.PluginManager, name: str, plugin: object) -> None:
    problems = list(_problems(plugins, plugin))
    if not problems:
        try:
            plugins.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            problems.append(" ".join(str(error).split()))
    if problems:
        where = getattr(plugin, "__file__", None) or repr(plugin)
        raise ConfigError(
            *(f"[stores] enabled: {name} ({where}): {problem}" for problem in problems)
        )


def _problems(plugins: pluggy.PluginManager, plugin: object) -> Iterator[str]:
    """Yield what pluggy would not notice, or would notice only in the middle of the night."""
    if inspect.isclass(plugin):
        yield "is a class; allowed: a module, or an instance"
        return
    known = {name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, _SPEC_MARK)}
    can_store = False
    for attribute in dir(plugin):
        options = plugins.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        function = getattr(plugin, attribute)
        hook = options["specname"] or attribute
        is_wrapper = options["wrapper"] or options["hookwrapper"]
        if hook in known:
            yield from _signature_problems(hook, function, known[hook])
            if not is_wrapper:
                yield from _kind_problems(hook, function)
            can_store = can_store or (hook == "store_bars" and not is_wrapper)
        elif not options["optionalhook"]:
            yield f"{hook} is not a hook{did_you_mean(hook, known)}; allowed: {', '.join(known)}"
    if not can_store:
        is_there = inspect.isroutine(getattr(plugin, "store_bars", None))
        is_marked = plugins.parse_hookimpl_opts(plugin, "store_bars") if is_there else None
        wrong = "store_bars lacks @hookimpl" if is_there and not is_marked else "has no store_bars"
        yield f"{wrong}; allowed: a plugin with @hookimpl before its store_bars(bars)"


def _signature_problems(
    hook: str, function: Callable[..., Any], spec: Callable[..., Any]
) -> Iterator[str]:
    allowed = list(inspect.signature(spec).parameters)
    given = inspect.signature(function).parameters
    for parameter in given.values():
        if parameter.name not in allowed:
            yield (
                f"{hook} has no argument {parameter.name!r}"
                f"{did_you_mean(parameter.name, allowed)}; allowed: {', '.join(allowed) or 'none'}"
            )
        elif parameter.default is not parameter.empty:
            yield f"{hook}: {parameter.name} must not have a default, or it may not be filled in"


def _kind_problems(hook: str, function: Callable[..., Any]) -> Iterator[str]:
    """Yield why calling *function* would do nothing at all, without an error."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield f"{hook} must not be async: nothing awaits it"
    elif inspect.isgeneratorfunction(function):
        yield f"{hook} must not yield, unless it is marked as a wrapper"
    if hook == "store_bars" and "bars" not in inspect.signature(function).parameters:
        yield "store_bars must take the argument bars"
