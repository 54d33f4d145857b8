"""A bound O(...) against the cost that is counted from the program, as polynomials in T, B and the cell's sizes.

Some letters grow, each on its own and each at least 1; all others are held.  A monomial is at most another, times a
constant, exactly where no growing letter has a larger exponent in it.  So a count is bounded by a sum of monomials if
each of its terms is bounded by one of these; and where letters can grow, at some speeds, so that a term outgrows every
one of them, it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sympy import Expr, Integer, Mul, Symbol, expand

import derive
from derive.cell import Cell
from derive.claims import ClaimError
from derive.cost import B, T, count_cost, size_symbol
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.checks.growth import Comparison, read_bound

__all__ = ["QUANTITIES", "check_cost"]

QUANTITIES = {
    "forward": "multiply-adds of the forward pass",
    "backward": "multiply-adds of the backward pass",
    "stored": "numbers that the backward pass reads back",
    "states": "states that are stored",
    "input values": "numbers of the inputs",
    "output values": "numbers of the outputs",
    "parameters": "numbers of the parameters, and as many of their gradients",
    "one step": "numbers of one step: all that the forward pass alone has to hold",
}
_WORK = ("forward", "backward")  # of the whole sequence, however it is cut: chunks save memory, not work
# Where a cell has no products, or none of some size, what is done entry by entry is all there is: it decides, and is
# shown where it makes a difference.
_SENSES = ("at most", "exactly", "equal")


def check_cost(given: Mapping[str, Any]) -> Evidence:
    """``cell``, ``of`` (names of quantities, summed), ``bound`` ("T*H**2"), ``grows`` (letters; the others are held).

    ``sense`` is "at most" (an upper bound, what O means), "exactly" (of the same order) or "equal" (the same number,
    coefficients and all, for which ``grows`` is left out); ``chunk`` is the letter of the steps that are held at a time
    (multiply-adds are still those of all T); ``assume`` is a list such as "H <= T".

    >>> check_cost({"cell": "tanh_rnn", "of": ("forward",), "bound": "T*H**2", "grows": ("T", "H")}).holds
    True
    >>> check_cost({"cell": "tanh_rnn", "of": ("forward",), "bound": "T*H**2", "grows": ("T", "H", "D")}).holds
    False
    """
    arguments = Arguments(given)
    cell = arguments.cell()
    of = arguments.words("of", QUANTITIES)
    sense = arguments.choice("sense", _SENSES, "at most")
    chunk = arguments.text("chunk", "")
    letters = ("T", "B", *cell.dimensions, *((chunk,) if chunk else ()))
    grows = () if sense == "equal" else arguments.words("grows", letters)
    bound = read_bound(arguments.text("bound"), letters)
    assume = _assumed(arguments.words("assume", default=()), letters, grows)
    arguments.done()
    if len(set(grows)) < len(grows) or len(set(of)) < len(of):
        raise ClaimError("named twice", field="of" if len(set(grows)) == len(grows) else "grows", expected="each once")
    if not of or not (grows or sense == "equal"):
        raise ClaimError("nothing to compare", field="of" if not of else "grows", expected="at least one name")
    if chunk and (chunk in ("T", "B", *cell.dimensions) or not chunk.isidentifier() or len(chunk) > 8):
        raise ClaimError("a letter of its own", field="chunk", found=chunk, expected="such as k")
    if sense == "equal":
        return Comparison(_total(cell, of, chunk), bound, grows, assume, letters).equal()
    found, whole = (
        Comparison(total, bound, grows, assume, letters).evidence(exactly=sense == "exactly")
        for total in (
            _total(cell, of, chunk),
            _total(cell, (*of, *(f"{name} entrywise" for name in _WORK if name in of)), chunk),
        )
    )
    return found if found.holds is whole.holds else whole


def _assumed(texts: tuple[str, ...], letters: tuple[str, ...], grows: tuple[str, ...]) -> dict[str, str]:
    """For each smaller letter the larger one."""
    found: dict[str, str] = {}
    for text in texts:
        small, sign, large = (part.strip() for part in text.partition("<="))
        known = sign and {small, large} <= set(grows) and small != large
        if not known or large in found or small in found or small in found.values():
            wanted = "two letters that grow, such as H <= T; no chains"
            raise ClaimError("this cannot be assumed", field="assume", found=text, expected=wanted)
        found[small] = large
    return found


def _total(cell: Cell, of: tuple[str, ...], chunk: str) -> Expr:
    known = _quantities(cell)
    held = [
        known[name].subs(T, size_symbol(chunk)) if chunk and name.partition(" ")[0] not in _WORK else known[name]
        for name in of
    ]
    return expand(sum(held, Integer(0)))


@lru_cache(maxsize=64)
def _quantities(cell: Cell) -> Mapping[str, Expr]:
    cost = count_cost(derive.differentiate(cell).backward)

    def size(name: str) -> Symbol:
        return size_symbol(cell.axes[name])

    inputs = sum((size(n) for n in cell.inputs), Integer(0))
    outputs = sum((size(n) for n in cell.outputs), Integer(0))
    computed = sum((size(n) for n in cell.equations), Integer(0))
    weights = sum((Mul(*map(size_symbol, shape)) for shape in cell.parameters.values()), Integer(0))
    return {
        "forward": cost.forward,
        "backward": cost.backward,
        "forward entrywise": cost.forward_entrywise,
        "backward entrywise": cost.backward_entrywise,
        "stored": cost.stored,
        "states": cost.states,
        "input values": T * B * inputs,
        "output values": T * B * outputs,
        "parameters": 2 * weights,
        "one step": B * (inputs + computed),
    }
