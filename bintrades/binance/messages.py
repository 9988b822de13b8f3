"""What the exchange says on a stream, decoded in batches (docs: "WebSocket Streams for Binance").

One decoder call for a whole batch costs a fraction of one call a message. When a batch holds
anything but good trades it is halved until the culprit stands alone, so that one bad message costs
only itself.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from bintrades.model import Trade

MAX_TRADE_BYTES = 1_000
"""No trade is longer. A longer message is never taken for one, so its numbers stay short."""

LARGEST, SMALLEST = Decimal(10) ** 18, Decimal(10) ** -18
"""No price and no quantity lies beyond."""

Milliseconds = Annotated[int, msgspec.Meta(ge=10**12, lt=10**13)]
"""2001 to 2286: a time in seconds or in microseconds is not mistaken for milliseconds."""

TradeId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 2)]
"""The id after it must still fit into 64 bits, in the journal and in the stores."""

_UNUSABLE = (ValueError, decimal.DecimalException, RecursionError)
"""What decoding raises; the last for JSON nested more deeply than any message of the exchange."""


class _StreamTrade(
    Trade,
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
    time: Milliseconds
    event_time: Milliseconds
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool


class _Combined(msgspec.Struct, gc=False):
    """The wrapper of a combined stream, without the name, which says nothing new."""

    data: _StreamTrade


_combined = msgspec.json.Decoder(list[_Combined])
_anything = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a control message."""

    id: int | str | None  # None where the exchange left it out
    result: object = None
    error: str | None = None


@dataclass(slots=True)
class Decoded:
    """A batch of messages, sorted by kind."""

    trades: list[Trade] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)  # well-formed, but nothing that we use
    bad: list[tuple[bytes, str]] = field(default_factory=list)  # with the reason
    is_shutdown_announced: bool = False


def decode(payloads: list[bytes]) -> Decoded:
    """Decode text messages of one connection, in order; never raises for what they contain."""
    decoded = Decoded()
    if payloads:
        _decode_batch(payloads, decoded)
    return decoded


def _decode_batch(payloads: list[bytes], decoded: Decoded) -> None:
    try:
        decoded.trades += _decode_trades(payloads)
    except _UNUSABLE as error:
        if len(payloads) == 1:
            _decode_other(payloads[0], str(error), decoded)
        else:
            middle = len(payloads) // 2
            _decode_batch(payloads[:middle], decoded)
            _decode_batch(payloads[middle:], decoded)


def _decode_trades(payloads: list[bytes]) -> list[_StreamTrade]:
    """Return one trade for each payload, or raise one of _UNUSABLE."""
    if max(map(len, payloads)) > MAX_TRADE_BYTES:
        raise ValueError(f"longer than {MAX_TRADE_BYTES} bytes, which no trade is")
    # One array: what is not exactly one object each breaks the syntax or changes the count.
    messages = _combined.decode(b"[" + b",".join(payloads) + b"]")
    if len(messages) != len(payloads):
        raise ValueError("not exactly one JSON object")
    trades = [message.data for message in messages]
    for trade in trades:
        if not (SMALLEST <= trade.price <= LARGEST and SMALLEST <= trade.quantity <= LARGEST):
            raise ValueError(f"price or quantity out of range: {trade.price}, {trade.quantity}")
    return trades


def _decode_other(payload: bytes, reason: str, decoded: Decoded) -> None:
    """Sort one message that is not a good trade of a combined stream."""
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
    if kind == "serverShutdown" or message.get("stream") == "!serverShutdown":
        decoded.is_shutdown_announced = True
    elif kind == "trade" and event is message:
        _decode_raw_trade(payload, decoded)
    elif kind == "trade":
        decoded.bad.append((payload, reason))
    elif (answer := _answer(message)) is not None:
        decoded.answers.append(answer)
    else:
        decoded.unknown.append(payload)


def _decode_raw_trade(payload: bytes, decoded: Decoded) -> None:
    """Take a trade that came without the wrapper, as under /ws, by putting it into one."""
    try:
        decoded.trades += _decode_trades([b'{"data":' + payload + b"}"])
    except _UNUSABLE as error:
        decoded.bad.append((payload, str(error)))


def _answer(message: dict[str, Any]) -> Answer | None:
    """Return the answer to a control message, if it is one; errors come in two shapes.

    Documented: {"code": 2, "msg": "..."}; seen: {"error": {"code": 2, "msg": "..."}, "id": 1}.
    """
    request = message.get("id")
    if not isinstance(request, int | str):
        request = None
    error = message.get("error", message if "code" in message and "msg" in message else None)
    if error is not None:
        if isinstance(error, dict):
            error = f"{error.get('msg')} (code {error.get('code')})"
        return Answer(request, error=str(error))
    if "result" in message:
        return Answer(request, result=message["result"])
    return None
