"""Rows of bars, spelt out for speed, agree with the table of a bar's fields."""

from __future__ import annotations

from decimal import Decimal

from bintrades.journal.rows import BAR_COLUMNS, bar_from_row, bar_row
from bintrades.model.bar_fields import FIELDS, FieldKind
from bintrades.testing.bars import sample_bar

OF_THE_JOURNAL = {"market", "interval_seconds"}
"""The same for every bar of a journal, and so in its metadata."""

BAR = sample_bar(
    epoch=7,
    version=1,
    is_closed=False,
    min_price=Decimal("54000.5"),
    max_price=Decimal("55300.5"),
)
"""No two of its fields of one kind are equal, so that none can be taken for another."""


def test_a_row_has_each_field_that_a_bar_keeps() -> None:
    kept = {field.name for field in FIELDS if not field.is_derived}

    assert sorted(BAR_COLUMNS.split(", ")) == sorted(kept - OF_THE_JOURNAL)


def test_each_column_of_a_row_has_the_field_of_its_name() -> None:
    fields = {field.name: field for field in FIELDS}
    row = bar_row(BAR, BAR.updated_at_ms, is_complete=BAR.is_complete)

    for name, value in zip(BAR_COLUMNS.split(", "), row, strict=True):
        expected = getattr(BAR, fields[name].attribute)
        is_decimal = fields[name].kind is FieldKind.DECIMAL
        assert value == (str(expected) if is_decimal else expected), name


def test_a_bar_comes_back_from_its_row() -> None:
    row = bar_row(BAR, BAR.updated_at_ms, is_complete=BAR.is_complete)

    assert bar_from_row(row, BAR.market, BAR.interval_ms) == BAR
