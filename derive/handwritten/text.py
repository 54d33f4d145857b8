"""A script with its kinds and indices: everything that a reading needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from derive.handwritten.indices import Indices
from derive.handwritten.kinds import Kinds
from derive.handwritten.lines import Script
from derive.handwritten.times import EVERY
from derive.syntax import Indexed, walk

__all__ = ["UNREADABLE", "NotSayableError", "Text"]


class NotSayableError(Exception):
    """A line that cannot be read at a generic time."""


# What evaluating somebody's line may end in: it says nothing here, divides by zero, or leaves the range of floats.
UNREADABLE = (NotSayableError, ZeroDivisionError, OverflowError, ValueError)


@dataclass(frozen=True, eq=False)
class Text:
    """A script with its kinds and indices: everything that a reading needs."""

    script: Script
    kinds: Kinds
    indices: Indices

    def rounds(self, name: str) -> frozenset[int]:
        """By how many steps an own definition comes back to itself, through itself and others; -1, 0 or 1 for each."""
        return self._rounds.get(name, frozenset())

    @cached_property
    def _rounds(self) -> dict[str, frozenset[int]]:
        reads: dict[str, set[tuple[str, int]]] = {}
        for line in self.script.lines:
            if line.target.role == "own" and line.target.when is not None and line.target.when.anchor == EVERY:
                reads[line.target.name] = {
                    (x.name, self.indices.of(x).shift + line.offset)
                    for x in walk(line.value)
                    if isinstance(x, Indexed) and x.name in self.script.names.own
                }
        return {name: _comes_back(name, reads) for name in reads}


def _comes_back(name: str, reads: Mapping[str, set[tuple[str, int]]]) -> frozenset[int]:
    """Signs of the shifts with which a name is reached from itself."""
    seen: set[tuple[str, int]] = set()
    waiting = [(name, 0)]
    while waiting:
        current, shift = waiting.pop()
        for other, by in reads.get(current, ()):
            step = (other, max(-2, min(2, shift + by)))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return frozenset((shift > 0) - (shift < 0) for other, shift in seen if other == name)
