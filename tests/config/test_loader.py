"""The configuration file: what it may say, and how everything wrong with it is told at once."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bintrades
from bintrades.config.example import example_text
from bintrades.config.ini import read_ini
from bintrades.config.loader import Config, load_config, read_config
from bintrades.config.schema import OPTIONS, Place, options_of
from bintrades.errors import ConfigError
from bintrades.exchange.registry import EXCHANGES
from bintrades.exchange.shards import Shard
from bintrades.model import IdLaw
from bintrades.options.types import HostAndPort
from bintrades.util.durations import format_duration
from bintrades.util.redaction import redact, remember_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(bintrades.__file__).parent.parent
EXAMPLE = CHECKOUT / "etc" / "bintrades.ini"


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    path = folder / "b.ini"
    path.write_bytes(text.encode())
    return load_config(path, environ or {})


def part(config: Config, section: str) -> Any:
    return config.exchange_options if section == config.exchange else getattr(config, section)


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with a file of this text, without the file's name at the start."""
    with pytest.raises(ConfigError) as raised:
        load(folder, text, environ)
    prefix = f"{folder / 'b.ini'}: "
    assert all(problem.startswith(prefix) for problem in raised.value.problems)
    assert all(problem.isprintable() for problem in raised.value.problems)
    return [problem.removeprefix(prefix) for problem in raised.value.problems]


def test_the_example_shows_every_option_with_its_default_and_what_it_may_be() -> None:
    text = re.sub(r"(?m)^;(?=\w+ =)", "", EXAMPLE.read_text(encoding="utf-8"))
    shown = {
        (entry.section, entry.option): entry.value
        for entry in read_ini(text).entries
        if entry.section in OPTIONS
    }

    assert shown == {
        (section, option.name): option.default
        for section, options in OPTIONS.items()
        for option in options.values()
    }
    assert EXAMPLE.read_text(encoding="utf-8") == example_text()


def test_whoever_only_empties_enabled_in_the_example_keeps_every_bar(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "b.ini"
    path.write_text(text.replace("enabled = mongodb\n", "enabled =\n"), encoding="utf-8")

    config = load_config(path, {})

    assert not config.stores.enabled
    assert config.retention_ms is None
    path.write_text(path.read_text().replace("\n;retention = 3d\n", "\nretention = 3d\n"))
    assert load_config(path, {}).retention_ms == 3 * 86_400_000


def test_the_example_and_an_empty_file_are_the_same_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "plugins").mkdir()
    example, empty = tmp_path / "etc" / "example.ini", tmp_path / "etc" / "empty.ini"
    example.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    empty.write_text("", encoding="utf-8")

    shown = load_config(example, {})

    assert shown.store_options["mongodb"]["uri"] == "mongodb://127.0.0.1:27017"
    assert dataclasses.replace(shown, path=empty, store_options={"mongodb": {}}) == load_config(
        empty, {}
    )


def test_the_defaults_are_those_that_users_were_promised(tmp_path: Path) -> None:
    config = dataclasses.asdict(load(tmp_path, ""))

    assert {setting["origin"] for setting in config.pop("settings")} == {"default"}
    assert config == {
        "path": tmp_path / "b.ini",
        "file": tmp_path / "b.ini",
        "folder": tmp_path,
        "exchange": "binance",
        "exchange_options": {
            "market": "spot",
            "stream": "trade",
            "time_unit": "millisecond",
            "api_key": "",
            "stream_url": "wss://stream.binance.com:9443",
            "rest_url": "https://api.binance.com",
            "redundancy": 1,
            "streams_per_connection": 400,
            "rotate_after_ms": 23 * 3_600_000,
            "coalesce_ms": 25,
            "silence_timeout_ms": 30_000,
            "shared_budget": None,
        },
        "symbols": {
            "include": ("BTCUSDT", "ETHUSDT"),
            "exclude": (),
            "shard": None,
            "refresh_ms": 300_000,
        },
        "bars": {"interval_ms": 10_000, "grace_ms": 500},
        "repair": {"enabled": True, "max_age_ms": 6 * 3_600_000, "weight_share": 50},
        "proof": {"every_ms": 60_000},
        "audit": {"enabled": True, "weight_share": 5},
        "journal": {
            "path": tmp_path / "var" / "bintrades.journal",
            "retention_ms": 3 * 86_400_000,
            "checkpoint_every_ms": 1_000,
        },
        "plugins": {"path": CHECKOUT / "plugins"},
        "stores": {"enabled": ("mongodb",), "shutdown_timeout_ms": 10_000},
        "http": {"listen": ("127.0.0.1", 8787)},
        "logging": {
            "level": "INFO",
            "format": "auto",
            "file": None,
            "rotate_at_bytes": 50_000_000,
            "keep": 10,
        },
        "store_options": {"mongodb": {}},
        "store_plugins": {"mongodb": "mongodb"},
        "given": frozenset(),
    }


