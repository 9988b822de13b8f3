"""The default store: MongoDB. `Store` and `MongoStore` are one class, imported when asked for.

Whoever only reads the configuration needs the options, but not pymongo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.stores.mongodb.store import MongoStore, Store

__all__ = ["MongoStore", "Store"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bintrades.stores.mongodb import store

    return getattr(store, name)
