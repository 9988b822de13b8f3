"""Decoding of the messages of trade streams, in batches (docs: "WebSocket Streams for Binance").

One decoder call for a whole batch costs a fraction of one call a message. When a batch holds
anything but good trades it is halved until the culprit stands alone, so that one bad message costs
only itself.
"""

from __future__ import annotations

import decimal
import string
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from bintrades.exchange.batch import Batch, Decoded, Unusable
from bintrades.exchange.binance.numbers import check_numbers
from bintrades.model import Trade

MAX_TRADE_BYTES = 1_000
"""Limit of a trade message. A longer one is rejected, so that its numbers stay short."""

LARGEST, SMALLEST = Decimal(10) ** 18, Decimal(10) ** -18
"""Limits of prices and quantities."""

Time = Annotated[int, msgspec.Meta(ge=10**12, lt=10**16)]
"""2001 to 2286, in milliseconds or in microseconds; what lies between and seconds are neither."""

_MICROSECONDS_FROM = 10**15
_MILLISECONDS_TO = 10**13

LARGEST_ID = 2**63 - 2

TradeId = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_ID)]
"""The id after it must still fit into 64 bits, in the journal and in the stores."""

_ASCII_UPPER = {ord(lower): ord(lower.upper()) for lower in string.ascii_lowercase}

_UNUSABLE = (ValueError, decimal.DecimalException, RecursionError)
"""What decoding raises; the last for JSON nested more deeply than any message of the exchange."""


class _StreamTrade(
    Trade,
    frozen=True,
    gc=False,
    tag_field="e",
    tag="trade",
    rename={
        "symbol": "s",
        "trade_id": "t",
        "time": "T",
        "event_time": "E",
        "price": "p",
        "quantity": "q",
        "is_buyer_maker": "m",
    },
):
    """A Trade as `<symbol>@trade` spells it; fields that we do not know are ignored."""

    symbol: Annotated[str, msgspec.Meta(min_length=1)]
    trade_id: TradeId
    time: Time
    event_time: Time
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool


class _Combined(msgspec.Struct, gc=False):
    """The wrapper of a combined stream; the stream's name is left out."""

    data: _StreamTrade


_combined = msgspec.json.Decoder(list[_Combined])
_anything = msgspec.json.Decoder()


def milliseconds(time: int) -> int:
    """Return *time*, a Time, in milliseconds: rounded down, as the exchange itself does it.

    Raises ValueError for what is neither milliseconds nor microseconds.
    """
    if time < _MILLISECONDS_TO:
        return time
    if time < _MICROSECONDS_FROM:
        raise ValueError(f"neither milliseconds nor microseconds: {time}")
    return time // 1_000


def decode(batch: Batch) -> Decoded:
    """Decode a batch; never raises for what its messages contain."""
    decoded = Decoded()
    if batch.lengths:
        _decode(batch, decoded)
    return decoded


def _decode(batch: Batch, decoded: Decoded) -> None:
    try:
        decoded.trades += _decode_trades(batch)
    except _UNUSABLE as error:
        payloads = batch.payloads
        if len(payloads) == 1:
            _decode_other(payloads[0], str(error), decoded)
        else:
            middle = len(payloads) // 2
            _decode(Batch(payloads[:middle]), decoded)
            _decode(Batch(payloads[middle:]), decoded)


def _decode_trades(batch: Batch) -> list[_StreamTrade]:
    """Return one trade for each message, or raise one of _UNUSABLE."""
    if max(batch.lengths) > MAX_TRADE_BYTES:
        raise ValueError(f"longer than {MAX_TRADE_BYTES} bytes, which no trade is")
    messages = _combined.decode(batch.array)
    # What is not exactly one object each breaks the syntax of the array or changes the count.
    if len(messages) != len(batch.lengths):
        raise ValueError("not exactly one JSON object")
    check_numbers(batch.array)
    trades = [message.data for message in messages]
    is_finer = False
    for trade in trades:
        if not (SMALLEST <= trade.price <= LARGEST and SMALLEST <= trade.quantity <= LARGEST):
            raise ValueError(f"price or quantity out of range: {trade.price}, {trade.quantity}")
        if trade.time >= _MILLISECONDS_TO or trade.event_time >= _MILLISECONDS_TO:
            is_finer = True
    return [_in_milliseconds(trade) for trade in trades] if is_finer else trades


def _in_milliseconds(trade: _StreamTrade) -> _StreamTrade:
    """Return *trade* with its times in milliseconds. Raises ValueError."""
    time, event_time = milliseconds(trade.time), milliseconds(trade.event_time)
    return replace(trade, time=time, event_time=event_time)


def _decode_other(payload: bytes, reason: str, decoded: Decoded) -> None:
    """Decode one message that is not a good trade of a combined stream."""
    try:
        message: Any = _anything.decode(payload)
    except (ValueError, RecursionError) as error:
        decoded.bad.append((payload, f"not JSON: {error}"))
        return
    if not isinstance(message, dict):
        decoded.unknown.append(payload)
        return
    event = message.get("data", message)
    kind = event.get("e") if isinstance(event, dict) else None
    if kind == "trade" and event is message:
        _decode_raw_trade(payload, message, decoded)
    elif kind == "trade":
        _record_bad_trade(payload, reason, message, decoded)
    else:
        decoded.unknown.append(payload)


def _decode_raw_trade(payload: bytes, message: dict[str, Any], decoded: Decoded) -> None:
    """Take a trade that came without the wrapper, as under /ws, by putting it into one."""
    try:
        decoded.trades += _decode_trades(Batch([b'{"data":' + payload + b"}"]))
    except _UNUSABLE as error:
        _record_bad_trade(payload, str(error), message, decoded)


def _record_bad_trade(
    payload: bytes, reason: str, message: dict[str, Any], decoded: Decoded
) -> None:
    """Record a message that cannot be used, and the symbol and id of its trade."""
    decoded.bad.append((payload, reason))
    event, stream = message.get("data", message), message.get("stream")
    symbol, trade_id = event.get("s"), event.get("t")
    if not isinstance(symbol, str) and isinstance(stream, str):
        symbol = stream.partition("@")[0].translate(_ASCII_UPPER)
    if isinstance(symbol, str):
        has_id = type(trade_id) is int and 0 <= trade_id <= LARGEST_ID
        decoded.unusable.append(Unusable(symbol, trade_id if has_id else None))
