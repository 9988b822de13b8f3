"""What plugin authors and our own tests share: an exchange, a MongoDB server, a store contract.

The exchange needs the extra "simulator".
"""
