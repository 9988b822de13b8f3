"""The package with the versions of the Python and of the packages that happen to be here."""

from __future__ import annotations

import importlib
import pkgutil

import bintrades


def test_every_module_is_imported_without_a_warning() -> None:
    found = [each.name for each in pkgutil.walk_packages(bintrades.__path__, "bintrades.")]
    programs = {name for name in found if name.endswith(".__main__")}

    for name in set(found) - programs:
        importlib.import_module(name)

    assert len(found) > 100
