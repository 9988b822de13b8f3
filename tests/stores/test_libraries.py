"""A plugin says which library it lacks, and how to have it."""

from __future__ import annotations

import pytest

from bintrades import ConfigError, require_library


def test_a_library_that_is_there_is_fine() -> None:
    require_library("json", extra="nothing")


def test_the_extra_of_an_installed_bintrades_is_named_which_needs_no_checkout() -> None:
    with pytest.raises(ConfigError) as error:
        require_library("no_such_module", package="psycopg[binary]", extra="postgresql")

    assert str(error.value).startswith("needs psycopg[binary], which is not installed: ")
    assert str(error.value).endswith(" 'bintrades[postgresql]'")
    assert "checkout" not in str(error.value)


def test_a_package_is_named_as_every_shell_takes_it() -> None:
    with pytest.raises(ConfigError, match=r" 'some\[thing\]', or in the checkout"):
        require_library("no_such_module", package="some[thing]", extra="none_of_ours")


def test_one_that_is_not_is_a_configuration_error_that_says_how_to_have_it() -> None:
    with pytest.raises(ConfigError) as error:
        require_library("no_such_module", package="no-such-package", extra="shelf")

    assert "needs no-such-package, which is not installed: " in str(error.value)
    assert " no-such-package, or in the checkout" in str(error.value)
    assert "'.[shelf]'" in str(error.value)
