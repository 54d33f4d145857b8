"""What people read: a report of a cell's derivation, its proof and its numbers, and the command ``bptt``.

``build_report`` makes a :class:`Document`, which has no format, ``verdict_document`` one of what the oracle says, and
``verification_document`` one of a verified derivation; ``to_html``, ``to_markdown`` and ``to_pdf`` write it down.  The
names are imported when they are first used, so that the command starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.build import build_report
    from reports.document import Document
    from reports.html import to_html
    from reports.markdown import to_markdown
    from reports.parts.judged import verdict_document
    from reports.parts.verified import verification_document
    from reports.pdf import to_pdf

__all__ = ["Document", "build_report", "to_html", "to_markdown", "to_pdf", "verdict_document", "verification_document"]

_HOME = {
    "Document": "reports.document",
    "build_report": "reports.build",
    "to_html": "reports.html",
    "to_markdown": "reports.markdown",
    "to_pdf": "reports.pdf",
    "verdict_document": "reports.parts.judged",
    "verification_document": "reports.parts.verified",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
