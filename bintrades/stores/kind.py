"""What the name of a plugin stands for: of what the stores of that kind are made.

That is a class, of which each section of the configuration gets an object of its own: the class
Store of a module that has no hook functions, or a class that an entry point names. Or it is what
cannot be made twice: a module with hook functions, or an object that an entry point names.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pluggy

from bintrades.errors import ConfigError
from bintrades.options.option import PLUGIN, Option
from bintrades.stores import hookspecs
from bintrades.stores.finder import guarded
from bintrades.stores.hook_problems import hook_problems
from bintrades.stores.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLASS = "Store"
"""The class of a module that is made for each section."""

OPTIONS = "OPTIONS"
"""Where a class, a module or an object declares its options: a tuple of Option.

The hook describe_store is for those that have to compute them.
"""


class StoreKind:
    """A plugin; found is what its drop-in file or its entry point gave."""

    def __init__(self, name: str, found: object) -> None:
        self._name = name
        self._found = found
        self._class = _class_of(found)
        self._declared: tuple[Option, ...] | None = None
        self._is_declared = False  # whether that is known

    @property
    def is_class(self) -> bool:
        """Whether an object of its own is made for each section."""
        return self._class is not None

    @property
    def identity(self) -> int:
        """A number that is the same for two names of one thing."""
        return id(self._found)

    def make(self, store: str) -> Store:
        """Return the store called *store*; raises ConfigError with every problem of the plugin."""
        plugins = pluggy.PluginManager(hookspecs.PROJECT)
        plugins.add_hookspecs(hookspecs)
        plugin = self._found
        if self._class is not None:
            plugin = guarded(self._name, "made", self._class, self._source)
        problems = list(hook_problems(plugins, plugin))
        if not problems:
            try:
                plugins.register(plugin, store)
            except (pluggy.PluginValidationError, ValueError) as error:
                problems.append(" ".join(str(error).split()))
        self._refuse(problems)
        if not self._is_declared:
            self._declared = self._read_declared(plugins.hook.describe_store)
            self._is_declared = True
        return Store(store, self._name, plugins, self._declared)

    def _read_declared(self, describe: pluggy.HookCaller) -> tuple[Option, ...] | None:
        """Return the options that the plugin declares; None: it does not say what they are.

        Raises ConfigError for a declaration that is none.
        """
        given = getattr(self._class or self._found, OPTIONS, None)
        each = given if isinstance(given, tuple | list) else (given,)
        options = [option for option in each if isinstance(option, Option)]
        # A module may have had something else of this name before there were declarations.
        is_attribute = given is not None and bool(options or self.is_class)
        described = describe.get_hookimpls()
        if is_attribute and described:
            self._refuse([f"has both {OPTIONS} and {describe.name}; allowed: one of them"])
        if described:
            result = guarded(self._name, "described", describe, self._source)
            each = result if isinstance(result, tuple | list) else (result,)
            options = [option for option in each if isinstance(option, Option)]
        elif not is_attribute:
            return None
        where = describe.name if described else OPTIONS
        problems = list(_declaration_problems(where, options))
        if len(options) < len(each):
            holds = "gave" if described else "holds"
            problems.append(f"{where} {holds} what is no Option; allowed: a tuple of Option")
        self._refuse(problems)
        return tuple(options)

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise ConfigError(*(f"{self._name} ({self._source}): {each}" for each in problems))

    @property
    def _source(self) -> str:
        return getattr(self._found, "__file__", None) or repr(self._found)


def _class_of(found: object) -> type | None:
    """Return the class that is made for each section; None: there is one thing only."""
    if inspect.isclass(found):
        return found
    inside = getattr(found, CLASS, None) if inspect.ismodule(found) else None
    return inside if inspect.isclass(inside) and not _has_hooks(found) else None


def _has_hooks(module: object) -> bool:
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    return any(plugins.parse_hookimpl_opts(module, name) is not None for name in dir(module))


def _declaration_problems(where: str, options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        yield from (f"{where}: {problem}" for problem in option.declaration_problems())
    names = [option.name for option in options]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f"{where} declares {name} more than once; allowed: each option once"
    if PLUGIN in names:
        yield f"{where} declares {PLUGIN}, which names a section's plugin; allowed: others"
