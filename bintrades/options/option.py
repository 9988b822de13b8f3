"""An option, declared once: read, checked, documented and kept secret by that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bintrades.errors import ConfigError
from bintrades.options.types import FaultyValueError, OptionType, text
from bintrades.util.redaction import HIDDEN, hide
from bintrades.util.text import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PLUGIN = "plugin"
"""The option of each store's section that names its plugin: no plugin declares it, or gets it."""

_WIDTH = 200  # of a value in a message: paths are long


@dataclass(frozen=True, slots=True)
class Option:
    """An option as it stands in the file.

    default is the text that holds where the option is left out; where the type refuses that text,
    the option must be given. A secret is shown nowhere: not in a problem, `bintrades check`, the
    log, the status or the journal (from 4 characters on; a shorter one would hide half of every
    text). is_commented_out: the option says more by standing in the file than its default does, so
    the example only mentions it.
    """

    name: str
    default: str
    meaning: str
    type: OptionType = field(default_factory=text)
    is_secret: bool = False
    is_commented_out: bool = False

    def declaration_problems(self) -> Iterator[str]:
        """Yield what a type checker would say of the declaration, of authors who have none."""
        for name in ("name", "default", "meaning"):
            value = getattr(self, name)
            if not isinstance(value, str):
                text_of_it = "" if value is None else str(value)
                yield (
                    f"the {name} of {self.name} is {value!r};"
                    f" allowed: a text, such as {text_of_it!r}"
                )
        if not isinstance(self.type, OptionType):
            yield f"the type of {self.name} is {self.type!r}; allowed: an OptionType"

    def faults(self, value: str) -> list[str]:
        """Return everything that is wrong with *value*, without saying what is allowed."""
        try:
            self.type.parse(value)
        except FaultyValueError as error:
            return list(error.faults)
        except ValueError as error:
            return [str(error)]
        except (Exception, SystemExit) as error:  # of a plugin's own type: InvalidOperation
            return [f"cannot be read: {error!r}"]
        return []

    def shown(self, value: str) -> str:
        """Return *value* as people may see it."""
        return HIDDEN if self.is_secret and value != self.default else one_line(value, _WIDTH)

    def problems(self, given: Mapping[str, str]) -> Iterator[str]:
        """Yield what is wrong with the option where the others are *given* too."""
        value = given.get(self.name)
        faults = self.faults(self.default if value is None else value)
        if value is None:
            faults = ["must be given"] if faults else []
        if self.is_secret and value is not None:
            faults = [_without(value, fault) for fault in faults]
        where = self.name
        if value is not None and not self.is_secret:
            where = f"{where} = {self.shown(value)}"
        for fault in faults:
            yield f"{where}: {fault}; allowed: {self.type.allowed}"


def _without(secret: str, fault: str) -> str:
    hidden = hide(fault, [secret])
    return "is wrong" if secret and secret in hidden else hidden  # too short to be hidden


def checked(declared: Sequence[Option], given: Mapping[str, str]) -> dict[str, str]:
    """Return *given* with the defaults of what it leaves out.

    Raises ConfigError with every problem: an option that is not declared, a value that its type
    refuses, an option that must be given.
    """
    problems = list(unknown_options(declared, given))
    for option in declared:
        problems += option.problems(given)
    if problems:
        raise ConfigError(*problems)
    return {option.name: option.default for option in declared} | dict(given)


def unknown_options(declared: Sequence[Option], given: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem for each option of *given* that is not declared."""
    names = [option.name for option in declared]
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            yield f"{one_line(name)}: unknown option{hint}; allowed: {', '.join(names) or 'none'}"


def secrets(declared: Sequence[Option], given: Mapping[str, str]) -> set[str]:
    """Return the values of *given* that are declared secret; a default is none."""
    return {
        given[option.name]
        for option in declared
        if option.is_secret and given.get(option.name, option.default) != option.default
    }
