"""The stores that come with bintrades, known without the packages that they need."""

from __future__ import annotations

import configparser
import importlib.util
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

from bintrades.stores.hookspecs import PROJECT
from bintrades.stores.mongodb.options import OPTIONS

SHIPPED = "bintrades_plugins"
"""The package of the plugins that are files in the folder plugins of a checkout."""

ENTRY_POINTS = (EntryPoint("mongodb", "bintrades.stores.mongodb", PROJECT),)
"""Entry points in setup.cfg; here too, so that a checkout runs without being installed."""

OPTIONS_OF_BUILT_IN = {"mongodb": OPTIONS}
"""What those declare that are part of this package, by name."""


def plugins_of_checkout() -> Path | None:
    """Return the folder plugins of the checkout that this package runs from; None: of none."""
    checkout = Path(__file__).parents[2]
    folder = checkout / "plugins"
    return folder if (checkout / "setup.cfg").is_file() and folder.is_dir() else None


def is_shipped(point: EntryPoint) -> bool:
    """Whether *point* leads to one of the plugins that come with us beside the package."""
    return point.value.startswith(f"{SHIPPED}.")


def shipped_plugins() -> dict[str, Path]:
    """Return the file of each of those plugins, by its name, in alphabetical order.

    The folder of a checkout may have others too, of whoever works there.
    """
    folder = plugins_of_checkout()
    points = entry_points(group=PROJECT) if folder is None else _declared_in(folder.parent)
    folder = folder or _installed_folder()
    names = sorted({point.name: point.module for point in points if is_shipped(point)}.items())
    return {name: folder / f"{module.rpartition('.')[2]}.py" for name, module in names}


def _declared_in(checkout: Path) -> EntryPoints:
    """Return the entry points of a checkout: those that are installed may be older ones."""
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"][PROJECT].strip().splitlines()
    parts = (line.partition("=") for line in lines)
    return EntryPoints(EntryPoint(name.strip(), value.strip(), PROJECT) for name, _, value in parts)


def _installed_folder() -> Path:
    spec = importlib.util.find_spec(SHIPPED)
    places = spec.submodule_search_locations if spec else None
    return Path(*places) if places else Path()
