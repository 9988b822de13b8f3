"""What an exchange is to the rest of the program. Protocols only; each exchange is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.core.backfill_result import BackfillResult
    from bintrades.model import Gap, TradeRange

RequestT = TypeVar("RequestT")
"""A request for past trades: made by an exchange's BackfillPlan, understood by its History."""


class MarketFacts(Protocol):
    """What is known of a market before anything is connected."""

    @property
    def name(self) -> str:
        """As the configuration and every bar spell it."""

    @property
    def stream_url(self) -> str:
        """Where its streams are, if nothing else is configured."""

    @property
    def rest_url(self) -> str:
        """Where its REST side is, if nothing else is configured."""

    @property
    def max_streams(self) -> int:
        """The most symbols of one connection."""


class RateBudget(Protocol):
    """How much may be asked of the exchange, and when; *now* is milliseconds, monotonic."""

    last_error: str | None
    """Why the last request was refused; None: it was answered."""

    def wait_ms(self, weight: int, now: int) -> int:
        """Spend *weight* and return 0, or return how long to wait before asking again."""

    def blocked_for(self, now: int) -> int:
        """Return how long nothing may be asked, milliseconds."""

    def banned_for(self, now: int) -> int:
        """Return how long this address is banned: a restarted process has to wait as well."""


class BackfillPlan(Protocol[RequestT]):
    """Which request to make next for which gap. Pure; *clock* is the exchange's time."""

    def update(self, symbol: str, gaps: Iterable[Gap], now: int) -> None:
        """Take over what is missing of *symbol*, and which ids are absent."""

    def next_request(self, now: int, clock: int) -> RequestT | BackfillResult | None:
        """Return what to ask next, or a result that needs no request; None: nothing is due."""

    def put_back(self, request: RequestT) -> None:
        """Take back a request that cannot be made now."""

    def failed(self, request: RequestT, error: str, now: int) -> BackfillResult:
        """Record that *request* was not answered."""


class History(Protocol[RequestT]):
    """Past trades of one market. Every call comes from one thread."""

    @property
    def plan(self) -> BackfillPlan[RequestT]:
        """What is asked for."""

    @property
    def latest_trade_weight(self) -> int:
        """Weight of latest_trade()."""

    def weight(self, request: RequestT) -> int:
        """Return what *request* costs of the RateBudget."""

    def fetch(self, request: RequestT) -> BackfillResult:
        """Make *request* and return what the answer means. Raises ExchangeError."""

    def latest_trade(self, symbol: str) -> TradeRange | None:
        """Return the newest trade of *symbol*. Raises ExchangeError."""
