"""Messages out of a byte stream that is cut anywhere."""

from __future__ import annotations

import os
import sys
import tracemalloc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.errors import ProtocolError
from bintrades.exchange.binance.feed.frames import MAX_MESSAGE_BYTES, Frame, FrameReader, Opcode
from bintrades.testing.server_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    encode_close,
    encode_frame,
)
from tests.strategies import splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

Messages = tuple[list[bytes], list[Frame]]
Parts = st.SearchStrategy[tuple[bytes, Messages]]

payloads = st.binary(max_size=200) | st.sampled_from(
    [bytes(size) for size in (125, 126, 127, 65_535, 65_536)]
)
"""Around every change of the length's form."""


@st.composite
def fragments(draw: st.DrawFn) -> tuple[bytes, Messages]:
    """Draw a fragmented message, with pings and pongs between its parts."""
    parts = draw(st.lists(st.binary(max_size=150), min_size=2, max_size=4))
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    whole, others = b"", []
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        whole += encode_frame(part, CONTINUATION if index else opcode, fin=is_last)
        if not is_last and draw(st.booleans()):
            control = draw(st.sampled_from([PING, PONG]))
            whole += encode_frame(part[:125], control)
            others.append(Frame(Opcode(control), part[:125]))
    message = b"".join(parts)
    if opcode == TEXT:
        return whole, ([message], others)
    return whole, ([], [*others, Frame(Opcode.BINARY, message)])


texts: Parts = payloads.map(lambda payload: (encode_frame(payload), ([payload], [])))
binaries: Parts = payloads.map(
    lambda payload: (encode_frame(payload, BINARY), ([], [Frame(Opcode.BINARY, payload)]))
)
controls: Parts = st.builds(
    lambda opcode, payload: (
        encode_frame(payload, opcode),
        ([], [Frame(Opcode(opcode), payload)]),
    ),
    st.sampled_from([PING, PONG, CLOSE]),
    st.binary(max_size=125),
)
streams: Parts = st.lists(texts | texts | controls | binaries | fragments(), max_size=12).map(
    lambda parts: (
        b"".join(encoded for encoded, _ in parts),
        (
            [text for _, (texts, _) in parts for text in texts],
            [other for _, (_, others) in parts for other in others],
        ),
    )
)
"""Bytes as a server may write them, and what they say."""


def read(pieces: Iterable[bytes]) -> Messages:
    """Return everything that one reader makes of *pieces*."""
    reader = FrameReader()
    texts: list[bytes] = []
    others: list[Frame] = []
    for piece in pieces:
        more_texts, more_others = reader.feed(piece)
        texts += more_texts
        others += more_others
    return texts, others


@contextmanager
def counted_walks() -> Iterator[list[str]]:
    """Note each beginning of a walk over the buffer in the list."""
    walks: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "_walk_whole_texts":
            walks.append(event)

    sys.setprofile(note)
    try:
        yield walks
    finally:
        sys.setprofile(None)


@given(st.data(), streams)
def test_a_stream_cut_anywhere_says_the_same(
    data: st.DataObject, stream: tuple[bytes, Messages]
) -> None:
    encoded, messages = stream

    assert read([encoded]) == messages
    assert read(data.draw(splits(encoded))) == messages


def test_a_stream_in_two_pieces_says_the_same_wherever_it_is_cut() -> None:
    stream = (
        encode_frame(b"one")
        + encode_frame(b"")
        + encode_frame(bytes(200))
        + encode_frame(b"now", PING)
        + encode_frame(b"tw", fin=False)
        + encode_frame(b"o", CONTINUATION)
        + encode_frame(b"three")
    )
    messages = [b"one", b"", bytes(200), b"two", b"three"]

    for place in range(len(stream) + 1):
        assert read([stream[:place], stream[place:]]) == (messages, [Frame(Opcode.PING, b"now")])


@given(st.lists(texts | controls | fragments(), max_size=4))
def test_a_stream_that_comes_byte_by_byte_says_the_same(
    parts: list[tuple[bytes, Messages]],
) -> None:
    encoded = b"".join(part for part, _ in parts)[:2_000]

    assert read(bytes([byte]) for byte in encoded) == read([encoded])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 300_000])
def test_a_message_of_any_length_comes_whole(size: int) -> None:
    payload = os.urandom(size)

    assert read([encode_frame(payload) * 3]) == ([payload] * 3, [])


@pytest.mark.parametrize("first", [0x81, 0x01])
def test_lengths_in_a_longer_form_than_needed_are_read(first: int) -> None:
    short_in_16 = bytes([first, 126]) + (3).to_bytes(2) + b"abc"
    short_in_64 = bytes([first, 127]) + (3).to_bytes(8) + b"abc"
    end = b"" if first & 0x80 else encode_frame(b"", CONTINUATION)

    assert read([short_in_16 + end + short_in_64 + end]) == ([b"abc", b"abc"], [])


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_between_fragments_does_not_disturb_the_message(opcode: int) -> None:
    stream = (
        encode_frame(b"one ", fin=False)
        + encode_frame(b"now", opcode)
        + encode_frame(b"two ", CONTINUATION, fin=False)
        + encode_frame(b"", CONTINUATION)
    )

    assert read([stream]) == ([b"one two "], [Frame(Opcode(opcode), b"now")])


