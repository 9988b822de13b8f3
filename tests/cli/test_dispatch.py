"""The commands: what they print, what they exit with, and where they say what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from msgspec.structs import replace

from bintrades.cli import main
from bintrades.config.example import example_text
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from bintrades.version import __version__
from tests.checkout import REPOSITORY
from tests.journals import by_key, finished, journal_at, with_proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades.model import Bar

COMMANDS = (
    *("run", "example", "check", "status", "bars", "gaps", "resend", "verify", "differences"),
    *("simulate", "man", "export", "plot"),
)
UNICODE = "币安人生USDT"

PLUGIN = """
from bintrades import ConfigError, hookimpl

@hookimpl
def check_store(options):
    problems = [f"{name}: is not an option" for name in options if name != "shelf"]
    if problems:
        raise ConfigError(*problems)

@hookimpl
def store_bars(bars): pass
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with one plugin and a journal that does not exist yet."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "shelf.py").write_text(PLUGIN, encoding="utf-8")
    path = tmp_path / "bintrades.ini"
    path.write_text(
        textwrap.dedent(
            """
            [journal]
            path = bars.journal
            [plugins]
            path = plugins
            [stores]
            enabled = shelf
            """
        ),
        encoding="utf-8",
    )
    return path


def collected(*bars: Bar) -> WriteBatch:
    """Return the changes of *bars*, with what the collector says of their symbols."""
    newest = {bar.symbol: bar for bar in bars}
    checkpoints = {
        symbol: with_proof(
            Checkpoint(LedgerState(None, 0, ()), closed_through=bar.open_time_ms), [bar]
        )
        for symbol, bar in newest.items()
    }
    return WriteBatch(finished=by_key(bars), checkpoints=checkpoints)


@pytest.fixture
def journal(config: Path) -> Path:
    """Return the journal of *config*, with an hour of bars of one symbol and one of another."""
    path = config.parent / "bars.journal"
    with journal_at(path) as journal:
        journal.write(collected(*sample_bars(360), sample_bar(symbol=UNICODE)), OPEN_TIME_MS)
        journal.write(collected(sample_bar(symbol="ETHUSDT", is_closed=False)), OPEN_TIME_MS)
    return path


def add(config: Path, text: str) -> None:
    with config.open("a", encoding="utf-8") as file:
        file.write(textwrap.dedent(text))


