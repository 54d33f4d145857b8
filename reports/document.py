"""A report without a format: sections of paragraphs, formulas, steps, tables, figures, listings and judged entries.

Mathematics is LaTeX.  Everything is frozen and checked on construction, so that a writer (:mod:`reports.html`,
:mod:`reports.markdown`, :mod:`reports.pdf`) only has to say how each kind of block looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "Block",
    "Code",
    "CodeLine",
    "CodeLines",
    "Document",
    "Entry",
    "Figure",
    "Fold",
    "Formula",
    "Inline",
    "Items",
    "Link",
    "Listing",
    "Local",
    "Mark",
    "Math",
    "Paragraph",
    "Parts",
    "Quantity",
    "Section",
    "Step",
    "Table",
    "anchors",
    "inlines",
    "seconds",
    "slug",
    "walk_blocks",
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
class Quantity:
    """A measured number: what may differ between two runs, machines or versions, and by how much.

    ``spread`` is the factor by which the number may be another one elsewhere: infinite for a time, 1.02 for what is
    measured to two digits.  ``form`` is "seconds", "scientific" (two digits and a power of ten), or the format of plain
    digits, such as ".2f".  ``most`` is what it is nowhere larger than, such as the limit of what is rounding.  Raises
    ValueError for a spread below 1.
    """

    value: float
    spread: float
    form: str = "scientific"
    most: float = math.inf

    def __post_init__(self) -> None:
        if not self.spread >= 1:
            raise ValueError(f"a spread is a factor, 1 or more; found {self.spread!r}")

    @property
    def shown(self) -> str | Math:
        """What a reader sees.

        >>> Quantity(3.14e-15, 100.0).shown
        Math(latex='3.1 \\\\times 10^{-15}')
        >>> Quantity(0.001, float("inf"), "seconds").shown
        '< 0.01 s'
        """
        if self.form == "seconds":
            return f"{self.value:.2f} s" if self.value >= 0.01 else "< 0.01 s"
        if self.form == "scientific" or not math.isfinite(self.value):
            return Math(_power_of_ten(self.value))
        return f"{self.value:{self.form}}"

    def agrees(self, other: float) -> bool:
        """Whether ``other`` may be the same quantity, measured elsewhere.

        >>> Quantity(1.0, 1.5).agrees(1.4), Quantity(1.0, 1.5).agrees(1.6)
        (True, False)
        >>> Quantity(0.3, math.inf, most=16).agrees(5.0), Quantity(0.3, math.inf, most=16).agrees(17.0)
        (True, False)
        """
        if self.value == other:
            return True
        if abs(other) > self.most or math.isfinite(other) != math.isfinite(self.value):
            return False
        if self.spread == math.inf:
            return True
        low, high = sorted((abs(self.value), abs(other)))
        return (self.value > 0) == (other > 0) and high <= low * self.spread


def seconds(value: float) -> Quantity:
    """How long something took: another number in every run."""
    return Quantity(value, math.inf, "seconds")


def _power_of_ten(value: float) -> str:
    if value != value:
        return r"\text{not a number}"
    if value in (0, math.inf, -math.inf):
        return "0" if value == 0 else r"\infty" if value > 0 else r"-\infty"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}"


@dataclass(frozen=True)
class Local:
    """What is so on this machine only: the version of a program, the name of a library that was found."""

    text: str


Inline = str | Math | Code | Link | Mark | Quantity | Local
Parts = tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``role`` is "" or what it is for.

    ``lead`` is the conclusion, ``source`` a citation, ``note`` a remark, ``quote`` a statement as somebody printed it.
    """

    parts: Parts
    role: str = ""

    def __post_init__(self) -> None:
        if self.role not in ("", "lead", "source", "note", "quote"):
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

    ``sentence`` is empty where the step before says the same about another quantity.  ``explicit`` is the same step
    entry by entry at a small size, as LaTeX formulas; a reader opens it where it is wanted.
    """

    number: int
    sentence: Parts
    latex: str
    rests: Parts
    proof: Parts
    anchor: str
    explicit: tuple[str, ...] = ()


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
    """A drawing as SVG whose colours are CSS variables with a fallback; ``stem`` names it in file names.

    ``data`` are the numbers that are drawn, for those who cannot see the drawing or want to compare it.
    """

    svg: str
    caption: Parts
    alt: str
    stem: str
    data: Table | None = None


@dataclass(frozen=True)
class Listing:
    """Text to copy, folded away under its title."""

    text: str
    language: str
    title: str


@dataclass(frozen=True)
class CodeLine:
    """One line of somebody's text: its number there, the text, and what was found (``verdict`` "" for nothing)."""

    number: int
    text: str
    verdict: str = ""
    note: Parts = ()

    def __post_init__(self) -> None:
        if self.verdict not in ("", *VERDICTS):
            raise ValueError(f"a line's verdict is one of {', '.join(VERDICTS)}, or empty; found {self.verdict!r}")


@dataclass(frozen=True)
class CodeLines:
    """Somebody's text, line by line, with what was found about each line beside it."""

    lines: tuple[CodeLine, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that are folded away under a title until a reader opens them; printed where there is nothing to open."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Entry:
    """One judged thing, such as a claim or a finding: its title, its verdict, and what there is to say about it."""

    title: Parts
    anchor: str
    mark: Mark
    blocks: tuple[Block, ...] = ()


Block = Paragraph | Items | Formula | Step | Table | Figure | Listing | CodeLines | Fold | Entry


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

    ``name`` is the cell's, ``verdict`` what the report as a whole comes to, ``kicker`` says over the title what kind of
    report it is.  Raises ValueError for a link that leads nowhere or an anchor that is there twice.
    """

    name: str
    title: str
    verdict: Mark
    sections: tuple[Section, ...]
    kicker: str = "Backpropagation through time, derived and checked"

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
        """Every block in reading order, those within other blocks after these."""
        for section in self.walk():
            yield from walk_blocks(section.blocks)


def walk_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks at every depth, in reading order."""
    for block in blocks:
        yield block
        if isinstance(block, Fold | Entry):
            yield from walk_blocks(block.blocks)
        elif isinstance(block, Figure) and block.data is not None:
            yield block.data


def anchors(document: Document) -> Iterator[str]:
    """Every place that a link can lead to."""
    yield from (section.anchor for section in document.walk())
    for block in document.blocks():
        if isinstance(block, Step | Entry):
            yield block.anchor
        elif isinstance(block, Table):
            yield from (a for a in block.anchors if a)


def links(document: Document) -> Iterator[Link]:
    """Every link."""
    for block in document.blocks():
        for part in inlines(block):
            if isinstance(part, Link):
                yield part


def inlines(block: Block) -> Iterator[Inline]:
    """What stands within the lines of a block itself, in reading order; blocks within it are blocks of their own."""
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
        case CodeLines(lines=lines):
            for line in lines:
                yield from line.note
        case Entry(title=title, mark=mark):
            yield from (*title, mark)


def slug(text: str) -> str:
    """An anchor from a name: letters, digits and underscores stay, everything else becomes a hyphen.

    >>> slug("P3/h[t-1]")
    'P3-h-t-1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")
