"""The difference between the right line and a wrong one, as a formula in the author's names."""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Add, Expr, Mul, Rational, Symbol

from derive import notation
from derive.adjoint import Backward
from derive.algebra import tree_size
from derive.errors import CellError
from derive.handwritten.bench import Understanding
from derive.handwritten.forms import word
from derive.handwritten.generic import GenericTruth, HigherError
from derive.handwritten.generic_reading import GenericReading, Series
from derive.handwritten.lines import Line
from derive.handwritten.ring import Mono, Poly, Ring
from derive.handwritten.text import NotSayableError, Text
from derive.handwritten.times import EVERY, When
from derive.handwritten.values import UNDEFINED, ZERO, minus
from derive.notation import lin, parameter, transpose
from derive.syntax import Tree
from derive.write import write
from derive.zero import BudgetError

__all__ = ["difference_text"]

MOST = 120
MOST_FACTORED = 40


class _Named(GenericTruth):
    """Derivatives are symbols of their own: what the author names is not looked into."""

    def derivative(self, name: str, time: Any) -> Any:
        """A symbol."""
        return ZERO if self.place(time) in ("before", "after") else self.ring.atom(("d", name, time))

    def forward(self, name: str, time: Any) -> Any:
        """A value of the cell by its name."""
        if name not in self.cell.axes or self.place(time) == "after":
            return super().forward(name, time)
        return self.ring.atom(("state", name, time))

    def prepare(self, time: When) -> None:
        """Values have names: there is nothing to be known beforehand."""

    def leaf(self, role: str, name: str, time: Any) -> Any:
        """p[t] is not written out."""
        return self.ring.atom((role, name, time)) if role == "softmax" else super().leaf(role, name, time)


class _NamedReading(GenericReading):
    def own(self, name: str, time: Any) -> Any:
        """A symbol, where a definition has a meaning."""
        if name not in self.meanings:
            return super().own(name, time)
        if self.truth.place(time) in ("before", "after"):
            return ZERO
        if self.text.kinds.own[name].what == "matrix":
            return word(self.truth.ring, (f"{name}[{time}]", False))
        return self.truth.ring.atom(("own", name, time))


def difference_text(text: Text, backward: Backward, how: Understanding, line: Line, right: Tree) -> str | None:
    """right - yours in the author's names, or None where it is too long to read.

    ``right`` is the right side of the right line, read as a line of the same file.
    """
    for ahead in (0, 1, 2):
        truth = _Named(backward, how.loss, ahead=ahead, cut=True)
        reading = _NamedReading(text, truth, how.meanings, how.conventions)
        try:
            # at the times that the author wrote, whichever index the left side has
            env = {EVERY: When(EVERY, 0)} if line.offset else reading.env_of(line, line.target.when)
            return _text(minus(reading.value(right, env), reading.value(line.value, env)), truth.ring)
        except HigherError:
            continue
        except (BudgetError, NotSayableError, ZeroDivisionError, CellError, ValueError, TypeError, AttributeError):
            return None
    return None


def _text(value: Any, ring: Ring) -> str | None:
    if value is UNDEFINED:
        return None
    if value is ZERO:
        return "0"
    if isinstance(value, Series):
        parts = [_text(value.each, ring), _text(value.once, ring)]
        if parts[0] is None or parts[1] is None:
            return None
        shown = [f"sum({parts[0]})" if parts[0] != "0" else "", parts[1] if parts[1] != "0" else ""]
        return _joined([x for x in shown if x])
    if len(value.terms) > MOST:
        return None
    if isinstance(value, Poly):
        e = _expression(value, ring)
        if tree_size(e) <= MOST_FACTORED * 4:
            e = sympy.factor(e)
        return write(e)
    return _joined([_word_text(word, c, ring) for word, c in value.terms.items()])


def _joined(parts: list[str]) -> str:
    return " + ".join(parts).replace("+ -", "- ") or "0"


def _expression(p: Poly, ring: Ring) -> Expr:
    return Add(*(_monomial(m, ring) * Rational(c) for m, c in p.terms.items()))


def _monomial(mono: Mono, ring: Ring) -> Expr:
    return Mul(*(_atom(ring.keys[a], ring) ** n for a, n in mono))


def _atom(key: Any, ring: Ring) -> Expr:
    if key == "pi":
        return sympy.pi
    if key == "T":
        return Symbol("T", real=True)
    match key:
        case ("lin", str() as name, bool() as transposed, inside):
            w = parameter(name)
            return lin(transpose(w) if transposed else w, _monomial(inside, ring))
        case ("dot", inside):
            raise NotSayableError(f"a sum over entries of {inside}")
        case ("f", str() as name, terms):
            return getattr(notation, name)(_expression(Poly(ring, dict(terms)), ring))
        case ("recip", terms):
            return 1 / _expression(Poly(ring, dict(terms)), ring)
        case ("parameter", str() as name):
            return parameter(name)
        case ("d", str() as name, when):
            return Symbol(f"d{name}[{when}]", real=True)
        case ("own" | "state" | "input", str() as name, when):
            return Symbol(f"{name}[{when}]", real=True)
        case ("cotangent", str() as name, when):
            return Symbol(f"dl_d{name}[{when}]", real=True)
        case ("softmax" | "target" as role, str(), when):
            return Symbol(f"{'p' if role == 'softmax' else role}[{when}]", real=True)
    raise NotSayableError(str(key))


def _word_text(word: Any, value: Any, ring: Ring) -> str:
    sign, size = ("-" if value < 0 else ""), abs(value)
    scalar, first = ring.split(word[0])
    front = sign + (f"{size}*" if size != 1 else "")
    front += f"{write(_monomial(scalar, ring))}*" if scalar else ""
    if None in word:
        return f"{front}outer({write(_monomial(first, ring))}, {write(_monomial(word[2], ring))})"
    pieces = []
    for i, part in enumerate((first, *word[1:])):
        if i % 2:
            pieces.append(f"{part[0]}{'.T' if part[1] else ''}")
        elif part:
            pieces.append(f"diag({write(_monomial(part, ring))})")
    return front + (" @ ".join(pieces) or "diag(1)")
