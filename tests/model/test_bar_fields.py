"""Every place that spells out the fields of a bar, for speed or by its nature, has all of them.

Whoever adds a field to the table finds here, by name, what is left to edit.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.cli.bar_text import csv_pieces
from bintrades.core.bucket import Bucket
from bintrades.errors import JournalError
from bintrades.journal.migrations import statements
from bintrades.journal.rows import BAR_COLUMNS, bar_from_row, bar_row
from bintrades.journal.schema import LADDER
from bintrades.model import Bar
from bintrades.model.bar_fields import FIELDS, FieldKind, MergeRule
from bintrades.testing.bars import sample_bar
from tests.strategies import bar_of, make_trade

if TYPE_CHECKING:
    from collections.abc import Iterable

OF_THE_JOURNAL = {"market", "interval_seconds"}
"""The same for every bar of a journal, and so in its metadata."""

KEPT = {field.attribute: field for field in FIELDS if field.rule is not MergeRule.DERIVED}
"""What a bar has by itself, by the name of its attribute."""

SAMPLE = sample_bar(
    market="coinm",  # whose bars have all of them
    epoch=7,
    excluded_count=5,
    contract_size=Decimal(100),
    version=1,  # as bar_row has it
    buy_count=2,
    is_closed=False,
    min_price=Decimal("54000.5"),
    max_price=Decimal("55300.5"),
)
"""No two of its fields of one kind are equal, so that none can be taken for another, but two flags:
those differ in SAMPLES."""

SAMPLES = [SAMPLE, replace(SAMPLE, is_complete=False, is_approximate=True)]


def assert_has(place: str, there: Iterable[str], wanted: Iterable[str]) -> None:
    lacking, strange = set(wanted) - set(there), set(there) - set(wanted)

    assert not lacking, f"{place} lacks {', '.join(sorted(lacking))}; see model/bar_fields.py"
    assert not strange, f"{place} has {', '.join(sorted(strange))}; see model/bar_fields.py"


def different(bar: Bar, other: Bar) -> list[str]:
    return [name for name in KEPT if getattr(bar, name) != getattr(other, name)]


def test_the_struct_has_each_field_that_a_bar_keeps() -> None:
    wanted = KEPT.keys() - {"interval_seconds"} | {"interval_ms"}

    assert_has("model/bar.py: Bar", Bar.__struct_fields__, wanted)


def test_the_struct_has_a_property_for_each_derived_field() -> None:
    derived = {field.name for field in FIELDS if field.rule is MergeRule.DERIVED}

    assert_has("model/bar.py: Bar", {*vars(Bar)} & derived, derived)


def test_the_sample_has_a_value_of_its_own_in_each_field() -> None:
    """So that no two places can be mixed up without a test that fails."""
    values: dict[object, str] = {}

    for name, field in KEPT.items():
        value: object = getattr(SAMPLE, name)
        if field.kind is FieldKind.FLAG:
            value = tuple(getattr(each, name) for each in SAMPLES)
        assert value, f"testing/bars.py: sample_bar lacks {name}"
        other = values.setdefault((type(value), value), name)
        assert other == name, f"testing/bars.py: sample_bar has one value in {name} and {other}"


def test_a_row_has_each_field_that_a_bar_keeps() -> None:
    wanted = {field.name for field in KEPT.values()} - OF_THE_JOURNAL

    assert_has("journal/rows.py: BAR_COLUMNS", BAR_COLUMNS.split(", "), wanted)


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_column_of_a_row_has_the_field_of_its_name(sample: Bar) -> None:
    fields = {field.name: field for field in FIELDS}
    columns = BAR_COLUMNS.split(", ")
    row = bar_row(sample, sample.updated_at_ms, is_complete=sample.is_complete)

    assert len(row) == len(columns), "journal/rows.py: bar_row has not the columns of BAR_COLUMNS"
    for name, value in zip(columns, row, strict=True):
        expected = getattr(sample, fields[name].attribute)
        is_decimal = fields[name].kind is FieldKind.DECIMAL and expected is not None
        assert value == (str(expected) if is_decimal else expected), f"journal/rows.py: {name}"


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_bar_comes_back_from_its_row(sample: Bar) -> None:
    row = bar_row(sample, sample.updated_at_ms, is_complete=sample.is_complete)
    back = bar_from_row(row, sample.market, sample.interval_ms)

    assert not (lost := different(sample, back)), f"journal/rows.py: bar_from_row loses {lost}"
    assert back == sample


def test_the_journal_has_a_column_for_each_field_of_a_row() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in LADDER:
            for statement in statements(step):
                connection.execute(statement)
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(bars)")]

    assert_has("journal/schema.py: bars", columns, {*BAR_COLUMNS.split(", "), "sequence"})


def test_a_bucket_gives_back_each_field_of_the_bar_that_it_continues() -> None:
    bar = bar_of([make_trade(1, price="1"), make_trade(3, price="3", is_buyer_maker=True)])
    back = Bucket.reopened(bar).bar(bar.symbol, bar.market, is_closed=True)

    assert not (lost := different(bar, back)), f"core/bucket.py: Bucket loses {lost}"


def test_a_bucket_adds_up_each_field_that_a_sum_is_kept_of() -> None:
    trade = make_trade(1, price="3", quantity="2", is_buyer_maker=False)
    bucket = Bucket(trade.time, trade.time + 10_000, trade)
    bucket.add(trade)
    bar = bucket.bar("BTCUSDT", "spot", is_closed=True)

    for field in KEPT.values():
        if field.rule is MergeRule.SUM:
            assert getattr(bar, field.attribute), f"core/bucket.py: Bucket lacks {field.name}"


@pytest.mark.parametrize("sample", [*SAMPLES, replace(SAMPLE, market="usdm", contract_size=None)])
def test_the_text_of_a_bar_has_each_field_in_its_place(sample: Bar) -> None:
    row = bar_row(sample, sample.updated_at_ms, is_complete=sample.is_complete)
    try:
        text = "".join(csv_pieces([[row]], sample.market, sample.interval_ms))
    except JournalError as error:
        pytest.fail(f"cli/bar_text.py: _texts does not take a row apart: {error}")
    header, line = (each.split(",") for each in text.splitlines())

    assert len(line) == len(header), "cli/bar_text.py: _texts has not the fields of FIELDS"
    for name, shown in zip(header, line, strict=True):
        value = sample.as_dict()[name]
        if isinstance(value, bool):
            assert shown == str(value).lower(), f"cli/bar_text.py: _texts has another {name}"
        if isinstance(value, Decimal | int) and not isinstance(value, bool):
            assert Decimal(shown) == value, f"cli/bar_text.py: _texts has another {name}"
