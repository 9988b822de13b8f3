"""Log lines: JSON by python-json-logger, or text; and a limit for what could repeat without end."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from typing import TYPE_CHECKING

from pythonjsonlogger.json import JsonFormatter

from bintrades.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from bintrades.config import LoggingConfig

_TEXT = "%(asctime)s %(levelname)-7s %(threadName)s %(name)s: %(message)s"
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def set_up_logging(config: LoggingConfig) -> None:
    """Send the log to the configured file, or to stderr. Raises ConfigError if it cannot.

    A file may be renamed while in use, as logrotate does: it is opened again by its name.
    """
    handler: logging.Handler
    try:
        if config.file is None:
            handler = logging.StreamHandler(sys.stderr)
        else:
            config.file.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.handlers.WatchedFileHandler(
                config.file,
                encoding="utf-8",
                errors="backslashreplace",  # as stderr: no line is lost for a strange file name
            )
    except OSError as error:
        raise ConfigError(f"[logging] file = {config.file}: {error.strerror}") from error
    handler.setFormatter(_json_formatter() if config.format == "json" else _TextFormatter(_TEXT))
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    for chatty in ("pymongo", "httpx", "httpcore", "schedule", "websocket"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


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
