"""The site that scripts/docs.sh makes of README.md and docs/."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def test_it_has_every_page_in_its_menu_and_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    options = ("--fail-on-warning", "--keep-going", "--conf-dir", "scripts/docs", "--quiet")
    site = tmp_path / "site"
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "--doctree-dir", tmp_path, ".", site],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert (made.returncode, made.stderr) == (0, "")
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert f'<a class="reference internal" href="docs/{page.stem}.html">' in start, page.stem
