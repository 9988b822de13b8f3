"""What others say is shown without harm, and no secret is told."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.util.text import (
    as_json,
    one_line,
    passwords_of_uris,
    printable,
    redact,
    redacted,
    remember_secrets,
    showable,
    showable_input,
    storable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """Forget what a test had hidden."""
    yield
    remember_secrets([])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://user:hidden@host/db", "postgres://***@host/db"),
        ("(mongodb+srv://hidden@host)", "(mongodb+srv://***@host)"),
        ('"amqp://u:hid/den@host"', '"amqp://***@host"'),
        ("mysql://u:hid@den@host/x?a=1", "mysql://***@host/x?a=1"),
        ("a://u:hidden@b, c://u:hidden@d", "a://***@b, c://***@d"),
        ("host=db user=u password=hidden", "host=db user=u password=***"),
        ("DSN=x;PWD='hid den';UID=u", "DSN=x;PWD=***;UID=u"),
        ("api_key = hidden, next", "api_key = ***, next"),
    ],
)
def test_user_and_password_of_any_address_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "wss://stream.binance.com:9443/stream of btcusdt@trade",
        "wss://stream.binance.com:9443/ws/btcusdt@trade",
        "https://api.binance.com/api/v3/exchangeInfo?a=b",
        "btcusdt@trade",
        "the password is wrong",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(
    secret=st.text("qZ%\"'\\ /&é币\n\x1b", min_size=4),
    before=st.text("abc:"),
    after=st.text("abc:"),
)
def test_a_secret_is_hidden_in_every_form(secret: str, before: str, after: str) -> None:
    remember_secrets([secret])

    for form in (secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]):
        assert redact(before + form + after) == f"{before}***{after}"


@pytest.mark.parametrize(
    "form",
    [
        "p@ss w/rd",
        "p%40ss%20w%2Frd",
        "p%40ss%20w/rd",
        "p%40ss+w%2frd",
        "p%40ss w%2Frd",
        "p@ss%20w/rd",
    ],
)
def test_a_secret_is_hidden_however_much_of_it_a_library_encodes(form: str) -> None:
    for secret in ("p@ss w/rd", "p%40ss%20w%2Frd"):
        remember_secrets([secret])
        assert redact(f"<{form}>") == "<***>"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    remember_secrets(["hidden", "hidden too"])

    assert redact("it is hidden too, or hidden") == "it is ***, or ***"


def test_a_number_is_not_hidden_inside_of_a_longer_one() -> None:
    remember_secrets(["27017"])

    assert redact("at 27017: trade 1270173") == "at ***: trade 1270173"


@pytest.mark.parametrize("value", ["", "ab", "bintrades", "localhost"])
def test_what_would_spoil_every_text_is_not_hidden(value: str) -> None:
    remember_secrets([value])

    assert redact("bintrades abandons localhost") == "bintrades abandons localhost"


def test_only_the_newest_secrets_are_hidden() -> None:
    remember_secrets(["first"])
    remember_secrets(["second"])

    assert redact("first second") == "first ***"


def test_names_of_fields_stay_and_values_are_hidden_at_any_depth() -> None:
    remember_secrets(["symbol"])

    assert redacted({"symbol": ["a symbol", {"symbol": "symbol", "n": 1, "x": None}]}) == {
        "symbol": ["a ***", {"symbol": "***", "n": 1, "x": None}]
    }


def test_the_passwords_of_uris_are_found_as_written_and_as_meant() -> None:
    assert passwords_of_uris("mongodb://u:a%40b@h, amqp://x:p/q@h") >= {"a%40b", "a@b", "p/q"}
    assert passwords_of_uris("mongodb://h:27017/db") == set()


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


@pytest.mark.parametrize("part", ["x", "://", "://a:b", "://@", "password", "password=", "a:", "'"])
def test_an_endless_text_is_looked_through_in_its_length(part: str) -> None:
    began_at = time.process_time()

    redact(part * (1_000_000 // len(part)))

    assert time.process_time() - began_at < 10


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
