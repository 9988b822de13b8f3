"""A whole collector of which no worker runs, for tests of its parts and of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bintrades.app.collector import Collector, Resources, Supervisor
from bintrades.app.figures import Process
from bintrades.app.health import CollectorState
from bintrades.config.loader import (
    Config,
    ExchangeConfig,
    JournalConfig,
    RepairConfig,
    StoresConfig,
)
from bintrades.exchange.binance.budget import Budget
from bintrades.exchange.binance.feed.reader import Reader
from bintrades.exchange.registry import EXCHANGES
from bintrades.stores.loader import load_stores
from tests.checkout import REPOSITORY
from tests.networks import system_network

if TYPE_CHECKING:
    from pathlib import Path

    from bintrades.journal.writer import Journal


class NeverAsked(Supervisor):
    """Fails the test that ends the collector."""

    def fail(self, failure: str) -> None:
        """Fail."""
        pytest.fail(failure)

    def refuse(self, problem: str) -> None:
        """Fail."""
        pytest.fail(problem)


class Stage:
    """A collector of which no worker is started, and the parts that a test changes by hand."""

    def __init__(self, path: Path, journal: Journal, *, is_repairing: bool = True) -> None:
        config = Config(
            path=path.with_name("bintrades.ini"),
            folder=path.parent,
            exchange_options=ExchangeConfig(
                stream_url="ws://127.0.0.1:9", rest_url="http://127.0.0.1:9"
            ),
            repair=RepairConfig(enabled=is_repairing),
            journal=JournalConfig(path=path),
            stores=StoresConfig(enabled=("jsonl",)),
            store_options={"jsonl": {}},
        )
        self.exchange = EXCHANGES["binance"].open(
            config.exchange_options, system_network(), weight_share=50, banned_for_ms=0
        )
        self.process = process = Process()
        process.state = CollectorState.RUNNING
        stores = load_stores(["jsonl"], REPOSITORY / "plugins")
        resources = Resources(journal, self.exchange, stores, process, NeverAsked())
        self.collector = Collector(config, ["BTCUSDT"], resources)
        self.aggregator = self.collector.ingest._aggregator
        (self.delivery,) = self.collector.deliveries
        (reader,) = self.collector.feed.readers
        assert isinstance(reader, Reader)
        self.reader = reader
        assert isinstance(self.exchange.budget, Budget)
        self.budget = self.exchange.budget

    @property
    def figures(self) -> dict[str, Any]:
        """What it says of itself."""
        return self.collector.figures()
