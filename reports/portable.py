"""Whether a page written down elsewhere says what a document says: all but measured numbers letter by letter.

Two machines measure other times, round otherwise, and have other versions of a library.  A document knows which of its
numbers these are (:class:`Quantity`, :class:`Local`); all else has to be equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import zip_longest
from typing import Any

from reports.document import Document, Local, Quantity
from reports.markdown import Markdown, to_markdown
from reports.redrawn import drawn_marks, told

__all__ = ["Difference", "differences", "redrawn_differences"]

_OPEN, _CLOSE = "\ue000", "\ue001"  # of private use: no page has them
_TOKEN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_NO_LINE = "(no line)"
_AHEAD = 60  # lines in which a page and what is expected meet again
_POWER = re.compile(r"(-?[0-9.]+) *\\times *10\^\{(-?[0-9]+)\}")


@dataclass(frozen=True)
class Difference:
    """A line of a page (numbered from 1, with its text) that should say something else, and what.

    One of both says so where there is no such line; ``file`` is a drawing's name.
    """

    number: int
    found: str
    expected: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file or 'line'} {self.number}: found {self.found!r}; expected {self.expected!r}"


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
    made, held = _marked(document, stem)
    return list(_compared(page.splitlines(), made.text.splitlines(), held))


def redrawn_differences(document: Document, stem: str, drawings: Mapping[str, str]) -> list[Difference]:
    """Where drawings that were written down, by their names, are not those of a document that was made anew.

    Their titles and labels are compared letter by letter, their numbers as a page's, and how many marks there are.
    """
    made, held = _marked(document, stem)
    out: list[Difference] = []
    for name, svg in made.files.items():
        found = drawings.get(name, "")
        lines = _compared(told(found), told(svg), held)
        out += [replace(difference, file=name) for difference in lines]
        here, there = drawn_marks(found), drawn_marks(svg)
        kinds = sorted(k for k in here | there if here[k] != there[k])
        out += [Difference(0, f"{here[k]} times {k}", f"{there[k]} times {k}", name) for k in kinds]
    return out


def _marked(document: Document, stem: str) -> tuple[Markdown, list[Quantity | Local]]:
    """The page with a token for each number that may be another one elsewhere, and these."""
    held: list[Quantity | Local] = []
    return to_markdown(_mapped(document, lambda part: _held(part, held)), stem), held


def _compared(found: Sequence[str], expected: Sequence[str], held: list[Quantity | Local]) -> Iterator[Difference]:
    """What differs, line by line; after a line too many or too few the next that is in both is looked for."""
    i = j = 0
    while i < len(found) or j < len(expected):
        if i < len(found) and j < len(expected) and _same(found[i], expected[j], held):
            i, j = i + 1, j + 1
            continue
        more, fewer = _next_same(found[i : i + _AHEAD], expected[j : j + _AHEAD], held)
        pairs = zip_longest(found[i : i + more], expected[j : j + fewer], fillvalue=_NO_LINE)
        for k, (one, other) in enumerate(pairs, i + 1):
            if _NO_LINE in (one, other) or not _same(one, other, held):
                yield Difference(k, one, _TOKEN.sub(lambda m: _plain(held[int(m[1])]), other))
        i, j = i + more, j + fewer


def _next_same(found: Sequence[str], expected: Sequence[str], held: list[Quantity | Local]) -> tuple[int, int]:
    """How many lines of both to leave out until they are the same again, the fewest first."""
    for total in range(1, len(found) + len(expected)):
        for more in range(max(0, total - len(expected) + 1), min(total, len(found) - 1) + 1):
            if found[more] and _same(found[more], expected[total - more], held):
                return more, total - more
    return len(found), len(expected)


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