NOT_A_DURATION = "not a whole number with a unit (ms, s, m, h, d), such as 10s; allowed: "
RETENTION = (
    "a repair reaches back as far as bars are kept, or farther; allowed: [journal] retention longer"
    " than [repair] max_age, "
)
URL = "a host, perhaps a :port"
SYMBOLS = "allowed: symbols or patterns with * and ?, such as BTCUSDT, *USDC"
STORES = "allowed: names of plugins, such as mongodb, each once, or nothing"
LEVELS = "allowed: DEBUG, INFO, WARNING, ERROR, CRITICAL"
PATHS = "allowed: a path, relative to the configuration's folder"

SHARDS = "allowed: a number from 1 on and how many there are, such as 2/5, or nothing"
SIZES = "such as 50MB; allowed: 64KB to 100GB, or 0"
LISTEN = "allowed: a host and a port, such as 127.0.0.1:8787 or [::1]:8787, or nothing"
MARKETS = "allowed: spot, usdm, coinm, us"

BAD_VALUES = [
    ("binance", "market", "spott", f"not one of these; did you mean 'spot'?; {MARKETS}"),
    ("binance", "market", "", f"not one of these; {MARKETS}"),
    ("binance", "stream", "aggtrades", "did you mean 'aggTrade'?; allowed: trade, aggTrade"),
    ("binance", "time_unit", "second", "did you mean 'millisecond'?; allowed: mill"),
    ("binance", "api_key", "a secret", "no key: one has 8 letters and digits or more; allowed: a"),
    (
        "binance",
        "stream_url",
        "wss://api.binance.com",
        "serves the REST side of spot; allowed: str",
    ),
    ("binance", "stream_url", "wss://fstream.binance.com", "serves the streams of usdm; allowed"),
    ("binance", "stream_url", "wss://FSTREAM.binance.com.", "serves the streams of usdm; allowed"),
    ("binance", "rest_url", "https://fapi.binance.com", "serves the REST side of usdm; "),
    ("binance", "stream_url", "", "does not begin with wss:// or ws://; allowed: "),
    ("binance", "stream_url", "stream.binance.com", "does not begin with wss:// or ws://"),
    ("binance", "stream_url", "https://x", f"ws://; allowed: wss:// or ws://, {URL}"),
    ("binance", "stream_url", "wss://", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://x:port", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://x:70000", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://x:0", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://[::1", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://a..b", "names no host, or a port that cannot be"),
    ("binance", "stream_url", "wss://x/ws", "ends with a path that is added by itself"),
    ("binance", "stream_url", "wss://x/stream/", "ends with a path that is added by itself"),
    ("binance", "stream_url", "wss://x?y", "has a user name, a ? or a # in it"),
    ("binance", "stream_url", "wss://a b", "has a space or a control character in it"),
    ("binance", "rest_url", "wss://x", "does not begin with https:// or http://; allowed: h"),
    ("binance", "rest_url", "https://x/api/v3", "ends with a path that is added by itself"),
    ("binance", "rest_url", "https://x/#y", "has a user name, a ? or a # in it"),
    ("binance", "redundancy", "0", "too small; allowed: 1 to 4"),
    ("binance", "redundancy", "5", "too large; allowed: 1 to 4"),
    ("binance", "redundancy", "two", "not a whole number; allowed: 1 to 4"),
    ("binance", "redundancy", "1.0", "not a whole number; allowed: 1 to 4"),
    ("binance", "redundancy", "", "not a whole number; allowed: 1 to 4"),
    ("binance", "streams_per_connection", "0", "too small; allowed: 1 to 1024"),
    ("binance", "streams_per_connection", "1025", "too large; allowed: 1 to 1024"),
    ("binance", "streams_per_connection", "1_000", "not a whole number; allowed: 1 to 1024"),
    ("binance", "rotate_after", "999ms", "too short; allowed: 1s to 24h"),
    ("binance", "rotate_after", "25h", "too long; allowed: 1s to 24h"),
    ("binance", "rotate_after", "23", NOT_A_DURATION + "1s to 24h"),
    ("binance", "coalesce", "1001ms", "too long; allowed: 0ms to 1s"),
    ("binance", "coalesce", "-1ms", NOT_A_DURATION + "0ms to 1s"),
    ("binance", "silence_timeout", "99ms", "too short; allowed: 100ms to 1h"),
    ("binance", "silence_timeout", "2h", "too long; allowed: 100ms to 1h"),
    ("binance", "silence_timeout", "never", NOT_A_DURATION + "100ms to 1h"),
    ("binance", "shared_budget", "/", "is a folder; allowed: the path of a file"),
    (
        *("binance", "shared_budget", "var/bintrades.journal"),
        "is [journal] path; allowed: the path of a file of its own",
    ),
    (
        *("binance", "shared_budget", "etc/../var/bintrades.journal"),
        "is [journal] path; allowed: the path of a file of its own",
    ),
    ("symbols", "include", "", f"names no symbol; {SYMBOLS}"),
    ("symbols", "include", ", ,", f"names no symbol; {SYMBOLS}"),
    ("symbols", "include", "BTC/USDT", f"'/' cannot be in a symbol; {SYMBOLS}"),
    ("symbols", "include", "btcusdt@trade", f"'@' cannot be in a symbol; {SYMBOLS}"),
    ("symbols", "include", "'BTCUSDT'", f'"\'" cannot be in a symbol; {SYMBOLS}'),
    ("symbols", "include", "BTCUSDT; ETHUSDT", f"';' cannot be in a symbol; {SYMBOLS}"),
    ("symbols", "include", "“BTCUSDT”", f"'“' cannot be in a symbol; {SYMBOLS}"),
    ("symbols", "exclude", "BTC[A-Z]", f"'[' cannot be in a symbol; {SYMBOLS}"),
    ("symbols", "shard", "2 of 5", f"not two numbers with a slash between them; {SHARDS}"),
    ("symbols", "shard", "0/5", f"not one of 1/5 to 5/5; {SHARDS}"),
    ("symbols", "shard", "6/5", f"not one of 1/5 to 5/5; {SHARDS}"),
    ("symbols", "shard", "1/1001", f"more than 1000; {SHARDS}"),
    ("symbols", "refresh", "often", NOT_A_DURATION + "0ms to 1d"),
    ("symbols", "exclude", "BTCUSDT ETH*", "leaves no symbol to collect; allowed: names and "),
    ("bars", "interval", "10", NOT_A_DURATION + "1s to 1d, whole seconds that divide a day"),
    ("bars", "interval", "500ms", "too short; allowed: 1s to 1d"),
    ("bars", "interval", "2d", "too long; allowed: 1s to 1d"),
    ("bars", "interval", "7s", "a day is not a whole number of 7s; allowed: 1s to 1d"),
    ("bars", "interval", "1250ms", "a day is not a whole number of 1250ms; allowed: 1s to 1d"),
    ("bars", "grace", "11s", "longer than the interval; allowed: 0ms to the interval, 10s"),
    ("bars", "grace", "2d", "too long; allowed: 0ms to 1d"),
    ("bars", "grace", "0", NOT_A_DURATION + "0ms to 1d"),
    ("repair", "enabled", "maybe", "neither yes nor no; allowed: yes or no"),
    ("repair", "enabled", "", "neither yes nor no; allowed: yes or no"),
    ("repair", "max_age", "366d", "too long; allowed: 0ms to 365d"),
    ("repair", "max_age", "6 h", NOT_A_DURATION + "0ms to 365d"),
    ("repair", "max_age", "3d", RETENTION + "3d"),
    ("repair", "weight_share", "0", "too small; allowed: 1 to 100"),
    ("repair", "weight_share", "50%", "not a whole number; allowed: 1 to 100"),
    ("proof", "every", "9s", "too short; allowed: 10s to 1h"),
    ("proof", "every", "2h", "too long; allowed: 10s to 1h"),
    ("proof", "every", "60", NOT_A_DURATION + "10s to 1h"),
    ("audit", "enabled", "often", "neither yes nor no; allowed: yes or no"),
    ("audit", "weight_share", "0", "too small; allowed: 1 to 100"),
    ("audit", "weight_share", "101", "too large; allowed: 1 to 100"),
    ("journal", "path", "", f"names no file or folder; {PATHS}"),
    ("journal", "path", "/", "is a folder; allowed: the path of a file"),
    ("journal", "path", "/dev/null/x", "'/dev/null' is not a folder; allowed: a path "),
    ("journal", "path", "a\x00b", f"has a control character in it; {PATHS}"),
    ("journal", "path", "~nobody-of-this-name/x", f"the home folder is not known; {PATHS}"),
    ("journal", "retention", "0d", "too short; allowed: 1s to 3650d"),
    ("journal", "retention", "3651d", "too long; allowed: 1s to 3650d"),
    ("journal", "retention", "6h", RETENTION + "6h"),
    ("journal", "retention", "1s", RETENTION + "6h"),
    ("journal", "retention", "1w", NOT_A_DURATION + "1s to 3650d"),
    ("journal", "checkpoint_every", "9ms", "too short; allowed: 10ms to 1m"),
    ("journal", "checkpoint_every", "61s", "too long; allowed: 10ms to 1m"),
    ("journal", "checkpoint_every", "1.5s", NOT_A_DURATION + "10ms to 1m"),
    ("plugins", "path", "", f"names no file or folder; {PATHS}"),
    ("plugins", "path", "no such folder", "is not a folder; allowed: a folder"),
    ("stores", "enabled", "mongodb, mongodb", f"'mongodb' is there more than once; {STORES}"),
    ("stores", "enabled", "../mongodb", f"'../mongodb' is not a plugin's name; {STORES}"),
    ("stores", "shutdown_timeout", "61m", "too long; allowed: 0ms to 1h"),
    ("stores", "shutdown_timeout", "soon", NOT_A_DURATION + "0ms to 1h"),
    ("http", "listen", "8787", f"does not begin with a host and a colon; {LISTEN}"),
    (
        "http",
        "listen",
        "http://localhost:8787",
        f"does not begin with a host and a colon; {LISTEN}",
    ),
    ("http", "listen", "::1:8787", f"does not begin with a host and a colon; {LISTEN}"),
    ("http", "listen", "localhost:", f"does not end with a port; {LISTEN}"),
    ("http", "listen", "localhost:65536", f"does not end with a port; {LISTEN}"),
    ("logging", "level", "INF", f"not one of these; did you mean 'INFO'?; {LEVELS}"),
    ("logging", "level", "", f"not one of these; {LEVELS}"),
    ("logging", "format", "xml", "not one of these; allowed: auto, json, text"),
    ("logging", "rotate_at", "50", f"not a whole number with a unit (KB, MB, GB), {SIZES}"),
    ("logging", "rotate_at", "1.5MB", f"not a whole number with a unit (KB, MB, GB), {SIZES}"),
    ("logging", "rotate_at", "63KB", "too small; allowed: 64KB to 100GB, or 0"),
    ("logging", "rotate_at", "101GB", "too large; allowed: 64KB to 100GB, or 0"),
    ("logging", "keep", "1001", "too large; allowed: 0 to 1000"),
    ("logging", "file", "/", "is a folder; allowed: the path of a file"),
    ("logging", "file", "a\x07b", f"has a control character in it; {PATHS}, or nothing"),
]


@pytest.mark.parametrize(("section", "option", "value", "expected"), BAD_VALUES)
def test_a_bad_value_is_told_with_its_place_its_fault_and_what_is_allowed(
    tmp_path: Path, section: str, option: str, value: str, expected: str
) -> None:
    (problem,) = problems(tmp_path, f"[{section}]\n{option} = {value}\n")

    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)
    where = f"[{section}] {option}"
    if OPTIONS[section][option].is_secret:
        assert shown not in problem
    else:
        where = f"{where} = {shown}".rstrip()
    assert problem.startswith(f"{where}: ")
    assert expected in problem
    assert "; allowed: " in problem


