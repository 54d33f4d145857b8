"""Conformance: would this product conform if all sizes were different?

A reading in rows or columns gives every factor a shape in letters; the product conforms where each factor has as many
columns as the next has rows, and it gives the shape that it should.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from derive.claims import ClaimError
from derive.latex import name_latex
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Math, Parts, Table
from reports.prose import prose

__all__ = ["check_shape"]

_SHAPE = re.compile(r"\s*([A-Z]\w{0,9}|1)\s*x\s*([A-Z]\w{0,9}|1)\s*")

Shape = tuple[str, str]


def check_shape(given: Mapping[str, Any]) -> Evidence:
    """``factors``, each "TeX: rows x columns", and ``gives``, the shape that the product should have.

    >>> check_shape({"factors": ("g: 1 x H", "J: H x H"), "gives": "1 x H"}).holds
    True
    >>> check_shape({"factors": ("g: H x 1", "J: H x H"), "gives": "H x 1"}).holds
    False
    """
    arguments = Arguments(given)
    factors = [_factor(text) for text in arguments.words("factors")]
    wanted = _shape(arguments.text("gives"), "gives")
    arguments.done()
    if not 2 <= len(factors) <= 8:
        raise ClaimError("a product", field="factors", found=len(factors), expected="2 to 8 factors")
    return _evidence(factors, wanted)


def _factor(text: str) -> tuple[str, Shape]:
    name, _, shape = text.rpartition(":")
    if not name.strip():
        raise ClaimError("a factor has a name", field="factors", found=text, expected="text such as J: H x H")
    return name.strip(), _shape(shape, "factors")


def _shape(text: str, field: str) -> Shape:
    found = _SHAPE.fullmatch(text)
    if not found:
        raise ClaimError("this is not a shape", field=field, found=text, expected="rows x columns, such as H x 1")
    return found[1], found[2]


def _evidence(factors: list[tuple[str, Shape]], wanted: Shape) -> Evidence:
    rows: list[tuple[Parts, ...]] = [((Math(rf"\displaystyle {name}"),), (_math(shape),)) for name, shape in factors]
    table = Table((("factor",), ("rows by columns",)), tuple(rows), "ll")
    for (left, a), (right, b) in pairwise(factors):
        if a[1] != b[0]:
            said: Parts = (
                *("The product does not conform: ", Math(left), " has ", *_number(a[1], "column"), " and "),
                *(Math(right), " has ", *_number(b[0], "row"), ". "),
                *prose(_smallest(a[1], b[0])),
            )
            return Evidence(False, "proven, every size", said, (table,))
    result = (factors[0][1][0], factors[-1][1][1])
    if result != wanted:
        said = ("The product conforms, but it is ", _math(result), " and should be ", _math(wanted), ".")
        return Evidence(False, "proven, every size", said, (table,))
    return Evidence(
        True,
        "proven, every size",
        (
            "The product conforms and is ",
            _math(result),
            ".",
        ),
        (table,),
    )


def _smallest(a: str, b: str) -> str:
    """The smallest sizes at which it shows."""
    if "1" in (a, b):
        letter = a if b == "1" else b
        return f"It shows from {letter} = 2 on; with {letter} = 1 nothing can be seen."
    return f"It shows where {a} and {b} differ, as at {a} = 1, {b} = 2."


def _number(size: str, what: str) -> Parts:
    return ("1 ", what) if size == "1" else (_letter(size), f" {what}s")


def _letter(size: str) -> Math:
    return Math("1" if size == "1" else name_latex(size))


def _math(shape: Shape) -> Math:
    return Math(rf"{_letter(shape[0]).latex} \times {_letter(shape[1]).latex}")
