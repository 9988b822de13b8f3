"""WebSocket frames out of a byte stream, many at a time (RFC 6455, section 5).

Reading frame by frame through a general library costs tens of microseconds a message. A market
data server sends almost nothing but small, unfragmented text frames, so these are walked in one
tight loop over everything a large read brought; the rest takes the careful way.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bintrades.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A larger message is refused, so that a hostile length cannot fill the memory."""

_WHOLE_TEXT = 0x81  # FIN set, no extension, opcode text
_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASK, _LENGTH = 0x80, 0x7F
_LENGTH_IN_16_BITS, _LENGTH_IN_64_BITS = 126, 127
_MAX_CONTROL_BYTES = 125


class Opcode(enum.IntEnum):
    """What a frame carries."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

    @property
    def is_control(self) -> bool:
        """Whether the frame is about the connection, not part of a message."""
        return self >= Opcode.CLOSE


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame other than a whole text message, or one message put together from fragments."""

    opcode: Opcode
    payload: bytes


class FrameReader:
    """Turns received bytes, cut anywhere, into messages.

    Not thread-safe: it belongs to the thread that reads the socket.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []  # parts of a frame that is not complete yet
        self._waiting_bytes = 0
        self._needed = 0  # bytes that must wait before walking them again is worthwhile
        self._fragments = bytearray()  # not a list: fragments may be empty, and without end
        self._fragments_opcode: Opcode | None = None

    def feed(self, received: bytes) -> tuple[list[bytes], list[Frame]]:
        """Return the payloads of the text messages now complete, in order, and the other frames.

        A large frame that trickles in is neither walked nor copied again until it is complete.
        Raises ProtocolError when the bytes cannot come from a working server; messages before the
        fault are lost with the connection: a gap like any other.
        """
        self._waiting.append(received)
        self._waiting_bytes += len(received)
        if self._waiting_bytes < self._needed:
            return [], []
        buffer = b"".join(self._waiting)
        texts: list[bytes] = []
        others: list[Frame] = []
        position = 0
        while True:
            if self._fragments_opcode is None:
                position = _walk_whole_texts(buffer, position, texts)
            header = _parse_header(buffer, position)
            if header is None:
                self._needed = 0
                break
            if header.stop > len(buffer):
                self._needed = header.stop - position
                break
            payload = buffer[header.start : header.stop]
            position = header.stop
            for frame in self._take(header, payload):
                if frame.opcode is Opcode.TEXT:
                    texts.append(frame.payload)
                else:
                    others.append(frame)
        rest = buffer[position:]
        self._waiting, self._waiting_bytes = [rest] if rest else [], len(rest)
        return texts, others

    def _take(self, header: _Header, payload: bytes) -> Iterator[Frame]:
        """Yield the message that this frame completes, if any."""
        if header.opcode.is_control:
            yield Frame(header.opcode, payload)
            return
        if (header.opcode is Opcode.CONTINUATION) != (self._fragments_opcode is not None):
            raise ProtocolError(
                "a continuation frame without a beginning"
                if self._fragments_opcode is None
                else "a new message began before the fragmented one ended"
            )
        if header.opcode is not Opcode.CONTINUATION:
            if header.is_final:
                yield Frame(header.opcode, payload)
                return
            self._fragments_opcode = header.opcode
        self._fragments += payload
        if len(self._fragments) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a fragmented message of more than {MAX_MESSAGE_BYTES} bytes")
        if header.is_final and self._fragments_opcode is not None:
            message = Frame(self._fragments_opcode, bytes(self._fragments))
            self._fragments, self._fragments_opcode = bytearray(), None
            yield message


@dataclass(frozen=True, slots=True)
class _Header:
    opcode: Opcode
    is_final: bool
    start: int  # of the payload in the buffer
    stop: int


def _walk_whole_texts(buffer: bytes, position: int, texts: list[bytes]) -> int:
    """Append the payloads of consecutive whole text frames; return where the walk had to stop.

    This loop runs once a trade: it is the one place that trades clarity for speed.
    """
    append = texts.append
    last_header = len(buffer) - 4  # with four bytes at hand, lengths up to 16 bits can be read
    end = len(buffer)
    while position <= last_header and buffer[position] == _WHOLE_TEXT:
        length = buffer[position + 1]
        if length < _LENGTH_IN_16_BITS:
            start = position + 2
        elif length == _LENGTH_IN_16_BITS:
            start = position + 4
            length = buffer[position + 2] << 8 | buffer[position + 3]
        else:
            break
        stop = start + length
        if stop > end:
            break
        append(buffer[start:stop])
        position = stop
    return position


def _parse_header(buffer: bytes, position: int) -> _Header | None:
    """Return the header at *position*, or None while it is not all there; raise ProtocolError."""
    if len(buffer) - position < 2:
        return None
    first, second = buffer[position], buffer[position + 1]
    if first & _RESERVED:
        raise ProtocolError(f"reserved bits in a frame header: {first:#04x}")
    if second & _MASK:
        raise ProtocolError("a masked frame from the server")
    try:
        opcode = Opcode(first & _OPCODE)
    except ValueError:
        raise ProtocolError(f"unknown opcode {first & _OPCODE:#x}") from None
    is_final = bool(first & _FIN)
    length = second & _LENGTH
    if opcode.is_control and (length > _MAX_CONTROL_BYTES or not is_final):
        raise ProtocolError(f"a fragmented or long {opcode.name} frame")
    start = position + 2
    if length in (_LENGTH_IN_16_BITS, _LENGTH_IN_64_BITS):
        width = 2 if length == _LENGTH_IN_16_BITS else 8
        if len(buffer) < start + width:
            return None
        length = int.from_bytes(buffer[start : start + width])
        start += width
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a frame of {length} bytes, more than {MAX_MESSAGE_BYTES}")
    return _Header(opcode, is_final, start, start + length)
