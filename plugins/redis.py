"""Stores bars in Redis or Valkey: a hash for each bar, and a stream of them as they come.

    [stores]
    enabled = mongodb, redis

    [store:redis]
    url = redis://127.0.0.1:6379/0

Of the symbol BTCUSDT on the market spot there are, in one slot of a cluster:

    bintrades:{spot:BTCUSDT}:1723075200000    the bar that opened at this millisecond, a hash
    bintrades:{spot:BTCUSDT}:times            the milliseconds of all bars, a sorted set
    bintrades:{spot:BTCUSDT}:stream           each version as it was stored, under ids of the server
    bintrades:{spot:BTCUSDT}:coverage         since when and until when the bars are all there is

Every value is text: numbers in full, never a float; times in milliseconds; yes and no as 1 and 0.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bintrades import (
    Bar,
    BintradesError,
    ConfigError,
    Option,
    OptionType,
    RejectedBars,
    hookimpl,
    option_types,
    require_library,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bintrades import CoveredSpan

    Redis = Any  # redis-py says of each answer that it may be bytes, or text, or a coroutine

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PART = 1_000  # bars of one round trip

_STORE_BAR = """
local bar, times, stream = KEYS[1], KEYS[2], KEYS[3]
local time, length, expire_ms = ARGV[6], ARGV[7], tonumber(ARGV[8])
local is_new = {}
for key, kind in pairs({[bar] = 'hash', [times] = 'zset', [stream] = 'stream'}) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    return 'the key ' .. key .. ' is there already, and is a ' .. found .. ', not a ' .. kind
  end
  is_new[key] = found == 'none'
end
local stored = redis.call('HMGET', bar, 'epoch', 'trade_count', 'is_closed', 'is_complete',
  'version')
if stored[2] then
  local is_lower = false
  for place = 1, 5 do  -- whole numbers as text: as numbers they would be doubles
    local there, given = stored[place] or '0', ARGV[place]
    if there ~= given then
      is_lower = #there < #given or (#there == #given and there < given)
      break
    end
  end
  if not is_lower then return false end
elseif redis.call('EXISTS', bar) == 1 then
  return 'the key ' .. bar .. ' is there already, and is no bar: it has no trade_count'
end
redis.call('HSET', bar, unpack(ARGV, 9))
redis.call('ZADD', times, time, time)
if length ~= '0' then
  redis.call('XADD', stream, 'MAXLEN', '~', length, '*', unpack(ARGV, 9))
end
if expire_ms == 0 then  -- they may be of a time in which bars expired
  for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
  return false
end
redis.call('PEXPIRE', bar, expire_ms)
for _, key in ipairs({times, stream}) do  -- which never go before a bar that they have
  local left_ms = redis.call('PTTL', key)
  if is_new[key] or (left_ms >= 0 and left_ms < expire_ms) then
    redis.call('PEXPIRE', key, expire_ms)
  end
end
local now = redis.call('TIME')
local old_ms = now[1] * 1000 - expire_ms
local range = {times, '-inf', string.format('%.0f', old_ms), 'LIMIT', 0, 10}
for _, time in ipairs(redis.call('ZRANGEBYSCORE', unpack(range))) do
  local other = string.gsub(times, 'times$', time)
  local left_ms = redis.call('PTTL', other)
  if left_ms == -1 then  -- it was stored when bars were kept for ever
    local more_ms = tonumber(redis.call('HGET', other, 'updated_at')) - old_ms
    if more_ms > 0 then
      redis.call('PEXPIRE', other, string.format('%.0f', more_ms))
    else
      redis.call('DEL', other)
      left_ms = -2
    end
  end
  if left_ms == -2 then redis.call('ZREM', times, time) end
end
return false
"""
"""Stores a bar unless one of the same or a higher rank is there; returns why it is refused."""

_STORE_SPANS = """
local key, first, expire_ms = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local function spans()
  local stored, place = redis.call('HGETALL', key), -1
  return function()
    place = place + 2
    if stored[place] then
      local span = cjson.decode(stored[place + 1])
      return stored[place], tonumber(stored[place]), span['until'], span['interval_seconds']
    end
  end
