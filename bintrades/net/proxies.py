"""The proxy of an address, by the environment: one rule for streams and REST requests.

It is the rule of curl and of most other programs. https:// and wss:// go through HTTPS_PROXY,
http:// and ws:// through HTTP_PROXY, and both through ALL_PROXY where theirs is not set; NO_PROXY
names the hosts that need none. A name in small letters wins over one in capitals, and one that is
set to nothing means: no proxy.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bintrades.errors import ConfigError
from bintrades.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_ALLOWED = (
    "http://, https://, socks5:// or socks5h://, perhaps user and password, a host, perhaps a :port"
)
_LONGEST_CREDENTIAL = 255  # of SOCKS5, in bytes


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy of the environment. It resolves the names of the hosts behind it, SOCKS as well."""

    variable: str
    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return where it is and who says so, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port} ({self.variable})"


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that *url* is reached through, None if it is reached directly.

    Raises ConfigError for a proxy that cannot be used.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme in ("https", "wss")
    port = parts.port or (443 if is_secure else 80)
    for name in ("HTTPS_PROXY" if is_secure else "HTTP_PROXY", "ALL_PROXY"):
        variable, value = _look_up(name, environ)
        if variable and not value:
            return None
        if value:
            proxy = _parse(variable, value)
            excepted = _look_up("NO_PROXY", environ)[1]
            return None if _is_excepted(parts.hostname or "", port, excepted) else proxy
    return None


def _look_up(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that counts and its value, nothing for both where it is not set."""
    for variable in (name.lower(), name):
        if variable in environ:
            return variable, environ[variable].strip()
    return "", ""


def _parse(variable: str, value: str) -> Proxy:
    shown = one_line(value, 200)
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{variable}={shown}: {error}; allowed: {_ALLOWED}") from error
    if parts.scheme not in _PORTS:
        raise ConfigError(
            f"{variable}={shown}: no proxy of the kind {parts.scheme}:// can be used; "
            f"allowed: {_ALLOWED}"
        )
    if not parts.hostname or port == 0:
        raise ConfigError(f"{variable}={shown}: names no host or no port; allowed: {_ALLOWED}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if max(len(user.encode()), len(password.encode())) > _LONGEST_CREDENTIAL:
        raise ConfigError(
            f"{variable}: user or password is longer than {_LONGEST_CREDENTIAL} bytes"
        )
    return Proxy(
        variable, parts.scheme, parts.hostname, port or _PORTS[parts.scheme], user, password
    )


def _is_excepted(host: str, port: int, excepted: str) -> bool:
    """Whether *excepted*, a list with commas or spaces, has *host*."""
    return any(_fits(host, port, each.lower()) for each in re.split(r"[,\s]+", excepted) if each)


def _fits(host: str, port: int, pattern: str) -> bool:
    """Whether *pattern* is *host*, a domain of it, a network with it, or everything."""
    if pattern == "*":
        return True
    name, colon, digits = pattern.rpartition(":")
    if colon and digits.isdecimal() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        pattern = name
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = pattern.removeprefix("*").removeprefix(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        return False
