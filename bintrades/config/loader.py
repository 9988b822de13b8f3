"""The configuration file as frozen values; every problem of it reported at once."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bintrades.config.ini import Entry, Header, Ini, read_ini
from bintrades.config.schema import (
    DEFAULT_EXCHANGE,
    OPTIONS,
    SECTIONS,
    AuditConfig,
    BarsConfig,
    ExchangeConfig,
    HttpConfig,
    JournalConfig,
    LoggingConfig,
    Place,
    PluginsConfig,
    ProofConfig,
    RepairConfig,
    StoresConfig,
    SymbolsConfig,
    options_of,
)
from bintrades.config.settings import DEFAULT, Setting
from bintrades.config.types import SHARD_VARIABLE, plugin_name
from bintrades.errors import ConfigError
from bintrades.exchange.hosts import LIVE, address_problem, environment_of
from bintrades.exchange.registry import EXCHANGES
from bintrades.exchange.shards import Shard
from bintrades.exchange.symbols import is_pattern, select
from bintrades.options.option import PLUGIN
from bintrades.options.types import FaultyValueError
from bintrades.stores.built_in import plugins_of_checkout
from bintrades.util.durations import format_duration
from bintrades.util.redaction import passwords_of_uris, remember_secrets
from bintrades.util.text import did_you_mean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "AuditConfig",
    "BarsConfig",
    "Config",
    "ExchangeConfig",
    "HttpConfig",
    "JournalConfig",
    "LoggingConfig",
    "PluginsConfig",
    "ProofConfig",
    "RepairConfig",
    "StoresConfig",
    "SymbolsConfig",
    "load_config",
    "read_config",
]

_STORE = "store:"
_VARIABLE = re.compile(r"\$\{(?:([^{}]*)\})?")
_PLUGIN_NAME = plugin_name()
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Config:
    """A whole configuration, valid in itself.

    exchange is the name of the one that is collected from, and exchange_options its section.
    folder is where relative paths start: that of the file, or its parent when that is called etc.
    store_options has, for each enabled store and no other, its section as it stands in the file,
    with the environment variables put in but without `plugin`, which is in store_plugins: of which
    plugin the store is, which is the one of its name unless its section says otherwise. A store
    without a section has no options.
    """

    path: Path
    folder: Path
    exchange: str = DEFAULT_EXCHANGE
    exchange_options: ExchangeConfig = dataclasses.field(default_factory=ExchangeConfig)
    symbols: SymbolsConfig = dataclasses.field(default_factory=SymbolsConfig)
    bars: BarsConfig = dataclasses.field(default_factory=BarsConfig)
    repair: RepairConfig = dataclasses.field(default_factory=RepairConfig)
    proof: ProofConfig = dataclasses.field(default_factory=ProofConfig)
    audit: AuditConfig = dataclasses.field(default_factory=AuditConfig)
    journal: JournalConfig = dataclasses.field(default_factory=JournalConfig)
    plugins: PluginsConfig = dataclasses.field(default_factory=PluginsConfig)
    stores: StoresConfig = dataclasses.field(default_factory=StoresConfig)
    http: HttpConfig = dataclasses.field(default_factory=HttpConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
    store_options: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    store_plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    file: Path = dataclasses.field(default=Path(), compare=False)
    """The path, absolute: whoever reads it again may work in another folder by then."""

    given: frozenset[tuple[str, str]] = dataclasses.field(default_factory=frozenset, compare=False)
    """Sections and names of the options that stand in the file."""

    settings: tuple[Setting, ...] = dataclasses.field(default=(), compare=False)
    """Every option of our own sections, and where its value comes from."""

    @property
    def retention_ms(self) -> int | None:
        """How long bars stay in the journal; None: for ever, since nobody else has them."""
        is_wanted = self.stores.enabled or ("journal", "retention") in self.given
        return self.journal.retention_ms if is_wanted else None

    @property
    def environment(self) -> str | None:
        """For what the hosts are that trades come from: live, testnet, demo; None: not known."""
        options = self.exchange_options
        market = EXCHANGES[self.exchange].markets[options.market]
        return environment_of(market, options.stream_url, options.rest_url)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual about the trades that are collected, as sentences for people."""
        options = self.exchange_options
        market = EXCHANGES[self.exchange].markets[options.market]
        remarks = []
        if self.environment not in (None, LIVE):
            remarks.append(
                f"{self.environment}: the trades of this {market.name} market are not the live ones"
            )
        if options.api_key and not market.historical_trades_need_key:
            remarks.append(f"api_key: the market {market.name} needs none, so it is never sent")
        if market.is_approximate(options.stream):
            remarks.append(
                f"stream = {options.stream}: bars of {market.name} are approximate then, and never"
                " complete"
            )
        return tuple(remarks)

    @property
    def remark_on_journal(self) -> str | None:
        """That shards of this file may have one journal, as a sentence for people; None: not so."""
        if self.symbols.shard is None or self.symbols.shard.count == 1:
            return None
        origins = {(each.section, each.name): each.origin for each in self.settings}
        serves_one = "environment" not in origins["symbols", "shard"]
        if serves_one or "environment" in origins["journal", "path"]:
            return None
        return (
            "path: the same for every shard of this file, so each needs a file system of its own,"
            " as a container has; otherwise name it after the shard, such as"
            " var/bintrades-${SHARD}.journal"
        )

    @property
    def when_bars_leave(self) -> str:
        """When bars leave the journal, as a sentence for people."""
        if self.retention_ms is None:
            return "without a store, no bar leaves the journal unless [journal] retention is set"
        after = format_duration(self.retention_ms)
        if self.stores.enabled:
            return f"bars leave the journal when every store has had them, {after} after a change"
        return (
            f"bars leave the journal {after} after their last change, though no store has them:"
            " [journal] retention is set"
        )


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the INI file *path*; raise ConfigError with every problem, in the file's order.

    ${NAME} in a value is taken from *environ*. Relative paths start at the file's folder, or at
    its parent when that folder is called etc. Nothing but the file is read; of the paths that it
    names, it is looked at whether they are files or folders.
    """
    config, problems = read_config(path, environ)
    if problems:
        raise ConfigError(*problems)
    return config


def read_config(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Config, list[str]]:
    """Return as much of the configuration as is right, and all that load_config would raise.

    What is wrong has its default; a store whose section lacks a variable has no store_options, and
    one whose plugin cannot be one has no store_plugins.
    Raises ConfigError for a file that cannot be read. Secrets are from here on in no log, status or
    message: options that are one and, of the sections of stores, what came from a variable, and
    the passwords of URIs.
    """
    loader = _Loader(path, read_ini(_read_text(path)), environ)
    config = loader.load()
    remember_secrets(loader.secrets)
    return config, loader.problems()


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: does not exist; name another with --config, or begin with what"
            " `bintrades example` prints"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


class _Loader:
    """Turns what an INI file holds into a Config, collecting (line, problem) on the way."""

    def __init__(self, path: Path, ini: Ini, environ: Mapping[str, str]) -> None:
        folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 - also cuts out ".."
        self._folder = folder.parent if folder.name == "etc" else folder
        self._path = path
        self._ini = ini
        self._environ = _with_shard(environ)
        self.secrets: set[str] = set()
        self._problems = list(ini.problems)
        named = [header for header in ini.headers if header.section in EXCHANGES]
        self._exchange = named[0].section if named else DEFAULT_EXCHANGE
        self._options = OPTIONS
        self._values: dict[str, dict[str, Any]] = {}
        self._lines: dict[tuple[str, str], Entry] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._origins: dict[tuple[str, str], str] = {}

    def load(self) -> Config:
        self._options = options_of(self._place())
        self._values = {section: {} for section in self._options}
        for entry in self._ini.entries:
            if entry.section in self._options:
                self._read(entry)
        self._take_shard()
        enabled = self._value("stores", "enabled")
        for header in self._ini.headers:
            self._check_header(header, enabled)
        self._check_grace()
        self._check_retention()
        self._check_symbols()
        self._check_addresses()
        self._check_paths()
        self._check_shared_budget()
        store_options = {name: self._store_options(name) for name in enabled}
        store_plugins = {name: self._store_plugin(name) for name in enabled}
        return Config(
            path=self._path,
            file=Path(os.path.abspath(self._path)),  # noqa: PTH100 - as the folder is found
            folder=self._folder,
            store_options={name: each for name, each in store_options.items() if each is not None},
            store_plugins={name: kind for name, kind in store_plugins.items() if kind is not None},
            given=frozenset(self._lines),
            settings=tuple(self._settings()),
            exchange=self._exchange,
            exchange_options=self._section(self._exchange, ExchangeConfig),
            **{section: self._section(section, kind) for section, kind in SECTIONS.items()},
        )

    def _take_shard(self) -> None:
        """Let the environment say which shard this is, whatever the file says."""
        text = self._environ.get(SHARD_VARIABLE, "")
        option = self._options["symbols"]["shard"]
        try:
            given = option.type.parse(text)
        except ValueError as error:
            named = f"the environment variable {SHARD_VARIABLE} = {one_line(text)}"
            self._problems.append((0, f"{named}: {error}; allowed: {option.type.allowed}"))
        else:
            if given is not None:
                self._values["symbols"]["shard"] = given
                self._origins["symbols", "shard"] = f"environment: {SHARD_VARIABLE}"

    def _place(self) -> Place:
        """Return the market that the file names, wherever in it; what is wrong is said later."""
        named = [
            entry.value
            for entry in self._ini.entries
            if (entry.section, entry.option) == (self._exchange, "market")
        ]
        text = named[-1] if named else ""
        expanded = _VARIABLE.sub(lambda match: self._environ.get(match[1] or "", ""), text)
        return Place.of(self._exchange, expanded)

    def problems(self) -> list[str]:
        """What load() found, in the file's order."""
        self._problems.sort(key=lambda problem: problem[0])
        return [f"{self._path}: {text}" for _, text in self._problems]

    def _read(self, entry: Entry) -> None:
        options = self._options[entry.section]
        option = options.get(entry.option)
        if option is None:
            hint = did_you_mean(entry.option, options)
            allowed = ", ".join(options)
            self._problem(entry, f"unknown option{hint}; allowed: {allowed}", show_value=False)
            return
        is_shown = not option.is_secret
        text = self._expand(entry, show_value=is_shown)
        if text is None:
            return
        if option.is_secret and text != option.default:
            self.secrets.add(text.strip())
        try:
            self._values[entry.section][entry.option] = option.type.parse(text)
            self._lines[entry.section, entry.option] = entry
            self._texts[entry.section, entry.option] = text
            self._origins[entry.section, entry.option] = _origin(entry)
        except FaultyValueError as error:
            self._values[entry.section][entry.option] = error.good
            for fault in error.faults:
                self._problem(
                    entry, f"{fault}; allowed: {option.type.allowed}", show_value=is_shown
                )
        except ValueError as error:
            self._problem(entry, f"{error}; allowed: {option.type.allowed}", show_value=is_shown)

    def _check_header(self, header: Header, enabled: tuple[str, ...]) -> None:
        section = header.section
        if section in self._options:
            return
        if section in EXCHANGES:
            self._problems.append(
                (header.line, f"[{section}]: a second exchange; allowed: [{self._exchange}] alone")
            )
            return
        store = section.removeprefix(_STORE)
        known = {other.section for other in self._ini.headers}
        lacking = [name for name in enabled if _STORE + name not in known]
        if section.startswith(_STORE) and store.strip():
            # The section of a store that is switched off for a while may stay; a misspelt one not.
            hint = "" if store in enabled else did_you_mean(store, lacking)
            if hint:
                self._problems.append(
                    (header.line, f"[{one_line(section)}]: no enabled store has this name{hint}")
                )
            return
        ours = [*EXCHANGES, *SECTIONS]
        hint = did_you_mean(section, [*ours, *(_STORE + name for name in lacking)])
        allowed = ", ".join([*ours, _STORE + "NAME"])
        self._problems.append(
            (header.line, f"[{one_line(section)}]: unknown section{hint}; allowed: {allowed}")
        )

    def _check_grace(self) -> None:
        interval_ms = self._value("bars", "interval")
        entry = self._lines.get(("bars", "grace"))
        if entry is not None and self._value("bars", "grace") > interval_ms:
            allowed = f"0ms to the interval, {format_duration(interval_ms)}"
            self._problem(entry, f"longer than the interval; allowed: {allowed}")

    def _check_retention(self) -> None:
        """A late backfill must find its bar: else the late trades would be a bar of their own."""
        if not self._value("repair", "enabled"):
            return
        max_age_ms = self._value("repair", "max_age")
        names = (("journal", "retention"), ("repair", "max_age"))
        entry = next((self._lines[name] for name in names if name in self._lines), None)
        if entry is not None and self._value("journal", "retention") <= max_age_ms:
            self._problem(
                entry,
                "a repair reaches back as far as bars are kept, or farther; allowed:"
                f" [journal] retention longer than [repair] max_age, {format_duration(max_age_ms)}",
            )

    def _check_symbols(self) -> None:
        include, exclude = self._value("symbols", "include"), self._value("symbols", "exclude")
        entry = self._lines.get(("symbols", "exclude"))
        if entry is None or any(map(is_pattern, include)):
            return
        if include and not select(include, exclude, listed=()).symbols:
            allowed = "names and patterns that leave some symbol of include"
            self._problem(entry, f"leaves no symbol to collect; allowed: {allowed}")

    def _check_addresses(self) -> None:
        place = self._place()
        stream_url, rest_url = (
            self._value(self._exchange, name) for name in ("stream_url", "rest_url")
        )
        found = address_problem(place.market, place.markets, stream_url, rest_url)
        if found is None:
            return
        names = (found.option, "stream_url", "rest_url", "market")
        places = [(self._exchange, name) for name in names]
        entry = next(self._lines[each] for each in places if each in self._lines)
        self._problem(entry, f"{found.problem}; allowed: {found.option} of {found.allowed}")

    def _check_paths(self) -> None:
        for section, option, obstacle in (
            ("journal", "path", _not_a_file),
            ("logging", "file", _not_a_file),
            (self._exchange, "shared_budget", _not_a_file),
            ("plugins", "path", _not_a_folder),
        ):
            entry = self._lines.get((section, option))
            value = self._value(section, option)
            if (
                entry is None
                or value is None
                or str(value) == self._options[section][option].default
            ):
                continue
            if problem := obstacle(self._absolute(section, value)):
                self._problem(entry, problem)
                del self._values[section][option]

    def _check_shared_budget(self) -> None:
        """It is written to, and begun anew where it is corrupt: so it is a file of its own."""
        entry = self._lines.get((self._exchange, "shared_budget"))
        path = self._value(self._exchange, "shared_budget")
        if entry is None or path is None:
            return
        others = {
            "[journal] path": self._absolute("journal", self._value("journal", "path")),
            "[logging] file": self._absolute("logging", self._value("logging", "file")),
            "this file": self._path,
        }
        here = os.path.abspath(self._absolute(self._exchange, path))  # noqa: PTH100 - cuts out ".."
        for name, other in others.items():
            if other is not None and os.path.abspath(other) == here:  # noqa: PTH100
                self._problem(entry, f"is {name}; allowed: the path of a file of its own")

    def _store_options(self, name: str) -> dict[str, str] | None:
        """Return the section of a store; None when one of its variables is missing."""
        entries = [entry for entry in self._entries(name) if entry.option != PLUGIN]
        texts = [self._expand(entry, show_value=False) for entry in entries]
        options = {
            entry.option: text
            for entry, text in zip(entries, texts, strict=True)
            if text is not None
        }
        names = (match[1] for entry in entries for match in _VARIABLE.finditer(entry.value))
        self.secrets.update(self._environ.get(name, "") for name in names if name)
        self.secrets.update(*map(passwords_of_uris, options.values()))
        return None if None in texts else options

    def _store_plugin(self, name: str) -> str | None:
        """Return of which plugin a store is; None when what its section says of that is wrong."""
        named = name
        for entry in self._entries(name):
            if entry.option != PLUGIN:
                continue
            text = self._expand(entry, show_value=True)
            if text is None:
                return None
            try:
                named = str(_PLUGIN_NAME.parse(text))
            except ValueError as error:
                self._problem(entry, f"{error}; allowed: {_PLUGIN_NAME.allowed}")
                return None
        return named

    def _entries(self, store: str) -> list[Entry]:
        return [entry for entry in self._ini.entries if entry.section == _STORE + store]

    def _expand(self, entry: Entry, *, show_value: bool) -> str | None:
        """Put the environment variables in; None when one of them is missing."""
        wrong = [
            problem
            for match in _VARIABLE.finditer(entry.value)
            if (problem := self._variable_problem(match[1]))
        ]
        for problem in dict.fromkeys(wrong):
            self._problem(entry, problem, show_value=show_value)
        if wrong:
            return None
        return _VARIABLE.sub(lambda match: self._environ[match[1]], entry.value)

    def _variable_problem(self, name: str | None) -> str | None:
        if name is None or not _VARIABLE_NAME.fullmatch(name):
            return "${ is not followed by a name and }; allowed: ${NAME}, an environment variable"
        if name not in self._environ:
            return f"the environment variable {name} is not set; set it before starting"
        return None

    def _problem(self, entry: Entry, text: str, *, show_value: bool = True) -> None:
        # The text of the file is shown, never that of a variable: it may be a secret.
        value = one_line(entry.value) if show_value else ""
        where = f"[{one_line(entry.section)}] {one_line(entry.option)}"
        where += f" = {value}".rstrip() if show_value else ""
        self._problems.append((entry.line, f"{where}: {text}"))

    def _value(self, section: str, option: str) -> Any:
        known = self._options[section][option]
        return self._values[section].get(option, known.type.parse(known.default))

    def _settings(self) -> Iterator[Setting]:
        for section, options in self._options.items():
            for name, option in options.items():
                value = self._value(section, name)
                text = self._texts.get((section, name), option.default)
                if isinstance(value, Path | Shard):
                    text = str(self._absolute(section, value))
                yield Setting(
                    section,
                    name,
                    option.shown(text),
                    option.default,
                    self._origins.get((section, name), DEFAULT),
                    is_default=value == option.type.parse(option.default),
                )

    def _section(self, section: str, kind: type[Any]) -> Any:
        values = {
            field.name: self._value(section, field.metadata["option"].name)
            for field in dataclasses.fields(kind)
        }
        return kind(**{name: self._absolute(section, value) for name, value in values.items()})

    def _absolute(self, section: str, value: Any) -> Any:
        if not isinstance(value, Path):
            return value
        if section == "plugins" and "path" not in self._values[section]:
            return _plugins_folder(self._folder / value)
        return self._folder / value