end
local function put(since, till, seconds)
  local span = string.format('{"until": %.0f, "interval_seconds": %.0f}', till, seconds)
  redis.call('HSET', key, string.format('%.0f', since), span)
end
for field, since, till, seconds in spans() do
  if since >= first then
    redis.call('HDEL', key, field)
  elseif till > first then
    put(since, first, seconds)
  end
end
for place = 3, #ARGV, 2 do  -- one by one: a call of Lua takes some thousand arguments at most
  redis.call('HSET', key, ARGV[place], ARGV[place + 1])
end
if expire_ms > 0 then
  local now = redis.call('TIME')
  local oldest = now[1] * 1000 - expire_ms + math.min(300000, expire_ms / 10)
  for field, since, till, seconds in spans() do
    local from = math.ceil(oldest / (seconds * 1000)) * seconds * 1000
    if since < from then
      redis.call('HDEL', key, field)
      if till > from then put(from, till, seconds) end
    end
  end
  redis.call('PEXPIRE', key, expire_ms)
else
  redis.call('PERSIST', key)
end
"""
"""Puts spans in the place of what is stored from the first one on.

Where bars expire, nothing is claimed of those that do before this is told again.
"""


def _url() -> OptionType:
    allowed = "redis://, rediss:// (TLS) or unix://, as redis-py has it"

    def parse(text: str) -> str:
        try:
            url = urlsplit(text)
            if url.scheme not in ("redis", "rediss", "unix") or url.port == 0:
                raise ValueError("begins otherwise, or has a port that cannot be")
        except ValueError:
            raise ValueError("is no address of a Redis server") from None
        return text

    return OptionType(parse, allowed)


def _prefix() -> OptionType:
    def parse(text: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", text):
            raise ValueError("cannot be what keys begin with")
        return text

    return OptionType(parse, "letters, digits, _ . : and -, 100 at most")


_TIMEOUT = option_types.duration("1s", "10m")
_EXPIRE = option_types.optional_duration("1m", "3650d")


class Store:
    """The keys of one prefix in one database of a server."""

    OPTIONS = (
        Option(
            "url",
            "redis://127.0.0.1:6379/0",
            "the server and its database; with user, password and what else redis-py takes",
            _url(),
            is_secret=True,  # a password may stand in it
        ),
        Option("prefix", "bintrades", "what all keys begin with", _prefix()),
        Option(
            "expire_after",
            "",
            "for how long a bar is kept after it was last written; nothing: for ever",
            _EXPIRE,
        ),
        Option(
            "stream_length",
            "1000",
            "how many bars the stream of a symbol has, or a few more; 0: there are no streams",
            option_types.whole_number(0, 10_000_000),
        ),
        Option(
            "replicas",
            "0",
            "how many replicas must have a batch on their disks as well",
            option_types.whole_number(0, 100),
        ),
        Option("timeout", "30s", "for how long the server may take to answer", _TIMEOUT),
    )

    def __init__(self) -> None:
        self._client: Redis | None = None
        self._options: dict[str, str] = {}
        self._scripts: dict[str, str] = {}
        self._run_id = ""  # of the server, which has another one each time that it is started
        self._has_file = False
        self._risks: list[str] = []

    @hookimpl
    def check_store(self, options: dict[str, str]) -> None:
        """Raise ConfigError without the library, or for a URL that it does not take."""
        require_library("redis", extra="redis")
        try:
            client = _client_of(options)
            client.connection_pool.make_connection()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"url: {error}") from None
        client.close()

    @hookimpl
    def open_store(self, options: dict[str, str]) -> None:
        """Connect, look at how the server keeps what it has, and give the place an id.

        Raises what the library raises where the server is away, or does not let us in.
        """
        self.check_store(options)
        self.close_store()
        client = _client_of(options)
        try:
            with _in_time():
                self._scripts = {
                    script: client.script_load(script) for script in (_STORE_BAR, _STORE_SPANS)
                }
                info = client.info()
                self._run_id, self._has_file = str(info["run_id"]), bool(info["aof_enabled"])
                self._warn(list(_risks(info)))
                place = f"{options['prefix']}:store"
                if client.type(place) not in ("none", "hash"):
                    raise BintradesError(
                        f"the key {place} is there already, and is no hash; it is left as it is;"
                        " say another prefix in [store:...], or take it away"
                    )
                client.hsetnx(place, "id", uuid.uuid4().hex)
        except BaseException:
            client.close()
            raise
        self._client, self._options = client, options

    @hookimpl
    def store_bars(self, bars: Sequence[Bar]) -> None:
        """Store each bar by a script, and return once the server has them all on its disk.

        Raises TimeoutError where that takes too long.
        """
        length = self._options["stream_length"]
        expire_ms = _EXPIRE.parse(self._options["expire_after"]) or 0
        calls, written, rejected = [], [], []
        for bar in bars:
            try:
                bar.symbol.encode()
                fields = _fields(bar)
            except (UnicodeEncodeError, OverflowError) as error:  # half of a character, or no time
                rejected.append((bar, str(error)))
                continue
            written.append(bar)
            series = self._series(bar.market, bar.symbol)
            time = fields["open_time"]
            keys = f"{series}:{time}", f"{series}:times", f"{series}:stream"
            rank = [str(int(part)) for part in bar.rank]
            pairs = [part for pair in fields.items() for part in pair]
            calls.append((3, *keys, *rank, time, length, expire_ms, *pairs))
        reasons = self._run(_STORE_BAR, calls)
        rejected += [(bar, why) for bar, why in zip(written, reasons, strict=True) if why]
        if rejected:
            raise RejectedBars(rejected)

    @hookimpl
    def store_coverage(self, spans: Sequence[CoveredSpan]) -> None:
        """Put the spans of each symbol in the place of the stored ones, by a script."""
        expire_ms = _EXPIRE.parse(self._options["expire_after"]) or 0
        calls = []
        for (market, symbol), group in groupby(spans, key=attrgetter("market", "symbol")):
            told = list(group)
            pairs = []
            for span in told:
                if not span.is_empty:
                    fields = {"until": _ms(span.until), "interval_seconds": span.interval_seconds}
                    pairs += [_ms(span.since), json.dumps(fields)]
            key = f"{self._series(market, symbol)}:coverage"
            calls.append((1, key, _ms(told[0].since), expire_ms, *pairs))
        self._run(_STORE_SPANS, calls)

    @hookimpl
    def identify_store(self) -> str | None:
        """Return the id that was given to the place, which goes when the database is emptied.

        Of a server that forgets what it has when it is started again, it is another one then.
        """
        with _in_time():
            found = self._opened().hget(f"{self._options['prefix']}:store", "id")
        return str(found) if self._has_file else f"{found}:{self._run_id}"

    @hookimpl
    def read_bars(
        self, symbol: str, since: datetime, until: datetime, market: str
    ) -> Iterator[Bar]:
        """Yield the bars with since <= open time < until, oldest first."""
        client, series = self._opened(), self._series(market, symbol)
        start, end = str(_ms(since)), f"({_ms(until)}"
        while times := client.zrangebyscore(f"{series}:times", start, end, 0, _PART):
            pipeline = client.pipeline(transaction=False)
            for time in times:
                pipeline.hgetall(f"{series}:{time}")
            yield from (_bar(fields) for fields in pipeline.execute() if fields)
            start = f"({times[-1]}"

    @hookimpl
    def close_store(self) -> None:
        """Close the connections; does nothing if there are none."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opened(self) -> Redis:
        if self._client is None:
            raise BintradesError("open_store comes first")
        return self._client

    def _series(self, market: str, symbol: str) -> str:
        """Return what the keys of a symbol begin with; a cluster has what is in {} in one slot."""
        return f"{self._options['prefix']}:{{{market}:{symbol}}}"

    def _run(self, script: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run the script for each of *calls*; return what it says once all is on the disk."""
        client = self._opened()
        answers: list[Any] = []
        with _in_time():
            for start in range(0, len(calls), _PART):
                pipeline = client.pipeline(transaction=False)
                for call in calls[start : start + _PART]:
                    pipeline.evalsha(self._scripts[script], *call)
                answers += pipeline.execute()
            self._wait(client)
        return answers

    def _wait(self, client: Redis) -> None:
        """Return once the server and its replicas have synced all that was written before.

        It waits for what this connection has written: so something is written, even where every
        bar was there already, perhaps by a connection that broke before it had waited.
        """
        place, replicas = f"{self._options['prefix']}:store", int(self._options["replicas"])
        pipeline = client.pipeline(transaction=False)
        pipeline.hget(place, "id")
        pipeline.hincrby(place, "batches", 1)
        if self._has_file or replicas:
            limit_ms = _TIMEOUT.parse(self._options["timeout"])
            pipeline.execute_command("WAITAOF", int(self._has_file), replicas, limit_ms)
        pipeline.info("server")
        found, _, *synced, server = pipeline.execute()
        if server["run_id"] != self._run_id:
            raise BintradesError("the server was started again, and may have lost what was written")
        if found is None:
            raise BintradesError(f"{place} is gone: the database was emptied")
        for here, there in synced:
            if here < self._has_file or there < replicas:
                raise TimeoutError(
                    f"the bars were not synced in time: by {here} of {int(self._has_file)} server"
                    f" and {there} of {replicas} replicas; with appendfsync no they never are"
                )

    def _warn(self, risks: list[str]) -> None:
        """Log *risks* unless they are known: a store is opened after each failure."""
        if risks and risks != self._risks:
            log.warning(
                "the server may lose bars that it has acknowledged: %s",
                "; ".join(risks),
                extra={"event": "redis_not_durable"},
            )
        self._risks = risks


def _risks(info: dict[str, Any]) -> Iterator[str]:
    if not info["aof_enabled"]:
        yield "it has no append-only file, so a restart forgets them (CONFIG SET appendonly yes)"
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield (
            f"where its memory is full, it takes some away by {policy}"
            " (CONFIG SET maxmemory-policy noeviction)"
        )


def _client_of(options: dict[str, str]) -> Redis:
    """Return a client that has not connected yet, and tries nothing twice: we do."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        options["url"],
        decode_responses=True,
        protocol=2,
        socket_connect_timeout=5,
        socket_timeout=_TIMEOUT.parse(options["timeout"]) / 1_000 + 5,  # the server gives up first
        retry=Retry(NoBackoff(), 0),
        client_name="bintrades",
    )


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise Python's TimeoutError in the place of the library's own."""
    import redis

    try:
        yield
    except redis.TimeoutError as error:
        raise TimeoutError(f"Redis did not answer in time: {error}") from error


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _fields(bar: Bar) -> dict[str, str]:
    return {name: _text(value) for name, value in bar.as_dict().items()}


def _text(value: Decimal | datetime | bool | int | str) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return str(_ms(value))
    return str(int(value)) if isinstance(value, bool) else str(value)


_DECIMALS = (
    *("quantity", "buy_quantity", "value", "buy_value", "contract_size"),
    *("open_price", "close_price", "min_price", "max_price"),
)
_FLAGS = ("is_closed", "is_complete", "is_approximate")
_TIMES = ("open_time", "first_trade_time", "last_trade_time", "updated_at")
_COUNTS = (
    *("trade_count", "buy_count", "first_trade_id", "last_trade_id", "excluded_count"),
    *("epoch", "version"),
)


def _bar(fields: dict[str, str]) -> Bar:
    """Return the bar of a hash; raises KeyError or ValueError for one that is no bar."""
    values: dict[str, Any] = {name: Decimal(fields[name]) for name in _DECIMALS if name in fields}
    values |= {name: int(fields[name]) for name in _COUNTS if name in fields}
    values |= {name: fields[name] == "1" for name in _FLAGS if name in fields}
    values |= {f"{name}_ms": int(fields[name]) for name in _TIMES}
    return Bar(
        symbol=fields["symbol"],
        market=fields["market"],
        interval_ms=1_000 * int(fields["interval_seconds"]),
        **values,
    )
