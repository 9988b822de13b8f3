"""The pages for developers name only what is there, and their example works."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from bintrades.model.bar_fields import FIELDS
from tests.nested_pytest import run_pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "bintrades"
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("[A-Z]*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCES = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]

WRITTEN_BY_THE_READER = {"plugins/shelf.py"}
OF_PYTHON = {"Decimal"}


@functools.cache
def definitions() -> set[str]:
    """Return every class, member and function of the package: Bar, Bar.rank, decode()."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                found |= {node.name, *(f"{node.name}.{name}" for name in members(node))}
            elif isinstance(node, ast.FunctionDef):
                found.add(f"{node.name}()")
    return found


def members(node: ast.ClassDef) -> set[str]:
    """Return the methods and attributes that a class declares."""
    found = set()
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            found.add(each.name)
        elif isinstance(each, ast.AnnAssign | ast.Assign):
            target = each.target if isinstance(each, ast.AnnAssign) else each.targets[0]
            found.add(ast.unparse(target))
    return found


def named(page: Path) -> list[str]:
    """Return what stands between back-ticks, blocks left out."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")))


def blocks(page: Path, language: str) -> list[str]:
    """Return what stands in the fenced blocks of *language*; "" for those without one."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for each, text in found if each == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = " ".join([*named(page), *blocks(page, "")])
    paths = set(re.findall(r"\b[a-z_]+/[a-z_/]*(?:\.\w+)?", text)) - WRITTEN_BY_THE_READER

    there = {path for path in paths if (PACKAGE / path).exists() or (REPOSITORY / path).exists()}
    assert paths - there == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_class_and_function_that_a_page_names_is_there(page: Path) -> None:
    names = {name for name in named(page) if re.fullmatch(r"[A-Z][a-z]\w*(\.\w+)?|\w+\(\)", name)}

    assert names - definitions() - OF_PYTHON == set()


def test_the_architecture_names_every_package() -> None:
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}

    assert packages <= set(named(DOCS / "ARCHITECTURE.md"))


def test_each_word_of_the_glossary_is_one_of_the_code() -> None:
    glossary = (DOCS / "GLOSSARY.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| ([a-z ]+?) \|", glossary, re.MULTILINE)[1:]
    code = "\n".join(SOURCES).lower()

    assert terms == sorted(set(terms))
    assert len(terms) > 30
    assert [term for term in terms if not re.search(term.replace(" ", "[ _]"), code)] == []


def test_the_example_of_a_store_passes_the_test_beside_it(tmp_path: Path) -> None:
    plugin, test = blocks(DOCS / "ADD_A_STORE.md", "python")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "shelf.py").write_text(plugin, encoding="utf-8")
    (tmp_path / "test_shelf.py").write_text(test, encoding="utf-8")

    ended = run_pytest(tmp_path / "test_shelf.py")

    assert ended.returncode == 0, ended.stdout
    assert re.search(r"\d\d passed", ended.stdout), ended.stdout


def test_a_store_is_told_which_fields_it_may_leave_out() -> None:
    (may,) = re.findall(r"may leave out `(\w+)`", (DOCS / "ADD_A_STORE.md").read_text("utf-8"))

    assert [may] == [field.name for field in FIELDS if field.is_optional]
