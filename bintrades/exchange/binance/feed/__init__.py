"""Binance's streams: connections and what is read from them."""
