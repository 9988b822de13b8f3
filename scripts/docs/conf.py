"""How Sphinx makes a site of README.md and docs/, for scripts/docs.sh and whoever hosts it.

The sources are the repository itself: the pages stay what a code host shows, and every link from
one to another, or to a file beside them, is the same in both places.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bintrades import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "bintrades"
author = "bintrades contributors"
copyright = f"2026 {author}"  # noqa: A001  (the name is Sphinx's)
release = __version__

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "plugins/README.md"]
myst_heading_anchors = 4  # each heading is an address, as on a code host
nitpicky = True

html_theme = "furo"
html_title = f"bintrades {release}"
html_copy_source = False
html_show_sphinx = False

PAGES = {
    "Use": [
        *("commands", "configuration", "symbols", "markets", "operation", "deployment"),
        *("scaling", "monitoring", "status", "log_events"),
        *("bars", "querying", "arrow", "export", "recipes", "simulator"),
    ],
    "What is proven": ["completeness", "gaps", "coverage", "audit", "verification"],
    "Extend": ["stores", "mongodb", "plugins", "ADD_A_STORE", "ADD_A_MARKET"],
    "Develop": ["ARCHITECTURE", "GLOSSARY", "development", "benchmark"],
}
"""The pages of docs/ in the order of the site's menu; one that is missing here fails the build."""

_OTHERS = {"The project": ["CHANGELOG", "CONTRIBUTING", "SECURITY"]}


def _menu() -> str:
    """Return the menu as MyST writes it: a hidden table of contents for each caption."""
    lines = []
    named = {caption: [f"docs/{page}" for page in pages] for caption, pages in PAGES.items()}
    named["Extend"].append("plugins/README")
    for caption, pages in (named | _OTHERS).items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]
    return "\n".join(["", *lines, ""])


def _add_menu(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put the menu below the start page, where a code host would show it as text."""
    if page == root_doc:
        source[0] += _menu()


def _add_index(app: Sphinx, failure: Exception | None) -> None:
    """Have the start page found where a web server looks for one."""
    if failure is None:
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Have Sphinx read the start page with the menu, and write it where it is found."""
    app.connect("source-read", _add_menu)
    app.connect("build-finished", _add_index)
