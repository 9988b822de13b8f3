"""What is committed when: soon, together, and no more often than it is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintrades.pipeline.commit_schedule import MANY_BARS, Commit, CommitSchedule, bars_per_commit

CHECKPOINT_MS = 1_000
FAR = 10_000  # until the next bars may close
SOON = 50
ALL, DUE, BARS, STATUS = Commit


class Schedule:
    """A schedule that begins at 0, of a journal that takes whatever is due."""

    def __init__(self, *, is_sparing: bool = True, checkpoint_every_ms: int = 60_000) -> None:
        self.inner = CommitSchedule(
            0, checkpoint_every_ms=checkpoint_every_ms, is_sparing=is_sparing
        )

    def ask(
        self,
        now: int,
        waiting_bars: int = 0,
        next_close_ms: int = FAR,
        *,
        has_just_begun: bool = False,
        is_caught_up: bool = True,
    ) -> Commit | None:
        """Return what is due, without committing it."""
        return self.inner.next_commit(
            now,
            waiting_bars,
            next_close_ms,
            has_just_begun=has_just_begun,
            is_caught_up=is_caught_up,
        )

    def commit(self, now: int, waiting_bars: int = 0, next_close_ms: int = FAR) -> Commit | None:
        """Return what is due, and commit it with the status."""
        commit = self.ask(now, waiting_bars, next_close_ms)
        if commit is not None:
            self.inner.committed(now, with_status=True)
        return commit


def test_while_nothing_changes_the_status_alone_is_written_every_five_seconds() -> None:
    schedule = Schedule()

    written = {now: commit for now in range(0, 15_000, 100) if (commit := schedule.commit(now))}

    assert written == {4_000: STATUS, 9_000: STATUS, 14_000: STATUS}


def test_the_status_is_written_beside_something_else_once_a_second() -> None:
    schedule = Schedule().inner
    assert schedule.may_write_status(0)

    schedule.committed(0, with_status=True)
    assert not schedule.may_write_status(999)
    assert schedule.may_write_status(1_000)
    schedule.committed(1_500, with_status=False)
    assert schedule.may_write_status(1_500)


@pytest.mark.parametrize(("is_sparing", "kind"), [(True, DUE), (False, ALL)])
def test_changes_are_saved_at_every_checkpoint(is_sparing: bool, kind: Commit) -> None:
    schedule = Schedule(is_sparing=is_sparing, checkpoint_every_ms=CHECKPOINT_MS)

    written = {now: schedule.commit(now) for now in range(0, 3_001, 100)}

    assert {now: commit for now, commit in written.items() if commit is not None} == {
        1_000: kind,
        2_000: kind,
        3_000: kind,
    }


def test_all_that_is_wanted_is_saved_with_the_first_trade_of_all() -> None:
    assert Schedule().ask(0, 1, has_just_begun=True) is ALL
    assert Schedule().ask(0, MANY_BARS, SOON, has_just_begun=True, is_caught_up=False) is ALL


@pytest.mark.parametrize(
    ("waiting_bars", "next_close_ms", "waits_ms"),
    [(1, SOON + 1, 0), (1, SOON, 20), (1, 0, 20), (MANY_BARS - 1, SOON, 20), (MANY_BARS, SOON, 0)],
)
def test_the_first_bars_wait_for_those_that_are_about_to_close_unless_they_are_many(
    waiting_bars: int, next_close_ms: int, waits_ms: int
) -> None:
    schedule = Schedule()
    at = 200

    for now in range(at, at + waits_ms):
        assert schedule.ask(now, waiting_bars, next_close_ms) is None
    assert schedule.ask(at + waits_ms, waiting_bars, next_close_ms) is BARS


@pytest.mark.parametrize(("is_caught_up", "gathers_ms"), [(True, 50), (False, 100)])
def test_the_next_bars_are_gathered_for_longer_while_events_wait(
    is_caught_up: bool, gathers_ms: int
) -> None:
    schedule = Schedule()
    assert schedule.commit(200, 1) is BARS

    assert schedule.ask(200 + gathers_ms - 1, 1, is_caught_up=is_caught_up) is None
    assert schedule.ask(200 + gathers_ms, 1, is_caught_up=is_caught_up) is BARS


def test_bars_that_a_commit_leaves_wait_for_more_again() -> None:
    schedule = Schedule()
    assert schedule.commit(200, MANY_BARS, SOON) is BARS

    assert schedule.ask(250, 1, SOON) is None, "they wait since now"
    assert schedule.ask(269, 1, SOON) is None
    assert schedule.ask(270, 1, SOON) is BARS


@pytest.mark.parametrize(
    ("waiting_bars", "limit"),
    [(1, MANY_BARS), (3_000, MANY_BARS), (8_000, 1_000), (80_000, 10_000)],
)
def test_a_burst_is_a_handful_of_commits(waiting_bars: int, limit: int) -> None:
    assert bars_per_commit(waiting_bars) == limit


@pytest.mark.parametrize(("is_sparing", "at"), [(True, 2 * CHECKPOINT_MS), (False, CHECKPOINT_MS)])
def test_where_changes_are_spared_a_checkpoint_lets_bars_go_first_but_not_for_ever(
    is_sparing: bool, at: int
) -> None:
    schedule = Schedule(is_sparing=is_sparing, checkpoint_every_ms=CHECKPOINT_MS)
    written = {now: schedule.commit(now, 1) for now in range(100, 2 * CHECKPOINT_MS + 1, 100)}

    assert min(now for now, commit in written.items() if commit is not BARS) == at


def test_a_journal_that_took_nothing_is_tried_again_a_second_later() -> None:
    schedule = Schedule()
    assert schedule.ask(200, MANY_BARS) is BARS
    schedule.inner.failed(200)

    assert schedule.inner.idle_ms(200, MANY_BARS, FAR) == 1_000
    assert schedule.ask(1_199, MANY_BARS, has_just_begun=True) is None
    assert schedule.ask(1_200, MANY_BARS) is BARS


@pytest.mark.parametrize("next_close_ms", [-5, 0, 7, FAR])
def test_without_bars_one_may_idle_until_the_next_ones_close(next_close_ms: int) -> None:
    assert Schedule().inner.idle_ms(0, 0, next_close_ms) == max(0, next_close_ms)


@pytest.mark.parametrize(
    ("waiting_bars", "next_close_ms", "idle_ms"),
    [(1, FAR, 50), (1, 40, 40), (MANY_BARS - 1, FAR, 50), (MANY_BARS, FAR, 0)],
)
def test_after_a_commit_one_may_idle_until_bars_have_gathered_unless_they_are_many(
    waiting_bars: int, next_close_ms: int, idle_ms: int
) -> None:
    schedule = Schedule()
    assert schedule.commit(200, 1) is BARS

    assert schedule.inner.idle_ms(200, waiting_bars, next_close_ms) == idle_ms


def test_while_the_first_bars_wait_for_others_one_may_idle_as_long() -> None:
    schedule = Schedule()
    assert schedule.ask(200, 1, SOON) is None

    assert schedule.inner.idle_ms(200, 1, SOON) == 20
    assert schedule.inner.idle_ms(215, 1, SOON - 15) == 5


def test_bars_begin_to_wait_anew_when_there_were_none_for_a_while() -> None:
    schedule = Schedule()
    assert schedule.ask(200, 1, SOON) is None
    assert schedule.ask(210, 0, SOON) is None, "another commit took them"

    assert schedule.ask(300, 1, SOON) is None
    assert schedule.ask(320, 1, SOON) is BARS


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 2 * MANY_BARS), st.booleans()), max_size=20
    ),
    waiting_bars=st.integers(1, 2 * MANY_BARS),
    next_close_ms=st.integers(1, 200),
)
def test_bars_are_due_when_one_has_idled_as_long_as_one_may_and_never_before(
    steps: list[tuple[int, int, bool]], waiting_bars: int, next_close_ms: int
) -> None:
    schedule = Schedule()
    now = 0
    for pause_ms, waiting, is_refused in steps:
        now += pause_ms
        if is_refused and schedule.ask(now, waiting) is not None:
            schedule.inner.failed(now)
        else:
            schedule.commit(now, waiting)
    now += 1
    if schedule.commit(now, waiting_bars, next_close_ms) is BARS:
        waiting_bars = 1
        schedule.commit(now, waiting_bars, next_close_ms)  # begins to gather

    idle_ms = schedule.inner.idle_ms(now, waiting_bars, next_close_ms)

    assert 0 <= idle_ms <= next_close_ms
    for passed in range(1, idle_ms):
        commit = schedule.ask(now + passed, waiting_bars, next_close_ms - passed)
        assert commit in {None, STATUS}
    left = next_close_ms - idle_ms
    if left > SOON or 0 < left < next_close_ms <= SOON:
        assert schedule.ask(now + idle_ms, waiting_bars, left) is BARS
