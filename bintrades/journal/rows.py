"""Rows of the journal's tables from and to values: the one place that knows their columns."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import astuple, replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint
from bintrades.journal.damage import WRONG_VALUES, UnreadableRow, reading_rows
from bintrades.model import Bar, Gap, GapCause, GapKind

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[Any, ...]

BAR_COLUMNS = (
    "symbol, open_time, version, updated_at, is_closed, is_complete, trade_count, buy_count,"
    " quantity, buy_quantity, value, buy_value, open_price, close_price, min_price, max_price,"
    " first_trade_id, last_trade_id, first_trade_time, last_trade_time, epoch, excluded_count,"
    " is_approximate, contract_size"
)

COLUMN = {name: place for place, name in enumerate(BAR_COLUMNS.split(", "))}
"""The place of each of them in a row."""

_VERSION = COLUMN["version"]

GAP_COLUMNS = "first_id, last_id, since, until, cause, attempts, last_error, is_abandoned"

CHECKPOINT_COLUMNS = "next_id, last_time, open_bars, closed_through"

NONE_CLOSED = -1
"""The closed_through of a symbol of which no bar has closed, as it is stored."""

_open_bars = msgspec.json.Decoder(tuple[Bar, ...])
_WITH_EPOCH = Bar.__struct_fields__.index("epoch") + 1
_OF_NO_FUTURE = Bar.__struct_defaults__[-(len(Bar.__struct_fields__) - _WITH_EPOCH) :]
"""The values of the fields behind it that the bars of spot have."""

_CAUSES = frozenset(GapCause)
_APPROXIMATED = 2  # the is_abandoned of a gap that aggregates stand in for


def bar_row(bar: Bar, updated_at: int, *, is_complete: bool) -> Row:
    """Return *bar* in the order of BAR_COLUMNS, as version 1."""
    return (
        bar.symbol,
        bar.open_time_ms,
        1,
        updated_at,
        bar.is_closed,
        is_complete,
        bar.trade_count,
        bar.buy_count,
        str(bar.quantity),
        str(bar.buy_quantity),
        str(bar.value),
        str(bar.buy_value),
        str(bar.open_price),
        str(bar.close_price),
        str(bar.min_price),
        str(bar.max_price),
        bar.first_trade_id,
        bar.last_trade_id,
        bar.first_trade_time_ms,
        bar.last_trade_time_ms,
        bar.epoch,
        bar.excluded_count,
        bar.is_approximate,
        None if bar.contract_size is None else str(bar.contract_size),
    )


def stored_row(bar: Bar) -> Row:
    """Return *bar* in the order of BAR_COLUMNS as it is, version, time and proof included."""
    row = bar_row(bar, bar.updated_at_ms, is_complete=bar.is_complete)
    return (*row[:_VERSION], bar.version, *row[_VERSION + 1 :])


def bar_from_row(row: Row, market: str, interval_ms: int) -> Bar:
    """Return the bar of a row selected by BAR_COLUMNS. Raises UnreadableRow."""
    try:
        sum(row[16:23], sum(row[1:8]))  # whole numbers, or it raises
        if not isinstance(row[0], str):
            raise TypeError("a symbol is no text")
        return Bar(  # by place, which costs less than by name: for each of millions of bars
            row[0],
            market,
            row[1],
            interval_ms,
            row[6],
            row[7],
            Decimal(row[8]),
            Decimal(row[9]),
            Decimal(row[10]),
            Decimal(row[11]),
            Decimal(row[12]),
            Decimal(row[13]),
            Decimal(row[14]),
            Decimal(row[15]),
            row[16],
            row[17],
            row[18],
            row[19],
            bool(row[4]),
            bool(row[5]),
            row[2],
            row[3],
            row[20],
            row[21],
            bool(row[22]),
            None if row[23] is None else Decimal(row[23]),
        )
    except WRONG_VALUES as error:
        raise UnreadableRow(f"a row cannot be read: {error!r}") from error


def encode_open_bars(bars: tuple[Bar, ...]) -> str:
    """Return *bars* as one JSON text, each an array of its fields in the order of Bar.

    Those of spot end with the epoch: what is written of each open bar is most of a checkpoint.
    """
    shortest = [
        bar if astuple(bar)[_WITH_EPOCH:] != _OF_NO_FUTURE else astuple(bar)[:_WITH_EPOCH]
        for bar in bars
    ]
    return msgspec.json.encode(shortest).decode()


def decode_open_bars(text: str) -> tuple[Bar, ...]:
    """Return what encode_open_bars was given. Raises UnreadableRow for anything else."""
    with reading_rows():
        return _open_bars.decode(text)


def gap_row(gap: Gap) -> Row:
    """Return *gap* in the order of GAP_COLUMNS."""
    return (
        gap.first_id,
        gap.last_id,
        gap.since_ms,
        gap.until_ms,
        gap.cause,
        gap.attempts,
        gap.last_error,
        _APPROXIMATED if gap.is_approximated else gap.is_abandoned,
    )


def gap_from_row(row: Row) -> Gap:
    """Return the gap of a row selected by GAP_COLUMNS. Raises UnreadableRow."""
    first_id, last_id, since, until, cause, attempts, last_error, is_abandoned = row
    with reading_rows():
        sum((first_id, last_id, since, until, attempts))  # whole numbers, or it raises
        known_cause = GapCause(cause) if cause in _CAUSES else GapCause.LOST
    return with_kind(
        Gap(
            *(first_id, last_id, since, until, known_cause, attempts, last_error),
            is_abandoned=bool(is_abandoned) and is_abandoned != _APPROXIMATED,
            is_approximated=is_abandoned == _APPROXIMATED,
        )
    )


def with_kind(gap: Gap) -> Gap:
    """Return a gap that was stored, of the kind that its key and its cause stand for.

    The table has no column for the kind: nowhere else is it taken from the sign or the zero of an
    id. Earlier programs could have trades without ids be asked for once more: nobody can.
    """
    if gap.first_id < 0:
        return replace(gap, kind=GapKind.UNNUMBERED, is_abandoned=True)
    if gap.first_id == 0 and gap.cause == GapCause.START:
        return replace(gap, kind=GapKind.BEGINNING)
    return gap


def checkpoint_row(checkpoint: Checkpoint) -> Row:
    """Return *checkpoint* in the order of CHECKPOINT_COLUMNS."""
    ledger = checkpoint.ledger
    last_time = 0 if ledger.last_time is None else ledger.last_time
    open_bars = encode_open_bars(checkpoint.open_bars)
    through = checkpoint.closed_through
    return ledger.next_id, last_time, open_bars, NONE_CLOSED if through is None else through


def checkpoint_from_row(
    symbol: str, row: Sequence[Any], gaps: tuple[Gap, ...], absent: tuple[Gap, ...]
) -> Checkpoint:
    """Return the checkpoint of a row of CHECKPOINT_COLUMNS and of the columns of its proof.

    Raises UnreadableRow.
    """
    next_id, last_time, open_bars, closed_through, proven, covered_since = row
    bars = decode_open_bars(open_bars)
    with reading_rows():
        # Whole numbers, or it raises.
        sum((next_id or 0, last_time, closed_through, proven or 0, covered_since or 0))
        if any(bar.symbol != symbol for bar in bars):
            raise ValueError(f"open bars of another symbol than {symbol}")
        known = (*gaps, *absent)
        beyond = [gap for gap in known if next_id is not None and gap.last_id >= next_id]
        if beyond:
            raise ValueError(f"at id {next_id}, although {beyond[0]} was known")
    state = LedgerState(next_id, known_time(next_id, last_time), gaps, absent)
    return Checkpoint(state, bars, known_through(closed_through), proven, covered_since)


def known_through(closed_through: int) -> int | None:
    """Return the closed_through of a checkpoint that was stored, where NONE_CLOSED is none."""
    return None if closed_through <= NONE_CLOSED else closed_through


def known_time(next_id: int | None, last_time: int) -> int | None:
    """Return the last_time of a checkpoint that was stored: 0 before the first trade is none."""
    return None if next_id is None and last_time == 0 else last_time