class Said:
    """What a command said and exited with."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def problems(self) -> list[str]:
        """The lines on stderr, of which each must name the program."""
        lines = self.err.splitlines()
        assert all(line.startswith("bintrades: ") for line in lines), self.err
        return [line.removeprefix("bintrades: ") for line in lines]

    def assert_well(self) -> None:
        """Assert that nothing was wrong: exit 0, and not a word on stderr."""
        assert (self.status, self.err) == (0, "")


def command(
    *arguments: str | Path, cwd: Path | None = None, environ: dict[str, str] | None = None
) -> Said:
    """Run the program as a process."""
    ended = subprocess.run(
        [sys.executable, "-m", "bintrades", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | (environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


class Terminal:
    """Runs commands in this process."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys

    def __call__(self, name: str, *arguments: str) -> Said:
        """Run the command *name* with the configuration of the test."""
        status = main([name, *arguments, "--config", str(self._config)])
        captured = self._capsys.readouterr()
        return Said(status, captured.out, captured.err)

    def bars(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the bars that `bintrades bars --format json` prints."""
        said = self("bars", *arguments, "--format", "json")
        said.assert_well()
        bars: list[dict[str, Any]] = json.loads(said.out)
        return bars


@pytest.fixture
def terminal(config: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Return what runs commands in this process."""
    return Terminal(config, capsys)


@pytest.mark.parametrize("name", ["example", "status", "bars", "gaps", "resend"])
def test_what_only_reads_imports_neither_the_service_nor_another_command(
    name: str, tmp_path: Path
) -> None:
    script = (
        "import sys\nfrom bintrades.cli import main\n"
        "main(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)\n"
    )
    words = [name, *{"bars": ["BTCUSDT"], "resend": ["mongodb"]}.get(name, ())]
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    modules = set(ended.stderr.split())
    assert f"bintrades.cli.{name}" in modules
    assert not modules & {f"bintrades.cli.{other}" for other in COMMANDS if other != name}
    assert not modules & {"bintrades.app.service", "urllib3", "websocket", "pymongo", "wsproto"}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr() == (f"bintrades {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_teaches_every_command_on_stdout(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])

    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert out.startswith(" ".join(["usage: bintrades", *arguments]))
    if not arguments:
        assert all(f"\n    {name}" in out for name in COMMANDS)
    if arguments == ["check"]:
        assert "exit status: 0 nothing is wrong; 1 bad configuration" in out
    elif arguments == ["verify"]:
        assert "exit status: 0 nothing differs, or all that did was repaired; 1 a difference" in out
    elif arguments != ["simulate"]:
        assert "exit status: 0 orderly stop; 1 a failure" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["colect"], "invalid choice: 'colect'"),
        (["bars"], "required: SYMBOL"),
        (["bars", "BTCUSDT", "--last", "ten"], "--last"),
        (["bars", "BTCUSDT", "--last", "0s"], "argument --last: must be above 0"),
        (["--config", "bintrades.ini"], "required: COMMAND"),
        (["bars", "BTCUSDT", "--limit", "0"], "'0' is not a whole number above 0"),
        (["bars", "BTCUSDT", "--limit", "-1"], "--limit"),
        (["bars", "BTCUSDT", "--limit", "9" * 22], "is not a whole number above 0, or too large"),
        (["bars", "BTC\n\x1b[31mX"], r"'BTC\n\x1b[31mX' cannot be a symbol"),
        (["bars", "BTC\udcff"], r"'BTC\udcff' cannot be a symbol"),
        (["gaps", "BTC/USDT"], "'BTC/USDT' cannot be a symbol"),
        (["status", "a\n\x1b[31mb"], r"unrecognized arguments: a \x1b[31mb"),
        (["bars", "BTCUSDT", "--format", "xml"], "invalid choice: 'xml'"),
        (["resend"], "required: STORE"),
        (["status", "--jason"], "unrecognized arguments: --jason; did you mean '--json'?"),
        (["example", "--config", "x.ini"], "unrecognized arguments: --config x.ini"),
    ],
)
def test_a_bad_command_line_is_exit_2_with_the_reason(
    arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option_first", [False, True])
def test_an_unknown_option_brings_the_usage_of_the_command_it_was_given_to(
    name: str, option_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {
        "bars": ["BTCUSDT"],
        "export": ["BTCUSDT", "--to", "some.csv"],
        "plot": ["BTCUSDT", "--to", "some.png"],
        "resend": ["mongodb"],
    }.get(name, [])
    with pytest.raises(SystemExit) as ended:
        main(["--zzz", name, *needed] if option_first else [name, *needed, "--zzz"])

    assert ended.value.code == 2
    usage, *_, reason = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: bintrades {name} ")
    assert reason == f"bintrades {name}: error: unrecognized arguments: --zzz"


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize(
    "arguments",
    [
        "--config {} bars BTCUSDT --limit 1 --format csv",
        "--config={} --limit 1 --format csv bars BTCUSDT",
        "--format csv bars --config {} --limit 1 BTCUSDT",
        "bars BTCUSDT --limit 1 --format csv --config {}",
    ],
)
def test_options_may_stand_before_or_after_the_command(
    arguments: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(config) for word in arguments.split()]) == 0

    header, bar = capsys.readouterr().out.splitlines()
    assert header.startswith("symbol,")
    assert bar.startswith("BTCUSDT,")


def test_a_configuration_that_is_called_like_a_command_is_one(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config.rename(config.parent / "status")
    monkeypatch.chdir(config.parent)

    assert main(["--config", "status", "check"]) == 0
    assert capsys.readouterr().out.startswith("status: no problem found")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["run"], 2),
        (["check"], 1),
        (["status"], 2),
        (["bars", "BTCUSDT"], 2),
        (["resend", "shelf"], 2),
    ],
)
def test_every_problem_of_a_bad_configuration_is_a_line_on_stderr(
    config: Path, arguments: Sequence[str], status: int, terminal: Terminal
) -> None:
    add(config, "[bars]\ninterval = 7 apples\ngrase = 1s\n[jurnal]\n")

    said = terminal(*arguments)

    assert (said.status, said.out) == (status, "")
    interval, grace, section = said.problems
    assert all(str(config) in line for line in said.problems)
    assert "[bars] interval = 7 apples" in interval
    assert "allowed: 1s to 1d" in interval
    assert "did you mean 'grace'" in grace
    assert "did you mean 'journal'" in section


@pytest.mark.parametrize("name", ["run", "check"])
def test_plugins_are_part_of_the_configuration(config: Path, name: str, terminal: Terminal) -> None:
    add(config, "[store:shelf]\nshelf = 3\nlader = 2\ncolour = red\n")
    status = 1 if name == "check" else 2

    bad_options = terminal(name)
    (config.parent / "plugins" / "shelf.py").write_text("import no_such_module")
    broken = terminal(name)
    (config.parent / "plugins" / "shelf.py").unlink()
    missing = terminal(name)
    assert all(line.startswith(f"{config}: [") for line in broken.problems + missing.problems)

    assert [bad_options.status, broken.status, missing.status] == [status] * 3
    assert bad_options.problems == [
        f"{config}: [store:shelf] lader: is not an option",
        f"{config}: [store:shelf] colour: is not an option",
    ]
    assert "No module named 'no_such_module'" in broken.problems[0]
    assert "there is no plugin 'shelf'" in missing.problems[0]
    assert not (config.parent / "bars.journal").exists()


