"""The exchange's clock, as its trades show it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bintrades.model import Trade

MAX_CLOCK_JUMP_MS = 60_000
"""By which the clock goes forward at once only if two trades say so."""

_SAID_WITHIN_MS = 1_000  # an answer is later than trades show, since these are on their way
_WRONG_AFTER_MS = 60_000  # that no trade has agreed with the clock: it is ahead, and set back
_DRIFT_DIVISOR = 1_000  # more than a clock may be wrong, which is some 500 millionths


class Witness(NamedTuple):
    """A trade that says what time it is."""

    symbol: str
    trade_id: int
    time: int

    @classmethod
    def of(cls, trade: Trade) -> Witness:
        """Return what *trade* says by its `E`."""
        return cls(trade.symbol, trade.trade_id, trade.event_time)

    def is_joined_by(self, other: Witness) -> bool:
        """Whether *other* is another trade that says about the same."""
        return self[:2] != other[:2] and abs(self.time - other.time) <= MAX_CLOCK_JUMP_MS


class ExchangeClock:
    """The newest `E` of any symbol, carried forward while a connection is there.

    It is carried a little slowly, so that a local clock that runs fast never gets ahead of the
    exchange's; what the exchange says next sets it right. Times called *now* are milliseconds on
    any clock that never goes back.
    """

    __slots__ = (
        "_agreed_at",
        "_at",
        "_connections",
        "_lag",
        "_leap",
        "_only_witness",
        "_runs_since",
        "_sent_at",
        "_sent_time",
        "_time",
    )

    def __init__(self) -> None:
        self._time = 0  # newest `E`; 0: none yet
        self._at = 0  # when it came
        self._connections = 0
        self._leap: Witness | None = None  # the last trade from far ahead of the clock
        self._lag: Witness | None = None  # the last one from far behind, while none agrees
        self._only_witness: Witness | None = None  # whose time is the clock's, so far
        self._agreed_at = 0  # when a trade last agreed with the clock
        self._runs_since = 0  # since when there is a connection
        self._sent_time = 0  # newest `E` of a trade that agreed; 0: none yet
        self._sent_at = 0  # when it came

    @property
    def is_running(self) -> bool:
        """Whether there is a connection."""
        return self._connections > 0

    def connected(self, now: int) -> None:
        """Count a connection; the clock runs from the first one on."""
        if not self._connections:
            self._at = self._runs_since = now
        self._connections += 1

    def disconnected(self, now: int) -> None:
        """Count one less; without any the clock stands still."""
        if self._connections == 1:
            self._time = self.at(now)
        self._connections -= 1

    def at(self, now: int) -> int:
        """Return the exchange's time at *now*; 0 before the first trade."""
        if not self._connections or not self._time:
            return self._time
        passed = now - self._at
        return self._time + passed - passed // _DRIFT_DIVISOR

    @property
    def is_confirmed(self) -> bool:
        """Whether more than one trade, or answer, shows the time."""
        return self._time > 0 and self._only_witness is None

    def confirmed_at(self, now: int) -> int:
        """Return the time for what cannot be undone: 0 as long as only one trade shows it.

        The newest trade that REST knows of a halted symbol may be days old, and a first message
        may be of any time: until the stream agrees, bars must not grow old by either.
        """
        return 0 if self._only_witness is not None else self.at(now)

    def delay_until(self, time: int, now: int) -> int:
        """Return in how many milliseconds the clock will be at *time*, if no trade comes."""
        left = time - self.at(now)
        return left + left // _DRIFT_DIVISOR + 1 if left > 0 else 0

    def judge(self, first: Trade, last: Trade, now: int) -> tuple[int, bool]:
        """Return the time before a batch of trades, and whether the batch has set the clock back.

        The first trade of all sets the clock. A single trade may be wrong: until another one
        agrees, whatever contradicts it is believed.
        """
        time = self.at(now)
        if not time:
            time = min(first.event_time, first.time + MAX_CLOCK_JUMP_MS)
            self._set(Witness(first.symbol, first.trade_id, time), now)
        if last.event_time < time - MAX_CLOCK_JUMP_MS:
            witness = Witness.of(last)
            if self._is_proven_wrong_by(witness, now):
                self._set(witness, now)
                self._sent_time, self._sent_at = witness.time, now
                return witness.time, True
        elif last.event_time <= time + MAX_CLOCK_JUMP_MS:
            self._agreed_at = now
            if last.event_time > self._sent_time:
                self._sent_time, self._sent_at = last.event_time, now
            only = self._only_witness
            if only is not None and only[:2] != (last.symbol, last.trade_id):
                self._only_witness = None
        return time, False

    def leap(self, witness: Witness, time: int) -> int:
        """Return the time after a trade from far ahead of *time*: only another one confirms that.

        It may have been a long while without a connection, or a bad message: from the time that
        this would bring, the clock would not come back for a while. Where two disagree it is at
        least what both say.
        """
        leap, self._leap = self._leap, witness
        if leap is None or leap[:2] == witness[:2] or leap.time <= time:
            return time
        return witness.time if leap.is_joined_by(witness) else min(leap.time, witness.time)

    def advance(self, time: int, now: int) -> None:
        """Have the clock be at least at *time*, which the trades of a batch have shown."""
        if time > self.at(now):
            self._time, self._at = time, now

    def contradicts(self, said_at: int, now: int) -> bool:
        """Whether an answer says another time than trades that came in the last minute."""
        return self._is_shown(now) and abs(said_at - self.at(now)) > MAX_CLOCK_JUMP_MS

    def shown(self, said_at: int, now: int) -> int:
        """Return when an answer was given that says *said_at*: no later than trades show.

        Not the clock counts, which another answer may have set.
        """
        if self._is_sent(now):
            return min(said_at, self._sent_time + now - self._sent_at + _SAID_WITHIN_MS)
        return said_at

    def observe(self, said_at: int, now: int) -> None:
        """Have the clock be at least where the exchange's own is, as an answer of it says.

        That alone makes it not leap, but another answer, or a trade that agrees, does.
        """
        time = self.at(now)
        witness = Witness("", said_at, said_at)
        if not time:
            self._set(witness, now)
            return
        if abs(said_at - time) <= MAX_CLOCK_JUMP_MS:
            only = self._only_witness
            if only is not None and only[:2] != witness[:2]:
                self._only_witness = None
        if said_at > time and not self._is_sent(now):  # else trades set it, or have
            is_leap = said_at > time + MAX_CLOCK_JUMP_MS
            self._time = self.leap(witness, time) if is_leap else said_at
            self._at = now

    def _is_shown(self, now: int) -> bool:
        """Whether trades of the last minute show the time."""
        return self._connections > 0 and self.is_confirmed and self._is_agreed_of_late(now)

    def _is_sent(self, now: int) -> bool:
        """Whether they came over today's connection: before that the clock may have stood still."""
        return self._sent_time > 0 and self._sent_at >= self._runs_since and self._is_shown(now)

    def _is_agreed_of_late(self, now: int) -> bool:
        """Whether a trade has agreed with the clock within the last minute."""
        return now - self._agreed_at < _WRONG_AFTER_MS

    def _set(self, witness: Witness, now: int) -> None:
        self._time, self._at = witness.time, now
        self._only_witness = witness
        self._agreed_at = now

    def _is_proven_wrong_by(self, witness: Witness, now: int) -> bool:
        """Whether a trade from far behind the clock is right, and not late.

        It is if only one trade has ever said otherwise, or if none has agreed with the clock for a
        while and two say about the same.
        """
        if self._only_witness is not None:
            return True
        lag, self._lag = self._lag, witness
        return not self._is_agreed_of_late(now) and lag is not None and lag.is_joined_by(witness)
