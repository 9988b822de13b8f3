"""The stores that a configuration enables, each of a plugin and apart from the others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError
from bintrades.stores.finder import Finder, drop_ins, installed
from bintrades.stores.kind import StoreKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bintrades.stores.store import Store

_OF_THEIR_NAMES: Mapping[str, str] = {}


def available(folder: Path) -> list[str]:
    """Return the names of all plugins that can be enabled, in alphabetical order."""
    return sorted({*drop_ins(folder), *installed()})


def load_stores(
    names: Sequence[str], folder: Path, plugins: Mapping[str, str] = _OF_THEIR_NAMES
) -> list[Store]:
    """Return the stores called *names*, in that order, from *folder* and installed packages.

    *plugins* says of which plugin a store is, where that has another name. Raises ConfigError
    naming every problem, not only the first. Imports the plugins' code.
    """
    stores, problems = find_stores(names, folder, plugins)
    if problems:
        raise ConfigError(*problems)
    return stores


def find_stores(
    names: Sequence[str], folder: Path, plugins: Mapping[str, str] = _OF_THEIR_NAMES
) -> tuple[list[Store], list[str]]:
    """Return those of the stores that can be used, and what is wrong with the others."""
    problems = [
        f"[stores] enabled: {name} is named {count} times"
        for name, count in Counter(names).items()
        if count > 1
    ]
    shelf = _Shelf(folder)
    usable = []
    for name in dict.fromkeys(names):
        try:
            usable.append(shelf.store(name, plugins.get(name, name)))
        except ConfigError as error:
            is_named = plugins.get(name, name) != name
            place = f"[store:{name}] plugin" if is_named else "[stores] enabled"
            problems.extend(f"{place}: {problem}" for problem in error.problems)
    return usable, problems


class _Shelf:
    """The plugins that were imported, each once, and the stores that were made of them."""

    def __init__(self, folder: Path) -> None:
        self._finder = Finder(folder)
        self._kinds: dict[str, StoreKind] = {}
        self._single: dict[int, str] = {}  # the store that has what cannot be made twice

    def store(self, name: str, plugin: str) -> Store:
        """Return a store of *plugin*, called *name*; raises ConfigError with every problem."""
        if plugin not in self._kinds:
            self._kinds[plugin] = StoreKind(plugin, self._finder.load(plugin))
        kind = self._kinds[plugin]
        first = name if kind.is_class else self._single.setdefault(kind.identity, name)
        if first != name:
            raise ConfigError(
                f"{plugin} is already registered, for the store {first}: there is one of it only,"
                " since it has plain hook functions, or is one object; allowed: one store of it, or"
                " a plugin with a class Store, which is made for each"
            )
        return kind.make(name)
