"""Reaching a host that has dead addresses, a name that does not resolve, and time for neither."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from bintrades.errors import ExchangeError
from bintrades.exchange.binance.markets import MARKETS
from bintrades.exchange.binance.rest import RestClient
from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.net.sockets import Allowance
from bintrades.net.websocket import Connection
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.servers import SocksProxy, name_addresses, say_nothing, server, swallowing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NO_ROUTE = "2001:db8::1"  # kept for documentation: no route leads there


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator() as simulator:
        yield simulator


@pytest.fixture
def ipv6() -> None:
    """Skip a test where this machine has no IPv6 loopback."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def make_dialer(**options: Any) -> Dialer:
    return Dialer(ssl.create_default_context, stagger_s=0.1, **options)


def reach(dialer: Dialer, port: int, *, within_s: float = 10.0, copy: int = 0) -> str:
    """Open a connection to exchange.test and return the address at its other end."""
    opened = dialer.open(f"ws://exchange.test:{port}", Allowance(within_s), copy)
    opened.close()
    return str(opened.peer.place[0])


@pytest.mark.parametrize(
    "dead",
    [
        ["127.0.0.2"],
        ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"],
        ["::1"],
        [NO_ROUTE],
        [NO_ROUTE, "127.0.0.2"],
    ],
)
def test_streams_and_rest_reach_a_host_whose_first_addresses_are_dead(
    dead: list[str], exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_addresses(monkeypatch, [*dead, "127.0.0.1"])
    dialer = make_dialer()
    url = exchange.stream_url.replace("127.0.0.1", "exchange.test")
    rest_url = exchange.rest_url.replace("127.0.0.1", "exchange.test")

    # The first is a machine that swallows everything; the others refuse, or have no route.
    with swallowing("127.0.0.2", port_of(url)), swallowing("127.0.0.2", port_of(rest_url)):
        connection = Connection(f"{url}/stream", dialer, receive_timeout_s=0.2)
        connection.close()
        with RestClient(rest_url, MARKETS["spot"], SystemNetwork(dialer)) as rest:
            assert rest.exchange_symbols()
    assert connection.peer.startswith("127.0.0.1 ")


@pytest.mark.usefixtures("ipv6")
def test_a_host_of_ipv6_alone_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name_addresses(monkeypatch, ["::1"])
    with server(say_nothing, "::1") as port:
        assert reach(make_dialer(), port) == "::1"


def test_an_address_that_was_dead_costs_no_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    dialer = make_dialer()
    with swallowing("127.0.0.2") as port, server(say_nothing, port=port):
        assert reach(dialer, port) == "127.0.0.1"
        dialer._stagger_s = 60.0  # so that a second choice would come too late
        assert reach(dialer, port) == "127.0.0.1"
        assert reach(dialer, port, copy=1) == "127.0.0.1"


def test_an_address_that_lets_in_and_then_says_nothing_is_not_taken_again(
    exchange: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    visits: list[str] = []

    def serve(accepted: socket.socket) -> None:
        visits.append(accepted.getsockname()[0])
        say_nothing(accepted)

    dialer = make_dialer()
    url, rest_url = exchange.stream_url, exchange.rest_url
    with (
        server(serve, "127.0.0.2", port_of(url)),
        server(serve, "127.0.0.2", port_of(rest_url)),
        RestClient(
            rest_url.replace("127.0.0.1", "exchange.test"),
            MARKETS["spot"],
            SystemNetwork(dialer),
            timeout_s=1.5,
        ) as rest,
    ):
        stream_url = url.replace("127.0.0.1", "exchange.test") + "/stream"
        for attempt in (
            lambda: Connection(
                stream_url, dialer, receive_timeout_s=0.2, connect_within_s=1.5
            ).close(),
            rest.exchange_symbols,
        ):
            _fails(attempt)
            attempt()
            attempt()
    assert visits == ["127.0.0.2"] * 2


def test_copies_stay_at_different_addresses_when_all_of_them_have_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    dialer = Dialer(ssl.create_default_context, stagger_s=5.0)
    with server(say_nothing, "127.0.0.1") as port, server(say_nothing, "127.0.0.2", port):
        for _ in range(4):
            reached = []
            for copy in (1, 2):
                opened = dialer.open(f"ws://exchange.test:{port}", Allowance(10), copy)
                reached.append(opened.peer.place[0])
                dialer.give_up(opened, copy)
            assert sorted(map(str, reached)) == ["127.0.0.1", "127.0.0.2"]


def _fails(attempt: Callable[[], object]) -> None:
    with pytest.raises(Exception, match="timed out"):
        attempt()


def test_where_every_address_is_dead_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    with swallowing("127.0.0.2") as port:
        with pytest.raises(ConnectionRefusedError) as raised:
            reach(make_dialer(), port, within_s=0.5)
        assert str(raised.value) == (
            f"[Errno 111] Connection refused: 127.0.0.1 port {port}; "
            f"Connection timed out: 127.0.0.2 port {port}"
        )
        url = f"http://exchange.test:{port}"
        with (
            RestClient(url, MARKETS["spot"], SystemNetwork(make_dialer()), timeout_s=0.5) as rest,
            pytest.raises(ExchangeError, match=rf"Connection timed out: 127.0.0.2 port {port}$"),
        ):
            rest.exchange_symbols()


def test_what_is_dead_at_first_and_alive_later_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    dialer = make_dialer()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        reach(dialer, port)
    with server(say_nothing, port=port):
        assert reach(dialer, port) == "127.0.0.1"


def test_no_socket_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings of unclosed sockets are errors here."""
    name_addresses(monkeypatch, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    with swallowing("127.0.0.2") as port, server(say_nothing, port=port):
        for _ in range(3):
            reach(make_dialer(), port)


def test_a_certificate_of_the_wrong_host_closes_the_connection(authority: trustme.CA) -> None:
    tls, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("elsewhere.test").configure_cert(tls)
    authority.configure_trust(ours)
    ends: list[bytes] = []

    def serve(accepted: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            tls.wrap_socket(accepted, server_side=True)
        ends.append(b"")

    with server(serve) as port, pytest.raises(ssl.SSLCertVerificationError):
        Dialer(lambda: ours).open(f"wss://127.0.0.1:{port}", Allowance(10))
    assert ends == [b""]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class SlowNames:
    """A name service that answers when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.questions = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "exchange.test":
            return self._real(host, port, *args, **options)
        self.questions += 1
        assert self.answers.wait(30)
        return self._real("127.0.0.1", port, *args, **options)


def test_a_name_service_that_does_not_answer_holds_nobody_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = SlowNames(monkeypatch)
    dialer = make_dialer()
    with server(say_nothing) as port:
        for _ in range(3):
            with pytest.raises(TimeoutError, match=r"exchange.test: the name is not resolved"):
                reach(dialer, port, within_s=0.2)
        assert names.questions == 1  # and no thread for each attempt
        names.answers.set()
        assert reach(dialer, port) == "127.0.0.1"
        assert reach(dialer, port) == "127.0.0.1"
    assert names.questions == 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".test", "a..b"])
def test_a_name_that_cannot_be_is_an_error_of_the_network(host: str) -> None:
    with pytest.raises(OSError, match=r"known|cannot be the name|resolution|associated"):
        make_dialer().open(f"ws://{host}/stream", Allowance(10))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_name_that_no_protocol_can_say_is_an_error_of_the_network(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = "a" * 64 + ".test"
    with server(SocksProxy(0).serve) as port:
        monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{port}")
        with pytest.raises(OSError, match=f"{host}: cannot be the name of a host: "):
            make_dialer().open(f"{scheme}://{host}/stream", Allowance(10))
