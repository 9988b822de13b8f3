"""The audit: bars compared with the exchange's own klines, all day.

Minutes that agree are on record as verified. What differs is looked at again minutes later, since
klines may be revised; then klines of a second show which bars differ, these are made again of the
exchange's trades, once, and compared again. What differs still is on record with both sides.
Where klines are late, missing or in error, nothing is concluded: it is compared again later.
"""
