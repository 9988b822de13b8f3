"""Which hosts of an exchange belong together: trades of one must not be repaired from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.exchange.port import MarketFacts

LIVE = "live"


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names of hosts that serve the same trades of a market; those of others have other trades."""

    environment: str
    """What they are for: live, testnet, demo."""
    streams: frozenset[str]
    rest: frozenset[str]


class _Known(NamedTuple):
    """What a host is known for."""

    market: str
    environment: str
    is_stream: bool

    def __str__(self) -> str:
        return f"the {'streams' if self.is_stream else 'REST side'} of {self.market}" + (
            "" if self.environment == LIVE else f" ({self.environment})"
        )


class AddressProblem(NamedTuple):
    """What is wrong with the address of an option."""

    option: str
    problem: str
    allowed: str


def address_problem(
    market: MarketFacts, markets: Iterable[MarketFacts], stream_url: str, rest_url: str
) -> AddressProblem | None:
    """Return what is wrong with the addresses of *market*, one of *markets* of an exchange.

    Hosts that are not known, as that of a test exchange, go with every other.
    """
    known = list(markets)
    if problem := _stranger(market, known, stream_url, is_stream=True):
        return AddressProblem("stream_url", problem, _allowed(market, is_stream=True))
    if problem := _stranger(market, known, rest_url, is_stream=False):
        return AddressProblem("rest_url", problem, _allowed(market, is_stream=False))
    stream, rest = _host(stream_url), _host(rest_url)
    streams = [hosts for hosts in market.hosts if stream in hosts.streams]
    rests = [hosts for hosts in market.hosts if rest in hosts.rest]
    if not (streams and rests) or any(hosts in rests for hosts in streams):
        return None
    theirs = " or ".join(sorted(streams[0].rest))
    return AddressProblem(
        "rest_url",
        f"the streams of {stream} are of the {streams[0].environment} exchange, and {rest} is of"
        f" the {rests[0].environment} one: its trades are others",
        theirs,
    )


def environment_of(market: MarketFacts, stream_url: str, rest_url: str) -> str | None:
    """Return what the hosts of *market* are for, as far as they are known; else None."""
    stream, rest = _host(stream_url), _host(rest_url)
    known = [each for each in market.hosts if stream in each.streams or rest in each.rest]
    return known[0].environment if known else None


def _stranger(
    market: MarketFacts, markets: Iterable[MarketFacts], url: str, *, is_stream: bool
) -> str | None:
    """Return what the host of *url* is, where it is known and not what it is named for."""
    known = list(_known(_host(url), markets))
    if not known or any((k.market, k.is_stream) == (market.name, is_stream) for k in known):
        return None
    return f"{_host(url)} serves {' and '.join(map(str, known))}"


def _known(host: str, markets: Iterable[MarketFacts]) -> Iterable[_Known]:
    for market in markets:
        for hosts in market.hosts:
            if host in hosts.streams:
                yield _Known(market.name, hosts.environment, is_stream=True)
            if host in hosts.rest:
                yield _Known(market.name, hosts.environment, is_stream=False)


def _allowed(market: MarketFacts, *, is_stream: bool) -> str:
    names = sorted(
        {name for hosts in market.hosts for name in (hosts.streams if is_stream else hosts.rest)}
    )
    return f"{', '.join(names)}, or a host that is not the exchange's"


def _host(url: str) -> str:
    # A dot at its end is a part of no name: it says that nothing is to be put behind that.
    return (urlsplit(url).hostname or "").lower().rstrip(".")
