"""Checks before collecting begins; reports every problem at once.

The configuration, the log, the plugins and their options, and what the environment says of proxies
and certificates: a problem of one hides none of the others.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bintrades.config.loader import read_config
from bintrades.errors import ConfigError
from bintrades.net.proxies import proxy_for
from bintrades.net.tls import BUNDLE_VARIABLE, tls_context
from bintrades.stores.loader import find_stores
from bintrades.util.redaction import remember_more_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from bintrades.config.loader import Config, LoggingConfig
    from bintrades.stores.store import Store

_VARIABLES_WITH_PATHS = ("SSL_CERT_FILE", "SSL_CERT_DIR", BUNDLE_VARIABLE)


def prepare(
    path: Path, start_logging: Callable[[LoggingConfig], None]
) -> tuple[Config, list[Store]]:
    """Return the configuration of the file *path* and the stores that it enables, in its order.

    The configuration's folder becomes the working directory, so that relative paths start there
    in the options of a store as everywhere. *start_logging*, which raises ConfigError if it cannot,
    is called before any plugin's code is, which may log. Raises ConfigError with every problem;
    touches no network. Main thread.
    """
    config, problems = read_config(path)
    work_in(config.folder)
    try:
        start_logging(config.logging)
    except ConfigError as error:
        problems += _in_file(path, *error.problems)
    names = [name for name in config.stores.enabled if name in config.store_plugins]
    stores, unusable = find_stores(names, config.plugins.path, config.store_plugins)
    problems += _in_file(path, *unusable)
    for store in stores:
        remember_more_secrets(store.secrets(config.store_options.get(store.name, {})))
    for store in stores:
        if (options := config.store_options.get(store.name)) is not None:
            found = _problems_of(store, options)
            problems += _in_file(path, *(f"[store:{store.name}] {text}" for text in found))
    problems += _in_file(path, *_twins(stores, config.store_options))
    problems += dict.fromkeys(_problems_of_environment(config))
    if problems:
        raise ConfigError(*problems)
    return config, stores


def settings(config: Config, stores: Iterable[Store], *, all_of_them: bool) -> Iterator[str]:
    """Yield what the options are in effect, secrets as ***; or what differs from its default."""
    for setting in config.settings:
        if all_of_them or not setting.is_default:
            yield str(setting)
    if all_of_them:
        for store in stores:
            given = store.settings(config.store_options[store.name])
            yield from (f"[store:{store.name}] {setting}" for setting in given)


def work_in(folder: Path) -> None:
    """Change the working directory; files that the environment names stay where they are."""
    for name in _VARIABLES_WITH_PATHS:
        if paths := os.environ.get(name):
            os.environ[name] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot become the working directory: {error.strerror}; the folder of the"
            " configuration must be one that may be entered"
        ) from error


def _twins(stores: Iterable[Store], options: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield which stores of one plugin would write to one place: their options are the same."""
    first: dict[tuple[str, tuple[str, ...]], str] = {}
    for store in stores:
        if values := store.values(options.get(store.name, {})):
            twin = first.setdefault((store.plugin, values), store.name)
            if twin != store.name:
                yield (
                    f"[store:{store.name}] has the options of [store:{twin}], so that both would"
                    f" write to one place; allowed: a store of {store.plugin} with other options"
                )


def _problems_of_environment(config: Config) -> Iterator[str]:
    for url in (config.exchange_options.stream_url, config.exchange_options.rest_url):
        try:
            proxy_for(url, os.environ)
        except ConfigError as error:
            yield from error.problems
    try:
        tls_context()
    except ConfigError as error:
        yield from error.problems


def _problems_of(store: Store, options: Mapping[str, str]) -> list[str]:
    try:
        store.check(options)
    except ConfigError as error:
        return [line for text in error.problems for line in text.splitlines()]
    except Exception as error:
        return [f"cannot be checked: {store.without_secrets(repr(error), options)}"]
    return []


def _in_file(path: Path, *problems: str) -> list[str]:
    return [f"{path}: {problem}" for problem in problems]
