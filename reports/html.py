"""A document as one HTML file that needs nothing else: no script, no network, mathematics as MathML with its font."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jinja2
from markupsafe import Markup

from reports.document import (
    Code,
    Document,
    Entry,
    Inline,
    Link,
    Mark,
    Math,
    Parts,
    Quantity,
    Section,
    Table,
    walk_blocks,
)
from reports.fonts import embedded_font
from reports.linebreak import width
from reports.mathml import characters, displayed, inline, letters

__all__ = ["to_html"]

_FONT = "@@font@@"
_LONG = 26  # letters of LaTeX that are worth copying
_WORDY = 44  # letters in a cell that is read like a sentence
# A formula in a line with the bracket before it or the punctuation after it: a browser would break between them.
_LINE_MATH = re.compile(r"\(<math>(?:(?!</math>).)*</math>[,.;:)]*|<math>(?:(?!</math>).)*</math>[,.;:)]+", re.DOTALL)


def to_html(document: Document) -> str:
    """The whole page; the same document gives the same text.

    Raises jinja2.UndefinedError where a template asks for what a document does not have.
    """
    page = _environment().get_template("report.html.j2").render(document=document, numbers=dict(_numbers(document)))
    page = _LINE_MATH.sub(r'<span class="together">\g<0></span>', page)
    return page.replace(_FONT, embedded_font(characters(page) | letters(page)), 1)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda value: type(value).__name__
    environment.filters["inline"] = lambda latex: Markup(inline(latex))
    environment.filters["displayed"] = lambda latex: Markup(displayed(latex))
    environment.filters["drawing"] = Markup
    environment.filters["plain"] = _plain
    environment.filters["entries"] = lambda blocks: [b for b in walk_blocks(blocks) if isinstance(b, Entry)]
    environment.filters["formulas"] = _formulas
    environment.filters["wordy"] = _wordy
    environment.filters["breakable"] = _breakable
    environment.globals["font"] = _FONT
    return environment


def _plain(parts: Parts) -> str:
    """Inlines as text, for what has no markup."""
    shown = (_plain(p.parts) if isinstance(p, Link) else _letters(p) for p in parts)
    return "".join(shown)


def _letters(part: Inline) -> str:
    match part:
        case Math(latex=latex):
            return latex
        case Code(text=text) | Mark(text=text):
            return text
        case Quantity():
            return _letters(part.shown)
    return str(part)


def _formulas(table: Table) -> list[str]:
    """The LaTeX of a column of formulas, to copy; empty for a table without one."""
    for column in zip(*table.rows, strict=True):
        shown = [part.latex for cell in column for part in cell if isinstance(part, Math)]
        if len(shown) == len(column) and all(len(cell) == 1 for cell in column) and max(map(len, shown)) > _LONG:
            return shown
    return []


def _wordy(table: Table) -> bool:
    """Whether a table holds sentences beside each other, which a narrow window shows below each other."""
    cells = (cell for row in table.rows for cell, side in zip(row, table.alignment, strict=True) if side == "l")
    return len(table.head) > 2 and any(sum(map(_letters_wide, cell)) > _WORDY for cell in cells)


def _letters_wide(part: Inline) -> int:
    """About how many letters wide it is, typeset."""
    return width(part.latex) if isinstance(part, Math) else len(_plain((part,)))


def _breakable(text: str) -> Markup:
    """A title in which the dotted name of a function may be broken after a dot or a colon."""
    return Markup("<wbr>").join(Markup.escape(piece) for piece in re.split(r"(?<=\w[.:/])(?=\w)", text))


def _numbers(document: Document) -> Iterator[tuple[str, str]]:
    """Section numbers by anchor; the first section, the conclusion, has none."""
    yield document.sections[0].anchor, ""
    for i, section in enumerate(document.sections[1:], 1):
        yield from _numbered(section, str(i))


def _numbered(section: Section, number: str) -> Iterator[tuple[str, Any]]:
    yield section.anchor, number
    for i, part in enumerate(section.sections, 1):
        yield from _numbered(part, f"{number}.{i}")