def test_every_option_has_a_bad_value_in_this_table() -> None:
    assert {(section, option) for section, option, _, _ in BAD_VALUES} == {
        (section, option) for section, options in OPTIONS.items() for option in options
    }


GOOD_VALUES: list[tuple[str, str, str, Any]] = [
    ("binance", "stream_url", "ws://127.0.0.1:8765/", "ws://127.0.0.1:8765"),
    ("binance", "stream_url", "ws://[::1]:8765", "ws://[::1]:8765"),
    ("binance", "rest_url", "http://localhost:1/binance", "http://localhost:1/binance"),
    ("binance", "coalesce_ms", "0ms", 0),
    ("binance", "api_key", "", ""),
    ("binance", "api_key", "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zv", "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zv"),
    ("binance", "stream", "AGGTRADE", "aggTrade"),
    ("symbols", "include", "btcusdt 币安人生usdt,*Usdc\n 1000SATSUSDT", None),
    ("symbols", "exclude", "", ()),
    ("symbols", "exclude", "äusdt ßbtc", ("äUSDT", "ßBTC")),
    ("symbols", "shard", "", None),
    ("symbols", "shard", "2/5", Shard(2, 5)),
    ("bars", "interval_ms", "1d", 86_400_000),
    ("bars", "grace_ms", "10s", 10_000),
    ("repair", "enabled", "OFF", False),
    ("journal", "retention_ms", "6h\n[repair]\nmax_age = 5h", 6 * 3_600_000),
    ("journal", "retention_ms", "1s\n[repair]\nenabled = no", 1_000),
    ("stores", "enabled", "", ()),
    ("stores", "enabled", "mongodb jsonl", ("mongodb", "jsonl")),
    ("http", "listen", "", None),
    ("http", "listen", "localhost:0", ("localhost", 0)),
    ("http", "listen", "[::1]:8787", ("::1", 8787)),
    ("logging", "level", "debug", "DEBUG"),
    ("logging", "rotate_at_bytes", "64kb", 64_000),
    ("logging", "rotate_at_bytes", "0", 0),
    ("logging", "file", "", None),
]


