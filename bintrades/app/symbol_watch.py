"""The thread that looks which symbols there are: every so often, and when it is told to."""

from __future__ import annotations

import logging
import threading
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from bintrades.config.loader import Config, load_config
from bintrades.errors import ConfigError
from bintrades.util.backoff import Backoff
from bintrades.util.clocks import now_ms
from bintrades.util.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from bintrades.app.symbol_list import SymbolList
    from bintrades.config.loader import SymbolsConfig
    from bintrades.exchange.events import Event

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0
_LONGEST_REST_S = 60.0  # so that it is seen to move
_NOT_COMPARED = frozenset({"path", "file", "folder", "symbols", "given", "settings"})


class SymbolWatch(Worker):
    """Asks the exchange for its symbols every `[symbols] refresh`; reads that section on request.

    *put* takes what changes, and *exchange_time* gives the exchange's clock, 0 while unknown.
    *on_reload* is told, on this thread, what the section says from now on. What an unexpected error
    leaves undone is done at the next time.
    """

    def __init__(
        self,
        config: Config,
        symbols: SymbolList,
        *,
        put: Callable[[Event], None],
        exchange_time: Callable[[], int],
        on_reload: Callable[[SymbolsConfig], None],
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__("symbols", on_failure)
        self._config = config
        self._file = config.file
        self._symbols = symbols
        self._put = put
        self._exchange_time = exchange_time
        self._on_reload = on_reload
        self._is_reload_wanted = threading.Event()
        self._is_stopping = False
        self._wake = threading.Event()
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S)

    def reload(self) -> None:
        """Read the section [symbols] again, and have it select the symbols. Any thread."""
        self._is_reload_wanted.set()
        self._wake.set()

    def stop(self) -> None:
        """End, after the request that is under way. Any thread."""
        self._is_stopping = True
        self._wake.set()

    def run(self) -> None:
        """Look, and rest, until stopped."""
        next_at = self._next_at(has_answer=self._symbols.has_answer and not self._symbols.has_ended)
        while not self._is_stopping:
            self.beat()
            self._wake.clear()
            is_reload = self._is_reload_wanted.is_set()
            if is_reload or now_ms() >= next_at:
                self._is_reload_wanted.clear()
                next_at = self._next_at(has_answer=self._look(is_reload=is_reload))
            if not self._is_reload_wanted.is_set() and not self._is_stopping:
                self._wake.wait(min(max(0.0, (next_at - now_ms()) / 1000), _LONGEST_REST_S))

    def _look(self, *, is_reload: bool) -> bool:
        """Ask, and change what is to change; return whether the exchange has answered."""
        try:
            is_new = is_reload and self._reload()
            return self._symbols.refresh(self._put, self._exchange_time, is_new=is_new)
        except Exception:
            log.exception(
                "looking for symbols failed; it is done again later",
                extra={"event": "symbols_failed"},
            )
            return False

    def _next_at(self, *, has_answer: bool) -> int:
        """Return when to look again, monotonic; soon where the exchange has not answered."""
        refresh_ms = self._config.symbols.refresh_ms or 2**62
        if has_answer:
            self._backoff.reset()
            return now_ms() + refresh_ms
        return now_ms() + min(int(1000 * self._backoff.next_wait_s()) + 500, refresh_ms)

    def _reload(self) -> bool:
        """Read the file again; return whether it may be used. Nothing changes if it may not."""
        try:
            config = load_config(self._file)
            self._symbols.reconfigure(config.symbols)
        except ConfigError as error:
            for problem in error.problems:
                log.error(
                    "the configuration is not read again, the symbols stay as they are: %s",
                    problem,
                    extra={"event": "symbols_reload_failed"},
                )
            return False
        others = [
            each.name
            for each in fields(Config)
            if each.name not in _NOT_COMPARED
            and getattr(config, each.name) != getattr(self._config, each.name)
        ]
        self._config = replace(self._config, symbols=config.symbols)
        self._on_reload(config.symbols)
        log.info(
            "the section [symbols] is read again",
            extra={
                "event": "symbols_reloaded",
                "include": " ".join(config.symbols.include),
                "exclude": " ".join(config.symbols.exclude),
            },
        )
        if others:
            log.warning(
                "other sections of the configuration have changed, too: that takes a restart",
                extra={"event": "restart_needed", "sections": ", ".join(others)},
            )
        return True
