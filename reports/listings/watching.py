"""The values that a listing's own variables take while it runs, line by line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from reports.listings.source import Source

__all__ = ["watch"]


def watch(source: Source, names: Sequence[str], call: Callable[[], Any]) -> tuple[Any, dict[str, list[Any]]]:
    """Call it, and list every value that each of some variables of the listing was given, in order."""
    seen: dict[str, list[Any]] = {name: [] for name in names}

    def look(frame: FrameType) -> None:
        for name in names:
            if name in frame.f_locals and not any(x is frame.f_locals[name] for x in seen[name][-1:]):
                seen[name].append(frame.f_locals[name])

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        look(frame)
        return local

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename == str(source.path) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        return call(), seen
    finally:
        sys.settrace(before)
