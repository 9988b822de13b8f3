"""The way of a trade: ingest, backfill, delivery, pruning."""
