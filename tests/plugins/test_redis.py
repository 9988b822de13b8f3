"""The Redis store keeps its promises, on a real Valkey."""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from msgspec.structs import replace

from bintrades import BintradesError, ConfigError, CoveredSpan, RejectedBars
from bintrades.model.bar_fields import FieldKind, fields_of
from bintrades.model.numbers import DECIMAL128
from bintrades.stores.loader import load_stores
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars, sample_span
from bintrades.testing.store_contract import StoreContract
from tests.redis_server import DURABLE, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bintrades.model import Bar
    from bintrades.stores.store import Store

    Client = Any  # redis-py says of each answer that it may be bytes, or text, or a coroutine

PLUGINS = Path(__file__).parents[2] / "plugins"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one server for the whole run; do not stop it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Client]:
    """Return a client of the server."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def options(server: RedisServer, client: Client) -> Iterator[dict[str, str]]:
    """Return the options of a store with keys of its own, which go after the test."""
    options = {"url": server.url, "prefix": f"test-{uuid.uuid4().hex}", "timeout": "60s"}
    yield options
    if keys := list(client.scan_iter(f"{options['prefix']}:*", count=10_000)):
        client.unlink(*keys)


@pytest.fixture
def store(options: dict[str, str]) -> Iterator[Store]:
    """Return an open store."""
    (store,) = load_stores(["redis"], PLUGINS)
    store.open(options)
    yield store
    store.close()


def series(options: dict[str, str], symbol: str = "BTCUSDT", market: str = "spot") -> str:
    return f"{options.get('prefix', 'bintrades')}:{{{market}:{symbol}}}"


def stored(client: Client, options: dict[str, str]) -> list[dict[str, Any]]:
    """Return every bar that is in the index of its symbol."""
    return [
        typed(client.hgetall(index.removesuffix("times") + opened))
        for index in client.scan_iter(f"{options['prefix']}:*:times", count=10_000)
        for opened in client.zrange(index, 0, -1)
    ]


def typed(fields: dict[str, str]) -> dict[str, Any]:
    """Turn the text of a hash into numbers and times again."""
    of_kind: dict[FieldKind, Callable[[str], Any]] = {
        FieldKind.DECIMAL: Decimal,
        FieldKind.TIME: lambda text: EPOCH + timedelta(milliseconds=int(text)),
        FieldKind.FLAG: lambda text: bool(int(text)),
        FieldKind.INT: int,
        FieldKind.LONG: int,
        FieldKind.TEXT: str,
    }
    kinds = {field.name: of_kind[field.kind] for field in fields_of(fields["market"])}
    return {name: kinds[name](text) for name, text in fields.items()}


class TestTheContract(StoreContract):
    name = "redis"
    folder = PLUGINS

    @pytest.fixture
    def options(self, options: dict[str, str], client: Client) -> dict[str, str]:
        self.client, self.given = client, options
        return options

    def stored(self) -> list[dict[str, Any]]:
        return stored(self.client, self.given)

    def covered(self) -> list[dict[str, Any]]:
        spans = []
        for key in self.client.scan_iter(f"{self.given['prefix']}:*:coverage", count=10_000):
            market, _, symbol = key.partition("{")[2].partition("}")[0].partition(":")
            for since, text in self.client.hgetall(key).items():
                span = json.loads(text)
                spans.append(
                    {
                        "symbol": symbol,
                        "market": market,
                        "since": EPOCH + timedelta(milliseconds=int(since)),
                        "until": EPOCH + timedelta(milliseconds=span["until"]),
                        "interval_seconds": span["interval_seconds"],
                    }
                )
        return spans

    def forget_epochs(self) -> None:
        for key in self.client.scan_iter(f"{self.given['prefix']}:{{*}}:[0-9]*", count=10_000):
            assert self.client.hdel(key, "epoch")


def test_a_bar_is_a_hash_of_plain_text(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.write([sample_bar(symbol="币安人生USDT", min_price=Decimal("1E-8"))])

    fields = client.hgetall(f"{series(options, '币安人生USDT')}:{OPEN_TIME_MS}")
    assert fields["symbol"] == "币安人生USDT"
    assert fields["min_price"] == "0.00000001"
    assert fields["open_time"] == str(OPEN_TIME_MS)
    assert fields["is_closed"] == "1"


def test_bars_of_contracts_are_stored_and_read_exactly(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    bar = sample_bar(
        market="coinm",
        quantity=Decimal(3),
        buy_quantity=Decimal(1),
        value=DECIMAL128.divide(Decimal(1), Decimal(3_000)),
        buy_value=DECIMAL128.divide(Decimal(1), Decimal(3)).scaleb(-60, DECIMAL128),
        contract_size=Decimal(100),
        excluded_count=2,
        is_approximate=True,
    )

    store.write([bar])

    assert stored(client, options) == [bar.as_dict()]
    span = bar.open_time_ms, bar.end_time_ms
    (found,) = store.read(bar.symbol, *span, "coinm")
    assert found.as_dict() == bar.as_dict()


@pytest.mark.parametrize("name", ["trade_count", "version"])
def test_ranks_that_differ_beyond_what_a_double_holds_are_told_apart(
    store: Store, client: Client, options: dict[str, str], name: str
) -> None:
    lower, higher = (sample_bar(**{name: number}) for number in (2**62, 2**62 + 1))

    for bar in (lower, higher, lower):
        store.write([bar])

    assert stored(client, options) == [higher.as_dict()]


def test_the_stream_has_each_version_that_was_stored_and_no_other(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    first, second = sample_bars(2)
    better = replace(first, trade_count=4, version=2)

    for bars in ([first, second], [better], [first, better]):
        store.write(bars)

    entries = client.xrange(f"{series(options)}:stream")
    assert [typed(fields) for _, fields in entries] == [
        bar.as_dict() for bar in (first, second, better)
    ]


def test_a_stream_is_as_long_as_it_may_be(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.open(options | {"stream_length": "100"})
    store.write(sample_bars(1_000))
    assert 100 <= client.xlen(f"{series(options)}:stream") <= 300

    store.open(options | {"stream_length": "0"})
    store.write(sample_bars(10, symbol="ETHUSDT"))
    assert not client.exists(f"{series(options, 'ETHUSDT')}:stream")


def test_bars_expire_and_leave_the_index_with_them(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.open(options | {"expire_after": "1h"})
    bars = sample_bars(3)
    store.write(bars)
    key = series(options)
    for bar in bars[:2]:
        assert 0 < client.pttl(f"{key}:{bar.open_time_ms}") <= 3_600_000
        client.pexpire(f"{key}:{bar.open_time_ms}", 0)

    assert list(store.read("BTCUSDT", OPEN_TIME_MS, bars[2].end_time_ms, "spot")) == [bars[2]]
    store.write([replace(bars[2], version=2)])

    assert client.zrange(f"{key}:times", 0, -1) == [str(bars[2].open_time_ms)]
    assert 0 < client.pttl(f"{key}:times") <= 3_600_000
    assert 0 < client.pttl(f"{key}:stream") <= 3_600_000


def test_coverage_claims_nothing_of_bars_that_have_expired(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.open(options | {"expire_after": "10h"})
    now_ms = int(time.time()) // 60 * 60_000
    hours = [now_ms - hour * 3_600_000 for hour in (30, 20, 15, 5, 3, 0)]
    gone, cut, kept = (
        CoveredSpan("BTCUSDT", "spot", since, until, 10_000)
        for since, until in zip(hours[::2], hours[1::2], strict=True)
    )

    store.cover([gone, cut, kept])
    store.cover([gone, cut, kept])

    spans = client.hgetall(f"{series(options)}:coverage")
    (first,) = spans.keys() - {str(kept.since_ms)}
    assert spans.keys() == {first, str(kept.since_ms)}
    assert json.loads(spans[first])["until"] == cut.until_ms
    assert int(first) % 10_000 == 0
    assert now_ms - 10 * 3_600_000 < int(first) < now_ms - 9 * 3_600_000
    assert 0 < client.pttl(f"{series(options)}:coverage") <= 36_000_000


def test_once_bars_are_kept_for_ever_nothing_that_leads_to_them_expires(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    first, second = sample_bars(2)
    store.open(options | {"expire_after": "1h"})
    store.write([first])

    store.open(options | {"expire_after": ""})
    store.write([second, replace(first, version=2)])

    assert {client.pttl(key) for key in client.keys(f"{options['prefix']}:*")} == {-1}


def test_the_index_is_kept_for_as_long_as_any_of_its_bars(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    first, second, third = sample_bars(3)
    for bar, expire_after in ((first, "9d"), (second, "1h"), (third, "10d")):
        store.open(options | {"expire_after": expire_after})
        store.write([bar])
        kept_ms = client.pttl(f"{series(options)}:times")
        assert kept_ms > 8 * 86_400_000

    assert kept_ms > 9 * 86_400_000


def test_bars_that_were_kept_for_ever_expire_once_an_expiry_is_given(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    now_ms = 1_000 * client.time()[0]
    old = sample_bars(25)
    amended = replace(old.pop(), version=2, updated_at_ms=now_ms - 1_800_000)
    store.write([*old, amended])

    store.open(options | {"expire_after": "1h"})
    start_ms = now_ms // 10_000 * 10_000
    new = [sample_bar(open_time_ms=start_ms + 10_000 * place) for place in range(3)]
    for bar in new:
        store.write([bar])

    key = series(options)
    kept = [str(bar.open_time_ms) for bar in (amended, *new)]
    assert client.zrange(f"{key}:times", 0, -1) == kept
    assert {*client.keys(f"{key}:[0-9]*")} == {f"{key}:{time}" for time in kept}
    assert 1_200_000 < client.pttl(f"{key}:{amended.open_time_ms}") <= 1_800_000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "A\ud800"}, "surrogates not allowed"),
        ({"open_time_ms": 10**15}, "1000000000000000 ms: date value out of range"),
    ],
)
def test_what_is_no_text_or_no_time_is_refused_and_the_others_are_stored(
    store: Store,
    client: Client,
    options: dict[str, str],
    changes: dict[str, Any],
    reason: str,
) -> None:
    good = sample_bar()
    bad = replace(good, **changes)

    with pytest.raises(RejectedBars, match=reason) as refused:
        store.write([bad, good])

    assert [bar for bar, _ in refused.value.rejected] == [bad]
    assert stored(client, options) == [good.as_dict()]


def test_thousands_of_spans_of_a_symbol_are_stored_at_once(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.cover([sample_span(2 * place, 2 * place + 1) for place in range(5_000)])

    assert client.hlen(f"{series(options)}:coverage") == 5_000


def test_without_an_expiry_all_is_kept(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    store.write(sample_bars(1))

    assert {client.pttl(key) for key in client.keys(f"{options['prefix']}:*")} == {-1}


@pytest.mark.parametrize("value", ["0s", "59s", "3651d", "never"])
def test_a_time_to_keep_bars_that_cannot_be_meant_is_refused(
    options: dict[str, str], value: str
) -> None:
    (store,) = load_stores(["redis"], PLUGINS)

    with pytest.raises(ConfigError, match=f"expire_after = {value}: .*; allowed: 1m to 3650d, or"):
        store.check(options | {"expire_after": value})
    store.check(options | {"expire_after": ""})


def test_more_bars_than_a_round_trip_has_are_read_in_the_order_of_time(store: Store) -> None:
    bars = sample_bars(2_500)
    store.write(bars)

    assert list(store.read("BTCUSDT", OPEN_TIME_MS, bars[-1].end_time_ms, "spot")) == bars


@pytest.mark.parametrize(
    ("ending", "command", "reason"),
    [
        (f":{OPEN_TIME_MS + 10_000}", ("SET", "mine"), "is a string, not a hash"),
        (f":{OPEN_TIME_MS + 10_000}", ("HSET", "a", "b"), "is no bar: it has no trade_count"),
    ],
)
def test_a_key_with_something_else_in_it_is_left_as_it_is_and_the_others_are_stored(
    store: Store,
    client: Client,
    options: dict[str, str],
    ending: str,
    command: tuple[str, ...],
    reason: str,
) -> None:
    key = series(options) + ending
    client.execute_command(command[0], key, *command[1:])
    before = client.dump(key)
    first, second, third = sample_bars(3)

    with pytest.raises(RejectedBars, match=reason) as refused:
        store.write([first, second, third])

    assert [bar for bar, _ in refused.value.rejected] == [second]
    assert client.dump(key) == before
    assert client.zrange(f"{series(options)}:times", 0, -1) == [
        str(bar.open_time_ms) for bar in (first, third)
    ]


def test_an_index_that_is_none_leaves_the_bar_unwritten(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    client.set(f"{series(options)}:times", "mine")

    with pytest.raises(RejectedBars, match="is a string, not a zset"):
        store.write(sample_bars(1))

    assert not client.exists(f"{series(options)}:{OPEN_TIME_MS}")


def test_a_place_that_is_used_otherwise_is_refused(client: Client, options: dict[str, str]) -> None:
    client.set(f"{options['prefix']}:store", "mine")
    (store,) = load_stores(["redis"], PLUGINS)

    with pytest.raises(BintradesError, match="is no hash; it is left as it is; say another prefix"):
        store.open(options)


def test_two_collectors_that_write_at_once_end_with_the_best_of_each_bar(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    bars = sample_bars(200)
    better = [replace(bar, trade_count=4 + (n % 2), version=2) for n, bar in enumerate(bars)]
    (other,) = load_stores(["redis"], PLUGINS)
    other.open(options)

    def write(target: Store, batch: list[Bar]) -> None:
        for start in range(0, len(batch), 10):
            target.write(batch[start : start + 10])

    threads = [
        threading.Thread(target=write, args=version) for version in ((store, bars), (other, better))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert stored(client, options) == [bar.as_dict() for bar in better]


def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    batches = [sample_bars(50, symbol=f"S{number}USDT") for number in range(60)]
    (store,) = load_stores(["redis"], PLUGINS)
    with RedisServer(tmp_path) as server:
        options = {"url": server.url, "prefix": "bars"}
        store.open(options)
        before = store.identity()
        killer = threading.Thread(target=server.kill)
        written = 0
        while written < len(batches):
            if written == 20 and not killer.ident:
                killer.start()
            try:
                store.write(batches[written])
                written += 1
            except redis.ConnectionError:
                killer.join()
                server.start()
                store.open(options)
        killer.join()
        server.kill()
        server.start()
        store.open(options)

        assert store.identity() == before
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            found = sorted(
                stored(client, options), key=lambda bar: (bar["symbol"], bar["open_time"])
            )
            streams = [client.xlen(f"{series(options, bars[0].symbol)}:stream") for bars in batches]
        store.close()
    expected = sorted((bar for batch in batches for bar in batch), key=lambda bar: bar.symbol)
    assert found == [bar.as_dict() for bar in expected]
    assert streams == [50] * 60


def test_a_server_that_takes_requests_and_answers_none_is_a_timeout(tmp_path: Path) -> None:
    (store,) = load_stores(["redis"], PLUGINS)
    with RedisServer(tmp_path) as server:
        store.open({"url": server.url, "timeout": "1s"})
        server.pause()
        with pytest.raises(TimeoutError, match="did not answer in time"):
            store.write(sample_bars(2))
        server.resume()
        store.open({"url": server.url})

        store.write(sample_bars(2))
        assert len(list(store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000, "spot"))) == 2
        store.close()


def test_a_batch_in_which_the_server_was_started_again_comes_again(tmp_path: Path) -> None:
    """A part of it may be lost: what was written before the restart was not synced yet."""
    store, other = load_stores(["redis", "other"], PLUGINS, {"other": "redis"})
    with RedisServer(tmp_path) as server:
        store.open({"url": server.url})
        store.write(sample_bars(1))
        server.kill()
        server.start()
        other.open({"url": server.url})  # which loads the scripts, so that nothing else fails

        with pytest.raises(BintradesError, match="the server was started again"):
            store.write(sample_bars(1))
        store.open({"url": server.url})
        store.write(sample_bars(1))
        store.close()
        other.close()


def test_replicas_that_are_not_there_are_a_timeout(store: Store, options: dict[str, str]) -> None:
    store.open(options | {"replicas": "1", "timeout": "1s"})

    with pytest.raises(TimeoutError, match="0 of 1 replicas"):
        store.write(sample_bars(1))


def test_bars_that_are_there_already_are_synced_before_they_are_acknowledged(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    """Whoever has written them may have gone before they were."""
    store.write(sample_bars(1))
    before = client.hget(f"{options['prefix']}:store", "batches")
    store.open(options)
    store.write(sample_bars(1))

    assert (before, client.hget(f"{options['prefix']}:store", "batches")) == ("1", "2")


def test_a_server_that_forgets_is_warned_of_once_and_told_everything_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store,) = load_stores(["redis"], PLUGINS)
    with RedisServer(tmp_path, ["--save", ""]) as server:
        options = {"url": server.url}
        store.open(options)
        before = store.identity()
        store.write(sample_bars(2))
        store.open(options)
        assert store.identity() == before

        server.kill()
        server.start()
        with pytest.raises(redis.RedisError):
            store.write(sample_bars(2))
        store.open(options)

        assert store.identity() not in (before, None)
        store.close()
    warnings = [record for record in caplog.records if "no append-only file" in record.getMessage()]
    assert len(warnings) == 1


def test_a_server_that_takes_bars_away_where_memory_is_full_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store,) = load_stores(["redis"], PLUGINS)
    arguments = (*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with RedisServer(tmp_path, arguments) as server:
        store.open({"url": server.url})
        store.close()

    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning == (
        "the server may lose bars that it has acknowledged: where its memory is full, it takes some"
        " away by allkeys-lru (CONFIG SET maxmemory-policy noeviction)"
    )


def test_a_full_server_refuses_bars_that_come_again_later(tmp_path: Path) -> None:
    (store,) = load_stores(["redis"], PLUGINS)
    with RedisServer(tmp_path) as server:
        store.open({"url": server.url})
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", "1kb")
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                store.write(sample_bars(2))
            client.config_set("maxmemory", "0")
        store.write(sample_bars(2))

        assert len(list(store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000, "spot"))) == 2
        store.close()


def test_a_database_that_was_emptied_is_another_store(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    before = store.identity()
    for key in client.keys(f"{options['prefix']}:*"):
        client.delete(key)

    with pytest.raises(BintradesError, match="the database was emptied"):
        store.write(sample_bars(1))
    store.open(options)

    assert before
    assert store.identity() not in (before, None)


def test_scripts_that_the_server_has_lost_are_loaded_at_the_next_opening(
    store: Store, client: Client, options: dict[str, str]
) -> None:
    client.script_flush()

    with pytest.raises(redis.exceptions.NoScriptError):
        store.write(sample_bars(1))
    store.open(options)
    store.write(sample_bars(1))

    assert len(stored(client, options)) == 1


def test_a_user_needs_no_more_rights_than_the_documentation_says(
    client: Client, options: dict[str, str]
) -> None:
    page = (PLUGINS.parent / "docs" / "stores.md").read_text("utf-8").partition("\n## redis\n")[2]
    (rule,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
    name = f"user-{uuid.uuid4().hex}"
    words = rule.replace("bintrades:*", f"{options['prefix']}:*").split()[3:]
    client.execute_command("ACL", "SETUSER", name, *words)
    (store,) = load_stores(["redis"], PLUGINS)
    address = options["url"].partition("//")[2]

    first, second = sample_bars(2)
    for bars, expire_after in (([first, second], ""), ([replace(second, version=2)], "1h")):
        store.open(
            options | {"url": f"redis://{name}:secret@{address}", "expire_after": expire_after}
        )
        store.write(bars)
    store.cover([sample_span(0, 2)])
    store.identity()
    assert [*store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000, "spot")] == [
        replace(second, version=2)
    ]
    store.close()
    client.execute_command("ACL", "DELUSER", name)


def test_a_wrong_password_is_said_and_the_url_is_not_shown(options: dict[str, str]) -> None:
    (store,) = load_stores(["redis"], PLUGINS)
    address = options["url"].partition("//")[2]
    wrong = options | {"url": f"redis://default2:not-the-one@{address}"}

    with pytest.raises(redis.AuthenticationError, match="invalid username") as refused:
        store.open(wrong)

    assert "not-the-one" not in str(refused.value)
    assert "not-the-one" not in store.shown(wrong)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:6379", r"url: is no address of a Redis server; allowed: redis://"),
        ("redis://127.0.0.1:0", "url: is no address of a Redis server"),
        ("redis://127.0.0.1:6379?no_such_thing=1", "url: .*no_such_thing"),
        ("redis://127.0.0.1:6379?socket_timeout=long", "url: .*socket_timeout"),
    ],
)
def test_a_url_that_cannot_be_is_said_at_the_start(url: str, reason: str) -> None:
    (store,) = load_stores(["redis"], PLUGINS)

    with pytest.raises(ConfigError, match=reason):
        store.check({"url": url})


def test_the_program_of_the_documentation_follows_bars_as_they_come(
    store: Store, options: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (PLUGINS.parent / "docs" / "stores.md").read_text("utf-8").partition("\n## redis\n")[2]
    program = page.partition("```python\n")[2].partition("```")[0]
    program = program.replace("redis://127.0.0.1:6379/0", options["url"])
    program = program.replace("bintrades:", f"{options['prefix']}:").replace('"$"', '"0"')
    store.write(sample_bars(2))

    exec(program.replace("block=60_000", "block=1"), {})  # noqa: S102 - it ends when none comes

    assert capsys.readouterr().out == "BTCUSDT 1723075200000 55200\nBTCUSDT 1723075210000 55200\n"
