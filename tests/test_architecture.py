"""What the design promises about the shape of the code, read from the code."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bintrades.model.bar_fields import RANK
from bintrades.stores import hookspecs

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
    "stores": {"errors", "model", "util", "options"},
    "pipeline": {"errors", "model", "core", "util", "exchange", "journal", "stores"},
    "config": {"errors", "util", "options", "exchange", "stores"},
    "app": {
        *("errors", "model", "core", "util", "net", "version", "options"),
        *("exchange", "journal", "stores", "pipeline", "config"),
    },
    "cli": {"errors", "model", "util", "version", "options", "journal", "config", "app", "testing"},
    "testing": {"errors", "model", "util", "version", "net", "stores"},
    "__init__": {"errors", "model", "options", "stores", "version"},
    "__main__": {"cli"},
}
"""Which packages a package may import, for annotations too. So: the core knows nothing above it, an
exchange never the journal or the configuration, a store never the configuration or an exchange,
nothing but __main__ the commands."""

OFFENDERS: set[str] = set()
"""Imports against the rules that are still there. It only shrinks: what is mended must leave."""

PURE_PACKAGES = {"core", "model"}
ALSO_PURE = (
    *("app.health", "pipeline.batch_size", "pipeline.delivered"),
    *("exchange.batch", "exchange.events", "exchange.symbols", "net.addresses"),
    *("exchange.binance.backfill_plan", "exchange.binance.budget", "exchange.binance.messages"),
    *("exchange.binance.numbers", "exchange.binance.feed.control", "exchange.binance.feed.frames"),
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


MODULES = {module_name(path): ast.parse(path.read_bytes()) for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.Module, *, for_annotations: bool = False) -> set[str]:
    """Return the full names that are imported when the program runs, inside functions too.

    What is imported for annotations only (TYPE_CHECKING) is left out unless it is asked for.
    """
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += [*node.orelse, *(node.body if for_annotations else ())]
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)
    return names


def own_imports(module: str, *, for_annotations: bool = False) -> set[str]:
    """Return the modules of the package that *module* imports itself."""
    found = set()
    for name in imported(MODULES[module], for_annotations=for_annotations):
        inside = name.removeprefix("bintrades.")
        if inside != name:
            found.add(inside if inside in MODULES else inside.rpartition(".")[0] or "__init__")
    return found & MODULES.keys()


def reachable(module: str) -> set[str]:
    """Return the modules of the package that come with *module*."""
    found: set[str] = set()
    pending = [module]
    while pending:
        new = own_imports(pending.pop()) - found
        found |= new
        pending += new
    return found


def package(module: str) -> str:
    """Return the package of a module, or its own name where it is in none."""
    return module.partition(".")[0] or "__init__"


def is_allowed(importing: str, imported: str) -> bool:
    """Whether the rules let a module import another one."""
    within_binance = importing.startswith("exchange.binance")
    if imported.startswith("exchange.binance"):
        return within_binance or importing == "exchange.registry"
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
        for other in own_imports(module, for_annotations=True)
        if not is_allowed(module, other)
    }

    assert against - OFFENDERS == set()
    assert OFFENDERS - against == set(), "what is mended must leave OFFENDERS"


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
        tops = {imported_name.partition(".")[0] for imported_name in imported(MODULES[name])}
        assert not tops & IMPURE, name
        calls = {
            ast.unparse(node.func) for node in ast.walk(MODULES[name]) if isinstance(node, ast.Call)
        }
        clocks = {call for call in calls if re.search(r"\b(now|today|utcnow|open|print)$", call)}
        assert not clocks, name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(MODULES[module])


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if not name.startswith("testing"))
)
def test_no_module_makes_a_float_of_anything(module: str) -> None:
    # Not only prices: where there is no float(), none can slip onto a price's way.
    calls = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.Call)]

    assert not [call.lineno for call in calls if ast.unparse(call.func) == "float"]


def test_every_package_is_installed_and_every_entry_point_resolves() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    packages = {path.parent for path in PACKAGE.rglob("*.py")}

    assert setup["options"]["packages"] == "find:"
    assert setup["options.packages.find"]["include"].split() == ["bintrades", "bintrades.*"]
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


def test_the_readme_documents_every_hook_with_its_arguments() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")

    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if function.__module__ == hookspecs.__name__:
            arguments = ", ".join(inspect.signature(function).parameters)
            assert f"{name}({arguments})" in readme, f"README.md lacks {name}({arguments})"


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
