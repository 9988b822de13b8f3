"""The exchange's answers to SUBSCRIBE and its relatives; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_STREAMS = 1024
"""More streams than this cost the connection."""

MAX_MESSAGE_BYTES = 4096
"""Longer messages of a client are neither obeyed nor answered."""

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

ErrorShape = Literal["nested", "flat"]
"""`{"error":{"code":..,"msg":..},"id":..}` as seen on the wire, or flat as documented."""


class ControlError(Exception):
    """The exchange refuses a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TooManyStreamsError(ControlError):
    """Code 4: the exchange answers it and then closes the connection."""

    def __init__(self) -> None:
        super().__init__(4, "Too many subscriptions")


@dataclass
class Session:
    """What a connection asked for: its streams, in order, and whether frames name their stream."""

    combined: bool
    streams: dict[str, None] = field(default_factory=dict)

    def subscribe(self, names: list[str]) -> None:
        """Add streams. Raises TooManyStreamsError, and adds none, when they are over the limit."""
        if len(self.streams.keys() | set(names)) > MAX_STREAMS:
            raise TooManyStreamsError
        self.streams.update(dict.fromkeys(names))

    def unsubscribe(self, names: list[str]) -> None:
        """Drop streams; names that were never subscribed are no error."""
        for name in names:
            self.streams.pop(name, None)


def answer(text: str, session: Session, shape: ErrorShape = "nested") -> tuple[bytes, bool]:
    """Obey a client's message; return the answer and whether the connection must be closed."""
    message_id: int | str | None = None
    knows_id = False
    try:
        message = _parse(text)
        message_id = _parse_id(message)
        knows_id = True
        return _compact({"result": _obey(message, session), "id": message_id}), False
    except ControlError as error:
        problem: dict[str, Any] = {"code": error.code, "msg": error.message}
        body: dict[str, Any] = {"error": problem} if shape == "nested" else problem
        if knows_id:
            body["id"] = message_id
        return _compact(body), isinstance(error, TooManyStreamsError)


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _parse(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ControlError(3, "Invalid JSON: expected value at line 1 column 1") from error
    if not isinstance(message, dict):
        raise ControlError(2, "Invalid request: expected an object")
    return message


def _parse_id(message: dict[str, Any]) -> int | str | None:
    value = message.get("id")
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (is_integer and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 36:
        return value
    raise ControlError(
        2,
        "Invalid request: request ID must be an integer, an alphanumeric string of at most 36 "
        "characters or null",
    )


def _obey(message: dict[str, Any], session: Session) -> object:
    match message.get("method"):
        case "SUBSCRIBE":
            session.subscribe(_names(message))
        case "UNSUBSCRIBE":
            session.unsubscribe(_names(message))
        case "LIST_SUBSCRIPTIONS":
            return list(session.streams)
        case "SET_PROPERTY":
            session.combined = _new_value(_property(message, 2))
        case "GET_PROPERTY":
            _property(message, 1)
            return session.combined
        case None:
            raise _missing("method")
        case method:
            known = ", ".join(f"`{each}`" for each in METHODS)
            raise ControlError(2, f"Invalid request: unknown variant `{method}`, expected {known}")
    return None


def _names(message: dict[str, Any]) -> list[str]:
    names = _params(message)
    if not all(isinstance(name, str) and name for name in names):
        raise ControlError(2, "Invalid request: invalid stream")
    return names


def _property(message: dict[str, Any], count: int) -> list[Any]:
    params = _params(message)
    if len(params) > count:
        raise ControlError(2, "Invalid request: too many parameters")
    if len(params) < count or not isinstance(params[0], str):
        raise ControlError(2, "Invalid request: property name must be a string")
    if params[0] != "combined":
        raise ControlError(0, "Unknown property")
    return params


def _new_value(params: list[Any]) -> bool:
    if not isinstance(params[1], bool):
        raise ControlError(1, "Invalid value type: expected Boolean")
    return params[1]


def _params(message: dict[str, Any]) -> list[Any]:
    if "params" not in message:
        raise _missing("params")
    if not isinstance(message["params"], list):
        raise ControlError(2, "Invalid request: params must be a list")
    return message["params"]


def _missing(name: str) -> ControlError:
    return ControlError(2, f"Invalid request: missing field `{name}`")
