"""`bintrades verify`: what it finds, says, repairs and exits with."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from bintrades.cli import main
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.exchange.registry import EXCHANGES
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.model import utc
from bintrades.pipeline.coverage_delivery import CoverageDelivery
from bintrades.stores.loader import load_stores
from bintrades.util.runtime import Runtime
from tests.journals import by_key, journal_at
from tests.kline_dumps import DAY_MS, write_dump, zipped
from tests.klines import MINUTE_MS, SECOND_MS
from tests.recordings import END_MS, START_MS, generate_recording, open_recording, real_folder
from tests.references import FreeBudget, TradesReference, recorded_trades
from tests.strategies import INTERVAL, bars_of, spot_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymongo.database import Database

    from bintrades.model import Bar, SeriesKey, Trade

BTC, ETH = "BTCUSDT", "ETHUSDT"
FIRST = START_MS // MINUTE_MS * MINUTE_MS + MINUTE_MS
LAST = END_MS // MINUTE_MS * MINUTE_MS
SPAN = ("--since", "2024-08-08T23:55", "--until", "2024-08-09T00:05")
MIDNIGHT = START_MS // DAY_MS * DAY_MS + DAY_MS
WRONG = FIRST + 3 * MINUTE_MS + 2 * INTERVAL
"""Where the bar opens that the tests make wrong."""


@pytest.fixture(scope="module", params=["generated", "real"])
def trades(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Trade]:
    """Return the trades of eleven minutes of two symbols."""
    if request.param == "generated":
        recording = generate_recording(tmp_path_factory.mktemp("recorded") / "spot_20240808")
        return recorded_trades(recording.trades)
    folder = real_folder()
    if folder is None:
        pytest.skip("nobody has put the real recording here")
    return recorded_trades(open_recording(folder).trades)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of a journal without stores."""
    path = tmp_path / "bintrades.ini"
    path.write_text("[journal]\npath = bars.journal\n[stores]\nenabled =\n", encoding="utf-8")
    return path


def write_journal(path: Path, trades: Iterable[Trade], bars: Iterable[Bar] | None = None) -> None:
    """Write the bars of *trades*, or *bars* in their place, all of it proven."""
    trades = list(trades)
    stored = list(bars_of(trades).values() if bars is None else bars)
    checkpoints = {}
    for symbol in (BTC, ETH):
        own = [trade for trade in trades if trade.symbol == symbol]
        last = max(own, key=lambda trade: trade.trade_id)
        checkpoints[symbol] = Checkpoint(
            LedgerState(last.trade_id + 1, last.time, ()),
            closed_through=last.time // INTERVAL * INTERVAL,
            proven_ms=LAST + MINUTE_MS,
            covered_since_ms=FIRST,
        )
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key(stored), checkpoints=checkpoints), END_MS)


