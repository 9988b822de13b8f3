"""What the command lines of our tools take as a number."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys

import pytest

from bintrades.testing.amounts import number, whole_number
from tests.checkout import REPOSITORY


def test_numbers_within_bounds_are_taken() -> None:
    assert [whole_number(-1, 10)(text) for text in ("-1", "0", "10")] == [-1, 0, 10]
    assert [number(0.5, math.inf)(text) for text in ("0.5", "1e3", "inf")] == [0.5, 1000, math.inf]


@pytest.mark.parametrize("text", ["", "-2", "11", "1.0", "1_0", " 1", "٣", "9" * 5_000])
def test_any_other_whole_number_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a whole number from -1 to 10$"):
        whole_number(-1, 10)(text)


@pytest.mark.parametrize("text", ["", "nan", "0.49", "-1", "1e400", "one"])
def test_any_other_fraction_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a number from 0.5 to 2$"):
        number(0.5, 2)(text)


@pytest.mark.parametrize(
    ("module", "option"),
    [
        ("scripts.soak", "--minutes=0"),
        ("scripts.soak", "--symbols=0"),
        ("scripts.soak", "--sample-every=0"),
        ("scripts.soak", "--speed=nan"),
        ("scripts.soak", "--trades-per-day=-1"),
        ("scripts.benchmark", "--scale=0"),
        ("scripts.benchmark", "--repeat=0"),
        ("tests.simulation", "--seeds=0"),
        ("tests.simulation", "--jobs=0"),
    ],
)
def test_no_tool_begins_with_an_amount_that_makes_no_sense(module: str, option: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, option],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert f"argument {option.partition('=')[0]}: must be a " in ended.stderr
