"""A plugin says which library it lacks, and how to have it."""

from __future__ import annotations

import pytest

from bintrades import ConfigError, require_library


def test_a_library_that_is_there_is_fine() -> None:
    require_library("json", extra="nothing")


def test_one_that_is_not_is_a_configuration_error_that_says_how_to_have_it() -> None:
    with pytest.raises(ConfigError) as error:
        require_library("no_such_module", package="no-such-package", extra="shelf")

    assert "needs no-such-package, which is not installed: " in str(error.value)
    assert "install no-such-package, or in the checkout" in str(error.value)
    assert "'.[shelf]'" in str(error.value)
