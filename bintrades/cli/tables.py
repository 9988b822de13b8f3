"""Tables for people, printed while they are read: of any length, in the memory of one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def table_pieces(
    pages: Iterable[Sequence[Sequence[str]]], headers: Sequence[str], right: Iterable[int] = ()
) -> Iterator[str]:
    """Yield pieces of a table, each of whole lines, one for each of *pages* of rows.

    *right* has the places of the columns that are aligned to the right. Columns are as wide as the
    first page needs them; a later page makes wider those of its columns that need it.
    """
    from tabulate import tabulate

    sides = ["left"] * len(headers)
    for place in right:
        sides[place] = "right"

    def laid_out(rows: Sequence[Sequence[str]]) -> list[str]:
        align = sides if rows else None  # tabulate 0.9 fails where there are sides and no rows
        text = tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)
        return text.split("\n")

    widest: list[list[str]] = []  # a row as wide as the columns were so far, which is not printed
    for page in pages:
        head, rule, *lines = laid_out([*widest, *page])
        yield "\n".join([*(lines[1:] if widest else [head, rule, *lines]), ""])
        widest = [rule.split()]
    if not widest:
        yield "\n".join([*laid_out([]), ""])
