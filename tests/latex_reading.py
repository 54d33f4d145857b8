"""Reading LaTeX back: the value of a formula as it is printed, given the values of the quantities in it."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["Reader", "rows_of"]

_FUNCTION = re.compile(r"\\(?:operatorname\{(\w+)\}|(tanh|sigma|exp|log|sin|cos))('?)(?:\^\{(\d+)\})?\\left\(")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NAMES = {"sigma": "sigmoid", "sign": "dabs"}


class Reader:
    """Values of LaTeX formulas over an algebra; ``known`` maps what stands for one quantity to its value."""

    def __init__(self, known, algebra):
        self.known = dict(sorted(known.items(), key=lambda item: -len(item[0])))
        self.algebra = algebra

    def read(self, latex):
        """The value; raises ValueError for anything that is not understood."""
        self.text = latex.strip()
        value = self.sum()
        if self.text:
            raise ValueError(f"not understood: {self.text!r} in {latex!r}")
        return value

    def take(self, start):
        """Whether the text goes on like this; it is consumed."""
        if found := self.text.startswith(start):
            self.text = self.text[len(start) :].lstrip()
        return found

    def inside(self, end):
        """A sum up to a closing bracket."""
        value = self.sum()
        if not self.take(end):
            raise ValueError(f"expected {end!r} before {self.text!r}")
        return value

    def sum(self):
        sign = -1 if self.take("-") else 1
        value = self.product() * sign
        while self.text[:1] in ("+", "-") and self.text:
            sign, self.text = (1 if self.text[0] == "+" else -1), self.text[1:].lstrip()
            value = value + self.product() * sign
        return value

    def product(self):
        value = self.power()
        while self.text and not re.match(r"[-+=>})]|\\right", self.text):
            if not (self.take(r"\,") or self.take(r"\cdot")):
                raise ValueError(f"two factors without a space: {self.text!r}")
            value = value * self.power()
        return value

    def power(self):
        value = self.factor()
        while found := re.match(r"\^\{(-?\d+)\}", self.text):
            self.text = self.text[found.end() :].lstrip()
            n = int(found[1])
            value = value**n if n > 0 else (self.number(1) / value) ** -n
        return value

    def number(self, value):
        import sympy

        exact = Fraction(value)
        return self.algebra.number(sympy.Rational(exact.numerator, exact.denominator))

    def factor(self):
        for latex, value in self.known.items():
            if self.text.startswith(latex) and not self.text[len(latex) :].startswith("_"):
                self.take(latex)
                return value
        if found := _FUNCTION.match(self.text):
            return self.function(found)
        if found := _NUMBER.match(self.text):
            self.take(found[0])
            return self.number(found[0])
        if self.take(r"\tfrac{") or self.take(r"\frac{"):
            above = self.inside("}")
            return above / (self.inside("}") if self.take("{") else 0)
        if self.take(r"\left("):
            return self.inside(r"\right)")
        if self.take(r"\left["):
            return self.algebra.call("drelu", self.inside(r"> 0\right]"))
        if self.take(r"\left|"):
            return self.algebra.call("abs", self.inside(r"\right|"))
        if self.take(r"\sqrt{"):
            return self.algebra.call("sqrt", self.inside("}"))
        if self.take(r"\pi"):
            import sympy

            return self.algebra.number(sympy.pi)
        raise ValueError(f"not a factor: {self.text!r}")

    def function(self, found):
        self.text = self.text[found.end() :].lstrip()
        name = found[1] or found[2]
        x = self.inside(r"\right)")
        value = self.algebra.call(("d" if found[3] else "") + _NAMES.get(name, name), x)
        return value ** int(found[4]) if found[4] else value


def rows_of(latex):
    """The entries of a matrix, or the formula as its one entry."""
    found = re.fullmatch(r"\\begin\{pmatrix\} (.*) \\end\{pmatrix\}", latex.strip(), re.DOTALL)
    return [row.split("&") for row in found[1].split(r"\\")] if found else [[latex]]
