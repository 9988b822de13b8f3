"""What an exchange is to the rest of the program. Protocols only; each exchange is behind them."""

from __future__ import annotations

from typing import Protocol


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
