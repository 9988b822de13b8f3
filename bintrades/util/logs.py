"""Log lines: JSON by python-json-logger, or text; and a limit for repeating events."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pythonjsonlogger.json import JsonFormatter

from bintrades.errors import ConfigError
from bintrades.util.log_writer import FileSink, QueueingHandler, Sink, StderrSink
from bintrades.util.redaction import redacted
from bintrades.util.text import as_json, printable, showable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

_TEXT = "%(asctime)s %(levelname)-7s %(threadName)s %(name)s: %(message)s"
_OURS = frozenset({"time", "level", "thread", "logger", "event"})
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

log = logging.getLogger(__name__)


class LogFormat(StrEnum):
    """The form of a line of the log, as `[logging] format` spells it."""

    AUTO = "auto"
    """TEXT on a terminal, else JSON."""

    JSON = "json"
    TEXT = "text"


class LoggingOptions(Protocol):
    """The options of the section [logging]."""

    @property
    def level(self) -> str:
        """The least severe level to write."""

    @property
    def format(self) -> LogFormat:
        """The form of a line."""

    @property
    def file(self) -> Path | None:
        """The file of the lines; None: stderr."""

    @property
    def rotate_at_bytes(self) -> int:
        """Size at which a file is set aside, and a new one begun; 0: none is."""

    @property
    def keep(self) -> int:
        """How many such files are kept."""


def set_up_logging(config: LoggingOptions) -> None:
    """Send the log to the configured file, or to stderr. Raises ConfigError if it cannot.

    A file may be renamed while in use, as logrotate does: it is opened again by its name. From here
    on no logging call raises or waits, whatever becomes of the file or of stderr.
    """
    with _bad_file_named(config):
        sink = _sink(config)
    handler = QueueingHandler(sink)
    handler.setFormatter(_TextFormatter(_TEXT) if _is_text(config) else _json_formatter())
    logging.basicConfig(level=config.level, handlers=[handler], force=True)
    for chatty in ("pymongo", "urllib3", "schedule", "websocket"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def _sink(config: LoggingOptions) -> Sink:
    if config.file is None:
        return StderrSink()
    return FileSink(config.file, rotate_at_bytes=config.rotate_at_bytes, keep=config.keep)


def _is_text(config: LoggingOptions) -> bool:
    if config.format is not LogFormat.AUTO:
        return config.format is LogFormat.TEXT
    return config.file is None and sys.__stderr__ is not None and sys.__stderr__.isatty()


def check_logging(config: LoggingOptions) -> None:
    """Raise the ConfigError that set_up_logging would; make and change nothing."""
    if config.file is not None:
        with _bad_file_named(config):
            FileSink.probe(config.file)


@contextmanager
def _bad_file_named(config: LoggingOptions) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"[logging] file = {config.file}: {error.strerror}; allowed: a file in a folder that"
            " can be written to, or nothing"
        ) from error


def log_what_python_would_print() -> None:
    """Log warnings, and uncaught exceptions: printing them may block."""
    logging.captureWarnings(capture=True)
    sys.excepthook = lambda *error: log.critical(
        "the collector failed", exc_info=error, extra={"event": "exception_uncaught"}
    )
    threading.excepthook = lambda error: log.error(
        "a thread failed",
        exc_info=(error.exc_type, error.exc_value or error.exc_type(), error.exc_traceback),
        extra={"event": "thread_failed"},
    )
    sys.unraisablehook = lambda error: log.error(
        "an exception was ignored: %s",
        error.err_msg or error.object,
        exc_info=error.exc_value,
        extra={"event": "exception_ignored"},
    )


class _JsonFormatter(JsonFormatter):
    """A line for programs, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        # Looked at once more as it will be read: the encoder turns anything into text.
        fields = json.loads(super().format(record))
        return as_json(
            {name: value if name in _OURS else redacted(value) for name, value in fields.items()}
        )


def _json_formatter() -> JsonFormatter:
    return _JsonFormatter(
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
    )


class _TextFormatter(logging.Formatter):
    """A line for people: the message, then the extra fields as name=value.

    Of a traceback each line is indented: what begins at the margin is a line of ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        fields = {n: value for n, value in vars(record).items() if n not in _OWN_ATTRIBUTES}
        event = [f"event={printable(str(fields.pop('event')))}"] if "event" in fields else []
        extra = " ".join(f"{name}={value}" for name, value in fields.items())
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return "\n".join(
            [
                " ".join(
                    [
                        showable(self.formatMessage(record)),
                        *event,  # constant, for alerts, though it may hold a secret's letters
                        *([showable(extra)] if extra else []),
                    ]
                ),
                *(f"    {showable(line)}" for line in trace.splitlines()),
            ]
        )


class LimitedLog:
    """Logs the first of many like events at once and then at most one in *every_s*, with a count.

    The count of those left out in between is the field `suppressed` (and `untold`, its old name).
    Belongs to one thread.
    """

    def __init__(
        self,
        logger: logging.Logger,
        every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._every_s = every_s
        self._clock = clock
        self._last_s: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warning(self, event: str, message: str, **extra: Any) -> None:
        """Log *message* unless the last line of *event* was a short while ago."""
        self._log(logging.WARNING, event, message, extra)

    def info(self, event: str, message: str, **extra: Any) -> None:
        """Do the same at level INFO."""
        self._log(logging.INFO, event, message, extra)

    def _log(self, level: int, event: str, message: str, extra: dict[str, Any]) -> None:
        now_s = self._clock()
        last_s = self._last_s.get(event)
        if last_s is not None and now_s - last_s < self._every_s:
            self._suppressed[event] = self._suppressed.get(event, 0) + 1
            return
        self._last_s[event] = now_s
        count = self._suppressed.pop(event, 0)
        fields = {"event": event, **extra, "suppressed": count, "untold": count}
        self._logger.log(level, message, extra=fields)
