"""How a user of each client library would write the same bars, one module for each store.

write_plain(options, batches) gets the options of an empty store, and writes what a store writes:
the same fields, exact, a batch at a time and durable. It looks at nothing that is stored.
"""
