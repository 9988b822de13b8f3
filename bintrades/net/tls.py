"""Whom TLS connections trust, streams and REST requests alike: always verified."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

BUNDLE_VARIABLE = "WEBSOCKET_CLIENT_CA_BUNDLE"
"""Names a file or folder of certificates to trust besides the system's; websocket-client's own."""


class Certificates:
    """The certificates to trust, read again when they have changed. Callable from any thread.

    Making one raises ConfigError when they cannot be read. When that happens later, which is a
    warning, those of before serve on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = _state()
        self._context = tls_context()
        self._file = ssl.get_default_verify_paths().cafile

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        with self._lock:
            state = _state()
            if state != self._state:
                self._state = state  # an unreadable file is logged once, until it changes again
                self._read_again()
            return self._context

    def _read_again(self) -> None:
        try:
            if self._file is not None:  # OpenSSL would ignore its absence, and trust no one
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self._file)
            self._context = tls_context()
            self._file = ssl.get_default_verify_paths().cafile
        except (ConfigError, OSError) as error:
            log.warning(
                "the certificates to trust have changed and cannot be read; "
                "those of before serve on",
                extra={"event": "certificates_unreadable", "file": self._file, "error": str(error)},
            )
        else:
            log.info(
                "the certificates to trust have changed; new connections use them",
                extra={"event": "certificates_reloaded"},
            )


def tls_context() -> ssl.SSLContext:
    """Return a context that checks the certificate and the host name of the other side.

    Trusted is what the system trusts, or what SSL_CERT_FILE and SSL_CERT_DIR name instead (OpenSSL
    reads them itself), and what BUNDLE_VARIABLE names in addition. Raises ConfigError when any of
    that cannot be read.
    """
    problems = list(_problems_that_openssl_hides())
    context = ssl.create_default_context()
    bundle = os.environ.get(BUNDLE_VARIABLE)
    if bundle:
        problems += _trust(context, BUNDLE_VARIABLE, bundle)
    if problems:
        raise ConfigError(*problems)
    return context


def _problems_that_openssl_hides() -> Iterator[str]:
    """Yield what is wrong with SSL_CERT_FILE and SSL_CERT_DIR: it would trust no certificate."""
    paths = ssl.get_default_verify_paths()
    file, folders = paths.openssl_cafile_env, paths.openssl_capath_env
    if path := os.environ.get(file):
        yield from _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file, path)
    for folder in os.environ.get(folders, "").split(os.pathsep):
        if folder and not os.path.isdir(folder):  # noqa: PTH112 - Path raises for some
            yield (
                f"{folders}={folder}: is not a folder, so no certificates are in it; "
                "name folders made by openssl rehash, or unset it"
            )


def _trust(context: ssl.SSLContext, variable: str, bundle: str) -> list[str]:
    """Have *context* trust a bundle too; return what is wrong with that."""
    try:
        if os.path.isdir(bundle) and variable == BUNDLE_VARIABLE:  # noqa: PTH112
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as error:  # ssl.SSLError is one
        kinds = "a PEM file"
        if variable == BUNDLE_VARIABLE:
            kinds += ", or a folder made by openssl rehash"
        return [
            f"{variable}={bundle}: no certificates can be read from it: {error}; "
            f"name {kinds}, or unset it"
        ]
    return []


def _state() -> list[tuple[int, int, int] | None]:
    """Return what changes when a file or folder of certificates does; the system keeps the rest."""
    paths = ssl.get_default_verify_paths()
    files = os.environ.get(paths.openssl_cafile_env) or paths.openssl_cafile
    folders = os.environ.get(paths.openssl_capath_env) or paths.openssl_capath
    return [
        _state_of(path)
        for path in (files, *folders.split(os.pathsep), os.environ.get(BUNDLE_VARIABLE, ""))
        if path
    ]


def _state_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino
