"""The promises of a store tell a store that keeps them from one that does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.model.bar_fields import FIELDS
from bintrades.testing.bars import sample_bar, sample_bars
from bintrades.testing.store_contract import StoreContract
from tests.checkout import REPOSITORY
from tests.nested_pytest import run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Stored(StoreContract):
    """The contract of a store that holds the given bars."""

    def __init__(self, bars: Iterable[dict[str, Any]]) -> None:
        self._bars = list(bars)

    def stored(self) -> list[dict[str, Any]]:
        return self._bars


def without(name: str) -> dict[str, Any]:
    return {field: value for field, value in sample_bar().as_dict().items() if field != name}


def test_a_store_may_leave_out_the_average_price() -> None:
    Stored([without("average_price")]).assert_stored(sample_bar())


def test_the_average_price_is_all_that_a_store_may_leave_out() -> None:
    assert [field.name for field in FIELDS if field.is_optional] == ["average_price"]


@pytest.mark.parametrize("name", sorted(sample_bar().as_dict().keys() - {"average_price"}))
def test_a_store_may_leave_out_no_other_field(name: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        Stored([without(name)]).assert_stored(sample_bar())


def test_an_average_price_that_is_stored_must_be_right() -> None:
    wrong = sample_bar().as_dict() | {"average_price": sample_bar().open_price}

    with pytest.raises(AssertionError):
        Stored([wrong]).assert_stored(sample_bar())


def test_a_bar_too_many_or_too_few_is_found() -> None:
    first, second = sample_bars(2)

    with pytest.raises(AssertionError):
        Stored([first.as_dict()]).assert_stored(first, second)
    with pytest.raises(AssertionError):
        Stored([first.as_dict(), second.as_dict()]).assert_stored(first)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def stored(self): return []", "TestMine must override the fixture `options`"),
        (
            "@pytest.fixture\n    def options(self): return {'path': 'bars.jsonl'}",
            "TestMine must override the method `stored`",
        ),
    ],
)
def test_an_author_is_told_what_a_test_must_override(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\nfrom bintrades.testing.store_contract import StoreContract\n"
        "from pathlib import Path\n"
        "class TestMine(StoreContract):\n    name = 'jsonl'\n"
        f"    folder = Path({str(REPOSITORY / 'plugins')!r})\n    {body}\n",
        encoding="utf-8",
    )

    ended = run_pytest(tmp_path / "test_mine.py")

    assert ended.returncode != 0
    assert re.search(said, ended.stdout), ended.stdout