BROKEN = {
    "quits.py": "raise SystemExit('two\\nlines')",
    "raises.py": """
from bintrades import hookimpl

@hookimpl
def check_store(options):
    int(options["password"])

@hookimpl
def store_bars(bars): pass
""",
    "talks.py": PLUGIN.replace("is not an option", "no \\x1b[31m option\\nof mine"),
}


@pytest.mark.parametrize("name", ["run", "check"])
def test_no_problem_hides_another_and_each_is_one_line_without_a_password(
    config: Path, name: str, terminal: Terminal
) -> None:
    for file, text in BROKEN.items():
        (config.parent / "plugins" / file).write_text(text, encoding="utf-8")
    config.write_text(
        "uri = mongodb://u:hidden@h\n[bars]\ninterval = ten\n"
        "[plugins]\npath = plugins\n[journal]\npath = plugins\n[logging]\nfile = /dev/null/x\n"
        "[stores]\nenabled = mongodb, quits, raises, talks, nobody, //u:hidden@h\n"
        "[store:mongodb]\ndatabase = a b\ncollection = $x\nuri = http://u:hidden@h\n"
        "[store:raises]\npassword = hidden\n[store:talks]\ncolour = red\n"
    )

    said = terminal(name)

    assert all(line.startswith(f"{config}: ") and line.isprintable() for line in said.problems)
    assert "hidden" not in said.err
    expected = [
        "line 1: 'uri' stands before the first [section]",
        "[bars] interval = ten: not a whole number with a unit",
        "[journal] path = plugins: is a folder; allowed",
        "[logging] file = /dev/null/x: '/dev/null' is not a folder; allowed",
        "[stores] enabled = mongodb, quits, raises, talks, nobody, //***@h: '//***@h' is not a pl",
        "[stores] enabled: quits cannot be imported: ",
        "[stores] enabled: there is no plugin 'nobody'",
        "[store:mongodb] uri: must begin with mongodb:// or mongodb+srv://",
        "[store:mongodb] database = a b: ' ' cannot be in it; allowed: ",
        "[store:mongodb] collection = $x: '$' cannot be in it; allowed: ",
        "[store:raises] cannot be checked: ValueError(\"invalid literal for int() with base 10: '*",
        "[store:talks] colour: no \\x1b[31m option",
        "[store:talks] of mine",
    ]
    for problem, start in zip(said.problems, expected, strict=True):
        assert problem.removeprefix(f"{config}: ").startswith(start)


@pytest.mark.parametrize(("name", "status"), [("check", 1), ("run", 2)])
def test_what_the_environment_names_and_cannot_be_used_is_said(
    config: Path, tmp_path: Path, name: str, status: int
) -> None:
    proxy, bundle = "socks4://me:hidden@proxy:9050", tmp_path / "missing.pem"
    environ = {
        "http_proxy": proxy,
        "SSL_CERT_FILE": str(bundle),
        "SSL_CERT_DIR": f"{tmp_path}:{tmp_path}/certs",
        "WEBSOCKET_CLIENT_CA_BUNDLE": str(bundle),
    }
    add(config, "[binance]\nstream_url = ws://127.0.0.1:9\nrest_url = http://127.0.0.1:9\n")

    said = command(name, "--config", config, environ=environ)

    assert said.status == status
    assert [line.partition(";")[0] for line in said.problems] == [
        "http_proxy=socks4://***@proxy:9050: no proxy of the kind socks4:// can be used",
        f"SSL_CERT_FILE={bundle}: no certificates can be read from it: "
        "[Errno 2] No such file or directory",
        f"SSL_CERT_DIR={tmp_path}/certs: is not a folder, so no certificates are in it",
        f"WEBSOCKET_CLIENT_CA_BUNDLE={bundle}: no certificates can be read from it: "
        "[Errno 2] No such file or directory",
    ]


@pytest.mark.parametrize(("name", "status"), [("check", 1), ("run", 2)])
def test_a_log_file_that_cannot_be_opened_is_refused_before_anything_else_happens(
    config: Path, name: str, status: int
) -> None:
    file = config.parent / f"{'x' * 300}.log"
    add(config, f"[logging]\nfile = {file.name}\n")

    said = command(name, "--config", config)

    assert (said.status, said.out) == (status, "")
    (problem,) = said.problems
    assert problem == (
        f"{config}: [logging] file = {file}: File name too long; allowed: a file in a folder that"
        " can be written to, or nothing"
    )
    assert not list(config.parent.glob("bars.journal*"))


def test_a_socks_proxy_of_the_environment_is_nothing_to_complain_of(config: Path) -> None:
    environ = {"ALL_PROXY": "socks5://127.0.0.1:9050"}

    command("check", "--config", config, environ=environ).assert_well()