def _origin(entry: Entry) -> str:
    """Return where a value comes from: a line of the file, perhaps with environment variables."""
    names = dict.fromkeys(match[1] for match in _VARIABLE.finditer(entry.value))
    return ", ".join([f"line {entry.line}", *(f"environment: {name}" for name in names)])


def _with_shard(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return *environ* with SHARD and SHARDS, the numbers of the variable for the shard, if any."""
    number, _, count = environ.get(SHARD_VARIABLE, "").partition("/")
    return {"SHARD": number, "SHARDS": count, **environ} if count else environ


def _not_a_file(path: Path) -> str | None:
    # Not the methods of Path, which raise for what may not be looked at.
    if os.path.isdir(path):  # noqa: PTH112
        return "is a folder; allowed: the path of a file"
    there = next(parent for parent in path.parents if os.path.exists(parent))  # noqa: PTH110
    if not os.path.isdir(there):  # noqa: PTH112
        return f"{one_line(str(there))!r} is not a folder; allowed: a path through folders"
    return None


def _not_a_folder(path: Path) -> str | None:
    return None if os.path.isdir(path) else "is not a folder; allowed: a folder"  # noqa: PTH112


def _plugins_folder(default: Path) -> Path:
    """The default folder, or that of the checkout this package runs from, where only it exists."""
    return default if default.is_dir() else plugins_of_checkout() or default
