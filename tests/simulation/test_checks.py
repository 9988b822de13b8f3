"""What the checks of a world at rest call wrong."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bintrades.journal.reader import JournalReader
from tests.simulation.checks import check_listings
from tests.simulation.kinds import KINDS_FROM
from tests.simulation.market import stream_name
from tests.simulation.watch import WatchedJournal
from tests.simulation.world import World

if TYPE_CHECKING:
    from pathlib import Path

LEFT_ALONE = KINDS_FROM + 1_063  # symbols come and go, and nothing happens to connections
LONG_SILENCE_MS = 30_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world in which a connection was closed that brings a symbol."""
    world = World(LEFT_ALONE, tmp_path)
    stays, kind = world.schedule.symbols[0], world.schedule.kind
    world.streams.abandoned.append((1_000, {stream_name(stays, kind.stream)}))
    return world


def closed_connections(world: World) -> list[str]:
    """Return what is wrong with connections that were closed."""
    with closing(WatchedJournal(world, world._path)):
        problems = check_listings(world, JournalReader(world._path))
    return [each for each in problems if each.startswith("a connection was closed")]


def test_no_connection_is_closed_that_brings_something(world: World) -> None:
    assert len(closed_connections(world)) == 1


def test_one_that_is_silent_for_long_may_be_replaced(world: World) -> None:
    world.schedule = replace(world.schedule, silence_timeout=LONG_SILENCE_MS)

    assert closed_connections(world) == []