def sql(path: Path, statement: str, *values: object) -> None:
    """Change a journal past its program."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def corrupt(path: Path, trades: Iterable[Trade]) -> None:
    """Change a digit of a sum."""
    (bar,) = JournalReader(path).bars(BTC, WRONG, WRONG + 1, 1)
    assert list(trades)
    sql(
        path,
        "UPDATE bars SET quantity = ? WHERE symbol = ? AND open_time = ?",
        str(bar.quantity + Decimal("0.001")),
        BTC,
        WRONG,
    )


def within(trades: Iterable[Trade]) -> list[Trade]:
    """Return the trades of the bar that is to be wrong."""
    return [each for each in trades if each.symbol == BTC and 0 <= each.time - WRONG < INTERVAL]


def put_bar(path: Path, bar: Bar) -> None:
    """Put the figures of *bar* into its row."""
    sql(
        path,
        "UPDATE bars SET trade_count = ?, buy_count = ?, quantity = ?, buy_quantity = ?, value = ?,"
        " buy_value = ?, open_price = ?, close_price = ?, min_price = ?, max_price = ?,"
        " first_trade_id = ?, last_trade_id = ?, first_trade_time = ?, last_trade_time = ?"
        " WHERE symbol = ? AND open_time = ?",
        *(bar.trade_count, bar.buy_count, str(bar.quantity), str(bar.buy_quantity)),
        *(str(bar.value), str(bar.buy_value), str(bar.open_price), str(bar.close_price)),
        *(str(bar.min_price), str(bar.max_price), bar.first_trade_id, bar.last_trade_id),
        *(bar.first_trade_time_ms, bar.last_trade_time_ms, bar.symbol, bar.open_time_ms),
    )


def lose(path: Path, trades: Iterable[Trade]) -> None:
    """Lose a trade in the middle of a bar."""
    own = within(trades)
    del own[len(own) // 2]
    put_bar(path, bars_of(own)[BTC, WRONG])


def double(path: Path, trades: Iterable[Trade]) -> None:
    """Count a trade twice."""
    own = within(trades)
    put_bar(path, bars_of([*own, own[0]])[BTC, WRONG])


def remove(path: Path, trades: Iterable[Trade]) -> None:
    """Lose a whole bar."""
    assert within(trades)
    sql(path, "DELETE FROM bars WHERE symbol = ? AND open_time = ?", BTC, WRONG)


def move(path: Path, trades: Iterable[Trade]) -> None:
    """Move a bar by one interval, in the place of the one there."""
    put_bar(path, replace(bars_of(within(trades))[BTC, WRONG], open_time_ms=WRONG + INTERVAL))
    remove(path, trades)


class Exchange:
    """An exchange in memory: klines and trades, and no more."""

    def __init__(self, reference: TradesReference | None) -> None:
        self.reference = reference
        self.budget = FreeBudget()
        self.market = EXCHANGES["binance"].markets["spot"]
        self.is_closed = False

    def series(self, symbol: str, contract_size: Decimal | None = None) -> SeriesKey:
        """Return which series the trades of *symbol* are."""
        return replace(spot_key(symbol), contract_size=contract_size)

    def make_reference(self) -> TradesReference | None:
        """Return what it has."""
        return self.reference

    def close(self) -> None:
        """Record that it is closed."""
        self.is_closed = True


def use(monkeypatch: pytest.MonkeyPatch, exchange: Exchange) -> None:
    """Have the commands open *exchange*."""

    def open_exchange(*_: Any, **__: Any) -> Any:
        return exchange

    kind = dataclasses.replace(EXCHANGES["binance"], open=open_exchange)
    monkeypatch.setitem(EXCHANGES, "binance", kind)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch, trades: list[Trade]) -> Exchange:
    """Have the commands ask an exchange that has *trades*."""
    exchange = Exchange(TradesReference(trades, LAST + DAY_MS))
    use(monkeypatch, exchange)
    return exchange


def verify(config: Path, *arguments: object) -> int:
    """Run the command."""
    return main(["verify", *map(str, arguments), "--config", str(config)])


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the table that ends *text*, by symbol."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("---"))
    return {line.split()[0]: line.split()[1:] for line in lines[start + 1 :]}


def test_bars_that_are_the_exchanges_are_equal(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)

    assert verify(config, *SPAN) == 0

    found = rows(capsys.readouterr().out)
    assert found[BTC][:4] == found[ETH][:4] == ["10", "10", "0", "0"]
    assert found["total"][:5] == ["20", "20", "0", "0", "0"]
    assert exchange.is_closed
    assert exchange.budget.spent == 2 * 2


@pytest.mark.parametrize("fault", [corrupt, lose, double, remove, move])
def test_a_wrong_bar_is_found_and_repaired(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[Path, list[Trade]], None],
) -> None:
    write_journal(path, trades)
    fault(path, trades)
    wrong = [WRONG, WRONG + INTERVAL] if fault is move else [WRONG]

    assert verify(config, *SPAN, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    places = [(each["symbol"], each["interval_seconds"]) for each in found["differences"]]
    assert places == [(BTC, 10)] * len(wrong)
    assert verify(config, *SPAN, "--repair") == 0
    assert "(repaired)" in capsys.readouterr().out
    assert verify(config, *SPAN) == 0

    assert exchange.is_closed
    expected = bars_of(trades)
    stored = JournalReader(path).bars(BTC, FIRST, LAST, 10_000)
    assert len(stored) == 60
    for bar in stored:
        known = expected[BTC, bar.open_time_ms]
        is_rebuilt = bar.open_time_ms in wrong
        assert (bar.epoch, bar.trade_count, bar.quantity, bar.value) == (
            int(is_rebuilt),
            known.trade_count,
            known.quantity,
            known.value,
        )
        assert bar.is_closed
        assert bar.is_complete


def test_a_difference_is_told_with_both_sides(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    lose(path, trades)
    ours = len(within(trades)) - 1

    assert verify(config, BTC, *SPAN) == 1

    line, *_ = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"{BTC} 2024-08-08 23:58:20, 10 s: trade_count {ours}, exchange {ours + 1}; quantity "
    )
    assert verify(config, BTC, *SPAN, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    (difference,) = found["differences"]
    assert difference["open_time"] == "2024-08-08T23:58:20.000+00:00"
    assert difference["fields"]["trade_count"] == {"ours": ours, "theirs": ours + 1}
    assert isinstance(difference["fields"]["quantity"]["ours"], str)
    assert found["symbols"][0]["different_seconds"] == 60
    assert found["total"] == {
        "seconds": 600,
        "equal_seconds": 540,
        "different_seconds": 60,
        "not_checked_seconds": {},
        "differences": 1,
        "repaired": 0,
        "replaced": 0,
        "last_error": None,
    }
    assert exchange.is_closed


def test_what_the_exchange_does_not_agree_on_with_itself_stays_different(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    assert exchange.reference is not None
    exchange.reference.revise = lambda kline: (
        replace(kline, trade_count=kline.trade_count + 1)
        if kline.open_time_ms in (WRONG, WRONG - WRONG % MINUTE_MS)
        else kline
    )

    assert verify(config, BTC, *SPAN, "--repair") == 1

    assert "(the exchange's trades say what we say)" in capsys.readouterr().out
    (bar,) = JournalReader(path).bars(BTC, WRONG, WRONG + 1, 1)
    assert bar.epoch == 0


@pytest.fixture
def without_bar(monkeypatch: pytest.MonkeyPatch, trades: list[Trade]) -> Exchange:
    """Have the commands ask an exchange that has no trades of one bar."""
    gone = within(trades)
    exchange = Exchange(TradesReference([t for t in trades if t not in gone], LAST + DAY_MS))
    use(monkeypatch, exchange)
    return exchange


def test_where_the_exchange_has_no_trade_no_bar_can_be_taken_away_but_it_says_so(
    config: Path,
    path: Path,
    trades: list[Trade],
    without_bar: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)

    assert verify(config, BTC, *SPAN, "--repair") == 1

    assert "(the exchange has no trades there)" in capsys.readouterr().out
    (bar,) = JournalReader(path).bars(BTC, WRONG, WRONG + 1, 1)
    assert (bar.epoch, bar.is_closed, bar.is_complete) == (1, True, False)
    assert main(["coverage", BTC, "--config", str(config)]) == 0
    assert "surplus: bar where the exchange has no trades" in capsys.readouterr().out
    for _ in range(2):
        found = rows_of(verify(config, BTC, *SPAN, "--repair"), capsys)
        assert found[:5] == ["10", "9", "0", "1", "0"]
        assert found[5:] == ["1", "surplus"]

    assert without_bar.reference is not None
    without_bar.reference.replace_trades(trades)
    assert verify(config, BTC, *SPAN, "--repair") == 0
    (bar,) = JournalReader(path).bars(BTC, WRONG, WRONG + 1, 1)
    assert (bar.epoch, bar.is_complete) == (2, True)


def test_what_is_not_answered_is_not_checked_and_is_no_difference(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bintrades.pipeline.verification_sources._FIRST_WAIT_S", 0)
    write_journal(path, trades)
    lose(path, trades)
    assert exchange.reference is not None
    exchange.reference.errors.extend(["the line is cut"] * 4)

    assert verify(config, *SPAN) == 0  # ETHUSDT is equal

    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith(BTC)]
    assert line.split()[1:5] == ["10", "0", "0", "10"]
    assert line.endswith("10 no answer (the line is cut)")
    exchange.reference.errors.extend(["the line is cut"] * 100)
    assert verify(config, *SPAN) == 1  # an exchange that answers nothing is a failure


@pytest.mark.parametrize("fault", [corrupt, lose, double, remove, move])
@pytest.mark.parametrize("is_zip", [False, True])
def test_bars_are_compared_with_files_without_a_network(
    config: Path,
    path: Path,
    trades: list[Trade],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[Path, list[Trade]], None],
    is_zip: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        raise AssertionError("an exchange is opened")

    kind = dataclasses.replace(EXCHANGES["binance"], open=no_network)
    monkeypatch.setitem(EXCHANGES, "binance", kind)
    write_journal(path, trades)
    files = [
        write_dump(tmp_path, BTC, trades, interval_ms, day_ms)
        for interval_ms in (MINUTE_MS, SECOND_MS)
        for day_ms in (MIDNIGHT - DAY_MS, MIDNIGHT)
    ]
    if is_zip:
        files = [zipped(file) for file in files]
    options = [text for file in files for text in ("--klines", str(file))]

    assert verify(config, *options, *SPAN) == 0
    assert rows(capsys.readouterr().out)["total"][:3] == ["20", "20", "0"]
    fault(path, trades)
    assert verify(config, *options, *SPAN, "--json") == 1

    found = json.loads(capsys.readouterr().out)
    places = {(each["open_time"], each["interval_seconds"]) for each in found["differences"]}
    wrong = {("2024-08-08T23:58:00.000+00:00", 60), ("2024-08-08T23:58:20.000+00:00", 10)}
    assert places == wrong | ({("2024-08-08T23:58:30.000+00:00", 10)} if fault is move else set())


def test_without_times_all_of_a_file_is_compared(
    config: Path,
    path: Path,
    trades: list[Trade],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    file = write_dump(tmp_path, BTC, trades, MINUTE_MS, MIDNIGHT)

    assert verify(config, "--klines", file) == 0

    found = rows(capsys.readouterr().out)[BTC]
    assert found[0] == "1440"
    assert int(found[1]) + int(found[3]) == 1440
    assert verify(config, "--klines", file, "--since", "2024-08-10") == 0
    assert rows(capsys.readouterr().out)["total"][:4] == ["0", "0", "0", "0"]


def test_a_file_with_a_wrong_line_ends_it_with_file_and_line(
    config: Path,
    path: Path,
    trades: list[Trade],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    file = write_dump(tmp_path, BTC, trades, MINUTE_MS, MIDNIGHT)
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace(",", ";", 1)
    file.write_text("\n".join(lines), encoding="utf-8")

    assert verify(config, "--klines", file) == 1

    assert f"bintrades: {file}, line 3: " in capsys.readouterr().err


def test_what_makes_no_sense_is_a_bad_command_line(
    config: Path,
    path: Path,
    trades: list[Trade],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    write_journal(path, trades)
    file = write_dump(tmp_path, BTC, trades, MINUTE_MS, MIDNIGHT)

    assert verify(config, "--klines", file, "--repair") == 2
    assert "leave one" in capsys.readouterr().err
    assert verify(config, ETH, "--klines", file) == 2
    assert "ETHUSDT: none of the files is of it" in capsys.readouterr().err
    assert verify(config, "--store", "mongodb") == 2
    assert "mongodb: is not an enabled store; enabled: none" in capsys.readouterr().err
    assert verify(config, "--klines", tmp_path / "klines.csv") == 2
    assert "the name does not say what is in it" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        verify(config, "--since", "yesterday")
    assert ended.value.code == 2
    assert "is neither a time" in capsys.readouterr().err


def test_bars_are_not_compared_one_by_one_where_klines_are_longer(
    config: Path,
    path: Path,
    trades: list[Trade],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, Exchange(TradesReference(trades, LAST + DAY_MS, (MINUTE_MS,))))
    write_journal(path, trades)

    assert verify(config, *SPAN, "--by-bar") == 2

    assert "--by-bar: the shortest klines of the market spot are of 1m" in capsys.readouterr().err
    assert verify(config, *SPAN) == 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("market = us", "holds bars of spot, the configuration says us"),
        (
            "stream_url = wss://demo-stream.binance.com\nrest_url = https://demo-api.binance.com",
            "holds bars of live, the configuration says demo",
        ),
    ],
)
def test_bars_are_not_compared_with_another_exchange_than_their_own(
    config: Path, capsys: pytest.CaptureFixture[str], section: str, said: str
) -> None:
    with journal_at(config.with_name("bars.journal")) as journal:
        journal.keep_environment("live")
    config.write_text(f"{config.read_text('utf-8')}[binance]\n{section}\n", encoding="utf-8")

    assert verify(config, "--repair") == 2

    assert f"{said}; set [journal] path to another file" in capsys.readouterr().err


def test_a_market_without_klines_can_be_compared_with_files_only(
    config: Path,
    path: Path,
    trades: list[Trade],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, Exchange(None))
    write_journal(path, trades)

    assert verify(config, *SPAN) == 2

    assert "of the market spot no klines can be asked for" in capsys.readouterr().err


def test_a_symbol_that_is_proven_to_have_had_no_trade_is_compared_as_well(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    quiet = Checkpoint(
        LedgerState(None, None, ()), proven_ms=LAST + MINUTE_MS, covered_since_ms=FIRST
    )
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints={"QUIETUSDT": quiet}), END_MS)

    assert verify(config, *SPAN) == 0
    assert "QUIETUSDT" in rows(capsys.readouterr().out)


def test_a_symbol_that_was_never_seen_is_said(
    config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)

    assert verify(config, "SOLUSDT", *SPAN) == 1
    assert "SOLUSDT: no trade of it was ever seen" in capsys.readouterr().err
    assert exchange.is_closed


@pytest.fixture
def mongodb_config(tmp_path: Path, mongodb_uri: str, mongodb_database: Database[Any]) -> Path:
    """Return a configuration with a MongoDB and a store that cannot be read."""
    path = tmp_path / "mongodb.ini"
    path.write_text(
        "[journal]\npath = bars.journal\n[stores]\nenabled = mongodb, jsonl\n"
        f"[plugins]\npath = {Path('plugins').absolute()}\n"
        f"[store:mongodb]\nuri = {mongodb_uri}\ndatabase = {mongodb_database.name}\n",
        encoding="utf-8",
    )
    return path


def deliver(
    path: Path, uri: str, database: str, change: Callable[[Bar], Bar] = lambda bar: bar
) -> None:
    """Deliver all bars that wait for MongoDB, each as *change* makes it."""
    (store,) = load_stores(["mongodb"], Path("plugins"))
    store.open({"uri": uri, "database": database})
    cursor = Cursor(path, "mongodb")
    while True:
        bars, sequence = cursor.next_bars(1_000)
        if not bars:
            break
        store.write([change(bar) for bar in bars])
        cursor.move(sequence, [])
    store.close()


def test_a_wrong_bar_in_a_store_is_found_and_repaired_by_way_of_the_journal(
    mongodb_config: Path,
    path: Path,
    trades: list[Trade],
    exchange: Exchange,
    mongodb_uri: str,
    mongodb_database: Database[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wrong(bar: Bar) -> Bar:
        if (bar.symbol, bar.open_time_ms) != (BTC, WRONG):
            return bar
        return replace(bar, trade_count=bar.trade_count + 1, epoch=2)

    place = (path, mongodb_uri, mongodb_database.name)
    arguments = (BTC, *SPAN, "--store", "mongodb")
    write_journal(path, trades)

    assert verify(mongodb_config, *arguments) == 0  # nothing is delivered yet
    assert rows(capsys.readouterr().out)[BTC][:4] == ["10", "0", "0", "10"]
    deliver(*place, wrong)
    assert verify(mongodb_config, *arguments) == 1
    assert "23:58:20, 10 s: trade_count" in capsys.readouterr().out
    assert verify(mongodb_config, *arguments, "--repair") == 0
    assert "(rebuilt" in capsys.readouterr().out
    assert rows_of(verify(mongodb_config, *arguments), capsys)[:4] == ["10", "9", "0", "1"]
    deliver(*place)
    assert rows_of(verify(mongodb_config, *arguments), capsys)[:4] == ["10", "10", "0", "0"]
    assert mongodb_database["bars"].find_one({"epoch": 3}) is not None
    assert exchange.is_closed


@pytest.mark.parametrize("has_journal_it", [True, False])
def test_a_store_is_told_that_a_bar_of_its_own_is_where_the_exchange_has_no_trades(
    mongodb_config: Path,
    path: Path,
    trades: list[Trade],
    without_bar: Exchange,
    mongodb_uri: str,
    mongodb_database: Database[Any],
    capsys: pytest.CaptureFixture[str],
    has_journal_it: bool,
) -> None:
    place = (path, mongodb_uri, mongodb_database.name)
    arguments = (BTC, *SPAN, "--store", "mongodb", "--repair")
    write_journal(path, trades)
    deliver(*place)
    if not has_journal_it:
        remove(path, trades)
    deliver_coverage(*place)
    (span,) = mongodb_database["bars_coverage"].find({"symbol": BTC})
    assert span["since"] < utc(WRONG) < span["until"]

    assert verify(mongodb_config, *arguments) == 1
    assert "(the exchange has no trades there)" in capsys.readouterr().out
    deliver(*place)
    deliver_coverage(*place)

    document = mongodb_database["bars"].find_one({"symbol": BTC, "open_time": utc(WRONG)})
    assert document is not None
    told = (document["epoch"], document["is_closed"], document["is_complete"])
    assert told == (1, True, False)
    before, after = mongodb_database["bars_coverage"].find({"symbol": BTC}).sort("since")
    assert (before["until"], after["since"]) == (utc(WRONG), utc(WRONG + INTERVAL))
    assert rows_of(verify(mongodb_config, *arguments), capsys)[:5] == ["10", "9", "0", "1", "0"]
    assert without_bar.is_closed


def deliver_coverage(path: Path, uri: str, database: str) -> None:
    """Tell MongoDB what is covered, once it has all bars."""
    (store,) = load_stores(["mongodb"], Path("plugins"))
    store.open({"uri": uri, "database": database})
    CoverageDelivery(store, Cursor(path, "mongodb"), str, Runtime()).tell()
    store.close()


def rows_of(status: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the row of BTCUSDT of a command that ended with 0."""
    assert status == 0
    return rows(capsys.readouterr().out)[BTC]