def test_a_close_frame_carries_its_code_and_reason() -> None:
    _, (close,) = read([encode_close(1008, "Pong timeout")])

    assert close == Frame(Opcode.CLOSE, b"\x03\xf0Pong timeout")


def test_a_close_frame_may_be_empty() -> None:
    assert read([encode_close(None)]) == ([], [Frame(Opcode.CLOSE, b"")])


def test_texts_that_are_not_utf_8_are_left_for_the_decoder() -> None:
    assert read([encode_frame(b"\xff\xfe")]) == ([b"\xff\xfe"], [])


MISTAKES = {
    "masked": (b"\x81\x83\0\0\0\0abc", "masked"),
    "first reserved bit": (b"\xc1\x00", "reserved bits"),
    "second reserved bit": (b"\xa1\x00", "reserved bits"),
    "third reserved bit": (b"\x91\x00", "reserved bits"),
    "opcode 3": (b"\x83\x00", "unknown opcode 0x3"),
    "opcode 7": (b"\x87\x00", "unknown opcode 0x7"),
    "opcode 11": (b"\x8b\x00", "unknown opcode 0xb"),
    "opcode 15": (b"\x8f\x00", "unknown opcode 0xf"),
    "fragmented ping": (encode_frame(b"", PING, fin=False), "fragmented or long PING"),
    "fragmented close": (encode_frame(b"", CLOSE, fin=False), "fragmented or long CLOSE"),
    "long pong": (encode_frame(bytes(126), PONG), "fragmented or long PONG"),
    "continuation of nothing": (encode_frame(b"x", CONTINUATION), "without a beginning"),
    "text within a message": (
        encode_frame(b"x", fin=False) + encode_frame(b"y", BINARY),
        "before the fragmented one ended",
    ),
    "whole text within a message": (
        encode_frame(b"x", fin=False) + encode_frame(b"y"),
        "before the fragmented one ended",
    ),
    "oversize": (b"\x81\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8), "more than 16777216"),
    "absurd size": (b"\x82\x7f" + b"\xff" * 8, "more than 16777216"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_no_working_server_sends_is_a_protocol_error(name: str) -> None:
    stream, reason = MISTAKES[name]

    with pytest.raises(ProtocolError, match=reason):
        read([stream])
    with pytest.raises(ProtocolError, match=reason):
        read([encode_frame(b"before"), *(bytes([byte]) for byte in stream)])
    with pytest.raises(ProtocolError, match=reason):
        read([encode_frame(b"before") + stream + encode_frame(b"after")])


def test_a_fragmented_message_may_be_as_long_as_a_whole_one_and_no_longer() -> None:
    half = bytes(MAX_MESSAGE_BYTES // 2)
    begun = encode_frame(half, fin=False) + encode_frame(half, CONTINUATION, fin=False)

    messages, _ = read([begun, encode_frame(b"", CONTINUATION)] * 2)
    assert list(map(len, messages)) == [MAX_MESSAGE_BYTES] * 2

    with pytest.raises(ProtocolError, match="fragmented message of more than 16777216"):
        read([begun, encode_frame(b"x", CONTINUATION)])


def test_fragments_without_content_and_without_end_take_no_memory() -> None:
    reader = FrameReader()
    reader.feed(encode_frame(b"begun", fin=False))
    empty = encode_frame(b"", CONTINUATION, fin=False) * 1_000
    tracemalloc.start()
    try:
        for _ in range(200):
            assert reader.feed(empty) == ([], [])
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()

    assert reader.feed(encode_frame(b" and done", CONTINUATION)) == ([b"begun and done"], [])


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_whatever_comes_is_read_or_a_protocol_error(pieces: list[bytes]) -> None:
    with suppress(ProtocolError):
        read(pieces)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_frame_that_trickles_in_is_walked_over_only_when_it_is_whole(opcode: int) -> None:
    stream = encode_frame(bytes(100_000), opcode)
    pieces = [stream[start : start + 10] for start in range(0, len(stream), 10)]

    with counted_walks() as walks:
        texts, others = read(pieces)

    assert len(texts) + len(others) == 1
    assert len(walks) <= 4


def test_small_frames_that_come_together_are_one_walk() -> None:
    stream = encode_frame(bytes(170)) * 1_000

    with counted_walks() as walks:
        texts, _ = read([stream])

    assert len(texts) == 1_000
    assert len(walks) == 1


@pytest.mark.timeout(20)  # copying all that has come with each piece takes minutes
def test_a_large_frame_in_tiny_pieces_is_not_copied_again_and_again() -> None:
    stream = encode_frame(bytes(MAX_MESSAGE_BYTES))

    (message,), _ = read(stream[start : start + 128] for start in range(0, len(stream), 128))

    assert len(message) == MAX_MESSAGE_BYTES
