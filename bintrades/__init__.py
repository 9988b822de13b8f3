"""bintrades records every trade of Binance symbols as exact 10-second bars.

What storage plugins import is here; everything else is found by its module's name.
"""

from bintrades.errors import BintradesError, ConfigError, RejectedBars, UnfitBars
from bintrades.model import Bar, CoveredSpan
from bintrades.options import types as option_types
from bintrades.options.option import Option
from bintrades.options.types import OptionType
from bintrades.stores.hookspecs import hookimpl
from bintrades.stores.libraries import require_library
from bintrades.version import __version__

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
    "hookimpl",
    "option_types",
    "require_library",
]
