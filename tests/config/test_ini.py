"""INI text with its lines, and everything that is wrong with it."""

from __future__ import annotations

import configparser

from hypothesis import given
from hypothesis import strategies as st

from bintrades.config.ini import read_ini

names = st.from_regex(r"[a-z][a-z_.:]{0,3}[a-z]", fullmatch=True).map(lambda n: n.replace(":", "x"))
words = st.text(
    st.characters(categories=["L", "N"], include_characters="[]=:#$%{}/;*,"), min_size=1
)
comments = st.sampled_from(["", " ; a note", "   ;another = one"])
values = st.lists(words.filter(lambda word: word[0] not in "#;["), max_size=3)


@st.composite
def ini_texts(draw: st.DrawFn) -> str:
    """Files that configparser accepts: sections and options once each, long values, comments."""
    lines = []
    indent = draw(st.sampled_from(["", "  "]))
    for section in draw(st.lists(names, unique=True, max_size=3)):
        lines += draw(st.sampled_from([[], [""], ["# [x]"], ["  ; y = z"]]))
        lines.append(f"[{section}]{draw(comments)}")
        for option in draw(st.lists(names, unique=True, max_size=3)):
            first, *others = [*draw(values), ""]
            mark = draw(st.sampled_from(["=", " = ", ": ", " :"]))
            lines.append(f"{indent}{option}{mark}{first}{draw(comments)}")
            lines += [f"{indent}  {other}{draw(comments)}" for other in others if other]
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


@given(ini_texts())
def test_what_configparser_accepts_is_read_as_configparser_reads_it(text: str) -> None:
    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=(";",), default_section=""
    )
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text.replace("\r\n", "\n"))

    ini = read_ini(text)

    assert ini.problems == []
    assert [header.section for header in ini.headers] == parser.sections()
    assert {(entry.section, entry.option): entry.value for entry in ini.entries} == {
        (section, option): value.strip()
        for section in parser.sections()
        for option, value in parser[section].items()
    }


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    ini = read_ini(text)

    assert all(1 <= line <= text.count("\n") + text.count("\r") + 1 for line, _ in ini.problems)
    assert all(problem.isprintable() for _, problem in ini.problems)


def test_a_line_that_is_nothing_is_told_with_its_number_and_the_rest_is_read() -> None:
    ini = read_ini("[a]\nx = 1\nrubbish\n  more of it\ny = 2\n")

    assert ini.problems == [(3, "line 3: 'rubbish' is neither [section] nor option = value")]
    assert [(entry.option, entry.value) for entry in ini.entries] == [("x", "1"), ("y", "2")]


def test_doubles_are_told_with_both_lines_and_kept() -> None:
    ini = read_ini("[a]\nx = 1\n[b]\nx = 1\n[a]\nx = 2\n")

    assert ini.problems == [
        (5, "line 5: [a] again, first on line 1; keep one"),
        (6, "line 6: [a] x again, first on line 2; keep one"),
    ]
    assert [entry.value for entry in ini.entries] == ["1", "1", "2"]


def test_a_file_of_another_format_is_one_problem() -> None:
    ini = read_ini('{"binance": {\n "market": "spot"\n}}\n')

    assert ini.problems == [(1, """line 1: '{"binance"' stands before the first [section]""")]


def test_of_an_option_before_the_first_section_only_its_name_is_reported() -> None:
    ini = read_ini("password = hidden\n[a]\n")

    assert ini.problems == [(1, "line 1: 'password' stands before the first [section]")]


def test_options_keep_their_case_and_default_is_a_section_like_others() -> None:
    ini = read_ini("[DEFAULT]\nUri = A\n[store:x]\nuri = b\n")

    assert [(entry.section, entry.option, entry.value) for entry in ini.entries] == [
        ("DEFAULT", "Uri", "A"),
        ("store:x", "uri", "b"),
    ]


def test_a_semicolon_without_a_space_before_it_is_part_of_the_value() -> None:
    (entry,) = read_ini("[a]\nuri = mongodb://h/?a=1;b=2 ; note\n").entries

    assert entry.value == "mongodb://h/?a=1;b=2"


def test_comments_and_empty_lines_inside_a_long_value_are_left_out() -> None:
    (entry,) = read_ini("[a]\ninclude =\n    ONE ; first\n\n    # between\n    TWO\n").entries

    assert (entry.value, entry.line) == ("ONE\nTWO", 2)
