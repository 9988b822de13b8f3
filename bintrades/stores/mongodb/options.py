"""The options of the MongoDB store: what no server would take is refused at once."""

from __future__ import annotations

from bintrades.errors import ConfigError
from bintrades.options.option import Option
from bintrades.options.types import FaultyValueError, OptionType, optional_duration

_NOT_IN_A_DATABASE = '/\\."$'
_LONGEST_DATABASE = 63  # bytes
_LONGEST_COLLECTION = 255 - _LONGEST_DATABASE - len(".")  # "database.collection" has 255 at most


def uri() -> OptionType:
    """A URI as MongoDB has it."""

    def parse(text: str) -> str:
        from bintrades.stores.mongodb.uri import client_of  # and pymongo, once it is needed

        try:
            client_of(text).close()
        except ConfigError as error:
            raise FaultyValueError(
                [each.removeprefix("uri: ") for each in error.problems]
            ) from None
        return text

    return OptionType(parse, "mongodb:// or mongodb+srv://, servers, /?options as MongoDB has them")


def database_name() -> OptionType:
    """The name of a database; pymongo lets some pass that a server would not take."""
    allowed = f"1 to {_LONGEST_DATABASE} bytes, no space and none of {_NOT_IN_A_DATABASE}"

    def parse(text: str) -> str:
        if strange := [char for char in text if char in f" \0{_NOT_IN_A_DATABASE}"]:
            raise ValueError(f"{strange[0]!r} cannot be in it")
        return _of_length(text, _LONGEST_DATABASE)

    return OptionType(parse, allowed)


def collection_name() -> OptionType:
    """The name of a collection."""
    allowed = f"1 to {_LONGEST_COLLECTION} bytes, no $, no . at an end or beside another"

    def parse(text: str) -> str:
        if strange := [char for char in text if char in "$\0"]:
            raise ValueError(f"{strange[0]!r} cannot be in it")
        if text.startswith(".") or text.endswith(".") or ".." in text:
            raise ValueError("has a . where none can be")
        return _of_length(text, _LONGEST_COLLECTION)

    return OptionType(parse, allowed)


def _of_length(name: str, longest: int) -> str:
    if not name:
        raise ValueError("is empty")
    if len(name.encode(errors="replace")) > longest:
        raise ValueError("is too long")
    return name


EXPIRE_AFTER = optional_duration("1d", "3650d")

OPTIONS = (
    Option(
        "uri",
        "mongodb://127.0.0.1:27017",
        "the servers; with TLS, user, replica set, write concern and timeouts",
        uri(),
        is_secret=True,  # a password may stand in it
    ),
    Option("database", "bintrades", "the database of the bars", database_name()),
    Option("collection", "bars", "their collection", collection_name()),
    Option(
        "expire_after",
        "",
        "how long after its open_time the server deletes a bar; nothing: bars are kept for ever",
        EXPIRE_AFTER,
    ),
)
