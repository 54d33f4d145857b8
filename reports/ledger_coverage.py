"""What in a document has no row in a book: every formula, listing and table row, and the words between.

A row covers a formula where both stand on the same line with the same TeX, and words where its printed text has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from derive.claims import Book, Claim, ClaimError
from derive.claims.read import CHARACTERS
from derive.claims.statement import Piece, pieces, without_pictures
from derive.errors import CellError
from derive.parse import read_text

__all__ = ["Missing", "uncovered", "uncovered_text"]

Missing = tuple[int, str, str]  # line, what it is, and its text

WORDS = 4  # so many words in a row without a claim are listed

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_RULE = re.compile(r"\s*\|?\s*:?-{3,}:?\s*(\|\s*:?-{3,}:?\s*)*\|?\s*")
_SILENT = re.compile(r"\s*(#{1,6}\s|-{3,}\s*$|\*{3,}\s*$)")
_LEADING = re.compile(r"^\s*(?:>\s*)*(?:[-*+]\s+|\d+[.)]\s+)?")


def uncovered(document_path: str | os.PathLike[str], book: Book) -> list[Missing]:
    """Everything in a Markdown document that no claim of a book covers, in the order of its lines.

    Raises :class:`derive.claims.ClaimError` for a file that is not text, FileNotFoundError where there is none.
    """
    path = Path(document_path)
    try:
        return uncovered_text(read_text(path, characters=CHARACTERS), book)
    except CellError as error:
        raise ClaimError(error.message, source=str(path), expected="a Markdown document") from None


def uncovered_text(text: str, book: Book) -> list[Missing]:
    """The same for the text of a document.

    >>> from derive.claims import load_book
    >>> uncovered_text("Nobody has said that $x = 1$ yet.", load_book("chapter"))[0]
    (1, 'formula in a line', 'x = 1')
    """
    blocks = list(_blocks(text.replace("\r\n", "\n").split("\n")))
    claims = _Claims(book)
    found = [missing for block in blocks for missing in _missing(block, claims)]
    return sorted(found, key=lambda missing: missing[0])


# ------------------------------------------------------------------------------------------------- the document


@dataclass(frozen=True)
class _Block:
    """``kind`` is listing, row or prose; ``line`` and ``until`` its lines."""

    kind: str
    line: int
    until: int
    text: str


def _blocks(lines: list[str]) -> Iterator[_Block]:
    number = 0
    while number < len(lines):
        line, start = lines[number], number
        number += 1
        if fence := _FENCE.match(line):
            while number < len(lines) and not lines[number].lstrip().startswith(fence[1]):
                number += 1
            yield _Block("listing", start + 1, min(number + 1, len(lines)), "\n".join(lines[start + 1 : number]))
            number += 1
        elif "|" in line and _RULE.fullmatch(lines[number] if number < len(lines) else ""):
            number += 1  # the head says what the columns are; the rows say something
            while number < len(lines) and "|" in lines[number]:
                yield _Block("row", number + 1, number + 1, lines[number])
                number += 1
        elif line.strip() and not _SILENT.match(line):
            while number < len(lines) and _goes_on("\n".join(lines[start:number])):
                number += 1
            yield _Block("prose", start + 1, number, "\n".join(lines[start:number]))


def _goes_on(text: str) -> bool:
    """Whether a displayed formula is still open at the end."""
    return text.count("$$") % 2 == 1


# ------------------------------------------------------------------------------------------------- the book


class _Claims:
    def __init__(self, book: Book) -> None:
        self.at: dict[int, list[Claim]] = {}
        for claim in book.claims:
            for line in {*_lines(claim), *claim.also}:
                self.at.setdefault(line, []).append(claim)
        self.plain = {claim.id: _plain(claim.printed) for claim in book.claims}
        self.formulas = {claim.id: {_squeezed(p.text) for p in _formulas(claim.printed)} for claim in book.claims}

    def on(self, block: _Block) -> list[Claim]:
        """The claims that stand on some line of a block."""
        found = {c.id: c for line in range(block.line, block.until + 1) for c in self.at.get(line, ())}
        return list(found.values())


def _lines(claim: Claim) -> range:
    """The lines of a claim: as far as it says, or as its text has lines; never more than a text can have."""
    until = max(claim.until, claim.line + claim.printed.count("\n"))
    return range(claim.line, min(until, claim.line + 10_000) + 1)


def _missing(block: _Block, claims: _Claims) -> Iterator[Missing]:
    there = claims.on(block)
    if block.kind == "listing":
        if not any(claim.kind == "listing" for claim in there):
            yield block.line, "listing", block.text.strip().split("\n")[0]
        return
    if block.kind == "row" and not any(claim.kind == "table row" for claim in there):
        yield block.line, "table row", block.text.strip()
        return
    for piece in _formulas(block.text):
        if not any(_squeezed(piece.text) in claims.formulas[claim.id] for claim in there):
            line = block.line + block.text[: piece.start].count("\n")
            what = "displayed formula" if piece.kind == "display" else "formula in a line"
            yield line, what, " ".join(piece.text.split())
    if block.kind == "prose":
        for rest in _rest(_plain(block.text), [claims.plain[claim.id] for claim in there]):
            yield block.line, "words", rest


def _rest(text: str, covering: list[str]) -> list[str]:
    """What is left of a text, a few words at least, where some others are taken out of it."""
    if any(text in other for other in covering):
        return []
    for other in sorted(covering, key=len, reverse=True):
        if other:
            text = text.replace(other, "\n")
    words = (
        " ".join("".join(p.text if p.kind != "display" else " " for p in pieces(x)).split()) for x in text.split("\n")
    )
    return [x for x in words if len(re.findall(r"[^\W\d_]{2,}", x)) >= WORDS]


def _formulas(text: str) -> list[Piece]:
    return [piece for piece in pieces(text) if piece.kind in ("inline", "display")]


def _squeezed(tex: str) -> str:
    return re.sub(r"\s+", "", tex)


def _plain(text: str) -> str:
    """Words without marks of emphasis, lists and quotations, in one line, without the stop at the end."""
    lines = (_LEADING.sub("", line) for line in without_pictures(text).split("\n"))
    return re.sub(r"\s+", " ", " ".join(lines).replace("**", "")).strip(" .:;,—")
