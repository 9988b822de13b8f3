"""One store as the rest of the program sees it: a plugin's hooks, and the options it declares."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bintrades.errors import BintradesError
from bintrades.model import utc
from bintrades.options import option as declared_options
from bintrades.util.redaction import HIDDEN, hide
from bintrades.util.text import can_be_said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pluggy

    from bintrades.model import Bar, CoveredSpan
    from bintrades.options.option import Option

_SECRET_NAME = re.compile("pass|pwd|secret|token|key|credential|auth", re.IGNORECASE)


class Store:
    """One store: every call reaches its plugin object and no other.

    *plugins* has that object and nothing else. *declared* are the options that its kind declares;
    they are checked before a hook sees them, and the hook gets the defaults of those that are left
    out. None: the kind declares nothing, and its hooks get the section as it stands in the file.

    All calls but check() belong to one thread, the store's own. They raise what the plugin
    raises, except for sys.exit() and its like (a KeyboardInterrupt, too: Ctrl-C is not for
    plugins), and for what has no text, which become a BintradesError. Where the plugin forks, the
    copy of the process that comes out of the call ends there.
    """

    def __init__(
        self,
        name: str,
        plugin: str,
        plugins: pluggy.PluginManager,
        declared: Sequence[Option] | None = None,
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.declared = declared
        self._hooks = plugins.hook

    def check(self, options: Mapping[str, str]) -> None:
        """Raise ConfigError if *options* are wrong; touches neither network nor disk."""
        self._call(self._hooks.check_store, options=self._checked(options))

    def try_defaults(self) -> None:
        """Have the plugin check the defaults of its options, which it may refuse."""
        defaults = {option.name: option.default for option in self.declared or ()}
        with suppress(Exception):
            self._call(self._hooks.check_store, options=defaults)

    def open(self, options: Mapping[str, str]) -> None:
        """Connect; raise ConfigError for a bad option, anything else for "not reachable now"."""
        self._call(self._hooks.open_store, options=self._checked(options))

    def write(self, bars: Sequence[Bar]) -> None:
        """Make *bars* durable; raise RejectedBars for those the store will never take."""
        self._call(self._hooks.store_bars, bars=bars)

    @property
    def takes_coverage(self) -> bool:
        """Whether the plugin has store_coverage."""
        return bool(self._hooks.store_coverage.get_hookimpls())

    def cover(self, spans: Sequence[CoveredSpan]) -> None:
        """Make *spans* durable, each symbol's in the place of what is stored from the first on."""
        self._call(self._hooks.store_coverage, spans=spans)

    @property
    def can_be_read(self) -> bool:
        """Whether the plugin has read_bars."""
        return bool(self._hooks.read_bars.get_hookimpls())

    def read(self, symbol: str, since_ms: int, until_ms: int, market: str) -> Iterator[Bar]:
        """Yield the stored bars with since_ms <= open time < until_ms, oldest first.

        A plugin whose read_bars has no *market* may give bars of others beside them.

        Raises BintradesError where the plugin cannot be read, or gives what was not asked for.
        """
        bars = self._call(
            self._hooks.read_bars,
            symbol=symbol,
            since=utc(since_ms),
            until=utc(until_ms),
            market=market,
        )
        if bars is None:
            raise BintradesError(f"plugin {self.name}: has no read_bars, so it cannot be read")
        earlier = since_ms - 1
        for bar in bars:
            if bar.market != market:
                continue
            if bar.symbol != symbol or not earlier < bar.open_time_ms < until_ms:
                raise BintradesError(
                    f"plugin {self.name}: read_bars gave {bar.symbol} at {bar.open_time}, which was"
                    " not asked for, or is not in the order of time"
                )
            earlier = bar.open_time_ms
            yield bar

    def identity(self) -> str | None:
        """Return what is another text once the stored bars are gone; None where nobody can say.

        Raises BintradesError where the plugin gives no text.
        """
        identity = self._call(self._hooks.identify_store)
        if not isinstance(identity, str | None):
            raise BintradesError(
                f"plugin {self.name}: identify_store gave {identity!r}, which is no text"
            )
        return identity

    def close(self) -> None:
        """Let go of connections and files."""
        self._call(self._hooks.close_store)

    def secrets(self, options: Mapping[str, str]) -> set[str]:
        """Return what in *options* is declared secret, to be hidden everywhere."""
        return declared_options.secrets(self.declared or (), options)

    def without_secrets(self, text: str, options: Mapping[str, str]) -> str:
        """Return *text*, which the plugin said, with *** for the secrets in *options*."""
        if self.declared is None:
            return without_secrets(text, options)
        return hide(text, self.secrets(options))

    def shown(self, options: Mapping[str, str]) -> str:
        """Return the declared options as they are where *options* stand in the file, in a line."""
        values = zip(self.declared or (), self.values(options), strict=True)
        return ", ".join(f"{each.name} = {each.shown(value)}".rstrip() for each, value in values)

    def settings(self, options: Mapping[str, str]) -> list[str]:
        """Return every option in a line, where *options* stand in the file, and who says so.

        Of a plugin that declares none, nobody knows which of them are secret.
        """
        if self.declared is None:
            return [f"{name} = {HIDDEN} (file)" for name in options]
        values = zip(self.declared, self.values(options), strict=True)
        return [
            f"{each.name} = {each.shown(value)}".rstrip() + _origin(each, options)
            for each, value in values
        ]

    def values(self, options: Mapping[str, str]) -> tuple[str, ...]:
        """Return the texts of all declared options, the defaults of those left out included."""
        return tuple(options.get(each.name, each.default) for each in self.declared or ())

    def _checked(self, options: Mapping[str, str]) -> dict[str, str]:
        if self.declared is None:
            return dict(options)
        return declared_options.checked(self.declared, options)

    def _raised(self, hook: pluggy.HookCaller, what: str) -> BintradesError:
        return BintradesError(f"plugin {self.name}: {hook.name} raised {what}")

    def _call(self, hook: pluggy.HookCaller, **arguments: object) -> Any:
        process = os.getpid()
        try:
            return hook(**arguments)
        except Exception as error:
            if not can_be_said(error):  # else whoever says it, raises in a thread of ours
                raise self._raised(hook, f"{type(error).__name__}, which has no text") from error
            raise
        except BaseException as error:  # else sys.exit() in a plugin ends a thread of ours
            what = repr(error) if can_be_said(error) else type(error).__name__
            raise self._raised(hook, what) from error
        finally:
            if os.getpid() != process:  # a plugin has forked: there is to be one collector
                os._exit(0)


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """Return *text* with *** for what stands in an option whose name speaks of a secret.

    A guess, for plugins that do not declare which of their options are secret.
    """
    return hide(text, (value for name, value in options.items() if _SECRET_NAME.search(name)))


def _origin(option: Option, options: Mapping[str, str]) -> str:
    if option.name not in options:
        return " (default)"
    return f" (file; default: {option.shown(option.default) or 'nothing'})"
