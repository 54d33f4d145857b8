"""Whether a page written down elsewhere says what a document says: all but measured numbers letter by letter.

Two machines measure other times, round otherwise, and have other versions of a library.  A document knows which of its
numbers these are (:class:`Quantity`, :class:`Local`); all else has to be equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import zip_longest
from typing import Any

from reports.document import Document, Local, Quantity
from reports.markdown import to_markdown

__all__ = ["Difference", "differences"]

_OPEN, _CLOSE = "\ue000", "\ue001"  # of private use: no page has them
_TOKEN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_POWER = re.compile(r"(-?[0-9.]+) *\\times *10\^\{(-?[0-9]+)\}")


@dataclass(frozen=True)
class Difference:
    """A line of a page (numbered from 1, with its text) that should say something else, and what."""

    number: int
    found: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.number}: found {self.found!r}; expected {self.expected!r}"


def differences(document: Document, stem: str, page: str) -> list[Difference]:
    """Where a Markdown page of this ``stem`` says something else than a document that was made anew.

    >>> from reports.document import Mark, Paragraph, Section
    >>> def says(value):
    ...     block = Paragraph(("It took ", Quantity(value, 2.0, ".1f"), " steps."))
    ...     return Document("a", "A", Mark("holds", "proven"), (Section("S", "s", (block,)),))
    >>> page = to_markdown(says(3.0), "a").text
    >>> differences(says(5.0), "a", page)
    []
    >>> print(*differences(says(7.0), "a", page))
    line 9: found 'It took 3.0 steps.'; expected 'It took 7.0 steps.'
    """
    held: list[Quantity | Local] = []
    marked = _mapped(document, lambda part: _held(part, held))
    expected = to_markdown(marked, stem).text.splitlines()
    pairs = zip_longest(page.splitlines(), expected, fillvalue="")
    wrong = [(i, found, line) for i, (found, line) in enumerate(pairs, 1) if not _same(found, line, held)]
    return [Difference(i, found, _TOKEN.sub(lambda m: _plain(held[int(m[1])]), line)) for i, found, line in wrong]


def _held(part: Any, held: list[Quantity | Local]) -> Any:
    """A token for what may differ; it is kept under its number."""
    if not isinstance(part, Quantity | Local):
        return part
    held.append(part)
    return f"{_OPEN}{len(held) - 1}{_CLOSE}"


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples and dataclasses with every leaf changed."""
    changed = change(value)
    if changed is not value:
        return changed
    if isinstance(value, tuple):
        return tuple(_mapped(item, change) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value


def _same(found: str, line: str, held: list[Quantity | Local]) -> bool:
    """Whether a line is the expected one, with any number in the place of a token that its quantity allows."""
    pieces = _TOKEN.split(line)
    pattern = "".join("(.+?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    match = re.fullmatch(pattern, found)
    if not match:
        return False
    return all(_allowed(held[int(n)], text) for n, text in zip(pieces[1::2], match.groups(), strict=True))


def _allowed(part: Quantity | Local, text: str) -> bool:
    if isinstance(part, Local):
        return True
    value = _number(text)
    return value is not None and (part.agrees(value) or text == _plain(part))


def _number(text: str) -> float | None:
    """The number that a page shows.

    >>> _number(r"$2.2 \\times 10^{-16}$"), _number("&lt; 0.01 s"), _number("1,250"), _number("many")
    (2.2e-16, 0.01, 1250.0, None)
    """
    text = text.replace("&lt;", "").replace(r"\lt", "").strip("$ ").removesuffix(" s").replace(",", "").strip()
    text = _POWER.sub(r"\1e\2", text).replace(r"\infty", "inf").replace(r"\text{not a number}", "nan")
    percent = text.endswith("%")
    try:
        return float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        return None


def _plain(part: Quantity | Local) -> str:
    if isinstance(part, Local):
        return f"`{part.text}`"
    return part.shown if isinstance(part.shown, str) else f"${part.shown.latex}$"
