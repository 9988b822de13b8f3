"""The options of all stores that come with bintrades, whatever libraries are installed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bintrades.stores.built_in import OPTIONS_OF_BUILT_IN, shipped_plugins
from bintrades.stores.finder import guarded, import_file
from bintrades.stores.kind import StoreKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bintrades.options.option import Option


@functools.cache
def options_of_stores() -> Mapping[str, Sequence[Option]]:
    """Return the options of each, the default store first, the others in alphabetical order.

    Imports the files of those that are no part of the package, but not the libraries that they
    need. Raises ConfigError for a file that cannot be imported.
    """
    of_files = {name: _options_in(name, path) for name, path in shipped_plugins().items()}
    return {**OPTIONS_OF_BUILT_IN, **of_files}


def _options_in(name: str, path: Path) -> Sequence[Option]:
    found = guarded(name, "imported", lambda: import_file(name, path))
    return StoreKind(name, found).make(name).declared or ()
