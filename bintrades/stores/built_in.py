"""The stores that come with bintrades, known without the packages that they need."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from bintrades.stores.hookspecs import PROJECT
from bintrades.stores.mongodb.options import OPTIONS

ENTRY_POINTS = (EntryPoint("mongodb", "bintrades.stores.mongodb", PROJECT),)
"""Entry points in setup.cfg; here too, so that a checkout runs without being installed."""

OPTIONS_OF_STORES = {"mongodb": OPTIONS}
"""What each declares, by its name."""
