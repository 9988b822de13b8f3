"""What docs/stores.md says of a store, for tests that run it."""

from __future__ import annotations

import re

from tests.checkout import REPOSITORY


def code_of(store: str, language: str) -> list[str]:
    """Return the blocks of *language* in the section of *store*."""
    page = (REPOSITORY / "docs" / "stores.md").read_text("utf-8")
    (section,) = re.findall(rf"^## {store}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
