"""What an option is in effect, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "default"
"""The origin of what nobody has set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One option; value and default as people may see them. Paths are whole ones."""

    section: str
    name: str
    value: str
    default: str
    origin: str
    is_default: bool

    def __str__(self) -> str:
        """Return it in a line."""
        setting = f"[{self.section}] {self.name} = {self.value}".rstrip()
        if self.is_default:
            return f"{setting} ({self.origin})"
        return f"{setting} ({self.origin}; default: {self.default or 'nothing'})"
