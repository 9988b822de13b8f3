"""Has assertions of the contract show what differs."""

import pytest

pytest.register_assert_rewrite("bintrades.testing.store_contract")
