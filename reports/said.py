"""What should change, as mathematics: "W_hh should be W_hh.T", "the factor 1 - h[t]**2 is missing", ..."""

from __future__ import annotations

import re
from collections.abc import Collection

from derive.cell import Cell
from derive.handwritten.typeset import expression_latex
from derive.latex import name_latex
from derive.mistakes.table import SENTENCES
from reports.document import Inline, Math, Parts
from reports.prose import prose

__all__ = ["explained", "said"]

_PLACE = re.compile(r"^(in the gradient of |in dL/d)(\w+)(?:\[([t0-9+-]+)\])?, (.+)$")
_FRAMES = (
    re.compile(r"^()(.+)( should be )(.+?)((?: \(in .* only\))?)$"),
    re.compile(r"^(the (?:term|factor) (?:with )?)(.+)( is missing| is counted twice| is too much)()()$"),
    re.compile(r"^(the sign of )(.+)( is wrong)()()$"),
    re.compile(r"^(only the term (?:with )?)(.+)( is left)()()$"),
)


# What stands in the catalogue's sentences as formulas and prose alone does not know.
_FORMULAS = {
    "dc = dh tanh'(c)": r"\mathrm{d}c = \mathrm{d}h \odot \tanh'(c)",
    "1 - h[t-1]^2": r"1 - h_{t-1}^2",
    "1 - h[t]^2": r"1 - h_t^2",
    "W.T (f'(a) dv)": r"W^{\top} (f'(a) \odot \mathrm{d}v)",
    "W.T dv": r"W^{\top} \mathrm{d}v",
    "W.T e": r"W^{\top} e",
    "W e": r"W e",
    "tanh'(c)": r"\tanh'(c)",
    "tanh(c)": r"\tanh(c)",
    "dl/dy": r"\partial \ell / \partial y",
    "dc c[t-1]": r"\mathrm{d}c \odot c_{t-1}",
    "dc c[t]": r"\mathrm{d}c \odot c_t",
    "dc*i": r"\mathrm{d}c \odot i",
    "dc*f": r"\mathrm{d}c \odot f",
    "dh z": r"\mathrm{d}h \odot z",
    "1 - z": "1 - z",
    "dc": r"\mathrm{d}c",
}
_FORMULA = re.compile("|".join(rf"(?<!\w){re.escape(f)}(?!\w)" for f in sorted(_FORMULAS, key=len, reverse=True)))


def explained(name: str, names: Collection[str] = ()) -> Parts:
    """What a known mistake does, as the catalogue says; nothing for a name that it does not have.

    >>> explained("forget-skipped")[-2:]
    (Math(latex='\\\\mathrm{d}c \\\\odot f'), ' belongs')
    """
    text, done = SENTENCES.get(name, ""), 0
    out: list[Inline] = []
    for match in _FORMULA.finditer(text):
        out += [*prose(text[done : match.start()], names), Math(_FORMULAS[match[0]])]
        done = match.end()
    return (*out, *prose(text[done:], names))


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
