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
FILES = sorted(ETC.glob("*.ini"))
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
    for number in range(1, count + 1):
        given = shard.replace("%(process_num)d", str(number)).replace('"', "")
        config = load_config(ETC / "bintrades.ini", dict([given.split("=")]))
        assert config.symbols.shard == Shard(number, count)
    del theirs["stdout_logfile"]
    assert ours == theirs
