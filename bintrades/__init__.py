"""bintrades records every trade of Binance symbols as exact 10-second bars.

What storage plugins import is here; everything else is found by its module's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.errors import BintradesError, ConfigError, RejectedBars, UnfitBars
from bintrades.model import Bar, CoveredSpan
from bintrades.options import types as option_types
from bintrades.options.option import Option
from bintrades.options.types import OptionType
from bintrades.stores.hookspecs import hookimpl
from bintrades.stores.libraries import require_library
from bintrades.version import __version__

if TYPE_CHECKING:
    from bintrades.reading import bar_batches, bars

__all__ = [
    "Bar",
    "BintradesError",
    "ConfigError",
    "CoveredSpan",
    "Option",
    "OptionType",
    "RejectedBars",
    "UnfitBars",
    "__version__",
    "bar_batches",
    "bars",
    "hookimpl",
    "option_types",
    "require_library",
]


def __getattr__(name: str) -> Any:
    """Bring what reads bars once it is asked for: plugins and the collector do without it."""
    if name in ("bar_batches", "bars"):
        from bintrades.reading import bar_batches, bars

        return {"bar_batches": bar_batches, "bars": bars}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
