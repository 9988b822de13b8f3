"""Log lines: JSON by python-json-logger, or text; and a limit for what could repeat without end."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pythonjsonlogger.json import JsonFormatter

from bintrades.errors import ConfigError
from bintrades.ini import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper
    from typing import Any

    from bintrades.config import LoggingConfig

_TEXT = "%(asctime)s %(levelname)-7s %(threadName)s %(name)s: %(message)s"
_COMPLAIN_EVERY_S = 10.0
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def set_up_logging(config: LoggingConfig) -> None:
    """Send the log to the configured file, or to stderr. Raises ConfigError if it cannot.

    A file may be renamed while in use, as logrotate does: it is opened again by its name. From here
    on no logging call raises, whatever becomes of the file or of stderr.
    """
    try:
        handler = _StderrHandler(sys.stderr) if config.file is None else _FileHandler(config.file)
    except OSError as error:
        raise ConfigError(
            f"[logging] file = {config.file}: {error.strerror}; allowed: a file in a folder that"
            " can be written to, or nothing"
        ) from error
    handler.setFormatter(_json_formatter() if config.format == "json" else _TextFormatter(_TEXT))
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    for chatty in ("pymongo", "urllib3", "schedule", "websocket"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Harmless(logging.Handler):
    """A handler that never raises: a line that cannot be written is left out.

    That is said on stderr, in one line, at most once in ten seconds.
    """

    _left_out = 0
    _silent_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that can be done."""
        try:
            super().emit(record)
        except Exception:
            self.handleError(record)

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Tell of the exception that is being handled; logging holds the handler's lock."""
        self._left_out += 1
        if time.monotonic() < self._silent_until:
            return
        self._silent_until = time.monotonic() + _COMPLAIN_EVERY_S
        reason = f"{one_line(str(sys.exception()), 200)}; lines left out: {self._left_out}"
        with suppress(Exception):  # there is nobody left to tell that stderr fails, too
            sys.stderr.write(f"bintrades: the log cannot be written: {reason}\n")
            sys.stderr.flush()


class _StderrHandler(_Harmless, logging.StreamHandler[TextIO]):
    """Lines on stderr."""


class _FileHandler(_Harmless, logging.handlers.WatchedFileHandler):
    """Lines in a file that is opened again whenever it is gone, for as long as that takes."""

    def __init__(self, path: Path) -> None:
        # As on stderr, no line is lost for a strange name in it.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        """Close the file; what a full disk did not take is lost."""
        with suppress(OSError):
            super().close()

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def _json_formatter() -> JsonFormatter:
    return JsonFormatter(
        "{asctime}{levelname}{threadName}{name}{message}",
        style="{",
        rename_fields={
            "asctime": "time",
            "levelname": "level",
            "threadName": "thread",
            "name": "logger",
        },
        defaults={},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
        json_ensure_ascii=False,
    )


class _TextFormatter(logging.Formatter):
    """A line for people: the message, then the extra fields as name=value."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        extra = {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
        return " ".join([line, *(f"{name}={value}" for name, value in extra.items())])


class LimitedLog:
    """Logs the first of many like events at once and then at most one in *every_s*, with a count.

    Belongs to one thread.
    """

    def __init__(
        self,
        logger: logging.Logger,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._every = every_s
        self._clock = clock
        self._last: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def warning(self, message: str, **extra: Any) -> None:
        """Log *message* unless it was logged a short while ago; messages are told apart by text."""
        self._log(logging.WARNING, message, extra)

    def info(self, message: str, **extra: Any) -> None:
        """The same for what is no cause for worry."""
        self._log(logging.INFO, message, extra)

    def _log(self, level: int, message: str, extra: dict[str, Any]) -> None:
        now = self._clock()
        last = self._last.get(message)
        if last is not None and now - last < self._every:
            self._untold[message] = self._untold.get(message, 0) + 1
            return
        self._last[message] = now
        self._logger.log(level, message, extra={**extra, "untold": self._untold.pop(message, 0)})
