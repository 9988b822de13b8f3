"""The configurations in etc/: a process for each market or shard, each with its own journal."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

import pytest

from bintrades.config.loader import load_config
from bintrades.exchange.registry import EXCHANGES
from bintrades.exchange.shards import Shard
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

ETC = REPOSITORY / "etc"
SHARDS = ETC / "shards.ini"
FILES = sorted(path for path in ETC.glob("*.ini") if path != SHARDS)
MARKETS = [*EXCHANGES["binance"].markets]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_right_as_it_stands(path: Path) -> None:
    config = load_config(path, {})

    assert config.folder == REPOSITORY
    assert config.stores.enabled == ("mongodb",)


def test_each_market_has_its_own_journal_and_all_one_collection() -> None:
    configs = [load_config(path, {}) for path in FILES]

    assert sorted(each.exchange_options.market for each in configs) == sorted(MARKETS)
    assert len({each.journal.path for each in configs}) == len(MARKETS)
    assert len({each.http.listen for each in configs}) == len(MARKETS)
    changed = {name: value for each in configs for name, value in each.store_options.items()}
    defaults = {"uri": "mongodb://127.0.0.1:27017", "database": "bintrades", "collection": "bars"}
    assert changed["mongodb"].items() <= defaults.items()


def test_supervisord_runs_a_process_for_each_market_as_it_runs_the_one() -> None:
    one, many = (configparser.RawConfigParser(), configparser.RawConfigParser())
    one.read(ETC / "supervisord.conf", encoding="utf-8")
    many.read(ETC / "supervisord-markets.conf", encoding="utf-8")

    programs = [name for name in many.sections() if name.startswith("program:")]

    assert [name.removeprefix("program:") for name in programs] == MARKETS
    for market, name in zip(MARKETS, programs, strict=True):
        ours, theirs = dict(many[name]), dict(one["program:collector"])
        _, _, file = ours.pop("command").rpartition("/")
        assert load_config(ETC / file.rstrip('"'), {}).exchange_options.market == market
        assert ours.pop("stdout_logfile").endswith(f"/{market}.log")
        del theirs["command"], theirs["stdout_logfile"]
        assert ours == theirs
    for section in one.sections():
        assert section == "program:collector" or dict(one[section]) == dict(many[section])


def test_supervisord_runs_each_shard_as_it_runs_the_one() -> None:
    one, many = (configparser.RawConfigParser(), configparser.RawConfigParser())
    one.read(ETC / "supervisord.conf", encoding="utf-8")
    many.read(ETC / "supervisord-shards.conf", encoding="utf-8")
    ours, theirs = dict(many["program:shards"]), dict(one["program:collector"])
    count = int(ours.pop("numprocs"))

    assert ours.pop("numprocs_start") == "1"
    assert ours.pop("process_name") == "shard-%(process_num)d"
    assert ours.pop("stdout_logfile").endswith("/shard-%(process_num)d.log")
    first, shard = ours.pop("environment").split(",")
    assert first == theirs.pop("environment")
    assert shard == f'BINTRADES_SHARD="%(process_num)d/{count}"'
    assert ours.pop("command") == theirs.pop("command").replace("bintrades.ini", "shards.ini")
    del theirs["stdout_logfile"]
    assert ours == theirs


@pytest.mark.parametrize("count", [5, 99])
def test_no_two_shards_of_one_file_share_a_journal_or_a_port(count: int) -> None:
    configs = [
        load_config(SHARDS, {"BINTRADES_SHARD": f"{number}/{count}"})
        for number in range(1, count + 1)
    ]

    assert [each.symbols.shard for each in configs] == [
        Shard(number, count) for number in range(1, count + 1)
    ]
    assert len({each.journal.path for each in configs}) == count
    assert len({each.http.listen for each in configs}) == count
    assert len({each.exchange_options.shared_budget for each in configs}) == 1
    assert {each.remark_on_journal for each in configs} == {None}
