"""A report without a format: sections of paragraphs, formulas, steps, tables, figures and listings.

Mathematics is LaTeX.  Everything is frozen and checked on construction, so that a writer (:mod:`reports.html`,
:mod:`reports.markdown`) only has to say how each kind of block looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Block",
    "Code",
    "Document",
    "Figure",
    "Formula",
    "Inline",
    "Items",
    "Link",
    "Listing",
    "Mark",
    "Math",
    "Paragraph",
    "Parts",
    "Seconds",
    "Section",
    "Step",
    "Table",
    "anchors",
    "slug",
]

VERDICTS = ("holds", "fails", "open")


@dataclass(frozen=True)
class Math:
    """A formula within a line, as LaTeX."""

    latex: str


@dataclass(frozen=True)
class Code:
    """Text to be read letter by letter: a name, an equation of the cell language."""

    text: str


@dataclass(frozen=True)
class Link:
    """Text that leads to an anchor of the same document."""

    parts: Parts
    anchor: str


@dataclass(frozen=True)
class Mark:
    """A verdict: ``holds``, ``fails`` or ``open`` (not done, not decided), with the words for it."""

    verdict: str
    text: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"a mark is one of {', '.join(VERDICTS)}; found {self.verdict!r}")


@dataclass(frozen=True)
class Seconds:
    """How long something took: the only thing in a report that differs between two runs."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:.2f} s" if self.value >= 0.01 else "< 0.01 s"


Inline = str | Math | Code | Link | Mark | Seconds
Parts = tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``role`` is "" or what it is for: ``lead`` (the conclusion), ``source`` (citations), ``note``."""

    parts: Parts
    role: str = ""

    def __post_init__(self) -> None:
        if self.role not in ("", "lead", "source", "note"):
            raise ValueError(f"unknown role of a paragraph: {self.role!r}")


@dataclass(frozen=True)
class Items:
    """A list of short statements."""

    items: tuple[Parts, ...]


@dataclass(frozen=True)
class Formula:
    """A displayed formula."""

    latex: str


@dataclass(frozen=True)
class Step:
    """One numbered step of a derivation: a sentence, its equation, what it rests on, and what was shown about it.

    ``sentence`` is empty where the step before says the same about another quantity.
    """

    number: int
    sentence: Parts
    latex: str
    rests: Parts
    proof: Parts
    anchor: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head.  ``alignment`` has one letter a column: l, r or c.

    ``anchors`` names rows to which a link may lead ("" for none); it is empty or as long as the rows.
    """

    head: tuple[Parts, ...]
    rows: tuple[tuple[Parts, ...], ...]
    alignment: str
    caption: Parts = ()
    anchors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        width = len(self.head)
        if len(self.alignment) != width or set(self.alignment) - set("lrc"):
            raise ValueError(f"{width} columns need {width} letters out of l, r, c; found {self.alignment!r}")
        for row in self.rows:
            if len(row) != width:
                raise ValueError(f"a row of {len(row)} cells in a table of {width} columns: {row!r}")
        if self.anchors and len(self.anchors) != len(self.rows):
            raise ValueError(f"{len(self.anchors)} anchors for {len(self.rows)} rows")


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG whose colours are CSS variables with a fallback; ``stem`` names it in file names."""

    svg: str
    caption: Parts
    alt: str
    stem: str


@dataclass(frozen=True)
class Listing:
    """Text to copy, folded away under its title."""

    text: str
    language: str
    title: str


Block = Paragraph | Items | Formula | Step | Table | Figure | Listing


@dataclass(frozen=True)
class Section:
    """A titled part; ``sections`` are its parts."""

    title: str
    anchor: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()

    def walk(self) -> Iterator[Section]:
        """The section itself, then all parts in it."""
        yield self
        for section in self.sections:
            yield from section.walk()


@dataclass(frozen=True)
class Document:
    """A whole report: title, conclusion and sections.

    ``name`` is the cell's, ``verdict`` what the report as a whole comes to.  Raises ValueError for a link that leads
    nowhere or an anchor that is there twice.
    """

    name: str
    title: str
    verdict: Mark
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        known = list(anchors(self))
        twice = sorted({a for a in known if known.count(a) > 1})
        if twice:
            raise ValueError(f"the same anchor twice: {', '.join(twice)}")
        lost = sorted({link.anchor for link in links(self)} - set(known))
        if lost:
            raise ValueError(f"links that lead nowhere: {', '.join(lost)}")

    def walk(self) -> Iterator[Section]:
        """Every section at every depth, in reading order."""
        for section in self.sections:
            yield from section.walk()

    def blocks(self) -> Iterator[Block]:
        """Every block in reading order."""
        for section in self.walk():
            yield from section.blocks


def anchors(document: Document) -> Iterator[str]:
    """Every place that a link can lead to."""
    for section in document.walk():
        yield section.anchor
        for block in section.blocks:
            if isinstance(block, Step):
                yield block.anchor
            elif isinstance(block, Table):
                yield from (a for a in block.anchors if a)


def links(document: Document) -> Iterator[Link]:
    """Every link."""
    for block in document.blocks():
        for part in _inlines(block):
            if isinstance(part, Link):
                yield part


def _inlines(block: Block) -> Iterator[Inline]:
    match block:
        case Paragraph(parts=parts) | Figure(caption=parts):
            yield from parts
        case Items(items=items):
            for parts in items:
                yield from parts
        case Step(sentence=sentence, rests=rests, proof=proof):
            yield from (*sentence, *rests, *proof)
        case Table(head=head, rows=rows, caption=caption):
            yield from caption
            for row in (head, *rows):
                for cell in row:
                    yield from cell


def slug(text: str) -> str:
    """An anchor from a name: letters, digits and underscores stay, everything else becomes a hyphen.

    >>> slug("P3/h[t-1]")
    'P3-h-t-1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")
