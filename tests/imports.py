"""Which modules a source text imports, by whatever way Python has for it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = "bintrades"

BY_NAME = {
    *("__import__", "import_module", "resolve_name", "run_module", "run_path", "modules"),
    *("spec_from_file_location", "exec_module", "exec", "eval"),
}
"""What makes a module of a string; `modules` is that of sys."""


def imported(tree: ast.Module, package: str = "", *, for_annotations: bool = False) -> set[str]:
    """Return the full names that *tree* imports when the program runs, inside functions too.

    Relative imports start from *package*. What is imported for annotations only (TYPE_CHECKING) is
    left out unless it is asked for.
    """
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            body, otherwise = node.body, node.orelse
            if isinstance(node.test, ast.UnaryOp):  # if not TYPE_CHECKING
                body, otherwise = otherwise, body
            pending += [*otherwise, *(body if for_annotations else ())]
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
            names.update(alias.name.partition(".")[0] for alias in node.names if not alias.asname)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, package)
            names.update(f"{origin}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)
    return names


def _origin(node: ast.ImportFrom, package: str) -> str:
    """Return the full name of what *node* takes names from."""
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])


def named_in_strings(tree: ast.Module) -> set[str]:
    """Return the full names below ROOT in strings, from which a module can be made."""
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text.rstrip(".") for text in texts if text.startswith(f"{ROOT}.") and " " not in text}


def imports_by_name(tree: ast.Module) -> bool:
    """Whether *tree* makes modules of strings, whatever it calls the function for it."""
    imported_names = {name.rpartition(".")[2] for name in imported(tree, for_annotations=True)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool(BY_NAME & (imported_names | used))


def modules_of(names: Collection[str], modules: Collection[str]) -> Iterator[str]:
    """Yield which of *modules*, known by their names below ROOT, the full *names* mean.

    That is the longest part of each name that is one; of ROOT alone it is "__init__".
    """
    for name in names:
        top, _, rest = name.partition(".")
        if top == ROOT:
            while rest and rest not in modules:
                rest = rest.rpartition(".")[0]
            yield rest or "__init__"


def bound_packages(names: Collection[str], packages: Collection[str]) -> set[str]:
    """Return which of the full *names* are packages, known by their names below ROOT.

    Who has a name for a package has a way to each module in it, which no rule sees.
    """
    full = {ROOT, *(f"{ROOT}.{package}" for package in packages)}
    return full & set(names)
