"""json.dumps, and a file that is synced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bintrades import Bar


def write_plain(options: dict[str, str], batches: Sequence[Sequence[Bar]]) -> None:
    """Append each batch."""
    with Path(options["path"]).open("a", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(bar.as_dict(), default=str) + "\n" for bar in batch)
            file.flush()
            os.fsync(file.fileno())
