"""Tables that are printed while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.cli.tables import table_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = ["name", "count", "reason"]


def test_a_table_of_one_page_is_laid_out_for_what_is_in_it() -> None:
    rows = [["BTCUSDT", "1", "none"], ["ETH", "20000000", ""]]

    assert "".join(table_pieces([rows], HEADERS, right=[1])) == (
        "name        count  reason\n"
        "-------  --------  --------\n"
        "BTCUSDT         1  none\n"
        "ETH      20000000\n"
    )


def test_columns_of_later_pages_stand_below_those_of_the_first() -> None:
    pages = [[["币安人生USDT", "1", "a"]], [["B", "2", "b"], ["C", "33", "c"]], [["D", "4", "d"]]]

    assert list(table_pieces(pages, HEADERS, right=[1])) == [
        "name            count  reason\n"
        "------------  -------  --------\n"
        "币安人生USDT        1  a\n",
        "B                   2  b\nC                  33  c\n",
        "D                   4  d\n",
    ]


def test_a_later_page_that_needs_it_makes_its_columns_wider_for_all_that_follow() -> None:
    pages = [[["A", "1", "x"]], [["ABCDEFGHIJ", "2", "x"]], [["B", "3", "x"]]]

    first, wider, last = table_pieces(pages, HEADERS)

    assert first.splitlines()[2] == "A       1        x"
    assert wider == "ABCDEFGHIJ  2        x\n"
    assert last == "B           3        x\n"


def test_each_page_is_out_before_the_next_is_read() -> None:
    read = []

    def pages() -> Iterator[list[list[str]]]:
        for name in ("A", "B", "C"):
            read.append(name)
            yield [[name, "1", ""]]

    pieces = table_pieces(pages(), HEADERS)
    for name in ("A", "B", "C"):
        assert f"{name} " in next(pieces)
        assert read[-1] == name


def test_without_rows_there_is_the_head_alone() -> None:
    assert (
        "".join(table_pieces([], HEADERS)) == "name    count    reason\n------  -------  --------\n"
    )
