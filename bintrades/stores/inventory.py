"""What plugins there are: where each comes from, what it needs, and what its options are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError
from bintrades.stores.finder import Finder
from bintrades.stores.kind import StoreKind
from bintrades.stores.libraries import libraries_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bintrades.options.option import Option
    from bintrades.stores.finder import Origin
    from bintrades.stores.libraries import Library


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin. problems: why it cannot be used; options: None where it declares none."""

    name: str
    origin: Origin
    options: Sequence[Option] | None = None
    libraries: Sequence[Library] = ()
    problems: Sequence[str] = ()


def inventory(folder: Path, wanted: Iterable[str] = ()) -> Iterator[FoundPlugin]:
    """Yield every plugin of *folder* and of installed packages, and those that are *wanted*.

    In alphabetical order. Imports the code of each, unless everybody may change it, and has each
    check its defaults, without a network. What a plugin raises is one of its problems.
    """
    finder = Finder(folder)
    for name in sorted({*finder.names, *wanted}):
        try:
            store = StoreKind(name, finder.load(name)).make(name)
        except ConfigError as error:
            yield FoundPlugin(name, finder.origin(name), problems=error.problems)
        else:
            with libraries_asked_for() as libraries:
                store.try_defaults()
            yield FoundPlugin(name, finder.origin(name), store.declared, tuple(libraries))
