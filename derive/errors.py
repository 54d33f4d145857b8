"""What a wrong text is answered with: where, what was found, what was expected, and the nearest name."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

__all__ = ["CellError", "Position", "edit_distance", "is_one_edit", "nearest"]

Position = tuple[int, int]  # line and column, both from 1


class CellError(ValueError):
    """A text that is not a cell.

    ``line`` and ``column`` count from 1 (None where the text as a whole is meant); ``source`` is the file's name.
    """

    def __init__(
        self,
        message: str,
        position: Position | None = None,
        *,
        found: str | None = None,
        expected: str | None = None,
        near: str | None = None,
        source: str | None = None,
    ) -> None:
        self.message, self.found, self.expected, self.near, self.source = message, found, expected, near, source
        self.line: int | None = position[0] if position else None
        self.column: int | None = position[1] if position else None
        super().__init__(message)

    def in_source(self, source: str) -> CellError:
        """The same error, saying which file it is about."""
        self.source = self.source or source
        return self

    def __str__(self) -> str:
        where = [self.source] if self.source else []
        if self.line is not None:
            where.append(f"{self.line}:{self.column}" if self.source else f"line {self.line}, column {self.column}")
        details = [f"found {_short(self.found)}"] if self.found else []
        details += [f"expected {self.expected}"] if self.expected else []
        details += [f"nearest known name: {self.near}"] if self.near else []
        text = ": ".join([":".join(where), self.message] if where else [self.message])
        text = f"{text} ({'; '.join(details)})" if details else text
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours that turn ``a`` into ``b``."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]


def is_one_edit(a: str, b: str) -> bool:
    """Whether :func:`edit_distance` of ``a`` and ``b`` is 1, found without a table."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    a, b = a[same:], b[same:]
    if a == b:
        return False
    return a[1:] == b[1:] or a == b[1:] or a[1:] == b or (a[:2] == b[1::-1] and a[2:] == b[2:])


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is fewest edits away, if that is few enough to be a slip; capitals count for nothing."""
    most = max(1, len(name) // 3)
    close = [other for other in set(known) if other != name and abs(len(other) - len(name)) <= most]
    ranked = sorted((edit_distance(name.lower(), other.lower()), other) for other in close)
    return ranked[0][1] if ranked and ranked[0][0] <= most and ranked[0][0] < len(name) else None
