"""Asking a proxy for a way to a host: HTTP's CONNECT (RFC 9110) and SOCKS5 (RFC 1928, 1929).

The proxy resolves the name. Each step is bounded by the socket's allowance.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import TYPE_CHECKING

from bintrades.util.text import one_line
from bintrades.version import __version__

if TYPE_CHECKING:
    from bintrades.net.proxies import Proxy
    from bintrades.net.sockets import Socket

_MAX_HEAD_BYTES = 16 * 1024
_PORTS_ALLOWED_EVERYWHERE = (80, 443)

_VERSION, _CONNECT, _RESERVED = 5, 1, 0
_NO_AUTHENTICATION, _PASSWORD = 0, 2
_PASSWORD_VERSION = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_SOCKS_ERRORS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "timed out",
    7: "command not supported",
    8: "kind of address not supported",
}


def open_tunnel(through: Socket, proxy: Proxy, host: str, port: int) -> None:
    """Have *proxy*, at the other end of *through*, connect it to *host*. Raises OSError."""
    if proxy.scheme.startswith("socks"):
        _open_with_socks(through, proxy, host, port)
    else:
        _open_with_connect(through, proxy, host, port)


def _open_with_connect(through: Socket, proxy: Proxy, host: str, port: int) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [
        f"CONNECT {place} HTTP/1.1",
        f"Host: {place}",
        f"User-Agent: bintrades/{__version__}",
    ]
    if proxy.user:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    through.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    first = _read_head(through, proxy).partition(b"\r\n")[0].decode("latin-1")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise ConnectionError(f"{proxy} answers as no HTTP proxy does: {one_line(first)}")
    if not status.startswith("2"):
        raise ConnectionError(
            f"{proxy} refuses a way to {place}: {one_line(status)}{_advice(status[:3], host, port)}"
        )


def _advice(status: str, host: str, port: int) -> str:
    if status == "407":
        return "; put its user and password into the address"
    if port not in _PORTS_ALLOWED_EVERYWHERE:
        return f"; many proxies refuse port {port}: {host}:443 may have the same"
    return ""


def _read_head(through: Socket, proxy: Proxy) -> bytes:
    """Return the head of the answer, byte by byte: what follows is not the proxy's."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        if len(head) >= _MAX_HEAD_BYTES:
            raise ConnectionError(f"{proxy}: an answer of more than {_MAX_HEAD_BYTES} bytes")
        head += _read(through, proxy, 1)
    return bytes(head)


def _open_with_socks(through: Socket, proxy: Proxy, host: str, port: int) -> None:
    methods = [_NO_AUTHENTICATION, *([_PASSWORD] if proxy.user else [])]
    through.sendall(bytes([_VERSION, len(methods), *methods]))
    version, method = _read(through, proxy, 2)
    if version != _VERSION:
        raise ConnectionError(f"{proxy} answers as no SOCKS5 proxy does")
    if method == _PASSWORD and proxy.user:
        _say_password(through, proxy)
    elif method != _NO_AUTHENTICATION:
        raise ConnectionError(
            f"{proxy} refuses: put its user and password into the address; no other "
            "authentication is possible"
        )
    through.sendall(bytes([_VERSION, _CONNECT, _RESERVED]) + _encode(host) + port.to_bytes(2))
    version, reply, _, kind = _read(through, proxy, 4)
    if version != _VERSION or reply:
        reason = _SOCKS_ERRORS.get(reply, f"error {reply}")
        raise ConnectionError(f"{proxy} refuses a way to {host}:{port}: {reason}")
    size = {_IPV4: 4, _IPV6: 16}.get(kind) or _read(through, proxy, 1)[0]
    _read(through, proxy, size + 2)  # where it connects from does not matter


def _say_password(through: Socket, proxy: Proxy) -> None:
    user, password = proxy.user.encode(), proxy.password.encode()
    through.sendall(
        bytes([_PASSWORD_VERSION, len(user)]) + user + bytes([len(password)]) + password
    )
    if _read(through, proxy, 2)[1]:
        raise ConnectionError(f"{proxy} refuses user or password")


def _encode(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _read(through: Socket, proxy: Proxy, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = through.recv(size - len(received))
        if not part:
            raise ConnectionError(f"{proxy} closed the connection instead of an answer")
        received += part
    return received