@pytest.mark.parametrize(
    ("path", "status"), [("", 1), ("path = var/bars.jsonl", 1), ("path = of_its_own.jsonl", 0)]
)
def test_check_refuses_two_stores_that_would_write_to_one_place(
    path: str, status: int, config: Path, terminal: Terminal
) -> None:
    shutil.copy(REPOSITORY / "plugins" / "jsonl.py", config.parent / "plugins")
    config.write_text(
        "[plugins]\npath = plugins\n[stores]\nenabled = jsonl, second\n"
        f"[store:second]\nplugin = jsonl\n{path}\n",
        encoding="utf-8",
    )

    said = terminal("check")

    assert said.status == status
    assert ("[store:second] has the options of [store:jsonl]" in said.err) == (status == 1)


def test_check_says_that_all_is_well_and_makes_nothing(config: Path, terminal: Terminal) -> None:
    before = sorted(config.parent.rglob("*.journal*"))

    said = terminal("check")

    said.assert_well()
    assert said.out.splitlines()[0] == f"{config}: no problem found (stores: shelf)"
    assert sorted(config.parent.rglob("*.journal*")) == before


@pytest.mark.parametrize(
    ("stream_url", "rest_url", "said"),
    [
        ("wss://stream.testnet.binance.vision", "https://testnet.binance.vision", "testnet"),
        ("wss://demo-stream.binance.com", "https://demo-api.binance.com", "demo"),
        ("ws://127.0.0.1:1", "https://testnet.binance.vision", "testnet"),
        ("ws://127.0.0.1:1", "http://127.0.0.1:2", None),
        ("wss://data-stream.binance.vision", "https://api.binance.com", None),
    ],
)
def test_check_says_where_trades_are_not_the_live_ones(
    config: Path, terminal: Terminal, stream_url: str, rest_url: str, said: str | None
) -> None:
    config.write_text(
        f"[binance]\nstream_url = {stream_url}\nrest_url = {rest_url}\n[stores]\nenabled =\n",
        encoding="utf-8",
    )

    told = terminal("check")

    told.assert_well()
    lines = [line for line in told.out.splitlines() if line.startswith(f"{config}: [binance]")]
    place = f"{config}: [binance] {said}: the trades of this spot market are not the live ones"
    assert lines == ([] if said is None else [place])


@pytest.mark.parametrize(
    ("market", "is_used"), [("spot", False), ("us", True), ("usdm", True), ("coinm", True)]
)
def test_check_says_that_a_key_is_of_no_use_where_none_is_needed(
    config: Path, terminal: Terminal, market: str, is_used: bool
) -> None:
    config.write_text(
        f"[binance]\nmarket = {market}\napi_key = abcdefgh12345678\n[stores]\nenabled =\n",
        encoding="utf-8",
    )

    told = terminal("check")

    told.assert_well()
    assert "abcdefgh" not in told.out
    lines = [line for line in told.out.splitlines() if line.startswith(f"{config}: [binance]")]
    useless = f"{config}: [binance] api_key: the market spot needs none, so it is never sent"
    assert lines == ([] if is_used else [useless])


@pytest.mark.parametrize(
    ("market", "is_approximate"), [("spot", False), ("us", False), ("usdm", True), ("coinm", True)]
)
def test_check_says_where_bars_of_aggregates_are_approximate(
    config: Path, terminal: Terminal, market: str, is_approximate: bool
) -> None:
    config.write_text(
        f"[binance]\nmarket = {market}\nstream = aggTrade\n[stores]\nenabled =\n",
        encoding="utf-8",
    )

    told = terminal("check")

    told.assert_well()
    lines = [line for line in told.out.splitlines() if line.startswith(f"{config}: [binance]")]
    place = f"{config}: [binance] stream = aggTrade: bars of {market} are approximate then"
    assert lines == ([f"{place}, and never complete"] if is_approximate else [])


def test_check_says_when_bars_leave_a_journal_that_alone_has_them(
    config: Path, terminal: Terminal
) -> None:
    config.write_text("[stores]\nenabled =\n", encoding="utf-8")

    said = terminal("check")

    said.assert_well()
    assert said.out.splitlines()[:2] == [
        f"{config}: no problem found (stores: the journal only)",
        f"{config}: without a store, no bar leaves the journal unless [journal] retention is set",
    ]


@pytest.mark.parametrize("arguments", [["status"], ["bars", "BTCUSDT"], ["resend", "shelf"]])
def test_where_there_is_no_journal_yet_it_is_said(
    config: Path, arguments: Sequence[str], terminal: Terminal
) -> None:
    said = terminal(*arguments)

    assert (said.status, said.out) == (1, "")
    (problem,) = said.problems
    assert problem.endswith("bars.journal: there is no journal yet; `bintrades run` begins it")