@pytest.mark.parametrize(("section", "field", "text", "value"), GOOD_VALUES)
def test_a_good_value_is_read(
    tmp_path: Path, section: str, field: str, text: str, value: object
) -> None:
    option = field.removesuffix("_ms").removesuffix("_bytes")
    config = load(tmp_path, f"[{section}]\n{option} = {text}\n")

    if field == "include":
        value = ("BTCUSDT", "币安人生USDT", "*USDC", "1000SATSUSDT")
    assert getattr(part(config, section), field) == value


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
[bars]
interval = ten
grase = 1s
[binance]
market = usdx
nonsense
market = spot
[binanse]
anything = 1
[store:mongodbb]
uri = mongodb://user:secret@host
[symbols]
include =
    BTC/USDT,
    ${MY_SYMBOLS}
[bars]
grace = 11s
[store:mongo_new]
password = ${PASSWORD}
[stores]
enabled = mongodb, mongo_new
"""

    told = problems(tmp_path, text)

    assert [problem.split(": ")[0] for problem in told] == [
        "[bars] interval = ten",
        "[bars] grase",
        "[binance] market = usdx",
        "line 6",
        "line 7",
        "[binanse]",
        "[store:mongodbb]",
        "[symbols] include = BTC/USDT, ${MY_SYMBOLS}",
        "line 16",
        "[bars] grace = 11s",
        "[store:mongo_new] password",
    ]
    assert told[1] == (
        "[bars] grase: unknown option; did you mean 'grace'?; allowed: interval, grace"
    )
    assert told[5].startswith("[binanse]: unknown section; did you mean 'binance'?; allowed: bin")
    assert told[6] == "[store:mongodbb]: no enabled store has this name; did you mean 'mongodb'?"
    assert told[7].endswith("variable MY_SYMBOLS is not set; set it before starting")
    assert "secret" not in "".join(told)


def test_each_bad_word_of_a_list_is_a_problem_of_its_own(tmp_path: Path) -> None:
    text = "[symbols]\ninclude = BTC/USDT, ETHUSDT, E!H\n[stores]\nenabled = a/b, c, d d, c, ..\n"

    told = problems(tmp_path, text)

    assert [problem.split(": ")[1] for problem in told[:2]] == ["'BTC/USDT'", "'E!H'"]
    assert [problem.split(": ")[1].split("'")[1] for problem in told[2:]] == ["a/b", "..", "c", "d"]


def test_of_a_long_list_it_is_told_which_word_is_wrong(tmp_path: Path) -> None:
    names = ", ".join([*(f"A{number}USDT" for number in range(100)), "B/C"])

    (problem,) = problems(tmp_path, f"[symbols]\ninclude = {names}\n")

    assert problem.endswith(f"...: 'B/C': '/' cannot be in a symbol; {SYMBOLS}")


def test_what_is_right_can_be_had_beside_the_problems(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_text(
        "[bars]\ninterval = ten\n[stores]\nenabled = shelf, a/b, box\n"
        "[store:shelf]\nuri = ${NOT_SET}\n[store:box]\nsize = 3\n[symbols]\ninclude = A, B/C\n"
    )

    config, told = read_config(path, {})

    assert (len(told), config.bars.interval_ms) == (4, 10_000)
    assert (config.stores.enabled, config.symbols.include) == (("shelf", "box"), ("A",))
    assert config.store_options == {"box": {"size": "3"}}


@pytest.mark.parametrize(
    "section", ["https", "DEFAULT", "Bars", "store", "store:", "store: mongodb"]
)
def test_a_section_that_nobody_reads_is_a_problem(tmp_path: Path, section: str) -> None:
    (problem,) = problems(tmp_path, f"[{section}]\nlisten = 127.0.0.1:8787\n")

    assert problem.startswith(f"[{section}]: ")


def test_options_are_written_in_lower_case(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[bars]\nInterval = 10s\n")

    assert problem == (
        "[bars] Interval: unknown option; did you mean 'interval'?; allowed: interval, grace"
    )


def test_a_store_gets_its_section_untouched_but_for_variables(tmp_path: Path) -> None:
    text = "[store:mongodb]\nUri = mongodb://u:${PW}@h/?a=1;b=%20 ; note\nx =\n"

    config = load(tmp_path, text, {"PW": "p$w${PW};%(x)s"})

    assert config.store_options == {
        "mongodb": {"Uri": "mongodb://u:p$w${PW};%(x)s@h/?a=1;b=%20", "x": ""}
    }


def test_the_section_of_a_store_that_is_switched_off_may_stay(tmp_path: Path) -> None:
    config = load(tmp_path, "[stores]\nenabled =\n[store:mongodb]\nuri = ${NOT_SET}\n")

    assert config.store_options == {}


def test_an_enabled_store_without_a_section_has_no_options(tmp_path: Path) -> None:
    text = "[stores]\nenabled = jsonl, mongodb\n[store:mongodb]\na = b\n"

    assert load(tmp_path, text).store_options == {"jsonl": {}, "mongodb": {"a": "b"}}


def test_a_section_may_name_the_plugin_of_its_store_which_does_not_get_that(
    tmp_path: Path,
) -> None:
    text = (
        "[stores]\nenabled = mongodb, archive, other\n[store:archive]\nplugin = mongodb\nuri = x\n"
        "[store:other]\nplugin = ${KIND}\n[store:off]\nplugin = -\n"
    )

    config = load(tmp_path, text, {"KIND": "jsonl"})

    assert config.store_plugins == {"mongodb": "mongodb", "archive": "mongodb", "other": "jsonl"}
    assert config.store_options == {"mongodb": {}, "archive": {"uri": "x"}, "other": {}}


@pytest.mark.parametrize("name", ["", "../mongodb", "a b", "/etc/passwd"])
def test_what_cannot_name_a_plugin_is_a_problem_and_no_plugin_is_looked_for(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "b.ini"
    path.write_text(f"[stores]\nenabled = archive\n[store:archive]\nplugin = {name}\n")

    config, told = read_config(path, {})

    assert told == [
        f"{path}: {f'[store:archive] plugin = {name}'.rstrip()}: is not a plugin's name; allowed:"
        " the name of a plugin, such as mongodb"
    ]
    assert config.store_plugins == {}


def test_each_host_that_would_do_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_text("[binance]\nmarket = usdm\nstream_url = wss://stream.binance.com\n")

    _, told = read_config(path, {})

    (problem,) = told
    assert problem.partition("allowed: stream_url of ")[2] == (
        "demo-fstream.binance.com, fstream.binance.com, fstream.binancefuture.com,"
        " or a host that is not the exchange's"
    )


def test_where_the_market_has_other_addresses_and_limits_these_are_defaults_and_bounds() -> None:
    class Elsewhere:
        name = "elsewhere"
        id_law = IdLaw.DENSE
        stream_names = ("deals", "quotes")
        time_units = ("second",)
        hosts = ()
        stream_url = "wss://stream.example"
        rest_url = "https://rest.example"
        added_paths = ("feed",)
        connection_life = "2h"
        max_streams = 7
        weight_per_minute = 100
        history_ms = 7_200_000
        has_klines = False
        has_contracts = False
        historical_trades_need_key = False

        def is_approximate(self, stream: str) -> bool:
            return stream == "quotes"

    of_place = options_of(Place("binance", Elsewhere()))
    options = of_place["binance"]

    assert of_place["audit"]["enabled"].default == "no", "there is nothing to check bars against"
    assert (options["stream"].default, options["stream"].type.allowed) == ("deals", "deals, quotes")
    assert options["stream_url"].default == "wss://stream.example"
    assert options["rest_url"].default == "https://rest.example"
    assert options["rest_url"].faults("https://h/api") == []
    assert options["rest_url"].faults("https://h/feed") == [
        "ends with a path that is added by itself"
    ]
    assert options["streams_per_connection"].type.allowed == "1 to 7"
    assert options["streams_per_connection"].default == "7"
    assert options["rotate_after"].type.allowed == "1s to 2h"
    assert options["rotate_after"].meaning.endswith("the exchange cuts it at 2h")
    assert of_place["repair"]["max_age"].faults("3h") == ["too long"]
    assert "0ms to 2h, for the market elsewhere" in of_place["repair"]["max_age"].type.allowed
    assert options["redundancy"] == OPTIONS["binance"]["redundancy"], "the same in all markets"
    market, default = options["market"], OPTIONS["binance"]["market"]
    assert (market.default, market.meaning) == (default.default, default.meaning)
    assert market.type.allowed == default.type.allowed


def test_a_variable_may_stand_in_any_value(tmp_path: Path) -> None:
    text = "[binance]\nstream_url = ws://${HOST}:${PORT}\n[symbols]\ninclude = ${NAMES}\n"

    config = load(tmp_path, text, {"HOST": "h", "PORT": "1", "NAMES": "a, b"})

    assert (config.exchange_options.stream_url, config.symbols.include) == ("ws://h:1", ("A", "B"))


@pytest.mark.parametrize("value", ["${", "${}", "${A B}", "x${A", "${${A}}"])
def test_a_variable_that_is_not_written_well_is_a_problem(tmp_path: Path, value: str) -> None:
    (problem,) = problems(tmp_path, f"[store:mongodb]\nuri = {value}\n", {"A": "secret"})

    assert problem == (
        "[store:mongodb] uri: ${ is not followed by a name and }; "
        "allowed: ${NAME}, an environment variable"
    )


def test_the_text_of_a_variable_and_a_password_in_an_address_are_never_shown(
    tmp_path: Path,
) -> None:
    text = (
        "uri = mongodb://me:hidden@h\n[binance]\nrest_url = https://me:hid/hidden@host\n"
        "stream_url = wss://me:${SECRET}@host\n[stores]\nenabled = mongodb://me:hidden@h\n"
    )

    told = "".join(problems(tmp_path, text, {"SECRET": "hidden"}))

    assert "hid" not in told
    assert "[binance] rest_url = https://***@host: has a user name" in told


def test_what_came_from_a_variable_or_is_a_password_of_a_store_is_hidden_from_then_on(
    tmp_path: Path,
) -> None:
    text = (
        "[stores]\nenabled = one, two\n[store:one]\nuri = x://u:lit%40eral@h\n"
        "[store:two]\ntable = ${TABLE}\nkey = AK${KEY}\n[logging]\nfile = ${HOME}/log\n"
    )
    environ = {"TABLE": "bars_2", "KEY": "12abc", "HOME": str(tmp_path)}

    load(tmp_path, text, environ)

    try:
        told = redact(f"bars_2, AK12abc, lit%40eral, lit@eral, {tmp_path}/log")
    finally:
        remember_secrets([])
    assert told == f"***, AK***, ***, ***, {tmp_path}/log"


def test_relative_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").mkdir()
    text = "[journal]\npath = j\n[plugins]\npath = p\n[logging]\nfile = l\n"
    (tmp_path / "b.ini").write_text(text)
    monkeypatch.chdir(tmp_path.parent)

    config = load_config(Path(tmp_path.name, "b.ini"))

    assert (config.journal.path, config.plugins.path, config.logging.file) == (
        tmp_path / "j",
        tmp_path / "p",
        tmp_path / "l",
    )


def test_relative_paths_start_beside_a_folder_called_etc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "etc" / "b.ini").write_text("[journal]\npath = /far/j\n")
    monkeypatch.chdir(tmp_path / "etc")

    config = load_config(Path("b.ini"))

    assert (config.journal.path, config.plugins.path) == (Path("/far/j"), tmp_path / "plugins")


def test_the_folder_of_plugins_is_the_checkouts_only_when_it_is_neither_set_nor_there(
    tmp_path: Path,
) -> None:
    assert load(tmp_path, "").plugins.path == CHECKOUT / "plugins"
    assert load(tmp_path, "[plugins]\npath = plugins\n").plugins.path == tmp_path / "plugins"
    (tmp_path / "plugins").mkdir()
    assert load(tmp_path, "").plugins.path == tmp_path / "plugins"


def test_a_home_folder_is_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    config = load(tmp_path, "[journal]\npath = ~/j\n")

    assert config.journal.path == Path("/home/somebody/j")


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff[symbols]\ninclude = A\n").symbols.include == ("A",)


def test_a_file_that_is_not_utf_8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_bytes("[symbols]\ninclude = é\n".encode("latin-1"))

    with pytest.raises(ConfigError) as raised:
        load_config(path)

    assert raised.value.problems == (
        f"{path}: line 2: byte 0xe9 is not UTF-8; save the file as UTF-8",
    )


def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        load_config(tmp_path / "none.ini")
    with pytest.raises(ConfigError) as folder:
        load_config(tmp_path)

    assert str(missing.value).startswith(f"{tmp_path / 'none.ini'}: does not exist; ")
    assert str(folder.value) == f"{tmp_path}: cannot be read: Is a directory"


def durations(lowest_ms: int, highest_ms: int) -> st.SearchStrategy[int]:
    return st.integers(lowest_ms, highest_ms)


symbol_names = st.from_regex(r"[A-Z0-9*?_.\-币安人生]{1,8}", fullmatch=True)
urls = st.from_regex(
    r"[a-z]{1,5}\.[a-z]{2}(:[1-9][0-9]{0,3})?(/[a-z]{1,4})?", fullmatch=True
).filter(lambda text: not text.endswith(("/ws", "/api")))
intervals = st.sampled_from([n * 1000 for n in range(1, 86_401) if 86_400 % n == 0])
store_names = st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), unique=True)
paths = st.from_regex(r"/[a-z]{1,5}(/[a-z0-9.]{1,5}x){1,2}", fullmatch=True).map(Path)

ports = st.integers(0, 65_535)

VALUES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "binance": {
        "market": st.sampled_from(sorted(EXCHANGES["binance"].markets)),
        "stream": st.sampled_from(["trade", "aggTrade"]),
        "time_unit": st.just("millisecond"),
        "api_key": st.from_regex(r"[A-Za-z0-9]{8,64}", fullmatch=True),
        "stream_url": urls.map("wss://{}".format),
        "rest_url": urls.map("http://{}".format),
        "redundancy": st.integers(1, 4),
        "streams_per_connection": st.integers(1, 1024),
        "rotate_after_ms": durations(1000, 86_400_000),
        "coalesce_ms": durations(0, 1000),
        "silence_timeout_ms": durations(100, 3_600_000),
        "shared_budget": st.none() | paths.map(lambda path: path.with_name("shared")),
    },
    "symbols": {
        # With a pattern among them, nobody knows before the start that none is left.
        "include": st.lists(symbol_names).map(lambda names: tuple(dict.fromkeys([*names, "A*"]))),
        "exclude": st.lists(symbol_names, unique=True).map(tuple),
        "shard": st.none(),
        "refresh_ms": durations(0, 86_400_000),
    },
    "bars": {"interval_ms": intervals, "grace_ms": durations(0, 1000)},
    "repair": {
        "enabled": st.booleans(),
        "max_age_ms": durations(0, 86_399_999),
        "weight_share": st.integers(1, 100),
    },
    "proof": {"every_ms": durations(10_000, 3_600_000)},
    "audit": {"enabled": st.booleans(), "weight_share": st.integers(1, 100)},
    "journal": {
        "path": paths,
        "retention_ms": durations(86_400_000, 315_360_000_000),
        "checkpoint_every_ms": durations(10, 60_000),
    },
    "plugins": {"path": st.sampled_from([Path("/"), Path("/dev")])},
    "stores": {"enabled": store_names.map(tuple), "shutdown_timeout_ms": durations(0, 3_600_000)},
    "http": {"listen": st.none() | st.tuples(st.sampled_from(["::1", "a-b.c"]), ports)},
    "logging": {
        "level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        "format": st.sampled_from(["auto", "json", "text"]),
        "file": st.none() | paths,
        "rotate_at_bytes": st.just(0) | st.integers(64, 10**8).map(lambda count: count * 1_000),
        "keep": st.integers(0, 1000),
    },
}


def render(name: str, value: object, separator: str) -> str:
    if name.endswith("_ms") and isinstance(value, int):
        return f"{name.removesuffix('_ms')} = {format_duration(value)}"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')} = {value // 1_000}KB"
    if name == "listen" and isinstance(value, tuple):
        value = str(HostAndPort(*value))
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, tuple):
        value = separator.join(value)
    return f"{name} = {'' if value is None else value}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.fixed_dictionaries({name: st.fixed_dictionaries(of) for name, of in VALUES.items()}),
    separator=st.sampled_from([", ", ",", " ", "\n  ", ",\n\n\t"]),
)
def test_a_written_configuration_reads_as_itself(
    tmp_path: Path, values: dict[str, dict[str, Any]], separator: str
) -> None:
    lines = []
    for section, options in values.items():
        lines.append(f"[{section}]")
        lines += [render(name, value, separator) for name, value in options.items()]

    config = load(tmp_path, "\n".join(lines))

    for section, options in values.items():
        assert dataclasses.asdict(part(config, section)) == options


fragments = st.sampled_from(
    [
        *(f"[{section}]\n" for section in [*OPTIONS, "store:mongodb", "store:x", "other"]),
        *(f"{option}" for options in OPTIONS.values() for option in options),
        *(" = ", "=", ": ", "\n", "\n  ", " ; ", "#", "\r", "${", "}", "${HOME}", "${NOT SET}"),
        *("10s", "0ms", "mongodb", "*", "yes", "ws://", "http://[", "~x", "~", "x", "@", "\x00"),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    content=st.binary()
    | st.text().map(str.encode)
    | st.lists(fragments).map("".join).map(str.encode)
)
def test_any_file_either_loads_or_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.ini"
    path.write_bytes(content)

    with contextlib.suppress(ConfigError):
        load_config(path, {"HOME": os.sep})


@pytest.mark.parametrize(
    ("text", "retention_ms", "said"),
    [
        (
            "[stores]\nenabled =\n",
            None,
            "no bar leaves the journal unless [journal] retention is set",
        ),
        (
            "[stores]\nenabled =\n[journal]\nretention = 2d\n",
            2 * 86_400_000,
            "bars leave the journal 2d after their last change, though no store has them",
        ),
        ("", 3 * 86_400_000, "bars leave the journal when every store has had them, 3d after"),
    ],
)
def test_without_a_store_bars_stay_for_ever_unless_retention_stands_in_the_file(
    tmp_path: Path, text: str, retention_ms: int | None, said: str
) -> None:
    path = tmp_path / "b.ini"
    path.write_text(text, encoding="utf-8")

    config = load_config(path, {})

    assert config.retention_ms == retention_ms
    assert said in config.when_bars_leave


def test_the_environment_says_which_shard_it_is_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_text(
        "[symbols]\nshard = 1/2\n[journal]\npath = var/${SHARD}.journal\n[stores]\nenabled =\n",
        encoding="utf-8",
    )

    config = load_config(path, {"BINTRADES_SHARD": "3/5"})

    assert config.symbols.shard == Shard(3, 5)
    assert config.journal.path == tmp_path / "var" / "3.journal"


def test_a_shard_of_the_environment_that_cannot_be_is_named(tmp_path: Path) -> None:
    path = tmp_path / "b.ini"
    path.write_text("[stores]\nenabled =\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"variable BINTRADES_SHARD = 9/5: not one of 1/5 to 5/5"):
        load_config(path, {"BINTRADES_SHARD": "9/5"})
