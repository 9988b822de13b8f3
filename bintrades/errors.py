"""The errors that somebody can act upon.

BintradesError
├── ConfigError       a file, an option or a plugin is not usable: mend it and start again
├── JournalError      the journal cannot be read or written
│   ├── JournalInUse      another collector has it: wait for that one's end
│   └── JournalDamaged    its content is corrupt: what can be read is saved by the collector
├── ProtocolError     the exchange sent what RFC 6455 or its own documentation forbids
├── ExchangeError     the exchange's REST side refused or could not answer
├── UnfitBars         values of bars do not fit where they are to go; raised by bintrades.arrow
└── RejectedBars      a store will never take these bars; raised by storage plugins
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.model import Bar


class BintradesError(Exception):
    """Base of every error that bintrades raises on purpose."""


class ConfigError(BintradesError):
    """The configuration is unusable; carries every problem, one line each.

    Storage plugins raise it from open_store for a bad option: the collector then refuses to start.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class JournalError(BintradesError):
    """The journal cannot be read or written; the message says which file and what to do."""


class JournalInUse(JournalError):  # noqa: N818 - named for what is the case
    """Another collector has the journal."""


class BarsLeft(JournalError):  # noqa: N818 - as the others
    """Bars that were to be read have left the journal meanwhile: they are too old to be kept."""


class JournalDamaged(JournalError):  # noqa: N818 - named for what is the case
    """The file is corrupt where it was read: trying again is of no use."""


class ProtocolError(BintradesError):
    """The other side broke the WebSocket protocol: the connection cannot be used any further."""


class StalledError(ProtocolError):
    """The connection is open, but brings nothing, or no answer."""


class ExchangeError(BintradesError):
    """The exchange's REST side refused, or did not answer in time."""


class NotOfferedError(ExchangeError):
    """The host does not offer such a request: to make it again soon is of no use."""


class NotToldError(NotOfferedError):
    """Nobody is told this any more, or only who sends an API key: asking again is of no use."""


class UnfitBars(BintradesError):  # noqa: N818 - named for what it carries
    """Bars have values that do not fit, such as one with too many digits; nothing was rounded.

    `unfit` has (bar, reason) pairs: what a store can raise RejectedBars with, having stored the
    others.
    """

    def __init__(self, unfit: Iterable[tuple[Bar, str]]) -> None:
        self.unfit = list(unfit)
        super().__init__(f"{len(self.unfit)} bars do not fit: {_first_of(self.unfit)}")


class RejectedBars(BintradesError):  # noqa: N818 - named for what it carries
    """A store took all bars but these, and would refuse them again.

    Raise it from store_bars, after the others are durable, with (bar, reason) pairs. The bars are
    set aside in the journal with their reasons and shown by `bintrades status`.
    """

    def __init__(self, rejected: Iterable[tuple[Bar, str]]) -> None:
        self.rejected = [(bar, str(reason)) for bar, reason in rejected]
        super().__init__(f"{len(self.rejected)} bars refused: {_first_of(self.rejected)}")


def _first_of(bars: list[tuple[Bar, str]]) -> str:
    return "; ".join(f"{bar.symbol} {_time_of(bar)}: {why}" for bar, why in bars[:3])


def _time_of(bar: Bar) -> str:
    try:
        return str(bar.open_time)
    except OverflowError:  # which may be why it is refused
        return f"{bar.open_time_ms} ms"
