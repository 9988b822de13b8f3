"""What a seed means: the shape of a world and what goes wrong in it, and when."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.kinds import KINDS_FROM, SPOT_TRADES, Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulation.listings import Listings

START_MS = 1_723_075_200_000
"""The interval in which the collector starts for the first time opens here, UTC."""

_NOTICES_DEAD_STREAMS_MS = 130_000

_REFRESH_MS = 30_000
_LINGER_MS = 15_000
_MINUTES_MS = 540_000  # less than the time in which an absence must be said again
_PLAUSIBLE_SHARE = 0.3
_NO_TICKER_SHARE = 0.05
_ENDPOINT_SHARE = 0.4  # of each of the faults of one endpoint
_AUDITED_SHARE = 0.5  # of the worlds from KINDS_FROM on
_AUDITED_MS = 100_000  # in which there is a whole minute, or two
_FOR_EVER_MS = 10**12
_REST_SHARE = 0.6  # of the worlds that have trouble with REST for certain

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SHIBUSDT", "币安人生USDT")

STREAM_FAULTS = {
    "drop": (0.1, 0.6),  # frames that never come, by chance
    "duplicate": (0.05, 0.5),
    "swap": (0.2, 0.6),  # a frame overtakes its neighbours
    "junk": (0.05, 0.5),  # messages that are no trades
    "stall": None,  # nothing comes for a while, then everything
    "half open": None,  # nothing comes any more, nobody says so
    "cut": None,  # at any byte
    "refuse": None,  # no connection can be made
    "mute": (0.2, 1.0),  # streams that are acknowledged and bring nothing, by chance
    "shutdown": None,  # serverShutdown, then the cut
}
REST_FAULTS = {
    "error": (0.2, 1.0),
    "garbage": (0.2, 1.0),
    "short": (0.2, 1.0),  # pages with fewer rows than there are
    "empty": (0.2, 1.0),
    "lag": (500, 15_000),  # milliseconds until a trade can be had
    "patchy": (500, 540_000),  # until some can be had that stand between others
    "429": (0.1, 1.0),
    "418": (0.1, 1.0),
    "403": (0.1, 0.5),
    "451": (0.5, 1.0),
}
PLAUSIBLE_FAULTS = {
    "newest": (0.3, 1.0),  # answers with the newest rows, whatever was asked for
    "left out": (500, 540_000),  # until historicalTrades has ids that aggTrades has
}
"""Answers that are wrong and look right, for some worlds, besides all else that they have."""

TICKER_FAULTS = {
    "ticker lag": (300, 3_000),  # milliseconds until a trade is in it, at most
    "stale ticker": (8_000, 300_000),  # how old it is, where the collector can see that it is
    "ticker rows": (0.1, 1.0),  # rows that are left out, by chance
}
"""What goes wrong with the 24-hour ticker, besides what does with all of REST."""

RECENT_FAULTS = {
    "recent stale": (500, 30_000),  # how old the newest of /trades is, in milliseconds
    "recent empty": (0.2, 1.0),  # answers without a row, by chance
}
"""What goes wrong with the newest trades of futures, besides what does with all of REST."""

STORE_FAULTS = {
    "fail": (0.2, 1.0),
    "apply and fail": (0.2, 1.0),
    "refuse bars": (0.05, 0.5),
    "hang": None,
    "closed": (0.5, 1.0),  # it cannot be opened
}
JOURNAL_FAULTS = {"full disk": None, "interrupted": (1, 300)}
PROCESS_FAULTS = {"stop": None, "kill": None, "kill inside": (1, 400)}

KINDS: Mapping[str, Mapping[str, tuple[float, float] | None]] = {
    "stream": STREAM_FAULTS,
    "rest": REST_FAULTS,
    "store": STORE_FAULTS,
    "journal": JOURNAL_FAULTS,
    "process": PROCESS_FAULTS,
}
"""Every fault by where it strikes, with the bounds of its amount."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong from since to until, milliseconds after the start."""

    place: str
    kind: str
    since: int
    until: int
    amount: float = 1.0
    target: int | None = None  # which connection's copy, store or symbol; None: all

    def __str__(self) -> str:
        target = "all" if self.target is None else f"number {self.target}"
        return (
            f"{self.since / 1000:8.3f} s to {self.until / 1000:8.3f} s  {self.place}:"
            f" {self.kind} ({self.amount:.3g}), {target}"
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """One world. Durations and times are milliseconds, times after the start."""

    seed: int
    symbols: tuple[str, ...]
    interval: int
    phase: int  # how far into an interval it starts
    grace: int
    checkpoint_every: int
    max_age: int
    page: int  # rows of one REST answer
    weight_per_minute: int
    redundancy: int
    group_size: int
    rotate_after: int
    silence_timeout: int
    inbox_size: int
    delays: tuple[int, int]  # of either copy of a connection
    clock_skew: int  # the local UTC clock minus the true one
    clock_disorder: int  # how far `T` may fall back from one id to the next
    lawful_holes: float  # chance that an id does not exist
    stores: int
    retention: int | None
    history: int  # how long the exchange has traded before the start
    faults_end: int
    trading_ends: int
    is_rest_forbidden: bool  # 451, for ever
    has_ticker: bool  # else 404, as on hosts without it
    faults: tuple[Fault, ...]
    quiet_symbols: tuple[str, ...] = ()  # which trade now and then
    silent_symbols: tuple[str, ...] = ()  # which never trade
    ended_symbol: str | None = None  # which has its last trade
    ended_at: int = 0  # at this time, while the others trade on
    kind: Kind = SPOT_TRADES
    is_audited: bool = False  # whether bars are compared with klines meanwhile
    listings: Listings | None = None  # None: symbols neither come nor go

    @property
    def is_provable(self) -> bool:
        """Whether the exchange ever says which trades are the newest."""
        return self.has_ticker and not self.is_rest_forbidden

    @property
    def has_catalog(self) -> bool:
        """Whether the collector asks which symbols there are, or is told."""
        return self.seed >= KINDS_FROM

    @property
    def refresh(self) -> int:
        """How often it asks."""
        return _REFRESH_MS if self.listings is None else self.listings.refresh

    def is_traded(self, symbol: str, time: int) -> bool:
        """Whether the exchange has *symbol* be traded at *time*, on its clock."""
        listings = self.listings
        return listings is None or listings.is_traded(symbol, time - START_MS - self.phase)

    def lines(self) -> Iterator[str]:
        """Yield the schedule as text."""
        for name in self.__slots__:
            if name != "faults":
                yield f"{name} = {getattr(self, name)}"
        yield from map(str, self.faults)


def make_schedule(seed: int, rng: Random) -> Schedule:
    """Draw the world of *seed* from *rng*."""
    interval = rng.choice([1_000, 1_000, 1_000, 2_000, 10_000])
    faults_end = rng.choice([4_000, 8_000, 20_000]) + (15_000 if interval == 10_000 else 0)
    stores = rng.choice([1, 1, 2])
    faults = _faults(rng, faults_end, stores)
    kind = kind_of(seed)
    if kind.has_fillers:  # there a hole in an answer says that no fill has those ids
        faults = [each for each in faults if each.kind != "patchy"]
    is_muted = any(fault.kind == "mute" for fault in faults)
    is_audited = seed >= KINDS_FROM and Random(f"audited {seed}").random() < _AUDITED_SHARE
    return Schedule(
        seed=seed,
        symbols=SYMBOLS[: rng.choice([1, 1, 2, 3, 4])],
        interval=interval,
        phase=rng.choice([0, rng.randrange(interval)]),
        grace=rng.choice([1, 100, 500, 2_000]),
        checkpoint_every=rng.choice([300, 1_000, 3_000]),
        max_age=rng.choice([3_600_000, 3_600_000, 3_600_000, 12_000, 40_000]),
        page=rng.choice([5, 20, 100, 1_000]),
        weight_per_minute=kind.weight_per_minute(rng.choice([6_000, 6_000, 300])),
        redundancy=rng.choice([1, 1, 2]),
        group_size=rng.choice([1, 2, 400]),
        rotate_after=rng.choice([86_400_000, 9_000, 20_000]),
        silence_timeout=rng.choice([3_000, 10_000, 30_000]),
        inbox_size=rng.choice([2, 64]),
        delays=(rng.choice([1, 20, 300]), rng.choice([1, 50, 900])),
        clock_skew=rng.choice([0, 0, -4_000, 7_000]),
        clock_disorder=rng.choice([0, 0, 0, 1, 900]),
        lawful_holes=rng.choice([0.0, 0.0, 0.0, 0.01, 0.1]),
        stores=stores,
        retention=rng.choice([None, None, 5_000]),
        history=rng.choice([0, 3_000, 25_000]),
        faults_end=faults_end,
        # A market that falls silent altogether could not be told from dead streams.
        trading_ends=faults_end
        + (_NOTICES_DEAD_STREAMS_MS if is_muted else _AUDITED_MS if is_audited else 20_000),
        is_rest_forbidden=rng.random() < 0.04,
        has_ticker=Random(f"no ticker {seed}").random() >= _NO_TICKER_SHARE,
        faults=tuple(
            sorted(
                [
                    *faults,
                    *(() if kind.has_fillers else _plausible(seed, faults_end)),
                    *_drawn(seed, "ticker", TICKER_FAULTS, faults_end),
                    *(_drawn(seed, "recent", RECENT_FAULTS, faults_end) if kind.reach else ()),
                ],
                key=_since,
            )
        ),
        kind=kind,
        is_audited=is_audited,
    )


def _faults(rng: Random, end: int, stores: int) -> list[Fault]:
    """Draw what goes wrong: from nothing at all to one thing after another."""
    places = [*KINDS, "stream", "stream"]
    rng.shuffle(places)
    places = places[: rng.randint(2, len(places))]
    faults = []
    for _ in range(rng.choice([1, 4, 8, 14])):
        place = rng.choice(places)
        kind = rng.choice(list(KINDS[place]))
        faults.append(_fault(place, kind, end, stores, rng))
    if rng.random() < _REST_SHARE:
        faults.append(_fault("rest", rng.choice(list(REST_FAULTS)), end, stores, rng))
    return sorted(faults, key=lambda fault: fault.since)


def _plausible(seed: int, end: int) -> Iterator[Fault]:
    """Draw an answer that looks right, apart from the rest so that seeds keep their worlds."""
    rng = Random(f"plausible {seed}")
    if rng.random() < _PLAUSIBLE_SHARE:
        kind = rng.choice(list(PLAUSIBLE_FAULTS))
        amount = rng.uniform(*PLAUSIBLE_FAULTS[kind])
        since = rng.randrange(end)
        yield Fault("rest", kind, since, since + rng.choice([25_000, _MINUTES_MS]), amount)


def _drawn(
    seed: int, name: str, kinds: Mapping[str, tuple[float, float]], end: int
) -> Iterator[Fault]:
    """Draw what goes wrong with one endpoint, apart from the rest as well. Lag lasts for ever."""
    rng = Random(f"{name} {seed}")
    for kind, bounds in kinds.items():
        if rng.random() < _ENDPOINT_SHARE:
            since = rng.randrange(end)
            lasts = _FOR_EVER_MS if kind == "ticker lag" else rng.choice([10_000, 60_000, 300_000])
            yield Fault("rest", kind, since, since + lasts, rng.uniform(*bounds))


def _since(fault: Fault) -> int:
    return fault.since


def _fault(place: str, kind: str, end: int, stores: int, rng: Random) -> Fault:
    bounds = KINDS[place][kind]
    since = rng.randrange(end)
    if place == "rest":  # what is lost is asked for later
        until = min(since + rng.choice([8_000, 25_000]), end + _LINGER_MS)
        if kind == "patchy":
            until += _MINUTES_MS
    else:
        until = min(since + rng.randint(1, rng.choice([500, 2_000, 5_000, 15_000])), end)
    amount = rng.uniform(*bounds) if bounds else 1.0
    target = rng.choice([None, 0, rng.randrange(stores) if place == "store" else 1])
    return Fault(place, kind, since, until, amount, None if place == "rest" else target)
