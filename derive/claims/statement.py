"""A printed statement in pieces: words, formulas in a line, displayed formulas and code, as Markdown marks them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from derive.claims.errors import ClaimError

__all__ = ["LONGEST", "Piece", "check_formulas", "pieces", "without_pictures"]

LONGEST = 2_000  # characters of one formula; a longer one might be nested deeper than a typesetter goes

_PIECE = re.compile(
    r"\\(?P<sign>[$`])|\$\$(?P<display>[^$]+)\$\$|\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$|`(?P<code>[^`\n]+)`"
)


@dataclass(frozen=True)
class Piece:
    """``kind`` is words, inline, display or code; ``start`` is where it stands in the text."""

    kind: str
    text: str
    start: int


def pieces(text: str) -> Iterator[Piece]:
    """The pieces of a text in order.

    >>> [(p.kind, p.text) for p in pieces("The sum $L_t$ is `loss`.")]
    [('words', 'The sum '), ('inline', 'L_t'), ('words', ' is '), ('code', 'loss'), ('words', '.')]
    """
    done = 0
    for match in _PIECE.finditer(text):
        if match["sign"]:
            continue
        if match.start() > done:
            yield Piece("words", text[done : match.start()], done)
        kind = str(match.lastgroup)
        yield Piece(kind, match[kind], match.start())
        done = match.end()
    if done < len(text):
        yield Piece("words", text[done:], done)


def check_formulas(text: str, field: str) -> str:
    """The text itself; raises :class:`ClaimError` for a formula that is too long to be typeset."""
    for piece in pieces(text):
        if piece.kind in ("inline", "display") and len(piece.text) > LONGEST:
            wanted = f"at most {LONGEST:,} characters"
            raise ClaimError("the formula is too long", field=field, found=f"{len(piece.text):,}", expected=wanted)
    return text


def without_pictures(text: str) -> str:
    """The text without pictographs, which say nothing, and for which a reader may have no letters.

    >>> without_pictures("\N{HOURGLASS WITH FLOWING SAND} Truncated")
    ' Truncated'
    """
    return "".join(c for c in text if not _is_picture(c))


def _is_picture(c: str) -> bool:
    joins = c in "\N{VARIATION SELECTOR-16}\N{ZERO WIDTH JOINER}"
    return joins or (unicodedata.category(c) == "So" and c >= "\u2300")  # technical signs and what comes after them
