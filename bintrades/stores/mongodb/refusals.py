"""What to do where a server cannot be spoken to, or does not let us in: a hint behind its words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

from bintrades.errors import BintradesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.errors import ServerSelectionTimeoutError

_HINTS = (
    (
        r"mismatch|is not valid for|doesn't match",
        "in the uri, a server must have the name that its certificate has",
    ),
    (
        r"certificate has expired|not yet valid",
        "have the server's certificate renewed, or set the clock of this machine",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "tlsCAFile=FILE in the uri names the authority that has issued the server's certificate",
    ),
    (
        r"connection closed|closed \(EOF\)|reset by peer|SSL:|EOF occurred",
        "a server without TLS wants no tls=true in the uri; one with TLS wants it, and may want a"
        " certificate of ours that it knows the authority of, tlsCertificateKeyFile=FILE",
    ),
)
"""What is found in the reasons of pymongo and of OpenSSL, the closest first."""

_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13


def unreachable(error: ServerSelectionTimeoutError) -> BintradesError:
    """Return what says that no server answers, why, and what can be done about it."""
    reason = str(error).partition(", Timeout:")[0]  # what follows is long and says no more
    hint = next((hint for found, hint in _HINTS if re.search(found, reason)), "")
    return BintradesError(f"no server answers: {reason}" + (f"; {hint}" if hint else ""))


def explained(error: OperationFailure, database: str) -> OperationFailure:
    """Return *error* of a server that does not let us in, with what to do; or any other itself."""
    details: Mapping[str, Any] = error.details or {}
    said = details.get("errmsg", str(error))
    if error.code == _AUTHENTICATION_FAILED:
        hint = (
            "look at the user, the password, authSource and authMechanism in the uri; with"
            " MONGODB-X509, the user's name in the database $external is the subject of the"
            " certificate"
        )
    elif error.code == _UNAUTHORIZED:
        hint = f"the user of the uri needs the role readWrite on the database {database}"
    else:
        return error
    return OperationFailure(f"{said}; {hint}", error.code)
