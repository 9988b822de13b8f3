"""WebSocket frames as a server writes them: unmasked, made by hand so that tests own each byte."""

from __future__ import annotations

import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes of RFC 6455."""


def encode_frame(payload: bytes, opcode: int = TEXT, fin: bool = True) -> bytes:
    """Return one frame; `fin=False` makes a fragment that CONTINUATION frames must follow.

    Lengths from 126 and from 65,536 bytes on take the 16-bit and the 64-bit form.
    """
    first = opcode | (0x80 if fin else 0)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return a close frame; without a code its payload is empty."""
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return encode_frame(payload, CLOSE)
