"""An option that is declared once is read, checked, shown and hidden by that."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades import ConfigError, Option, OptionType, option_types
from bintrades.options.option import checked, secrets

if TYPE_CHECKING:
    from collections.abc import Callable

DECLARED = (
    Option("size", "10", "how many", option_types.whole_number(1, 20)),
    Option("note", "", "anything"),
    Option("token", "", "what lets us in", option_types.text(required=True), is_secret=True),
)


def problems(given: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        checked(DECLARED, given)
    return list(refused.value.problems)


def test_what_is_left_out_has_its_default_and_all_stays_text() -> None:
    assert checked(DECLARED, {"token": "x"}) == {"size": "10", "note": "", "token": "x"}


def test_an_option_whose_default_the_type_refuses_must_be_given() -> None:
    assert problems({}) == ["token: must be given; allowed: any text"]


def test_an_unknown_option_is_said_with_the_nearest_and_all_there_are() -> None:
    assert problems({"token": "x", "siz": "3"}) == [
        "siz: unknown option; did you mean 'size'?; allowed: size, note, token"
    ]


def test_of_a_kind_without_options_none_is_known() -> None:
    with pytest.raises(ConfigError, match=r"^a: unknown option; allowed: none$"):
        checked((), {"a": "b"})


def test_each_fault_of_a_value_is_a_problem_of_its_own() -> None:
    def parse(text: str) -> str:
        raise option_types.FaultyValueError([f"{word} is wrong" for word in text.split()])

    option = Option("words", "", "some", OptionType(parse, "none"))

    assert list(option.problems({"words": "a b"})) == [
        "words = a b: a is wrong; allowed: none",
        "words = a b: b is wrong; allowed: none",
    ]


@pytest.mark.parametrize(
    ("parse", "fault"),
    [
        (Decimal, "cannot be read: InvalidOperation("),
        ({"a": 1}.__getitem__, "cannot be read: KeyError("),
        (sys.exit, "cannot be read: SystemExit("),
    ],
)
def test_whatever_a_type_raises_is_a_fault_of_the_value(
    parse: Callable[[str], object], fault: str
) -> None:
    option = Option("rate", "1", "how fast", OptionType(parse, "a number"))

    (problem,) = option.problems({"rate": "x"})

    assert problem.startswith(f"rate = x: {fault}")
    assert problem.endswith("; allowed: a number")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(str.strip))
def test_no_part_of_a_message_has_a_secret_in_it_however_a_type_quotes_it(secret: str) -> None:
    def parse(text: str) -> str:
        raise ValueError(f"0{text!r}0 and {text}")

    option = Option("key", "", "secret", OptionType(parse, ""), is_secret=True)

    (problem,) = option.problems({"key": secret})

    said = problem.removeprefix("key: ").removesuffix("; allowed: ")
    assert said in {"is wrong", "0'***'0 and ***", '0"***"0 and ***'} or secret not in said


def test_only_a_secret_that_was_given_is_hidden() -> None:
    token = DECLARED[2]

    assert token.shown("s3cr3t") == "***"
    assert token.shown("") == ""
    assert secrets(DECLARED, {"token": "s3cr3t", "note": "word"}) == {"s3cr3t"}
    assert secrets(DECLARED, {"token": ""}) == set()


def test_what_is_no_secret_is_shown_without_the_password_of_an_address() -> None:
    assert DECLARED[1].shown("x://me:hidden@host") == "x://***@host"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (option_types.text(), "", None),
        (option_types.text(required=True), "a", ""),
        (option_types.choice("a", "b"), "B", "c"),
        (option_types.boolean(), "Yes", "perhaps"),
        (option_types.whole_number(2, 3), "3", "4"),
        (option_types.duration("1s", "1m"), "60s", "61s"),
        (option_types.url("ws"), "ws://h:1/x", "http://h"),
        (option_types.url("ws", added_paths=["x"]), "ws://h/y", "ws://h/x/"),
        (option_types.path(), "a/b", ""),
        (option_types.optional_path(), "", "\x00"),
        (option_types.optional_duration("1d", "9d"), "", "1h"),
        (option_types.optional_duration("1d", "9d"), "9d", "10d"),
    ],
)
def test_each_type_takes_what_it_says_and_refuses_the_rest(
    kind: OptionType, good: str, bad: str | None
) -> None:
    assert checked((Option("o", "", "any", kind),), {"o": good}) == {"o": good}
    if bad is not None:
        with pytest.raises(ConfigError, match=r"^o = .*: .*; allowed: "):
            checked((Option("o", "", "any", kind),), {"o": bad})
