"""Foreign text is shown without harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.util.text import as_json, one_line, printable, showable, showable_input, storable

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too


@given(ANY_TEXT)
def test_any_text_can_be_shown_on_a_line(text: str) -> None:
    assert printable(text).isprintable()
    assert showable(text).isprintable()
    assert text.isprintable() <= (printable(text) == text)


@given(st.recursive(ANY_TEXT | st.integers(), lambda children: st.lists(children)))
def test_json_can_be_shown_and_says_the_same(value: object) -> None:
    text = as_json(value, indent=1)

    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == json.loads(as_json(value)) == json.loads(json.dumps(value))


@given(ANY_TEXT)
def test_any_text_can_be_stored(text: str) -> None:
    assert storable(text).encode().decode() == storable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mongodb://u:hidden@h, x", "mongodb://***@h, x"),
        ("'mongodb://hidden@h'", "'mongodb://***@h'"),
        ("https://u:hid/den@h/path", "https://***@h/path"),
        ("https://u:hid@den@h", "https://***@h"),
        ("https://u:hid den/hidden@h", "https://***@h"),
        ("wss:u:hidden@h", "wss:***@h"),
        ("u:hidden@h", "u:***@h"),
        ("a = //u:hidden@h: '//u:hidden@h' is not", "a = //***@h: '//***@h' is not"),
        ("btcusdt@trade and wss://h:9443", "btcusdt@trade and wss://h:9443"),
    ],
)
def test_no_password_of_an_address_that_was_typed_is_shown(text: str, shown: str) -> None:
    assert showable_input(text) == showable_input(shown) == shown
    assert "hid" not in one_line(text.replace("hidden", "hidden" * 50))


@given(st.text())
def test_any_input_can_be_shown_on_a_line(text: str) -> None:
    assert showable_input(text).isprintable()
    assert len(one_line(text, 40)) <= 40
