"""A MongoDB client from the URI of a configuration; its password is never shown."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pymongo
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.uri_parser import parse_userinfo, split_options

from bintrades.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

URI_DEFAULTS: dict[str, Any] = {
    "w": "majority",
    "journal": True,
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
    "appname": "bintrades",
}
"""What holds where the URI does not say; a server that stands alone is its own majority."""

_FILES = frozenset({"tlscafile", "tlscertificatekeyfile", "tlscrlfile"})

_SCHEMES = ("mongodb", "mongodb+srv")
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\](:\d+)?|[^:\[\]%]+(:\d+)?|[^:]+\.sock")
_DATABASE = re.compile(r'(/[^/ "$:]*)?')


def client_of(uri: str) -> pymongo.MongoClient[dict[str, Any]]:
    """Return a client that has not connected yet; the caller closes it.

    Raises ConfigError. Messages of pymongo quote parts of a URI, so pymongo never sees one with a
    user name and a password in it: it gets them apart.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in _SCHEMES:
        raise ConfigError("uri: must begin with mongodb:// or mongodb+srv://")
    userinfo, hosts, path = _split(rest)
    query = path.partition("?")[2]
    try:
        credentials = _credentials(userinfo)
        given = _parse(query)
        if given.get("w") == 0:
            raise ConfigError("uri: w=0 is not allowed: nobody would know whether a bar is stored")
        return pymongo.MongoClient(
            f"{scheme}://{hosts}{path}",
            connect=False,
            tz_aware=True,
            **credentials,
            **_defaults(given),
        )
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"uri: {_showable(error, query)}") from None


def _parse(query: str) -> Mapping[str, Any]:
    """Return the options by the names that pymongo uses inside.

    Where pymongo finds fault with some, ConfigError names each: pymongo itself stops at the first.
    """
    if not query:
        return {}
    try:
        return split_options(query)
    except (PyMongoError, ValueError, TypeError, OSError):
        problems: list[str] = []
        for option in re.split("[&;]", query):
            try:
                _parse_one(option)
            except ConfigError as error:
                problems.extend(error.problems)
        if problems:
            raise ConfigError(*problems) from None
        raise


def _parse_one(option: str) -> None:
    name, _, value = option.partition("=")
    try:
        split_options(option)
    except OSError as error:
        if name.lower() not in _FILES:
            raise
        path, reason = unquote_plus(value), os.strerror(error.errno or 0)
        raise ConfigError(f"uri: {name}={path}: {reason}; allowed: a readable file") from None
    except ConfigurationError as error:
        reason = str(error).replace("Unknown option.", f"Unknown option: {name.lower()}.")
        raise ConfigError(f"uri: {_showable(reason, option)}") from None


def _showable(reason: object, query: str) -> str:
    if "authmechanismproperties" in query.lower():
        return "the reason is not shown, as it may quote a token"
    return str(reason)


def _split(rest: str) -> tuple[str, str, str]:
    """Return user info, hosts, and the path with its options, all without knowing them valid.

    An @ is allowed in one place only, since whatever stands before another one could be a piece
    of a password with an unescaped / or ? or @.
    """
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    userinfo, _, hosts = authority.rpartition("@")
    if "@" in userinfo or "@" in path:
        raise ConfigError(
            "uri: each / ? @ : % in the user name, the password or an option must be "
            "percent-encoded (%2F %3F %40 %3A %25)"
        )
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        raise ConfigError(
            "uri: servers must be given as name or name:port, with a comma between two; a user "
            "name and a password stand before them and end with @"
        )
    if not _DATABASE.fullmatch(path.partition("?")[0]):
        raise ConfigError("uri: after the servers comes a / and the database to log in to, or none")
    return userinfo, hosts, path


def _credentials(userinfo: str) -> dict[str, Any]:
    if not userinfo:
        return {}
    username, password = parse_userinfo(userinfo)
    return {"username": username, "password": password or None}


def _defaults(given: Iterable[str]) -> dict[str, Any]:
    names = {name.lower() for name in given}
    if "fsync" in names:
        names.add("journal")  # MongoDB takes one of them, not both
    return {name: value for name, value in URI_DEFAULTS.items() if name.lower() not in names}
