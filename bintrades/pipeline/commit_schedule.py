"""When changes are committed to the journal, and which of them. Pure: time is an input.

A commit costs a write to the disk, however little is in it. Bars that close at about the same
moment share one; everything else is saved once in a while.
"""

from __future__ import annotations

import enum

FEW_SYMBOLS = 10
"""Of so many all may be saved at every checkpoint: their rows are in a page or two of the file."""

MANY_BARS = 500
"""A commit of their own: the stores take the first bars while the next ones are committed."""

_GATHER_MS = 50  # between two commits of bars that close at about the same moment
_GATHER_FIRST_MS = 20  # for which the first ones wait for others that are about to close
_GATHER_BEHIND_MS = 100  # while events wait: fewer commits are how to catch up
_COMMITS_OF_A_BURST = 8  # at most, however many bars wait: as many may come in with each
_RETRY_MS = 1_000
_STATUS_EVERY_MS = 5_000  # while nothing else is to be written: a sign of life, for `status`
_STATUS_REST_MS = 1_000  # else it would cost more than the bars beside which it is written


class Commit(enum.Enum):
    """What is to be committed."""

    ALL_CHANGES = enum.auto()
    DUE_CHANGES = enum.auto()  # only what has changed enough
    BARS = enum.auto()  # those of up to bars_per_commit() symbols
    STATUS = enum.auto()


class CommitSchedule:
    """Tells when to commit what. Belongs to one thread; *now* is milliseconds, monotonic.

    Changes are saved every *checkpoint_every_ms*: all of them or, where *is_sparing*, only those
    that are due. *waiting_bars* is how many closed bars wait, *next_close_ms* in how many
    milliseconds the next ones may close.
    """

    def __init__(self, now: int, *, checkpoint_every_ms: int, is_sparing: bool) -> None:
        self.is_sparing = is_sparing
        self._checkpoint_every_ms = checkpoint_every_ms
        self._committed_at = now
        self._checkpoint_at = now
        self._status_at = now - _STATUS_REST_MS
        self._retry_at = now
        self._gathering_since: int | None = None  # when the first of the bars that wait was seen

    def next_commit(
        self,
        now: int,
        waiting_bars: int,
        next_close_ms: int,
        *,
        has_just_begun: bool,
        is_caught_up: bool,
    ) -> Commit | None:
        """Return what is to be committed now, if anything is.

        *has_just_begun*: the first trade of all has come, by which is known what is wanted.
        *is_caught_up*: no event waits.
        """
        gather_ms = _GATHER_MS if is_caught_up else _GATHER_BEHIND_MS
        has_gathered = self._has_gathered(now, waiting_bars, next_close_ms, gather_ms)
        if now < self._retry_at:
            return None
        if has_just_begun:
            return Commit.ALL_CHANGES
        if self._is_checkpoint_due(now, has_gathered=has_gathered):
            self._checkpoint_at = now
            return Commit.DUE_CHANGES if self.is_sparing else Commit.ALL_CHANGES
        if has_gathered:
            self._gathering_since = None  # those that this commit leaves wait for more again
            return Commit.BARS
        return Commit.STATUS if self.is_status_due(now) else None

    def idle_ms(self, now: int, waiting_bars: int, next_close_ms: int) -> int:
        """Return for how long no bar is to be closed or committed, should no event come."""
        if not waiting_bars:
            return max(0, next_close_ms)
        commit_at = now
        if waiting_bars < MANY_BARS:
            since = now if self._gathering_since is None else self._gathering_since
            wait_ms = 0 if next_close_ms > _GATHER_MS else _GATHER_FIRST_MS
            commit_at = max(self._committed_at + _GATHER_MS, since + wait_ms)
        return max(0, min(next_close_ms, max(commit_at, self._retry_at) - now))

    def is_status_due(self, now: int) -> bool:
        """Whether the status is so old that it is written by itself."""
        return now - self._status_at >= _STATUS_EVERY_MS

    def may_write_status(self, now: int) -> bool:
        """Whether the status is old enough to be written beside something else."""
        return now - self._status_at >= _STATUS_REST_MS

    def committed(self, now: int, *, with_status: bool) -> None:
        """Record that the journal has taken something."""
        self._committed_at = now
        if with_status:
            self._status_at = now

    def failed(self, now: int) -> None:
        """Record that the journal takes nothing: it is tried again a moment later."""
        self._retry_at = now + _RETRY_MS

    def _is_checkpoint_due(self, now: int, *, has_gathered: bool) -> bool:
        """Whether it is time to save changes.

        A checkpoint takes all bars that wait with it, thousands in one commit. So their turn is
        first, unless there are always some.
        """
        rounds = 2 if has_gathered and self.is_sparing else 1
        return now - self._checkpoint_at >= rounds * self._checkpoint_every_ms

    def _has_gathered(
        self, now: int, waiting_bars: int, next_close_ms: int, gather_ms: int
    ) -> bool:
        """Whether bars wait, for long enough or while no others are about to close."""
        if not waiting_bars:
            self._gathering_since = None
            return False
        if self._gathering_since is None:
            self._gathering_since = now
        if waiting_bars >= MANY_BARS:
            return True
        has_waited = now - self._gathering_since >= _GATHER_FIRST_MS
        is_over = has_waited or next_close_ms > _GATHER_MS
        return is_over and now - self._committed_at >= gather_ms


def bars_per_commit(waiting_bars: int) -> int:
    """Return of how many symbols a commit takes the bars that wait."""
    return max(MANY_BARS, waiting_bars // _COMMITS_OF_A_BURST)