@pytest.mark.parametrize("arguments", [["status"], ["bars", "BTCUSDT"], ["resend", "shelf"]])
def test_a_journal_that_cannot_be_read_is_a_line_on_stderr(
    config: Path, journal: Path, arguments: Sequence[str], terminal: Terminal
) -> None:
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 9")
    newer = terminal(*arguments)
    journal.write_bytes(b"no database" * 1_000)
    garbage = terminal(*arguments)

    assert (newer.status, garbage.status) == (2, 1)
    assert len(newer.problems) == len(garbage.problems) == 1
    assert newer.out == garbage.out == ""


@pytest.mark.usefixtures("journal")
def test_bars_are_a_table_of_the_newest_sixty_oldest_first(terminal: Terminal) -> None:
    said = terminal("bars", "BTCUSDT")

    said.assert_well()
    head, rule, *rows = said.out.splitlines()
    assert head.split()[:3] == ["open", "time", "(UTC)"]
    assert set(rule) == {"-", " "}
    assert len(rows) == 60
    assert rows[0].startswith("2024-08-08 00:50:00 ")
    assert rows[-1].split() == [
        *("2024-08-08", "00:59:50"),
        *("55000.01", "55200", "55000.01", "55200"),
        *("0.003", "165.3000000000000001"),
        *("3", "1", "1078-1080"),
    ]


def test_the_table_marks_bars_that_lack_trades_and_those_still_open(
    journal: Path, terminal: Terminal
) -> None:
    first = sample_bar(symbol="BNBUSDT")
    with journal_at(journal) as writer:
        writer.write(collected(first), OPEN_TIME_MS)
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE bars SET is_complete = 0 WHERE symbol = 'BNBUSDT'")

    assert "2024-08-08 00:00:00*  " in terminal("bars", "BNBUSDT").out
    assert "2024-08-08 00:00:00+  " in terminal("bars", "ETHUSDT").out
    assert "2024-08-08 00:50:00  " in terminal("bars", "BTCUSDT").out


@pytest.mark.usefixtures("journal")
def test_bars_are_chosen_by_time_and_number(terminal: Terminal) -> None:
    everything = terminal.bars("BTCUSDT", "--last", "1d")

    assert len(everything) == 360
    assert terminal.bars("BTCUSDT") == everything[-60:]
    assert terminal.bars("BTCUSDT", "--last", "10m") == everything[-60:]
    assert terminal.bars("BTCUSDT", "--last", "50m") == everything[-300:]
    assert terminal.bars("BTCUSDT", "--last", "10s") == everything[-1:]
    assert terminal.bars("BTCUSDT", "--last", "99999999999999d") == everything
    assert terminal.bars("BTCUSDT", "--limit", "3") == everything[-3:]
    assert terminal.bars("BTCUSDT", "--limit", "300") == everything[-300:]
    assert terminal.bars("BTCUSDT", "--last", "1h", "--limit", "7") == everything[-7:]


def published(bar: Bar) -> dict[str, Any]:
    """Return the bar as the json format has it: decimals and times as text."""
    return {
        name: value
        if isinstance(value, (int, str))
        else format(value, "f")
        if isinstance(value, Decimal)
        else value.isoformat(timespec="milliseconds")
        for name, value in bar.as_dict().items()
    }


def test_json_and_csv_hold_every_field_exactly(
    config: Path, journal: Path, terminal: Terminal
) -> None:
    exact = sample_bar(
        symbol="SHIBUSDT",
        value=Decimal("12345678901234567890.123456789012345678"),
        min_price=Decimal("0.00000001"),
        quantity=Decimal("1E+12"),
    )
    with journal_at(journal) as writer:
        writer.write(collected(exact), OPEN_TIME_MS + 12_345)
    expected = published(replace(exact, updated_at_ms=OPEN_TIME_MS + 12_345))

    as_json = command("bars", "SHIBUSDT", "--config", config, "--format", "json")
    as_csv = command("bars", "SHIBUSDT", "--config", config, "--format", "csv")

    as_json.assert_well()
    as_csv.assert_well()
    assert json.loads(as_json.out) == [expected]
    assert expected["min_price"] == "0.00000001"
    assert expected["open_time"] == "2024-08-08T00:00:00.000+00:00"
    (row,) = csv.DictReader(io.StringIO(as_csv.out))
    true_or_false = {name: str(expected[name]).lower() for name in ("is_closed", "is_complete")}
    assert row == {name: str(value) for name, value in expected.items()} | true_or_false
    assert "\r" not in as_csv.out


@pytest.mark.usefixtures("journal")
def test_a_symbol_may_be_typed_in_small_letters(terminal: Terminal) -> None:
    assert terminal.bars("btcusdt") == terminal.bars("BTCUSDT")
    assert len(terminal.bars("币安人生usdt")) == 1