def test_a_store_that_cannot_be_read_is_refused(
    mongodb_config: Path, path: Path, trades: list[Trade], capsys: pytest.CaptureFixture[str]
) -> None:
    write_journal(path, trades)

    assert verify(mongodb_config, "--store", "jsonl") == 2
    assert (
        "jsonl: cannot be read, since its plugin has no hook read_bars" in capsys.readouterr().err
    )


def test_relative_paths_of_a_store_and_of_files_start_where_they_always_do(
    tmp_path: Path,
    path: Path,
    trades: list[Trade],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_journal(path, trades)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_dump(elsewhere, BTC, trades, MINUTE_MS, MIDNIGHT)
    (tmp_path / "shelf").write_text("", encoding="utf-8")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(
        "from pathlib import Path\nfrom bintrades import hookimpl\n\n"
        "@hookimpl\ndef open_store(options):\n    Path('shelf').read_text()\n\n"
        "@hookimpl\ndef store_bars(bars):\n    pass\n\n"
        "@hookimpl\ndef read_bars(symbol, since, until):\n    return []\n",
        encoding="utf-8",
    )
    config = tmp_path / "mine.ini"
    config.write_text(
        "[journal]\npath = bars.journal\n[stores]\nenabled = mine\n", encoding="utf-8"
    )
    monkeypatch.chdir(elsewhere)

    assert verify(config, "--store", "mine", "--klines", f"{BTC}-1m-2024-08-09.csv") == 0

    assert rows(capsys.readouterr().out)[BTC][3] == "1440"  # it is still to get all


def test_a_store_that_does_not_answer_is_said_without_its_password(
    tmp_path: Path, path: Path, trades: list[Trade], capsys: pytest.CaptureFixture[str]
) -> None:
    write_journal(path, trades)
    config = tmp_path / "away.ini"
    config.write_text(
        "[journal]\npath = bars.journal\n[stores]\nenabled = mongodb\n[store:mongodb]\n"
        "uri = mongodb://me:s3cr3tw0rd@127.0.0.1:1/?serverSelectionTimeoutMS=100\n",
        encoding="utf-8",
    )

    assert verify(config, "--store", "mongodb") == 1

    said = capsys.readouterr().err
    assert "mongodb: cannot be opened: no server answers" in said
    assert "s3cr3tw0rd" not in said
