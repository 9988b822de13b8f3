"""The drop-in example keeps the promises of a store, and survives a crash within a line."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades import ConfigError
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import sample_bar, sample_bars
from bintrades.testing.store_contract import StoreContract
from tests.forks import copy_of_the_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bintrades.stores.store import Store

PLUGINS = Path(__file__).parents[2] / "plugins"


def latest(path: Path) -> list[dict[str, Any]]:
    """Apply the reading rule of the plugin's docstring."""
    bars: dict[tuple[str, str, str], dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        bar = json.loads(line)
        key = bar["market"], bar["symbol"], bar["open_time"]
        if key not in bars or rank(bar) > rank(bars[key]):
            bars[key] = bar
    return list(bars.values())


def rank(bar: dict[str, Any]) -> list[int]:
    names = ("trade_count", "is_closed", "is_complete", "version")
    return [bar.get("epoch", 0), *(bar[name] for name in names)]


def typed(bar: dict[str, Any]) -> dict[str, Any]:
    """Turn the strings of a line into decimals and times again."""
    like = sample_bar().as_dict()
    return {
        name: Decimal(value)
        if isinstance(like[name], Decimal)
        else datetime.fromisoformat(value)
        if isinstance(like[name], datetime)
        else value
        for name, value in bar.items()
    }


def test_a_copy_of_the_process_holds_no_lock(tmp_path: Path) -> None:
    """As another plugin may make one, which lives longer than the collector."""
    (store,) = load_stores(["jsonl"], PLUGINS)
    options = {"path": str(tmp_path / "bars.jsonl")}
    store.open(options)
    with copy_of_the_process():
        store.close()

        store.open(options)
        store.close()


class TestTheContract(StoreContract):
    name = "jsonl"
    folder = PLUGINS

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        self.path = tmp_path / "new folder" / "bars.jsonl"
        return {"path": str(self.path)}

    def stored(self) -> list[dict[str, Any]]:
        return list(map(typed, latest(self.path)))

    def forget_epochs(self) -> None:
        lines = self.path.read_text("utf-8")
        assert '"epoch": 0, ' in lines
        self.path.write_text(lines.replace('"epoch": 0, ', ""), "utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bars.jsonl"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    (store,) = load_stores(["jsonl"], PLUGINS)
    store.open({"path": str(path)})
    yield store
    store.close()


def test_numbers_are_plain_strings_and_symbols_are_readable(store: Store, path: Path) -> None:
    store.write([sample_bar(symbol="币安人生USDT", min_price=Decimal("1E-8"))])

    line = path.read_text("utf-8")
    assert '"min_price": "0.00000001"' in line
    assert '"symbol": "币安人生USDT"' in line
    assert '"open_time": "2024-08-08T00:00:00+00:00"' in line


def test_each_version_is_a_line_of_its_own(store: Store, path: Path) -> None:
    bar = sample_bar()

    store.write([bar])
    store.write([replace(bar, version=2)])

    assert [json.loads(line)["version"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("lost", [1, 2, 100, 5_000])
def test_a_half_written_end_is_cut_off_and_its_bars_come_again(
    store: Store, path: Path, lost: int
) -> None:
    bars = sample_bars(10)
    store.write(bars)
    store.close()
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - lost)

    store.open({"path": str(path)})
    assert not path.stat().st_size or path.read_bytes().endswith(b"\n")
    store.write(bars)

    assert [typed(bar) for bar in latest(path)] == [bar.as_dict() for bar in bars]


def test_a_file_that_cannot_be_is_another_try_later(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()

    with pytest.raises(IsADirectoryError):
        store.open({"path": str(tmp_path / "folder.jsonl")})


def test_only_a_jsonl_file_is_opened_since_its_end_may_be_cut_off(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"notes\.txt: must end with \.jsonl"):
        store.open({"path": str(tmp_path / "notes.txt")})

    assert not (tmp_path / "notes.txt").exists()


def test_a_file_has_one_writer_whose_lines_another_cannot_cut(store: Store, path: Path) -> None:
    (second,) = load_stores(["second"], PLUGINS, {"second": "jsonl"})
    store.write(sample_bars(2))

    with pytest.raises(OSError, match="another store or collector writes to"):
        second.open({"path": str(path)})
    store.close()
    second.open({"path": str(path)})
    second.close()

    assert len(latest(path)) == 2


def test_two_files_of_one_collector_are_apart(tmp_path: Path) -> None:
    stores = load_stores(["jsonl", "copy"], PLUGINS, {"copy": "jsonl"})
    bars = sample_bars(2)
    for store in stores:
        store.open({"path": str(tmp_path / f"{store.name}.jsonl")})

    for store, bar in zip(stores, bars, strict=True):
        store.write([bar])
    stores[0].close()
    stores[1].write([bars[0]])
    stores[1].close()

    assert [typed(bar) for bar in latest(tmp_path / "jsonl.jsonl")] == [bars[0].as_dict()]
    assert [typed(bar) for bar in latest(tmp_path / "copy.jsonl")] == [
        bar.as_dict() for bar in (bars[1], bars[0])
    ]
