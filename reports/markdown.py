"""A document as Markdown that GitHub renders: mathematics between dollar signs, figures as files beside it.

Markdown reads a formula before the mathematics is typeset, so everything in it that means something to Markdown is
written in letters: ``\\thinspace`` for ``\\,``, ``\\cr`` for a line's end, ``\\vert`` for a bar, ``\\sb`` for an
underscore after a bracket, which would begin an emphasis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from reports.brackets import tightened
from reports.document import (
    Block,
    Code,
    CodeLines,
    Document,
    Entry,
    Figure,
    Fold,
    Formula,
    Inline,
    Items,
    Link,
    Listing,
    Local,
    Mark,
    Math,
    Paragraph,
    Parts,
    Quantity,
    Section,
    Step,
    Table,
)
from reports.figures import standalone
from reports.linebreak import aligned

__all__ = ["Markdown", "to_markdown"]

_SIGNS = {"holds": "✓", "fails": "✗", "open": "○"}


@dataclass(frozen=True)
class Markdown:
    """The text, and the files that it shows, by name."""

    text: str
    files: dict[str, str]


def to_markdown(document: Document, stem: str) -> Markdown:
    """The report for a file called ``stem.md``; its figures are called ``stem-...svg`` and lie beside it."""
    lines = [
        f"# {_text(document.title)}",
        f"{_code(document.name)}: {_SIGNS[document.verdict.verdict]} **{_text(document.verdict.text)}**",
    ]
    for i, section in enumerate(document.sections):
        lines += _section(section, str(i) if i else "", 2, stem)
        if i == 0:
            lines.append(_contents(document))
    figures = [block for block in document.blocks() if isinstance(block, Figure)]
    files = {_figure_name(b, stem): standalone(b.svg, b.alt, _table(b.data) if b.data else "") for b in figures}
    return Markdown("\n\n".join(lines) + "\n", files)


def _contents(document: Document) -> str:
    links = (f"[{i} {_text(s.title)}](#{s.anchor})" for i, s in enumerate(document.sections[1:], 1))
    return " · ".join(links)


def _section(section: Section, number: str, level: int, stem: str) -> Iterator[str]:
    yield f'<a id="{section.anchor}"></a>'
    yield f"{'#' * level} {number} {_text(section.title)}".replace("  ", " ")
    for block in section.blocks:
        yield from _block(block, stem)
    for i, part in enumerate(section.sections, 1):
        yield from _section(part, f"{number}.{i}", level + 1, stem)


def _block(block: Block, stem: str) -> Iterator[str]:
    match block:
        case Paragraph(parts=parts, role="quote"):
            yield f"> {_line(parts)}"
        case Paragraph(parts=parts):
            yield _line(parts)
        case Items(items=items):
            yield "\n".join(f"- {_line(parts)}" for parts in items)
        case Formula(latex=latex):
            yield _display(latex)
        case Step():
            yield from _step(block)
        case Table():
            yield _table(block)
            if block.caption:
                yield f"_{_line(block.caption)}_" if _plain(block.caption) else _line(block.caption)
        case Figure(caption=caption, alt=alt):
            yield f"![{_text(alt)}]({quote(_figure_name(block, stem))})"
            yield _line(caption)
            if block.data is not None:
                yield from _fold("The numbers", (block.data,), stem)
        case CodeLines():
            yield _code_lines(block)
        case Fold(title=title, blocks=blocks):
            yield from _fold(title, blocks, stem)
        case Entry():
            yield f'<a id="{block.anchor}"></a>**{_parts(block.title)}** · {_inline(block.mark)}'
            for part in block.blocks:
                yield from _block(part, stem)
        case Listing(language=language) if language != "latex":  # the formulas above are LaTeX already
            yield _listing(block)


def _fold(title: str, blocks: tuple[Block, ...], stem: str) -> Iterator[str]:
    yield f"<details><summary>{_text(title)}</summary>"
    for block in blocks:
        yield from _block(block, stem)
    yield "</details>"


def _code_lines(block: CodeLines) -> str:
    """A table: number, sign, text, note; a text about which nothing was found stands alone, with all its spaces."""
    if not any(line.verdict or line.note for line in block.lines):
        return _fenced("\n".join(line.text for line in block.lines), "")
    rows = ["|  |  |  |  |", "| ---: | :--- | :--- | :--- |"]
    for line in block.lines:
        sign = _SIGNS[line.verdict] if line.verdict else ""
        rows.append(
            f"| {line.number} | {sign} | {_cell((Code(line.text),)) if line.text else ''} | {_cell(line.note)} |"
        )
    return "\n".join(rows)


def _step(step: Step) -> Iterator[str]:
    sentence = f" {_parts(step.sentence)}" if step.sentence else ""
    yield f'<a id="{step.anchor}"></a>**({step.number})**{sentence}'
    yield _display(step.latex)
    notes = [_parts(parts) for parts in (step.rests, step.proof) if parts]
    if notes:
        yield " · ".join(notes)
    if step.explicit:
        yield from _fold("Entry by entry", tuple(Formula(latex) for latex in step.explicit), "")


def _listing(block: Listing) -> str:
    text = _fenced(block.text, block.language)
    return f"<details><summary>{_text(block.title)}</summary>\n\n{text}\n\n</details>"


def _fenced(text: str, language: str) -> str:
    """Text as it stands, in a fence that is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _table(table: Table) -> str:
    rules = {"l": ":---", "r": "---:", "c": ":---:"}
    anchors = table.anchors or ("",) * len(table.rows)
    rows = [[_cell(cell) for cell in table.head], [rules[letter] for letter in table.alignment]]
    for row, anchor in zip(table.rows, anchors, strict=True):
        cells = [_cell(cell) for cell in row]
        rows.append([f'<a id="{anchor}"></a>{cells[0]}' if anchor else cells[0], *cells[1:]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(parts: Parts) -> str:
    """A bar ends a cell wherever it stands; the mathematics has none left."""
    return "".join(_inline(p).replace("|", r"\|") if isinstance(p, Code) else _inline(p) for p in parts)


def _line(parts: Parts) -> str:
    """A paragraph; its first letters must not begin a list or a heading."""
    return re.sub(r"^(\d+)([.)])|^([-+])(?= )", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", _parts(parts))


def _plain(parts: Parts) -> bool:
    return all(isinstance(part, str) for part in parts)


def _parts(parts: Parts) -> str:
    return "".join(map(_inline, parts))


def _inline(part: Inline) -> str:
    match part:
        case str():
            return _text(part)
        case Math(latex=latex):
            return f"${_latex(latex)}$"
        case Code(text=text) | Local(text=text):
            return _code(text)
        case Link(parts=parts, anchor=anchor):
            return f"[{_parts(parts)}](#{anchor})"
        case Mark(verdict=verdict, text=text):
            return f"{_SIGNS[verdict]} **{_text(text)}**" if verdict == "fails" else f"{_SIGNS[verdict]} {_text(text)}"
        case Quantity():
            return _inline(part.shown)


_SPECIAL = re.compile(r"[\\`*_\[\]<>|~#]|&(?=#?\w+;)")


def _text(text: str) -> str:
    """Plain text: nothing in it means anything to Markdown, to HTML or to a table."""
    escaped = _SPECIAL.sub(lambda m: "&amp;" if m[0] == "&" else "&lt;" if m[0] == "<" else f"\\{m[0]}", text)
    return re.sub(r"\s+", " ", escaped.replace("$", "<span>$</span>"))


def _code(text: str) -> str:
    """A code span, whatever backticks the text holds."""
    text = re.sub(r"\s+", " ", text)
    fence = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _display(latex: str) -> str:
    text = _latex(aligned(latex))
    return f"$$\n{text}\n$$"


_LETTERS = {
    r"\,": r"\thinspace ", r"\;": r"\thickspace ", r"\:": r"\medspace ", r"\!": r"\negthinspace ", r"\\": r"\cr ",
    r"\{": r"\lbrace ", r"\}": r"\rbrace ", r"\|": r"\Vert ", r"\_": r"\rule{0.5em}{0.4pt} ", "|": r"\vert ",
    "[": r"\lbrack ", "]": r"\rbrack ", "<": r"\lt ", ">": r"\gt ", "*": r"\ast ", "~": r"\enspace ",
}  # fmt: skip
_LETTER = re.compile("|".join(re.escape(s) for s in sorted(_LETTERS, key=len, reverse=True)))


def _latex(latex: str) -> str:
    """The same formula without a character that Markdown would read.

    >>> _latex(r"\\left|x_t\\right|_{2} \\, y")
    '\\\\left\\\\vert x_t\\\\right\\\\vert \\\\sb{2} \\\\thinspace y'
    """
    latex = re.sub(r"(?<=[^A-Za-z0-9])\s*_(\{?)", lambda m: rf"\sb{m[1] or ' '}", tightened(latex))
    latex = _LETTER.sub(lambda m: _LETTERS[m[0]], latex)
    latex = re.sub(r"[ \t]+", " ", latex).replace(" \n", "\n").strip()
    return re.sub(r"(?m)^(?=[-+=#\d])", "{}", latex) if "\n" in latex or latex[:1] in "-+=#" else latex


def _figure_name(figure: Figure, stem: str) -> str:
    return f"{stem}-{figure.stem}.svg"
