"""Which market and stream a world is of, and what that brings with it.

All worlds with seeds below KINDS_FROM are of spot's trades, as they always were. From there on the
kinds take turns, and what a kind has besides is drawn apart from the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

from bintrades.model import IdLaw

KINDS_FROM = 10**10
"""Worlds of these seeds and of all above are of any market; the harsh ones are among them."""

_HOURS_48_MS = 48 * 3_600_000
_CONTRACT_SIZES = (Decimal(100), Decimal(10), Decimal(1))


@dataclass(frozen=True, slots=True)
class Kind:
    """What a world is of. Durations are milliseconds."""

    market: str = "spot"
    stream: str = "trade"
    id_law: IdLaw = IdLaw.DENSE
    has_key: bool = True  # for single trades of old
    fillers: float = 0.0  # chance that an id is the first of a run of such as are no fills
    recent_rows: int = 1_000  # of /trades, whatever a page has otherwise
    reach: int | None = None  # how far back past trades can be asked for
    is_in_microseconds: bool = False  # on its streams

    @property
    def name(self) -> str:
        """As it is shown."""
        key = "" if self.has_key else ", no key"
        unit = ", microseconds" if self.is_in_microseconds else ""
        return f"{self.market} {self.stream}{key}{unit}"

    @property
    def has_fillers(self) -> bool:
        """Whether some ids are no fills of the order book."""
        return self.id_law is IdLaw.WITH_FILLERS

    @property
    def is_aggregated(self) -> bool:
        """Whether its stream brings aggregates."""
        return self.stream == "aggTrade"

    @property
    def is_approximate(self) -> bool:
        """Whether its bars are made of aggregates that are not exact in time."""
        return self.is_aggregated and self.has_fillers

    @property
    def has_test_network(self) -> bool:
        """Whether its worlds may forget all trades and begin their ids anew."""
        return self.market != "us"

    def weight_per_minute(self, of_spot: int) -> int:
        """Return what the exchange allows of REST where a world of spot would have *of_spot*.

        Of futures one page of old single trades must fit into the share of it that is used.
        """
        if self.has_fillers:
            return 2_400 if of_spot > 2_400 else 1_000
        return min(of_spot, 1_200) if self.market == "us" else of_spot

    def contract_size(self, symbol: str) -> Decimal | None:
        """Return what a contract of *symbol* is worth, where quantities are contracts."""
        if self.market != "coinm":
            return None
        return _CONTRACT_SIZES[len(symbol) % len(_CONTRACT_SIZES)]


SPOT_TRADES = Kind()
_TURNS = (
    ("spot", "trade"),
    ("usdm", "trade"),
    ("spot", "aggTrade"),
    ("coinm", "trade"),
    ("usdm", "aggTrade"),
    ("us", "trade"),
)
COLLECTED = {
    ("spot", "trade"),
    ("spot", "aggTrade"),
    ("us", "trade"),
    ("usdm", "trade"),
    ("coinm", "trade"),
    ("usdm", "aggTrade"),
}
"""Those that the collector can live through so far; in the turns of others there is spot."""

TURNS = len(_TURNS)
"""So many seeds apart are worlds of one kind."""


def kind_of(seed: int) -> Kind:
    """Draw what the world of *seed* is of."""
    if seed < KINDS_FROM:
        return SPOT_TRADES
    rng = Random(f"kind {seed}")
    market, stream = _TURNS[seed % TURNS]
    if (market, stream) not in COLLECTED:
        return SPOT_TRADES
    kind = Kind(market, stream, has_key=market == "spot" or rng.random() < 0.5)
    if market in ("usdm", "coinm"):
        return _of_futures(kind, rng)
    return replace(kind, is_in_microseconds=market == "spot" and rng.random() < 0.3)


def _of_futures(kind: Kind, rng: Random) -> Kind:
    return replace(
        kind,
        id_law=IdLaw.WITH_FILLERS,
        fillers=rng.choice([0.0, 0.01, 0.1, 0.1, 0.4]),
        recent_rows=rng.choice([20, 100, 1_000]),
        reach=rng.choice([15_000, 60_000, _HOURS_48_MS]),
    )
