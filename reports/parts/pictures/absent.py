"""What stands where a figure would make no sense."""

from __future__ import annotations

from reports.document import Paragraph

__all__ = ["absent"]


def absent(what: str, reason: str) -> Paragraph:
    """A note that says which figure is left out, and why."""
    return Paragraph((f"There is no figure of {what} here: {reason}.",), "note")
