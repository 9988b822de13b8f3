"""The options of the stores that come with bintrades, as everybody sees them."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

from bintrades.config.example import example_text
from bintrades.stores.built_in import shipped_plugins
from bintrades.stores.shipped import options_of_stores

REPOSITORY = Path(__file__).resolve().parents[2]
WITHOUT_LIBRARIES = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError(f"no {{name}}")

sys.meta_path.insert(0, Refuses())
from bintrades.config.example import example_text
print(example_text(), end="")
"""
LIBRARIES = {
    *("clickhouse_connect", "confluent_kafka", "duckdb", "numpy", "obstore", "pandas"),
    *("psycopg", "pyarrow", "pymongo", "redis"),
}


def test_the_default_store_comes_first_and_the_others_in_alphabetical_order() -> None:
    assert list(options_of_stores()) == ["mongodb", *sorted(shipped_plugins())]


def test_every_store_that_comes_with_us_declares_its_options() -> None:
    for name, options in options_of_stores().items():
        assert options, name
        assert [each.name for each in options if not each.meaning] == [], name


def test_the_example_is_the_same_whatever_libraries_are_installed() -> None:
    """Which is what `bintrades example` prints, and what etc/bintrades.ini has."""
    code = WITHOUT_LIBRARIES.format(names=LIBRARIES)
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == example_text()


def test_the_example_has_each_option_of_each_store_and_only_the_default_one_is_in_force() -> None:
    text = example_text()
    in_force = configparser.ConfigParser(interpolation=None, strict=True)
    in_force.read_string(text)
    every = configparser.ConfigParser(interpolation=None, strict=True)
    every.read_string(text.replace("\n;", "\n").replace("\n ", "\n# "))

    stores = [name for name in in_force.sections() if name.startswith("store:")]
    assert stores == ["store:mongodb"]
    for name, options in options_of_stores().items():
        there = dict(every[f"store:{name}"])
        assert there == {option.name: option.default for option in options}