@pytest.mark.usefixtures("journal")
def test_an_unknown_symbol_is_answered_with_those_there_are(terminal: Terminal) -> None:
    with journal_at(terminal._config.parent / "bars.journal") as writer:
        writer.write(finished(BTCUSDT=LedgerState(1_081, OPEN_TIME_MS, ())), OPEN_TIME_MS)

    said = terminal("bars", "BTCUDST")

    assert (said.status, said.out) == (1, "")
    (problem,) = said.problems
    there = "BTCUSDT, ETHUSDT, 币安人生USDT"
    assert problem == f"BTCUDST: the journal has no bars of it; it has: {there}"


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("environ", [{}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_symbol_beyond_ascii_is_printed_whatever_the_terminal_can_show(
    config: Path, form: str, environ: dict[str, str]
) -> None:
    said = command("bars", UNICODE, "--config", config, "--format", form, environ=environ)

    said.assert_well()
    if form == "json":
        assert json.loads(said.out)[0]["symbol"] == UNICODE


@pytest.mark.usefixtures("journal")
def test_an_unknown_symbol_beyond_ascii_is_a_line_too(config: Path) -> None:
    said = command("bars", "币USDT", "--config", config, environ={"PYTHONIOENCODING": "ascii"})

    assert said.status == 1
    assert len(said.problems) == 1


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("arguments", ["--limit 1", "--last 1d", "--last 1d --format csv"])
def test_a_reader_that_has_seen_enough_is_no_failure(config: Path, arguments: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    line = f'set -o pipefail; "$0" -m bintrades bars BTCUSDT --config "$1" {arguments}'
    for reader in ("head -n 1", "true"):
        ended = subprocess.run(
            [bash, "-c", f"{line} | {reader}", sys.executable, config],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.usefixtures("journal")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_exit_1_with_the_reason(config: Path) -> None:
    bars = ["bars", "BTCUSDT", "--config", str(config)]
    for arguments in (
        ["--help"],
        ["--version"],
        ["simulate", "--stream-port", "0", "--rest-port", "0"],
        [*bars, "--limit", "1"],
        [*bars, "--last", "1d"],
        [*bars, "--last", "1d", "--format", "csv"],
    ):
        with Path("/dev/full").open("wb") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "bintrades", *arguments],
                cwd=REPOSITORY,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert ended.returncode == 1
        assert ended.stderr == (
            "bintrades: the output cannot be written: No space left on device\n"
        )


@pytest.mark.parametrize(
    ("arguments", "status"), [("bars", 2), ("status --config", 2), ("example", 0)]
)
@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", ">&- 2>&-"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_without_anywhere_to_speak_the_exit_codes_are_the_same(
    config: Path, arguments: str, status: int, streams: str
) -> None:
    add(config, "[bars]\ninterval = ten\n")
    file = [str(config)] if arguments.endswith("--config") else []
    line = f'"$0" -m bintrades {arguments} "$@" {streams}'

    ended = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, *file], cwd=REPOSITORY, timeout=60, check=False
    )

    assert ended.returncode == status


