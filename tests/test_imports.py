"""The guard of the architecture sees every way of importing a module."""

from __future__ import annotations

import ast

import pytest

from tests.imports import (
    bound_packages,
    imported,
    imports_by_name,
    modules_of,
    named_in_strings,
)

MODULES = {"__init__", "core", "core.ledger", "exchange", "exchange.binance", "exchange.registry"}
PACKAGES = {"core", "exchange", "exchange.binance"}


def found(
    source: str, package: str = "bintrades.core", *, for_annotations: bool = True
) -> set[str]:
    """Return the modules that *source*, a module of *package*, imports."""
    names = imported(ast.parse(source), package, for_annotations=for_annotations)
    return set(modules_of(names, MODULES))


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from bintrades.core.ledger import Ledger", "core.ledger"),
        ("from bintrades.core import ledger", "core.ledger"),
        ("from bintrades.core import *", "core"),
        ("from bintrades import core", "core"),
        ("from bintrades import Bar", "__init__"),
        ("import bintrades", "__init__"),
        ("import bintrades as ours", "__init__"),
        ("import bintrades.core.ledger", "core.ledger"),
        ("import bintrades.core.ledger as ledger", "core.ledger"),
        ("from .ledger import Ledger", "core.ledger"),
        ("from . import ledger", "core.ledger"),
        ("from ..exchange import registry", "exchange.registry"),
        ("from ..exchange.binance.rest import Rest", "exchange.binance"),
        ("from .. import exchange", "exchange"),
        ("def later():\n    from bintrades.exchange import registry", "exchange.registry"),
        ("try:\n    import bintrades.exchange\nexcept ImportError:\n    pass", "exchange"),
    ],
)
def test_each_form_of_import_is_seen(source: str, module: str) -> None:
    assert module in found(source)


def test_modules_of_others_are_not_ours() -> None:
    assert found("import os.path\nfrom bintrades_extra.core import ledger") == set()


@pytest.mark.parametrize(
    "source",
    [
        "import bintrades",
        "import bintrades as ours",
        "import bintrades.core.ledger",
        "import bintrades.exchange as exchange",
        "from bintrades import exchange",
        "from bintrades.exchange import binance as plug",
        "from .. import exchange",
    ],
)
def test_a_name_for_a_package_is_seen_since_it_leads_to_all_modules_in_it(source: str) -> None:
    names = imported(ast.parse(source), "bintrades.core", for_annotations=True)

    assert bound_packages(names, PACKAGES)


def test_names_of_modules_and_of_what_is_in_them_lead_nowhere_else() -> None:
    source = "from bintrades.core import ledger\nfrom bintrades.exchange.registry import EXCHANGES"

    assert not bound_packages(imported(ast.parse(source)), PACKAGES)


@pytest.mark.parametrize(
    "source",
    [
        "importlib.import_module('bintrades.core')",
        "from importlib import import_module as bring\nbring('bintrades.' + name)",
        "__import__('bintrades')",
        "load = __builtins__.__import__",
        "pkgutil.resolve_name('bintrades.core:ledger')",
        "runpy.run_module(name)",
        "sys.modules['bintrades'].exchange",
        "exec('import bintrades.exchange')",
    ],
)
def test_a_module_made_of_a_string_is_seen(source: str) -> None:
    assert imports_by_name(ast.parse(source))


def test_a_module_that_only_imports_statements_makes_none_of_strings() -> None:
    assert not imports_by_name(ast.parse("import importlib.metadata\nfrom os import path"))


@pytest.mark.parametrize(
    "source",
    [
        "import_module('bintrades.exchange.binance.rest')",
        "import_module(f'bintrades.exchange.binance.{name}')",
        "NAMES = ['bintrades.exchange.binance']",
    ],
)
def test_a_module_named_in_a_string_is_one_that_is_imported(source: str) -> None:
    assert set(modules_of(named_in_strings(ast.parse(source)), MODULES)) == {"exchange.binance"}


def test_what_is_imported_for_annotations_is_told_apart() -> None:
    source = (
        "if TYPE_CHECKING:\n    from bintrades.core import ledger\n"
        "if not typing.TYPE_CHECKING:\n    from bintrades.exchange import registry"
    )

    assert found(source, for_annotations=False) == {"exchange.registry"}
    assert found(source) == {"core.ledger", "exchange.registry"}
