"""Everything that knows the exchange: its markets, messages, frames, connections and REST side."""