def test_what_ends_run_unexpectedly_is_in_the_log_with_its_trace(
    config: Path, tmp_path: Path
) -> None:
    add(config, f"[logging]\nfile = {tmp_path / 'log'}\n")
    code = (
        "import sys\n"
        "from bintrades.app import service\nfrom bintrades import cli\n"
        "service.run = lambda *_: 1 / 0\n"
        "sys.exit(cli.main(['run', '--config', sys.argv[1]]))\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code, str(config)],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (1, b"")
    (line,) = map(json.loads, (tmp_path / "log").read_text(encoding="utf-8").splitlines())
    assert line["level"] == "CRITICAL"
    assert line["exc_info"].endswith("ZeroDivisionError: division by zero")


WAITING = """
import sys, time
from bintrades import hookimpl

@hookimpl
def store_bars(bars): pass

print("importing", file=sys.stderr, flush=True)
while not __import__("pathlib").Path(__file__).with_name("go").exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("name", "number", "status"),
    [
        ("run", signal.SIGINT, 0),
        ("run", signal.SIGTERM, 0),
        ("check", signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_signal_while_plugins_are_imported_ends_it_without_a_traceback(
    config: Path, name: str, number: signal.Signals, status: int
) -> None:
    (config.parent / "plugins" / "shelf.py").write_text(WAITING, encoding="utf-8")
    # No name of a real host: there is no trade to be had before it stops.
    add(config, "[binance]\nstream_url = ws://127.0.0.1:1\nrest_url = http://127.0.0.1:1\n")
    with subprocess.Popen(
        [sys.executable, "-m", "bintrades", name, "--config", config],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "importing\n"
        process.send_signal(number)
        (config.parent / "plugins" / "go").touch()
        said = process.stderr.read()

        assert process.wait(60) == status, said
    assert "Traceback" not in said


def test_resend_has_refused_bars_sent_again_and_says_how_many(
    journal: Path, terminal: Terminal
) -> None:
    cursor = Cursor(journal, "shelf")
    bars, sequence = cursor.next_bars(10)
    cursor.move(sequence, bars, [(bar, "ugly") for bar in bars[:3]])

    first, second = terminal("resend", "shelf"), terminal("resend", "shelf")

    first.assert_well()
    assert first.out == "3 bars will be sent to shelf again\n"
    assert second.out == "0 bars will be sent to shelf again\n"
    assert JournalReader(journal).store("shelf").rejected_bars == 0


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("2024-08-08T00:59:00", 6),
        ("2024-08-08 00:59", 6),
        ("2024-08-08T02:59:00+02:00", 6),
        ("2024-08-08T00:59:00.001Z", 5),
        ("2024-08-08", 362),
        ("1960-01-01", 362),
        ("2050-01-01", 0),
        ("60s", 7),
        ("1000d", 362),
        ("0s", 1),
    ],
)
def test_resend_since_has_every_bar_from_there_on_sent_again(
    journal: Path, terminal: Terminal, since: str, count: int
) -> None:
    cursor = Cursor(journal, "shelf")
    bars, sequence = cursor.next_bars(1_000)
    cursor.move(sequence, bars)

    said = terminal("resend", "shelf", "--since", since)

    said.assert_well()
    bars_are = "bar" if count == 1 else "bars"
    assert said.out == f"{count} {bars_are} will be sent to shelf again\n"
    assert len(cursor.next_bars(1_000)[0]) == count


def test_check_calls_a_write_concern_unsafe_and_allows_it(config: Path) -> None:
    text = config.read_text(encoding="utf-8").replace("enabled = shelf", "enabled = mongodb")
    uri = "mongodb://someone:s3cr3t@db/?w=1"
    config.write_text(f"{text}\n[store:mongodb]\nuri = {uri}\n", encoding="utf-8")

    command = [sys.executable, "-m", "bintrades", "check", "--config", str(config)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert said.returncode == 0, said.stderr
    assert "no problem found (stores: mongodb)\n" in said.stdout
    assert said.stderr.startswith("uri: w=1 is unsafe on a replica set")
    assert "s3cr3t" not in said.stderr


@pytest.mark.usefixtures("journal")
def test_status_tells_from_where_on_a_store_gets_bars_again(terminal: Terminal) -> None:
    terminal("resend", "shelf", "--since", "2024-08-08T00:30").assert_well()

    assert "gets all bars from 2024-08-08 00:30:00 UTC on again" in terminal("status").out


@pytest.mark.parametrize("since", ["yesterday", "", "2h30m", "12:00", "2024-13-01", "-1h"])
def test_a_since_that_is_no_time_is_refused(terminal: Terminal, since: str) -> None:
    with pytest.raises(SystemExit) as ended:
        terminal("resend", "shelf", f"--since={since}")

    assert ended.value.code == 2


@pytest.mark.usefixtures("journal")
def test_resend_to_a_store_that_is_not_enabled_is_refused(terminal: Terminal) -> None:
    said = terminal("resend", "shelv")

    assert (said.status, said.out) == (2, "")
    assert said.problems == [
        "shelv: is not an enabled store; did you mean 'shelf'?; enabled: shelf"
    ]


@pytest.mark.usefixtures("journal")
def test_status_is_a_page_or_json_and_nothing_else(terminal: Terminal) -> None:
    page, machine = terminal("status"), terminal("status", "--json")

    page.assert_well()
    machine.assert_well()
    assert page.out.startswith("collector   has not run yet\n")
    assert "\nstore       shelf: 362 bars wait, 0 refused; the oldest has waited " in page.out
    status = json.loads(machine.out)
    assert status["journal"]["bars"] == 362
    assert status["stores"]["shelf"]["waiting_bars"] == 362
    assert (status["is_running"], status["collector"]) == (False, None)


@pytest.fixture
def gaps(config: Path) -> list[Gap]:
    """Return the gaps of one symbol in the journal of *config*; another has none."""
    gaps = [
        Gap(7, 9, OPEN_TIME_MS, OPEN_TIME_MS + 500, GapCause.SKIPPED, 2, "no answer"),
        Gap(20, 20, OPEN_TIME_MS + 900, OPEN_TIME_MS + 990, GapCause.RECONNECT, is_abandoned=True),
    ]
    states = {
        UNICODE: LedgerState(100, OPEN_TIME_MS, tuple(gaps)),
        "BTCUSDT": LedgerState(100, OPEN_TIME_MS, ()),
    }
    with journal_at(config.parent / "bars.journal") as journal:
        journal.write(finished(**states), OPEN_TIME_MS)
    return gaps


def test_gaps_are_a_table_or_json(terminal: Terminal, gaps: list[Gap]) -> None:
    table, machine = terminal("gaps"), terminal("gaps", UNICODE, "--json")

    table.assert_well()
    assert [line.split()[0] for line in table.out.splitlines()[2:]] == ["open", "abandoned"]
    machine.assert_well()
    rows = json.loads(machine.out)
    assert [(row["first_id"], row["last_id"]) for row in rows] == [
        (gap.first_id, gap.last_id) for gap in gaps
    ]
    assert {row["symbol"] for row in rows} == {UNICODE}


@pytest.mark.usefixtures("gaps")
def test_a_symbol_without_gaps_is_told_from_one_that_was_never_seen(terminal: Terminal) -> None:
    whole, unknown = terminal("gaps", "btcusdt"), terminal("gaps", "XRPUSDT")

    whole.assert_well()
    assert whole.out == "no gaps\n"
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.problems[0].startswith("XRPUSDT: no trade of it was ever seen; the journal has:")


def test_gaps_without_a_journal_say_that(terminal: Terminal) -> None:
    said = terminal("gaps")

    assert (said.status, said.out) == (1, "")
    assert "there is no journal yet" in said.problems[0]


@pytest.mark.usefixtures("gaps")
def test_gaps_print_what_a_poor_terminal_cannot_show_as_escapes(config: Path) -> None:
    said = command("gaps", "--config", config, environ={"PYTHONIOENCODING": "ascii"})

    assert said.status == 0
    assert "\\u5e01" in said.out


@pytest.mark.usefixtures("journal")
def test_as_a_process_the_exit_codes_are_the_same(config: Path) -> None:
    assert command("--version").status == 0
    assert command().status == 2
    assert command("check", "--config", config).status == 0
    assert command("check", "--config", "nowhere.ini").status == 1
    assert command("status", "--config", "nowhere.ini").status == 2
    assert command("bars", "NONE", "--config", config).status == 1


def test_live_trades_are_not_collected_into_a_journal_of_a_test_network(tmp_path: Path) -> None:
    config = tmp_path / "bintrades.ini"
    config.write_text("[journal]\npath = j.journal\n[stores]\nenabled =\n", encoding="utf-8")
    with journal_at(tmp_path / "j.journal") as journal:
        journal.keep_environment("testnet")

    said = command("run", "--config", config)

    assert said.status == 2
    assert "j.journal: holds bars of the testnet exchange, the addresses" in said.err


def test_a_refusal_said_at_once_may_wait_for_a_supervisor_but_not_after_a_signal(
    config: Path,
) -> None:
    add(config, "[bars]\nintervall = 10s\n")
    with subprocess.Popen(
        [sys.executable, "-m", "bintrades", "run", "--config", config],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "BINTRADES_REFUSAL_WAIT": "1h"},
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert b"intervall" in process.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM

    wrong = {"BINTRADES_REFUSAL_WAIT": "soon"}
    said = command("status", "--jason", environ=wrong)
    assert said.status == 2
    assert "BINTRADES_REFUSAL_WAIT=soon: not a whole number with a unit" in said.err


def test_certificates_that_the_environment_names_stay_where_they_are(
    config: Path, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores' paths start at the folder of the configuration, which is made the working one."""
    here = tmp_path / "here"
    (here / "certs").mkdir(parents=True)
    trustme.CA().cert_pem.write_to_path(str(here / "ca.pem"))
    monkeypatch.chdir(here)
    monkeypatch.setenv("SSL_CERT_FILE", "ca.pem")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}:certs")

    terminal("check").assert_well()

    assert Path.cwd() == config.parent
    assert os.environ["SSL_CERT_FILE"] == str(here / "ca.pem")
    assert os.environ["SSL_CERT_DIR"] == f"{tmp_path}:{here}/certs"


def test_a_configuration_to_begin_with_is_printed_and_is_right(tmp_path: Path) -> None:
    printed = command("example")
    (tmp_path / "bintrades.ini").write_text(printed.out, encoding="utf-8")

    assert (printed.status, printed.out) == (0, example_text())
    assert command("check", "--config", "bintrades.ini", cwd=tmp_path).status == 0


def test_the_default_configuration_is_that_of_the_folder(tmp_path: Path) -> None:
    said = command("check", cwd=tmp_path)

    assert said.status == 1
    assert said.problems[0].startswith("etc/bintrades.ini: does not exist; name another")


def test_without_the_simulator_s_packages_the_command_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("bintrades.testing.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("bintrades.testing.simulate", raising=False)
    monkeypatch.setitem(sys.modules, "wsproto", None)

    assert main(["simulate", "--whatever"]) == 1
    assert main(["--rate", "5", "simulate"]) == 1

    said = capsys.readouterr().err
    python = shlex.quote(sys.executable)
    assert "needs wsproto, which is not installed: " in said
    assert f"{python} -m pip install 'bintrades[simulator]'" in said
