"""The storage plugin interface (pluggy, project name "bintrades").

A plugin is a class called Store, made for each section [store:NAME] of the configuration, with
these hooks as methods; or a module with them as functions, or an object, of which there is one. It
implements store_bars and, where it needs them, the others. See stores.kind for how it is found, and
options.option for options that are declared.

Every call of one store comes from one thread, its own, except describe_store and check_store. The
working directory is the configuration's folder (its parent when that is called etc), so relative
paths in the options of a store start where all others do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from bintrades.model import Bar, CoveredSpan
    from bintrades.options.option import Option

PROJECT = "bintrades"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def describe_store() -> Sequence[Option]:
    """Return the options of the plugin, each with its default, meaning and what is allowed.

    For a plugin that has to compute them; any other one declares them as OPTIONS, and does not have
    both. Called once, when the plugin is loaded, on the main thread, before any other hook; of a
    class Store, on the object of its first section, for the options of all. So what it returns
    depends on no section, and it touches neither network nor disk, and needs no library: options
    are listed and checked without.

    A tuple or a list; an empty one says that there are no options. A plugin may leave it out.
    """
    raise NotImplementedError


@hookspec
def check_store(options: dict[str, str]) -> None:
    """Check *options* without touching the network or the disk.

    Called by `bintrades check` and before the first open_store, on the main thread. Raise
    ConfigError with every problem. Options that the plugin declares have been checked before, each
    by itself. A plugin may leave it out.
    """


@hookspec
def open_store(options: dict[str, str]) -> None:
    """Connect, with the options of the section [store:<name>]: text, as it stands in the file.

    Where the plugin declares its options, they are right, and those left out have their defaults.

    Called before the first bar, and again after a failure. Raise ConfigError for a bad option: the
    collector refuses to start. Raise anything else for "not reachable now": it is tried again
    with backoff while collecting goes on.
    """


@hookspec
def store_bars(bars: Sequence[Bar]) -> None:
    """Make *bars*, oldest first and never none, durable; return only once they are.

    May be called again with the same bars, and with another version of a stored bar, which may be
    an older or a lesser one: key a bar by (market, symbol, open_time) and replace it only by one of
    a higher rank (Bar.rank: epoch, trade_count, is_closed, is_complete, version, in this order).

    Raise to get the bars again; raise TimeoutError if they were too many to be stored in time,
    and they come in smaller batches. Raise RejectedBars([(bar, reason), ...]) after storing the
    others.
    """


@hookspec
def store_coverage(spans: Sequence[CoveredSpan]) -> None:
    """Make *spans*, never none, durable; return only once they are.

    In a span every trade of a symbol is in a bar, and that bar has been stored before; where it
    has no bar there was no trade. The spans of a symbol in a call, oldest first, are all that there
    are from the first one's `since` on: what is stored of the symbol (and market) from there on is
    replaced by them, and a stored span that began earlier and reaches beyond is cut off there. A
    span can so grow, join, split or vanish. An empty one (`is_empty`) is not to be stored.

    Called once a minute with what has changed, in several calls where that is much; with all of it
    after a start; and again with the same spans if it raised. That hurts no bars. A plugin may
    leave it out.
    """


@hookspec(firstresult=True)
def read_bars(symbol: str, since: datetime, until: datetime, market: str) -> Iterable[Bar]:
    """Return the stored bars of *symbol* with since <= open time < until, oldest first.

    Of *market*: a place that holds bars of one market only may leave the argument out.

    Both times are aware, in UTC. Of several versions of a bar only the one of the highest rank is
    returned. What is returned may be read while it is iterated, as from a cursor or by a
    generator: it is iterated once, on the thread of the call, before the next call. Raise anything
    for "cannot be read now".

    Called by commands that read, such as `bintrades verify --store NAME`, between open_store and
    close_store, never by the collector. A plugin may leave it out.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def identify_store() -> str | None:
    """Return what tells the place of the bars from any other, and from itself once it was emptied.

    Such as an id that was made with the table, and goes with it. Where it is not what it was, the
    store is taken for one that has nothing: all bars that the journal still has are sent to it, and
    it is told that no others are covered. None: that cannot be said.

    Called after open_store, and before coverage is told. A plugin may leave it out.
    """
    raise NotImplementedError


@hookspec
def close_store() -> None:
    """Let go of connections and files. Called at the end, and before open_store is called again."""
