"""Control messages: what the exchange says of a connection, not of the market. Pure.

They are rare, and they come between thousands of trades: a batch of trades alone is recognized
by one search through all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.exchange.batch import Batch

_STREAM = b'{"stream":"'
_SHUTDOWN_STREAM = "!serverShutdown"
_SHUTDOWN_START = b'{"stream":"!'

_anything = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a control message."""

    id: int | str | None  # None where the exchange left it out
    result: object = None
    error: str | None = None


@dataclass(slots=True)
class Sorted:
    """Messages of a connection: its control messages apart from all others."""

    data: list[bytes] = field(default_factory=list)  # for the aggregator, be they of use or not
    has_stream_data: bool = False  # some of them came on a stream
    answers: list[Answer] = field(default_factory=list)
    is_shutdown_announced: bool = False


def has_trades_only(batch: Batch, mark: bytes) -> bool:
    """Whether every message of *batch* has *mark*, as trades have it once and others never.

    Where it is False, sort() is certain.
    """
    return batch.array.count(mark) == len(batch.lengths)


def sort(payloads: Iterable[bytes]) -> Sorted:
    """Sort messages; never raises for what they contain."""
    found = Sorted()
    for payload in payloads:
        if payload.startswith(_STREAM) and not payload.startswith(_SHUTDOWN_START):
            found.data.append(payload)
            found.has_stream_data = True
        else:
            _sort_other(payload, found)
    return found


def _sort_other(payload: bytes, found: Sorted) -> None:
    """Sort a message that does not begin as those of streams do."""
    try:
        message: Any = _anything.decode(payload)
    except (ValueError, RecursionError):
        found.data.append(payload)
        return
    if not isinstance(message, dict):
        found.data.append(payload)
        return
    data = message.get("data", message)
    kind = data.get("e") if isinstance(data, dict) else None
    if kind == "serverShutdown" or message.get("stream") == _SHUTDOWN_STREAM:
        found.is_shutdown_announced = True
    elif kind is not None or "stream" in message:
        found.data.append(payload)
        found.has_stream_data = True
    elif (answer := _answer(message)) is not None:
        found.answers.append(answer)
    else:
        found.data.append(payload)


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
