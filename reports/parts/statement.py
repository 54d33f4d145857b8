"""A published statement as blocks: its words as a quotation, its formulas typeset, its lines of code as they stand."""

from __future__ import annotations

import re

from derive.claims import Claim
from derive.claims.statement import pieces, without_pictures
from reports.document import Block, Code, CodeLine, CodeLines, Formula, Inline, Math, Paragraph, Parts
from reports.linebreak import clauses

__all__ = ["printed_blocks", "sentence", "statement_blocks"]

_MARKS = re.compile(r"\*\*|^\s*(?:>\s*)*(?:[-*+]\s+|\d+[.)]\s+)", re.MULTILINE)


def printed_blocks(claim: Claim) -> tuple[Block, ...]:
    """A claim as it was printed."""
    if claim.kind == "listing" and "\n" in claim.printed:
        lines = claim.printed.split("\n")
        return (CodeLines(tuple(CodeLine(claim.line + i, line) for i, line in enumerate(lines))),)
    text = claim.printed.strip().strip("|").strip() if claim.kind == "table row" else claim.printed
    return statement_blocks(text, "quote")


def statement_blocks(text: str, role: str = "") -> tuple[Block, ...]:
    """Paragraphs, and a block for every displayed formula."""
    blocks: list[Block] = []
    line: list[Inline] = []
    for piece in pieces(text):
        if piece.kind != "display":
            line += _inline(piece.kind, piece.text)
            continue
        blocks += _paragraph(line, role)
        line = []
        blocks.append(Formula(_one_line(piece.text)))
    return (*blocks, *_paragraph(line, role))


def sentence(text: str) -> Parts:
    """A text in one line; a displayed formula is cut into pieces, so that the line may break between them."""
    line: list[Inline] = []
    for piece in pieces(text):
        line += _cut(_one_line(piece.text)) if piece.kind == "display" else _inline(piece.kind, piece.text)
    return _trimmed(line)


def _cut(latex: str) -> list[Inline]:
    """A displayed formula, clause by clause and term by term."""
    line: list[Inline] = []
    for clause in clauses(latex):
        first, *others = clause.terms
        for term in (f"{clause.lead} {clause.left} {first}", *others):
            line += [Math(rf"\displaystyle {_one_line(term)}"), " "]
    return line


def _inline(kind: str, text: str) -> list[Inline]:
    if kind == "words":
        words = re.sub(r"\s+", " ", _MARKS.sub("", without_pictures(text)))
        return [words] if words else []
    return [Math(_one_line(text)) if kind == "inline" else Code(text)]


def _paragraph(line: list[Inline], role: str) -> list[Block]:
    parts = _trimmed(line)
    # punctuation that is left between two formulas is not a paragraph
    return [Paragraph(parts, role)] if any(not isinstance(p, str) or re.search(r"\w", p) for p in parts) else []


def _trimmed(line: list[Inline]) -> Parts:
    """Without spaces at both ends."""
    parts = list(line)
    if parts and isinstance(parts[0], str):
        parts[0] = parts[0].lstrip()
    if parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    return tuple(part for part in parts if part != "")


def _one_line(latex: str) -> str:
    return re.sub(r"\s+", " ", latex).strip()
