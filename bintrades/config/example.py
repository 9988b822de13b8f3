"""The example of a configuration: etc/bintrades.ini, and what `bintrades example` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bintrades.config.schema import OPTIONS
from bintrades.stores.shipped import options_of_stores

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
_OTHER_STORES = """\
; The other stores that come with bintrades. To use one, take the ; away before its section and
; before what is to differ, and name it in [stores] enabled. A library that it needs comes with the
; extra of its name, as in pip install 'bintrades[NAME]'; `bintrades plugins` says what is there.
"""


def example_text() -> str:
    """Return a configuration file with every option, what it means and may be, and its default."""
    parts = [_HEAD]
    parts += [_section(section, OPTIONS[section].values()) for section in OPTIONS]
    parts.append(_STORES)
    enabled = OPTIONS["stores"]["enabled"]
    in_use = enabled.type.parse(enabled.default)
    stores = options_of_stores()
    parts += [_section(f"store:{name}", stores[name]) for name in in_use]
    others = {name: options for name, options in stores.items() if name not in in_use}
    if others:
        parts.append(_OTHER_STORES)
    parts += [_section(f"store:{name}", of_it, ";") for name, of_it in others.items()]
    return "\n".join(parts)


def _section(section: str, options: Iterable[Option], mark: str = "") -> str:
    """Return a section; *mark* stands before its header and before each option."""
    return f"{mark}[{section}]\n" + "\n".join(_option(option, mark) for option in options)


def _option(option: Option, mark: str) -> str:
    setting = f"{mark}{option.name} = {option.default}".rstrip()
    if option.is_commented_out:
        setting = f"; default: {option.default}\n;{setting.removeprefix(mark)}"
    return f"; {option.meaning}\n; allowed: {option.type.allowed}\n{setting}\n"
