"""Bars that pymongo reads from a real MongoDB, as numbers that pandas can compute with."""

from __future__ import annotations

import decimal
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from bson.decimal128 import Decimal128

from bintrades.bson_decimals import CODEC_OPTIONS
from bintrades.model import EXACT, milliseconds, utc
from bintrades.stores.mongodb.store import MongoStore
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.journals import by_key

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database

    from bintrades.model import Bar

Document = dict[str, Any]
LONG = Decimal("9999999999999999.999999999999999999")
"""34 digits: six more than Python's decimals keep unless they are told."""

EXACT_COLUMN = pd.ArrowDtype(pa.decimal128(38, 18))


@pytest.fixture
def bars() -> list[Bar]:
    return [*sample_bars(6, value=LONG), *sample_bars(12)[6:]]


@pytest.fixture
def collection(
    mongodb_uri: str, mongodb_database: Database[Document], bars: list[Bar]
) -> Collection[Document]:
    """Return the collection of *bars* as a program opens it that wants decimals."""
    store = MongoStore()
    store.open_store({"uri": mongodb_uri, "database": mongodb_database.name})
    store.store_bars(bars)
    store.close_store()
    return mongodb_database.get_collection("bars", codec_options=CODEC_OPTIONS)


def frame_of(collection: Collection[Document]) -> Any:
    documents = collection.find({}, {"_id": False}).sort("open_time")
    return pd.DataFrame(list(documents)).set_index("open_time")


def test_decimals_are_those_of_the_bars_and_times_are_in_utc(
    collection: Collection[Document], bars: list[Bar]
) -> None:
    documents = list(collection.find({}, {"_id": False}).sort("open_time"))

    assert documents == [bar.as_dict() for bar in bars]
    assert {type(document["value"]) for document in documents} == {Decimal}


def test_a_query_and_a_document_may_have_decimals(collection: Collection[Document]) -> None:
    assert collection.count_documents({"value": {"$gt": Decimal("165.4")}}) == 6

    collection.insert_one({"_id": 1, "value": Decimal("0.1")})

    stored = collection.database.get_collection("bars").find_one({"_id": 1})
    assert stored == {"_id": 1, "value": Decimal128("0.1")}
    with pytest.raises(decimal.Inexact):
        collection.insert_one({"value": Decimal("0." + "1" * 35)})


def test_pandas_computes_with_them(collection: Collection[Document]) -> None:
    prices = frame_of(collection)["close_price"]

    assert prices.mean() == 55_200
    assert prices.max() == Decimal("55200.00")
    assert prices.astype(float).sum() == 12 * 55_200.0
    by_minute = prices.resample("1min").agg(["first", "max", "sum", "count"])
    assert by_minute["sum"].tolist() == [Decimal(6 * 55_200)] * 2
    assert by_minute.index.tolist() == [
        pd.Timestamp(utc(OPEN_TIME_MS)),
        pd.Timestamp(utc(OPEN_TIME_MS + 60_000)),
    ]


def test_sums_of_pandas_are_exact_in_a_column_of_arrow(
    collection: Collection[Document], bars: list[Bar]
) -> None:
    values = frame_of(collection)["value"].astype(EXACT_COLUMN)

    exact = Decimal(0)
    for bar in by_key(bars).values():
        exact = EXACT.add(exact, bar.value)
    assert values.sum() == exact
    assert values.resample("1min").sum().iloc[0] == EXACT.multiply(LONG, Decimal(6))
    assert values.mean() != 0
    assert values.resample("1min").agg("mean").iloc[0] == LONG


def test_without_the_options_pandas_can_make_nothing_of_them(
    collection: Collection[Document],
) -> None:
    plain = frame_of(collection.database.get_collection("bars"))["close_price"]

    for compute in (
        plain.sum,
        plain.mean,
        plain.resample("1min").mean,
        lambda: plain.resample("1min").agg("sum"),
        lambda: plain.astype(float),
    ):
        with pytest.raises(TypeError):
            compute()


def test_what_the_page_says_of_pymongo_and_pandas_runs_as_it_stands_there(
    mongodb_uri: str, mongodb_database: Database[Document], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "docs" / "querying.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program = "\n".join(block for block in blocks if "CODEC_OPTIONS" in block or "pd." in block)
    here = program.replace("mongodb://127.0.0.1:27017", mongodb_uri)
    here = here.replace("client.bintrades.", f'client["{mongodb_database.name}"].')
    hour = milliseconds(datetime.now(UTC)) // 60_000 * 60_000 - 1_800_000
    store = MongoStore()
    store.open_store({"uri": mongodb_uri, "database": mongodb_database.name})
    store.store_bars([sample_bar(open_time_ms=hour + place * 10_000) for place in range(12)])
    store.close_store()
    variables: Document = {}

    exec(here, variables)  # noqa: S102

    variables["client"].close()
    assert variables["by_minute"]["value"].sum().tolist() == [Decimal("991.8000000000000006")] * 2
    assert "55100" in capsys.readouterr().out
