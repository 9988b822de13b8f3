"""The plugins that there are, and which stores of a configuration are of which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.app.preflight import work_in
from bintrades.stores.built_in import plugins_of_checkout
from bintrades.stores.inventory import inventory
from bintrades.util.redaction import redacted
from bintrades.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bintrades.config.loader import Config
    from bintrades.options.option import Option
    from bintrades.stores.finder import Origin
    from bintrades.stores.inventory import FoundPlugin

_DEFAULT_FOLDER = Path("plugins")


def plugin_figures(config: Config | None) -> list[dict[str, Any]]:
    """Return every plugin as JSON has it, in alphabetical order; None: of no configuration.

    Runs the code of each, in the folder of the configuration, unless everybody may change it. Main
    thread. Raises ConfigError where that folder cannot be entered.
    """
    if config is None:
        here = _DEFAULT_FOLDER.is_dir()
        folder = _DEFAULT_FOLDER if here else plugins_of_checkout() or _DEFAULT_FOLDER
        stores: dict[str, list[str]] = {}
    else:
        work_in(config.folder)
        folder, stores = config.plugins.path, _stores_by_plugin(config)
    found = inventory(folder, stores)
    return [_figures(each, stores.get(each.name, ())) for each in found]


def _stores_by_plugin(config: Config) -> dict[str, list[str]]:
    stores: dict[str, list[str]] = {}
    for name in config.stores.enabled:
        stores.setdefault(config.store_plugins[name], []).append(name)
    return stores


def _figures(plugin: FoundPlugin, stores: Sequence[str]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        **_origin_figures(plugin.origin),
        "is_enabled": bool(stores),
        "stores": list(stores),
        "problems": redacted(list(plugin.problems)),
        "libraries": [
            {"package": each.package, "is_installed": each.hint is None, "install": each.hint}
            for each in plugin.libraries
        ],
        "options": None if plugin.options is None else [*map(_option_figures, plugin.options)],
    }


def _origin_figures(origin: Origin) -> Mapping[str, str | None]:
    """Return file, or module, package and version, of what is used."""
    point = origin.point
    package = version = None
    if point is not None:  # of a checkout that is not installed there is no distribution
        package = point.dist.name if point.dist else "bintrades"
        version = point.dist.version if point.dist else __version__
    return {
        "file": None if origin.file is None else str(origin.file.absolute()),
        "module": None if point is None else point.value,
        "package": package,
        "version": version,
        "instead_of": origin.instead_of,
    }


def _option_figures(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "default": option.default,
        "meaning": option.meaning,
        "allowed": option.type.allowed,
        "is_secret": option.is_secret,
        "must_be_given": bool(option.faults(option.default)),
    }
