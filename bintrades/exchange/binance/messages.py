"""Decoding of the messages of trade streams, in batches (docs: "WebSocket Streams for Binance").

One decoder call for a whole batch costs a fraction of one call a message. When a batch holds
anything but good trades it is halved until the culprit stands alone, so that one bad message costs
only itself. What a message of a kind of stream has in it is in trade_messages.py and in
aggregate_messages.py.
"""

from __future__ import annotations

import decimal
import string
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from bintrades.exchange.batch import Batch, Decoded, Unusable
from bintrades.exchange.binance.numbers import check_numbers
from bintrades.model import Trade

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_TRADE_BYTES = 1_000
"""Limit of a trade message. A longer one is rejected, so that its numbers stay short."""

LARGEST, SMALLEST = Decimal(10) ** 18, Decimal(10) ** -18
"""Limits of prices and quantities."""

Time = Annotated[int, msgspec.Meta(ge=10**12, lt=10**16)]
"""2001 to 2286, in milliseconds or in microseconds; what lies between and seconds are neither."""

_MICROSECONDS_FROM = 10**15
_MILLISECONDS_TO = 10**13

LARGEST_ID = 2**63 - 2

MOST_IDS = 100_000
"""Of one aggregate. One that says more would have ids taken for known whose trades never came."""

TradeId = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_ID)]
"""The id after it must still fit into 64 bits, in the journal and in the stores."""

_ASCII_UPPER = {ord(lower): ord(lower.upper()) for lower in string.ascii_lowercase}

_UNUSABLE = (ValueError, decimal.DecimalException, RecursionError)
"""What decoding raises; the last for JSON nested more deeply than any message of the exchange."""

TradeT = TypeVar("TradeT", bound=Trade)

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


class _Combined(msgspec.Struct, Generic[TradeT], gc=False):
    """The wrapper of a combined stream; the stream's name is left out."""

    data: TradeT


class MessageDecoder(Generic[TradeT]):
    """Decodes what one kind of stream brings, batch by batch. Any thread.

    The field e of its messages says *event*. They are decoded as *spelt*, and *take* adds those of
    a batch to Decoded: all of them, or none where it raises ValueError or DecimalException for one.
    *last_id* is the field with the highest trade id of a message.
    """

    def __init__(
        self,
        event: str,
        spelt: type[TradeT],
        take: Callable[[list[TradeT], Decoded], None],
        *,
        last_id: str,
    ) -> None:
        self._event = event
        self._take = take
        self._last_id = last_id
        combined: Any = _Combined[spelt]  # type: ignore[valid-type]
        self._combined = msgspec.json.Decoder(list[combined])

    def __call__(self, batch: Batch) -> Decoded:
        """Decode a batch; never raises for what its messages contain."""
        decoded = Decoded()
        if batch.lengths:
            self._decode(batch, decoded)
        return decoded

    def _decode(self, batch: Batch, decoded: Decoded) -> None:
        try:
            self._take(self._trades(batch), decoded)
        except _UNUSABLE as error:
            payloads = batch.payloads
            if len(payloads) == 1:
                self._decode_other(payloads[0], str(error), decoded)
            else:
                middle = len(payloads) // 2
                self._decode(Batch(payloads[:middle]), decoded)
                self._decode(Batch(payloads[middle:]), decoded)

    def _trades(self, batch: Batch) -> list[TradeT]:
        """Return what each message says, or raise one of _UNUSABLE."""
        if max(batch.lengths) > MAX_TRADE_BYTES:
            raise ValueError(f"longer than {MAX_TRADE_BYTES} bytes, which no trade is")
        messages = self._combined.decode(batch.array)
        # What is not exactly one object each breaks the array's syntax or changes the count.
        if len(messages) != len(batch.lengths):
            raise ValueError("not exactly one JSON object")
        check_numbers(batch.array)
        return [message.data for message in messages]

    def _decode_other(self, payload: bytes, reason: str, decoded: Decoded) -> None:
        """Decode one message that is not a good one of a combined stream."""
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
        if kind == self._event and event is message:
            self._decode_raw(payload, message, decoded)
        elif kind == self._event:
            self._record_bad(payload, reason, message, decoded)
        else:
            decoded.unknown.append(payload)

    def _decode_raw(self, payload: bytes, message: dict[str, Any], decoded: Decoded) -> None:
        """Take a message that came without the wrapper, as under /ws, by putting it into one."""
        try:
            self._take(self._trades(Batch([b'{"data":' + payload + b"}"])), decoded)
        except _UNUSABLE as error:
            self._record_bad(payload, str(error), message, decoded)

    def _record_bad(
        self, payload: bytes, reason: str, message: dict[str, Any], decoded: Decoded
    ) -> None:
        """Record a message that cannot be used, and the symbol and last id of its trades."""
        decoded.bad.append((payload, reason))
        event, stream = message.get("data", message), message.get("stream")
        symbol, trade_id = event.get("s"), event.get(self._last_id)
        if not isinstance(symbol, str) and isinstance(stream, str):
            symbol = stream.partition("@")[0].translate(_ASCII_UPPER)
        if isinstance(symbol, str):
            has_id = type(trade_id) is int and 0 <= trade_id <= LARGEST_ID
            decoded.unusable.append(Unusable(symbol, trade_id if has_id else None))


def in_range(trade: Trade) -> None:
    """Raise ValueError for a price or quantity that is none."""
    if not (SMALLEST <= trade.price <= LARGEST and SMALLEST <= trade.quantity <= LARGEST):
        raise ValueError(f"price or quantity out of range: {trade.price}, {trade.quantity}")


def checked(trades: Sequence[TradeT]) -> Sequence[TradeT]:
    """Return *trades* with their times in milliseconds. Raises ValueError, as in_range() does."""
    is_finer = False
    for trade in trades:
        # Not in_range(): a call for each trade would cost as much as all the rest here.
        if not (SMALLEST <= trade.price <= LARGEST and SMALLEST <= trade.quantity <= LARGEST):
            in_range(trade)
        if trade.time >= _MILLISECONDS_TO or trade.event_time >= _MILLISECONDS_TO:
            is_finer = True
    return list(map(in_milliseconds, trades)) if is_finer else trades


def in_milliseconds(trade: TradeT) -> TradeT:
    """Return *trade* with its times in milliseconds. Raises ValueError."""
    time, event_time = milliseconds(trade.time), milliseconds(trade.event_time)
    return replace(trade, time=time, event_time=event_time)
