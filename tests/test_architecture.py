"""What the design promises about the shape of the code, read from the code."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import inspect
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bintrades.model.bar_fields import RANK
from bintrades.stores import hookspecs
from bintrades.stores.built_in import SHIPPED, shipped_plugins
from tests.imports import (
    ROOT,
    bound_packages,
    imported,
    imports_by_name,
    modules_of,
    named_in_strings,
)

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "bintrades"

MAY_IMPORT = {
    "errors": {"model"},
    "version": set(),
    "model": set(),
    "core": {"errors", "model"},
    "util": {"errors"},
    "options": {"errors", "util"},
    "net": {"errors", "util", "version"},
    "exchange": {"errors", "model", "core", "util", "net", "version"},
    "journal": {"errors", "model", "core", "util"},
    "bson_decimals": set(),
    "arrow": {"errors", "model", "core", "util"},
    "reading": {"errors", "model", "core", "util", "arrow", "journal", "stores", "config"},
    "stores": {"errors", "model", "util", "options"},
    "pipeline": {"errors", "model", "core", "util", "exchange", "journal", "stores"},
    "config": {"errors", "util", "options", "exchange", "stores"},
    "app": {
        *("errors", "model", "core", "util", "net", "version", "options"),
        *("exchange", "journal", "stores", "pipeline", "config", "reading"),
    },
    "cli": {
        *("errors", "model", "core", "util", "version", "options", "arrow", "reading"),
        *("journal", "config", "app", "testing"),
    },
    "testing": {"errors", "model", "util", "version", "net", "stores"},
    "__init__": {"errors", "model", "options", "stores", "version", "reading"},
    "__main__": {"cli"},
}
"""Which packages a package may import, for annotations too. So: the core knows nothing above it, an
exchange never the journal or the configuration, a store never the configuration or an exchange,
nothing but __main__ the commands."""

NEVER = {
    "model": MAY_IMPORT.keys() - {"model"},
    "core": MAY_IMPORT.keys() - {"core", "model", "errors"},
    "exchange": {"journal", "config", "app", "pipeline", "stores", "cli", "testing"},
    "pipeline": {"config", "app", "cli", "testing"},
    "journal": {"exchange", "stores", "pipeline", "config", "app", "cli", "testing"},
    "stores": {"core", "exchange", "journal", "pipeline", "config", "app", "cli", "testing"},
    "config": {"journal", "pipeline", "app", "cli", "testing"},
    "app": {"cli", "testing"},
}
"""What a package must never know, by itself or by way of others, whatever the table above says."""

PURE_PACKAGES = {"core", "model"}
ALSO_PURE = (
    *("app.health", "pipeline.batch_size", "pipeline.commit_schedule", "pipeline.delivered"),
    *("exchange.batch", "exchange.events", "exchange.symbols", "net.addresses"),
    *("exchange.binance.backfill_plan", "exchange.binance.budget", "exchange.binance.messages"),
    *("exchange.binance.numbers", "exchange.binance.feed.control", "exchange.binance.feed.frames"),
    *("exchange.binance.futures_plan", "exchange.binance.past_rows"),
    *("exchange.binance.feed.stall", "exchange.binance.feed.subscription"),
)
IMPURE = {
    *("asyncio", "fcntl", "http", "io", "logging", "multiprocessing", "os", "pathlib"),
    *("pymongo", "queue", "random", "requests", "schedule", "select", "selectors", "shutil"),
    *("signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time"),
    *("urllib", "urllib3", "websocket"),
}


def module_name(path: Path) -> str:
    """Return the name inside the package: binance.rest, testing for testing/__init__.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Return the syntax of *module*; not before a test asks for it, as every worker comes here."""
    return ast.parse(MODULES[module].read_bytes())


PACKAGES = {module_name(path) for path in PACKAGE.rglob("__init__.py")} - {"__init__"}


@functools.cache
def own_imports(module: str, *, for_annotations: bool = False) -> frozenset[str]:
    """Return the modules of the package that *module* imports itself."""
    return frozenset(modules_of(names_imported(module, for_annotations=for_annotations), MODULES))


@functools.cache
def names_imported(module: str, *, for_annotations: bool = False) -> frozenset[str]:
    """Return the full names that *module* imports."""
    inside = module if module in PACKAGES else module.rpartition(".")[0]
    base = f"{ROOT}.{inside}".rstrip(".")
    return frozenset(imported(tree_of(module), base, for_annotations=for_annotations))


def reachable(module: str, *, for_annotations: bool = False) -> set[str]:
    """Return the modules of the package that come with *module*."""
    found: set[str] = set()
    pending = [module]
    while pending:
        new = own_imports(pending.pop(), for_annotations=for_annotations) - found
        found |= new
        pending += new
    return found


def package(module: str) -> str:
    """Return the package of a module, or its own name where it is in none."""
    return module.partition(".")[0] or "__init__"


def is_binance(module: str) -> bool:
    """Whether a module is part of the one exchange that there is."""
    return f"{module}.".startswith("exchange.binance.")


def is_allowed(importing: str, imported: str) -> bool:
    """Whether the rules let a module import another one."""
    if is_binance(imported):
        return is_binance(importing) or importing == "exchange.registry"
    if imported == "exchange.registry" and package(importing) == "exchange":
        return False
    if package(imported) == "testing" and package(importing) == "cli":
        return importing == "cli.simulate"
    own, other = package(importing), package(imported)
    return own == other or other in MAY_IMPORT[own]


def test_every_package_has_a_rule() -> None:
    assert {package(module) for module in MODULES} == MAY_IMPORT.keys()


def test_imports_keep_the_rules() -> None:
    against = {
        f"{module} -> {other}"
        for module in MODULES
        for other in {
            *own_imports(module, for_annotations=True),
            *modules_of(named_in_strings(tree_of(module)), MODULES),
        }
        if not is_allowed(module, other)
    }

    assert against == set()


@pytest.mark.parametrize("importing", NEVER)
def test_what_a_package_must_never_know_does_not_even_come_with_it(importing: str) -> None:
    against = {
        f"{module} -> {other}"
        for module in MODULES
        if package(module) == importing
        for other in reachable(module, for_annotations=True)
        if package(other) in NEVER[importing]
    }

    assert against == set()


def test_nobody_imports_the_commands_and_only_one_of_them_the_simulator() -> None:
    importing = {
        f"{module} -> {package(other)}"
        for module in MODULES
        for other in own_imports(module, for_annotations=True)
        if package(other) in ("cli", "testing") and package(module) != package(other)
    }

    assert importing == {"__main__ -> cli", "cli.simulate -> testing"}


def test_only_the_registry_imports_a_certain_exchange() -> None:
    importing = {
        module
        for module in MODULES
        if any(map(is_binance, own_imports(module, for_annotations=True)))
    }

    assert {module for module in importing if not is_binance(module)} == {"exchange.registry"}


def test_no_module_has_a_name_for_a_package() -> None:
    bound = {
        f"{module}: {name}"
        for module in MODULES
        for name in bound_packages(names_imported(module, for_annotations=True), PACKAGES)
    }

    assert bound == set()


def test_only_commands_and_plugins_are_imported_by_name() -> None:
    importing = {module for module in MODULES if imports_by_name(tree_of(module))}

    assert importing == {"cli.dispatch", "stores.finder"}


@pytest.mark.parametrize("path", shipped_plugins().values(), ids=lambda path: path.stem)
def test_the_plugins_take_from_the_package_what_any_plugin_may(path: Path) -> None:
    names = imported(ast.parse(path.read_bytes()))

    assert {"__init__"} <= set(modules_of(names, MODULES)) <= {"__init__", "arrow"}


def test_the_rules_run_one_way() -> None:
    for name in MAY_IMPORT:
        reached: set[str] = set()
        pending = [name]
        while pending:
            new = MAY_IMPORT[pending.pop()] - reached
            reached |= new
            pending += new
        assert name not in reached


def test_only_commands_know_the_service() -> None:
    importing = {name for name in MODULES if "app.service" in own_imports(name)}

    assert importing <= {name for name in MODULES if package(name) == "cli"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    # The package's own __init__ is a shelf of names for plugins; nothing below may take from it.
    assert [name for name in MODULES if name in reachable(name)] == []


@pytest.mark.parametrize(
    "module", [*ALSO_PURE, *sorted(name for name in MODULES if package(name) in PURE_PACKAGES)]
)
def test_pure_modules_do_no_input_or_output_and_read_no_clock(module: str) -> None:
    for name in {module, *reachable(module)}:
        tops = {imported_name.partition(".")[0] for imported_name in imported(tree_of(name))}
        assert not tops & IMPURE, name
        calls = {
            ast.unparse(node.func) for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)
        }
        clocks = {call for call in calls if re.search(r"\b(now|today|utcnow|open|print)$", call)}
        assert not clocks, name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if not name.startswith("testing"))
)
def test_no_module_makes_a_float_of_anything(module: str) -> None:
    # Not only prices: where there is no float(), none can slip onto a price's way.
    calls = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]

    assert not [call.lineno for call in calls if ast.unparse(call.func) == "float"]


def test_every_package_is_installed_and_every_entry_point_resolves() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    packages = {path.parent for path in PACKAGE.rglob("*.py")}

    assert setup["options"]["package_dir"].split() == [SHIPPED, "=", "plugins"]
    code = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    assert f'[*find_packages(include=["bintrades", "bintrades.*"]), "{SHIPPED}"]' in code
    assert [str(folder) for folder in packages if not (folder / "__init__.py").exists()] == []
    assert (PACKAGE / "py.typed").exists()
    for group in ("console_scripts", "bintrades"):
        for line in setup["options.entry_points"][group].strip().splitlines():
            name, _, target = (part.strip() for part in line.partition("="))
            module, _, attribute = target.partition(":")
            found = importlib.import_module(module)
            assert not attribute or callable(getattr(found, attribute)), line
            assert target in {entry.value for entry in entry_points(group=group, name=name)}, (
                f"{name} is not installed: run scripts/test.sh"
            )


def test_every_plugin_in_the_folder_has_its_entry_point_and_every_entry_point_its_plugin() -> None:
    files = sorted(path for path in (REPOSITORY / "plugins").glob("[!_]*.py"))

    assert list(shipped_plugins().values()) == files
    assert list(shipped_plugins()) == [path.stem for path in files]
    for path in files:
        (point,) = entry_points(group=hookspecs.PROJECT, name=path.stem)
        assert point.value == f"{SHIPPED}.{path.stem}"


def test_every_hook_is_documented_with_its_arguments() -> None:
    page = (REPOSITORY / "docs" / "plugins.md").read_text(encoding="utf-8")

    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if function.__module__ == hookspecs.__name__:
            arguments = ", ".join(inspect.signature(function).parameters)
            assert f"{name}({arguments})" in page, f"docs/plugins.md lacks {name}({arguments})"


def test_the_hook_that_stores_bars_tells_their_order() -> None:
    assert f"(Bar.rank: {', '.join(RANK)}, in this order)" in " ".join(
        str(hookspecs.store_bars.__doc__).split()
    )


def test_the_readme_names_every_script() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (REPOSITORY / "scripts").glob("*.sh")} - {"environment.sh"}

    assert {name for name in scripts if f"scripts/{name}" not in readme} == set()


def test_this_python_is_one_that_the_package_declares() -> None:
    setup = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")

    assert f"Python :: {sys.version_info.major}.{sys.version_info.minor}\n" in setup
