"""The example of a configuration: etc/bintrades.ini, and what `bintrades example` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.config.schema import OPTIONS
from bintrades.stores.built_in import OPTIONS_OF_STORES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.options.option import Option

_HEAD = """\
; The configuration of bintrades: every option, each with its default.
;
; Durations are whole numbers with ms, s, m, h or d, lists have commas, spaces or lines between.
; ${NAME} in a value is the environment variable NAME: a place for passwords. What comes from one
; in the section of a store is shown as *** in the log and everywhere else.
; Relative paths start at the folder of this file, or at its parent when that folder is called etc;
; also in the sections of stores.
"""
_STORES = """\
; One section for each store. The store NAME is one of the plugin NAME; with plugin = KIND in its
; section it is one of the plugin KIND, so that a plugin can store into several places.
"""


def example_text() -> str:
    """Return a configuration file with every option, what it means and may be, and its default."""
    parts = [_HEAD]
    parts += [_section(section, OPTIONS[section].values()) for section in OPTIONS]
    parts.append(_STORES)
    parts += [_section(f"store:{name}", of_it) for name, of_it in OPTIONS_OF_STORES.items()]
    return "\n".join(parts)


def _section(section: str, options: Iterable[Option]) -> str:
    return f"[{section}]\n" + "\n".join(map(_option, options))


def _option(option: Option) -> str:
    setting = f"{option.name} = {option.default}".rstrip()
    if option.is_commented_out:
        setting = f"; default: {option.default}\n;{setting}"
    return f"; {option.meaning}\n; allowed: {option.type.allowed}\n{setting}\n"
