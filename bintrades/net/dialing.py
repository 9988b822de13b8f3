"""Opening connections: names, addresses, proxies and TLS, within one allowance for all of it.

Streams and REST requests are opened here and nowhere else, so that they obey the same rules.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bintrades.net.addresses import Avoided, in_turn
from bintrades.net.proxies import proxy_for
from bintrades.net.resolver import Resolver
from bintrades.net.sockets import PlainSocket, Socket, TlsSocket
from bintrades.net.tunnels import open_tunnel
from bintrades.util.clocks import now_ms

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from bintrades.net.addresses import Address
    from bintrades.net.sockets import Allowance

STAGGER_S = 1.0
"""Without an answer for so long the next address is tried besides; a lost SYN is sent again then,
so that a connection that is only slow seldom makes a second one."""

_DEAD_MS = 60_000  # it may have been slow only, and trying it again costs no more than a stagger
_USELESS_MS = 600_000  # it lets in: trying it again may cost all the time that there is

_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
for _name, _value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
    if hasattr(socket, _name):
        _OPTIONS.append((socket.IPPROTO_TCP, getattr(socket, _name), _value))


class Dialer:
    """Opens connections, through the proxies of the environment. Callable from any thread.

    *tls* gives the context for each new connection. One Dialer serves the whole process, so that
    what one connection learns of dead addresses helps the others.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        environ: Mapping[str, str] = os.environ,
        *,
        stagger_s: float = STAGGER_S,
    ) -> None:
        self._tls = tls
        self._environ = environ
        self._stagger_s = stagger_s
        self._resolver = Resolver()
        self._lock = threading.Lock()
        self._dead = Avoided(_DEAD_MS)  # for everybody
        self._useless: defaultdict[int, Avoided] = defaultdict(lambda: Avoided(_USELESS_MS))

    def open(self, url: str, allowance: Allowance, copy: int = 0) -> Socket:
        """Return a connection to the host of *url*, encrypted for wss:// and https://.

        Every address of the host is tried, see addresses.in_turn for *copy*, and every step is
        bounded by *allowance*, which the socket keeps. Raises OSError, and ConfigError for a proxy
        of the environment that cannot be used.
        """
        parts = urlsplit(url)
        is_secure = parts.scheme in ("wss", "https")
        host, port = parts.hostname or "", parts.port or (443 if is_secure else 80)
        proxy = proxy_for(url, self._environ)
        via = (proxy.host, proxy.port) if proxy else (host, port)
        opened: Socket = self._reach(*via, allowance, copy)
        try:
            if proxy is not None:
                if proxy.scheme == "https":
                    opened = TlsSocket(opened, self._tls(), proxy.host)
                open_tunnel(opened, proxy, host, port)
            return TlsSocket(opened, self._tls(), host) if is_secure else opened
        except BaseException as error:
            self.give_up(opened, copy)
            if isinstance(error, UnicodeError):  # a name that TLS or the proxy's protocol lacks
                raise OSError(f"{host}: cannot be the name of a host: {error}") from error
            raise

    def give_up(self, opened: Socket, copy: int = 0) -> None:
        """Close a connection that is no good, and try other addresses before its own."""
        opened.close()
        self.avoid(opened, copy)

    def avoid(self, opened: Socket, copy: int = 0) -> None:
        """Try other addresses before that of *opened*, for ten minutes.

        The other copies go on as before, so that not all of them move to one address.
        """
        with self._lock:
            self._useless[copy].add(opened.peer, now_ms())

    def _reach(self, host: str, port: int, allowance: Allowance, copy: int) -> PlainSocket:
        found = in_turn(self._resolver.addresses(host, port, allowance.left_s()), copy)
        with self._lock:
            addresses = self._dead.last(self._useless[copy].last(found, now_ms()), now_ms())
        race = _Race(addresses, self._stagger_s)
        try:
            raw, peer = race.run(allowance)
        finally:
            with self._lock:
                for address in race.lost:
                    self._dead.add(address, now_ms())
        with self._lock:
            self._dead.remove(peer)
        return PlainSocket(raw, peer, allowance)


class _Race:
    """Attempts at several addresses; whichever connects first is taken (RFC 8305, section 5)."""

    def __init__(self, addresses: Sequence[Address], stagger_s: float) -> None:
        self.lost: list[Address] = []  # began, and did not win
        self._waiting = list(addresses)
        self._stagger_s = stagger_s
        self._errors: list[OSError] = []

    def run(self, allowance: Allowance) -> tuple[socket.socket, Address]:
        """Return the winner; raises OSError, which names every address, if there is none."""
        with selectors.DefaultSelector() as attempts:
            try:
                while self._waiting or attempts.get_map():
                    if self._waiting:
                        self._begin(self._waiting.pop(0), attempts)
                    if winner := self._wait(attempts, allowance):
                        return winner
            except TimeoutError as error:
                pending: list[Address] = [key.data for key in attempts.get_map().values()]
                self._errors += [_error(errno.ETIMEDOUT, address) for address in pending]
                raise self._failure() from error
            finally:
                for key in list(attempts.get_map().values()):
                    self.lost.append(key.data)
                    key.fileobj.close()  # type: ignore[union-attr] # a socket
        raise self._failure()

    def _begin(self, address: Address, attempts: selectors.BaseSelector) -> None:
        try:
            raw = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a kind of address that this machine does not know
            self._record_loss(address, error.errno)
            return
        raw.setblocking(False)
        for option in _OPTIONS:
            raw.setsockopt(*option)
        code = raw.connect_ex(address.place)
        if code in (0, errno.EINPROGRESS):
            attempts.register(raw, selectors.EVENT_WRITE, address)
        else:
            raw.close()
            self._record_loss(address, code)

    def _wait(
        self, attempts: selectors.BaseSelector, allowance: Allowance
    ) -> tuple[socket.socket, Address] | None:
        """Wait until one has connected or failed, or it is time for the next one."""
        if not attempts.get_map():
            return None
        left_s = allowance.left_s()
        ready = attempts.select(min(left_s, self._stagger_s) if self._waiting else left_s)
        for key, _ in ready:
            raw: socket.socket = key.fileobj  # type: ignore[assignment]
            attempts.unregister(raw)
            code = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return raw, key.data
            raw.close()
            self._record_loss(key.data, code)
        return None

    def _record_loss(self, address: Address, code: int | None) -> None:
        self.lost.append(address)
        self._errors.append(_error(code or errno.EIO, address))

    def _failure(self) -> OSError:
        """Make one error of all: of the kind of the first one, which was the first choice."""
        if not self._errors:
            return OSError(errno.EADDRNOTAVAIL, "the host has no address")
        texts = dict.fromkeys(error.strerror for error in self._errors)
        return OSError(self._errors[0].errno, "; ".join(map(str, texts)))


def _error(code: int, address: Address) -> OSError:
    return OSError(code, f"{os.strerror(code)}: {address}")
