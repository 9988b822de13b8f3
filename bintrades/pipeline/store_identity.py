"""Whether a store still is what it was. One that was emptied or replaced has none of its bars."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bintrades.journal.cursor import Cursor
    from bintrades.stores.store import Store

log = logging.getLogger(__name__)


def resend_if_replaced(store: Store, cursor: Cursor) -> bool:
    """Have *store* get all bars that the journal has, where it is another one than before.

    Returns whether it is. Called on the store's thread, while it is open. Raises what the plugin
    raises, and JournalError.
    """
    identity = store.identity()
    if identity is None or not cursor.begin_again_if_other(identity):
        return False
    log.warning(
        "store %s is not the one that it was, or was emptied: it gets all bars that the journal"
        " still has",
        store.name,
        extra={"event": "store_replaced", "store": store.name},
    )
    return True
