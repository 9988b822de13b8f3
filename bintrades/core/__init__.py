"""Trades in, bars out: ledgers, buckets and clocks. Pure: no input or output, no clock."""
