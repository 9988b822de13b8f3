"""The one TLS context of streams and REST requests: always verified."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from bintrades.errors import ConfigError

BUNDLE_VARIABLE = "WEBSOCKET_CLIENT_CA_BUNDLE"
"""Names a file or folder of certificates to trust besides the system's; websocket-client's own."""


def tls_context() -> ssl.SSLContext:
    """Return a context that checks the certificate and the host name of the other side.

    Trusted is what the system trusts, or what SSL_CERT_FILE and SSL_CERT_DIR name instead (OpenSSL
    reads them itself), and what BUNDLE_VARIABLE names in addition. Raises ConfigError when that
    cannot be read.
    """
    context = ssl.create_default_context()
    bundle = os.environ.get(BUNDLE_VARIABLE)
    if bundle:
        _trust(context, Path(bundle))
    return context


def _trust(context: ssl.SSLContext, bundle: Path) -> None:
    try:
        if bundle.is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"{BUNDLE_VARIABLE}={bundle}: no certificates can be read from it: {error}; "
            "name a PEM file, or a folder made by openssl rehash, or unset it"
        ) from error
