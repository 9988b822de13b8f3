"""Secrets of the configuration are in nothing that is shown."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.util.redaction import passwords_of_uris, redact, redacted, remember_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.mark.parametrize("part", ["x", "://", "://a:b", "://@", "password", "password=", "a:", "'"])
def test_an_endless_text_is_looked_through_in_its_length(part: str) -> None:
    began_at = time.process_time()

    redact(part * (1_000_000 // len(part)))

    assert time.process_time() - began_at < 10
