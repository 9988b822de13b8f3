"""What README.md and docs/ say is what there is: options, fields, commands, examples that work."""

from __future__ import annotations

import configparser
import json
import re
import sqlite3
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bintrades
from bintrades.cli import main
from bintrades.config.loader import load_config
from bintrades.config.schema import OPTIONS
from bintrades.model.bar_fields import FIELDS, FieldKind
from bintrades.stores.mongodb.store import MongoStore
from bintrades.stores.shipped import options_of_stores
from bintrades.testing.bars import sample_bar
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.store_contract import StoreContract
from tests.end_to_end.collector import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bintrades.options.option import Option

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
COMMANDS, CONFIGURATION, BARS = (
    PAGES[REPOSITORY / "docs" / f"{name}.md"] for name in ("commands", "configuration", "bars")
)
EVERYTHING = "\n".join(PAGES.values())
TYPES = {FieldKind.DECIMAL: "Decimal128"}
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Return what stands in the fenced blocks of *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", EVERYTHING, re.MULTILINE | re.DOTALL)


def row(section: str, option: Option) -> str:
    """Return the line of the documented table of options."""
    default = f"`{option.default}`" if option.default else "nothing"
    allowed = option.type.allowed.replace("*", r"\*")
    return f"| [{section}] {option.name} | {default} | {option.meaning} | {allowed} |"


def table_of_options(options: Mapping[str, Iterable[Option]]) -> str:
    """Return the documented table of the options of some sections, to be copied there."""
    rows = [row(section, option) for section in options for option in options[section]]
    return "\n".join(["| option | default | meaning | allowed |", "|---|---|---|---|", *rows])


def test_the_tables_of_options_are_those_of_the_program() -> None:
    ours = {section: options.values() for section, options in OPTIONS.items()}
    of_stores = {f"store:{name}": options for name, options in options_of_stores().items()}

    for table in (table_of_options(ours), table_of_options(of_stores)):
        assert table in CONFIGURATION, f"it should have:\n{table}"


def test_the_readme_has_every_store_that_comes_with_bintrades_and_no_other() -> None:
    readme = PAGES[REPOSITORY / "README.md"]
    (table,) = re.findall(r"^\| store \|.*\n\|---.*\n((?:\|.*\n)+)", readme, re.MULTILINE)

    assert sorted(re.findall(r"^\| \[(\w+)\]", table, re.MULTILINE)) == sorted(options_of_stores())


def test_the_plugin_of_the_first_five_minutes_prints_the_bars_of_a_simulated_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "plugins" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (ini,) = re.findall(r"^```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with ExchangeSimulator() as exchange, Collector(tmp_path, exchange) as collector:
        for default, ours in (
            ("ws://127.0.0.1:9443", exchange.stream_url),
            ("http://127.0.0.1:9080", exchange.rest_url),
        ):
            assert default in ini
            ini = ini.replace(default, ours)
        (collector.plugins / "mine.py").write_text(code, encoding="utf-8")
        collector.ini.write_text(f"{ini}\n[http]\nlisten =\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert main(["check", "--config", "bintrades.ini"]) == 0
        assert "[store:mine] currency = USD" in capsys.readouterr().out
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade")
        exchange.publish("BTCUSDT", "60000.1", "0.5", time_ms=1_720_000_000_000)
        exchange.publish("BTCUSDT", "60000.2", "0.5", time_ms=1_720_000_010_000)

        collector.wait_for_log("BTCUSDT 2024-07-03 09:46:40+00:00 60000.1 USD\n")
        assert collector.stop() == 0


def test_what_is_said_to_be_public_is_what_can_be_imported() -> None:
    page = PAGES[REPOSITORY / "docs" / "plugins.md"]
    (row,) = re.findall(r"^\| the names of `bintrades.__all__` \| (.*) \|$", page, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", row))

    assert named == {name for name in bintrades.__all__ if not name.startswith("_")}


def test_the_defaults_of_the_mongodb_store_are_documented() -> None:
    for option in MongoStore.OPTIONS:
        default = f"`{re.escape(option.default)}`" if option.default else "nothing"
        told = rf"`{option.name}` \((default )?{default}"
        assert re.search(told, CONFIGURATION), option.name


def table_of_fields() -> str:
    """Return the documented table of a bar's fields; neighbours of one meaning share a row."""
    rows = [
        f"| {', '.join(field.name for field in fields)} | {TYPES.get(kind, kind)} | {meaning} |"
        for (kind, meaning), fields in groupby(FIELDS, key=attrgetter("kind", "meaning"))
    ]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def test_the_table_of_fields_is_that_of_the_program() -> None:
    assert table_of_fields() in BARS, f"it should have:\n{table_of_fields()}"


@pytest.mark.parametrize("text", blocks("ini"))
def test_each_example_of_a_configuration_is_right(text: str, tmp_path: Path) -> None:
    (tmp_path / "bintrades.ini").write_text(text, encoding="utf-8")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)

    environ = {"MONGODB_PASSWORD": "secret", "KAFKA_PASSWORD": "secret", "BINTRADES_SHARD": "2/5"}
    config = load_config(tmp_path / "bintrades.ini", environ)

    assert ", ".join(config.stores.enabled) == parser["stores"]["enabled"]


def test_every_command_is_in_the_table_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    there = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)

    assert re.findall(r"^\| `bintrades ([a-z]+)", COMMANDS, re.MULTILINE) == there


def anchors(page: str) -> set[str]:
    """Return what #... may name on a page: its headings, as they are made into addresses."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def links(path: Path) -> list[tuple[Path, str]]:
    """Return file and anchor of each link of a page that leads to a file of the checkout."""
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", PAGES[path]))
    parts = [target.partition("#") for target in targets]
    return [((path.parent / file).resolve() if file else path, part) for file, _, part in parts]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for file, anchor in links(path):
        assert file.exists(), f"{path.name}: there is no {file}"
        assert not anchor or anchor in anchors(PAGES[file]), f"{path.name}: {file.name}#{anchor}"


def test_every_page_can_be_found_from_the_readme_and_every_picture_from_a_page() -> None:
    readme = REPOSITORY / "README.md"
    linked = {file for file, _ in links(readme)}
    pages = set(PAGES) - {readme}
    pictures = set((REPOSITORY / "docs").iterdir()) - pages

    assert pages <= linked
    assert pictures <= linked | {file for page in pages for file, _ in links(page)}


class TestTheExampleOfAPlugin(StoreContract):
    name = "shelf"

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, str]:
        self.folder = tmp_path / "plugins"
        self.folder.mkdir()
        (source,) = [block for block in blocks("python") if "@hookimpl" in block]
        (self.folder / "shelf.py").write_text(source, encoding="utf-8")
        self.path = tmp_path / "var" / "shelf.db"
        return {"path": str(self.path)}

    def stored(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return [typed(json.loads(bar)) for (bar,) in connection.execute("SELECT bar FROM bars")]


def typed(bar: dict[str, Any]) -> dict[str, Any]:
    """Turn the strings of a bar in JSON into decimals and times again."""
    like = sample_bar().as_dict()
    return {
        name: Decimal(value)
        if isinstance(like[name], Decimal)
        else datetime.fromisoformat(value)
        if isinstance(like[name], datetime)
        else value
        for name, value in bar.items()
    }
