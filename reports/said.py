"""What should change, as mathematics: "W_hh should be W_hh.T", "the factor 1 - h[t]**2 is missing", ..."""

from __future__ import annotations

import re

from derive.cell import Cell
from derive.handwritten.typeset import expression_latex
from derive.latex import name_latex
from reports.document import Inline, Math, Parts
from reports.prose import prose

__all__ = ["said"]

_PLACE = re.compile(r"^(in the gradient of |in dL/d)(\w+)(?:\[([t0-9+-]+)\])?, (.+)$")
_FRAMES = (
    re.compile(r"^()(.+)( should be )(.+?)((?: \(in .* only\))?)$"),
    re.compile(r"^(the (?:term|factor) (?:with )?)(.+)( is missing| is counted twice| is too much)()()$"),
    re.compile(r"^(the sign of )(.+)( is wrong)()()$"),
    re.compile(r"^(only the term (?:with )?)(.+)( is left)()()$"),
)


def said(text: str, cell: Cell) -> Parts:
    """A sentence of the catalogue's or the oracle's, its pieces of equations typeset.

    >>> import derive
    >>> said("W_hh should be W_hh.T", derive.load("tanh_rnn"))
    (Math(latex='W_{hh}'), ' should be ', Math(latex='W_{hh}^{\\\\top}'))
    """
    out: list[Inline] = []
    for k, clause in enumerate(text.split("; ")):
        out += ["; "] if k else []
        out += _clause(clause, cell)
    return tuple(out)


def _clause(text: str, cell: Cell) -> Parts:
    """Where, if that is said, and what."""
    lead, rest = ("and ", text[4:]) if text.startswith("and ") else ("", text)
    place = _PLACE.match(rest)
    if place is None:
        return (*((lead,) if lead else ()), *_framed(rest, cell))
    words, name, time, rest = place.groups()
    variable = name_latex(name, time) if time else name_latex(name)
    where = (
        (words, Math(variable))
        if words.endswith(" ")
        else ("in ", Math(rf"\mathrm{{d}}\mathcal{{L}}/\mathrm{{d}}{variable}"))
    )
    return (*((lead,) if lead else ()), *where, ", ", *_framed(rest, cell))


def _framed(text: str, cell: Cell) -> Parts:
    """A sentence around one or two pieces of an equation; words as they are where it is no such sentence."""
    names = tuple(cell.parameters)
    for frame in _FRAMES:
        match = frame.match(text)
        if match is None:
            continue
        before, first, middle, second, after = match.groups()
        pieces = [expression_latex(piece, cell) for piece in (first, second) if piece]
        if all(pieces):
            maths: list[Inline] = [Math(piece) for piece in pieces if piece]
            parts = (before, maths[0], middle, *maths[1:], *prose(after, names))
            return tuple(part for part in parts if part != "")
    return prose(text, names)
