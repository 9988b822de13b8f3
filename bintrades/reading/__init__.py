"""Bars for programs and notebooks, as Arrow: from a journal, or from a store that can be read."""

from bintrades.reading.as_arrow import Bars, bar_batches, bars

__all__ = ["Bars", "bar_batches", "bars"]
