"""What holds for every cell, spelled out at H = 2: states side by side in their entries, sums over few steps in terms.

The loss at T = 2, B = 2 with the weights that :func:`derive.losses.weights` gives; truncation at T = 4, k = 2 with the
terms that :mod:`derive.truncate` drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from sympy import Expr

from derive.cell import Cell
from derive.latex import name_latex
from derive.laws import CHUNKS, SEEN, WINDOW, backward_total, forward_total, jacobian_product, state_total
from derive.losses import AT, REDUCTIONS, weights
from derive.truncate import Pair, dropped_by_chunks, dropped_by_window, pairs

__all__ = ["laws", "loss_weights", "matrix_latex"]

SIZE, STEPS, KEPT = 2, 4, 2
_WORDS = {"every": "every step", "last": "the last step", "sum": "sum", "mean": "mean"}
_LOSS, _NOW = r"\mathcal{L}", r"\ell_t"
_BY_THETA = r"\frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta} = \sum_{t=1}^{T}"


def loss_weights() -> Iterator[str]:
    """The loss of two sequences of two steps, for every way to weigh it."""
    for at, reduction in product(AT, REDUCTIONS):
        rows = weights(at, reduction, [2, 2], 2)
        used = [(t, b) for t in (1, 2) for b in (1, 2) if rows[t - 1][b - 1] != 0]
        (weight,) = {rows[t - 1][b - 1] for t, b in used}
        terms = " + ".join(rf"\ell_{{{t},{b}}}" for t, b in used)
        right = terms if weight == 1 else rf"\tfrac{{{weight.p}}}{{{weight.q}}} \, \left({terms}\right)"
        yield rf"{_LOSS} = {right} \qquad \text{{{_WORDS[at]}, {_WORDS[reduction]}}}"


def matrix_latex(rows: Sequence[Sequence[str]]) -> str:
    """A matrix in its entries."""
    body = r" \\ ".join(" & ".join(row) for row in rows)
    return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"


def _entries(cell: Cell) -> list[tuple[str, int]]:
    """The entries of all states side by side."""
    return [(s, k) for s in cell.states for k in range(1, SIZE + 1)]


def _at(entry: tuple[str, int], time: str) -> str:
    return name_latex(entry[0], time, str(entry[1]))


def _partial(above: str, below: str, sign: str = r"\partial") -> str:
    return rf"\frac{{{sign} {above}}}{{{sign.split('^')[0]} {below}}}"


def _by_theta(entry: tuple[str, int], time: str) -> str:
    return _partial(_at(entry, time), r"\theta", r"\mathrm{d}")


def _directly(entry: tuple[str, int], time: str) -> str:
    return _partial(_at(entry, time), r"\theta", r"\partial^{+}")


def _step(row: tuple[str, int], column: tuple[str, int], now: str, before: str) -> str:
    return _partial(_at(row, now), _at(column, before))


def _sees(entry: tuple[str, int], loss: str, time: str) -> str:
    return _partial(loss, _at(entry, time))


def _product(*factors: str) -> str:
    return r" \, ".join(factors)


def _state_total(cell: Cell) -> Iterator[str]:
    for row in _entries(cell):
        ways = (_product(_step(row, m, "t", "t-1"), _by_theta(m, "t-1")) for m in _entries(cell))
        yield f"{_by_theta(row, 't')} = {' + '.join((_directly(row, 't'), *ways))}"


def _forward_total(cell: Cell) -> Iterator[str]:
    terms = (_product(_sees(m, _NOW, "t"), _by_theta(m, "t")) for m in _entries(cell))
    yield rf"{_BY_THETA} \left({' + '.join(terms)}\right)"


def _backward_total(cell: Cell) -> Iterator[str]:
    terms = (_product(_sees(m, _LOSS, "t"), _directly(m, "t")) for m in _entries(cell))
    yield rf"{_BY_THETA} \left({' + '.join(terms)}\right)"
    for column in _entries(cell):
        ways = (_product(_sees(m, _LOSS, "t+1"), _step(m, column, "t+1", "t")) for m in _entries(cell))
        yield f"{_sees(column, _LOSS, 't')} = {' + '.join((_sees(column, _NOW, 't'), *ways))}"


def _jacobian_product(cell: Cell) -> Iterator[str]:
    """J_t in its entries, then every entry of the product of two."""
    entries = _entries(cell)
    yield "J_t = " + matrix_latex([[_step(row, column, "t", "t-1") for column in entries] for row in entries])
    for row, column in product(entries, repeat=2) if len(entries) <= SIZE else [(entries[0], entries[-1])]:
        ways = (_product(_step(row, m, "t+2", "t+1"), _step(m, column, "t+1", "t")) for m in entries)
        yield f"{_step(row, column, 't+2', 't')} = {' + '.join(ways)}"


def _seen(cell: Cell) -> Iterator[str]:
    """What two steps' losses see of the first one's state, T = t + 1."""
    for column in _entries(cell):
        ways = (_product(_sees(m, r"\ell_{t+1}", "t+1"), _step(m, column, "t+1", "t")) for m in _entries(cell))
        terms = " + ".join((_sees(column, _NOW, "t"), *ways))
        yield rf"{_sees(column, _LOSS, 't')} = {terms} \qquad \text{{for }} T = t + 1"


def _truncated(dropped: Callable[[int, int], tuple[Pair, ...]]) -> Callable[[Cell], Iterator[str]]:
    """The kept and the dropped terms at T = 4, k = 2."""

    def lines(_: Cell) -> Iterator[str]:
        lost = dropped(STEPS, KEPT)
        for what, found in (("kept", [p for p in pairs(STEPS) if p not in lost]), ("dropped", lost)):
            terms = " + ".join(f"g_{{{u},{j}}}" for u, j in found)
            yield rf"\text{{{what}}} = {terms} \qquad \text{{for }} T = {STEPS}, \; k = {KEPT}"

    return lines


Writer = Callable[[Cell], Iterator[str]]


def laws(cell: Cell) -> Mapping[Expr, Writer]:
    """How each law of a cell's derivation is spelled out, by its equation."""
    states = cell.states
    return {
        state_total(states).equation: _state_total,
        forward_total().equation: _forward_total,
        backward_total(states).equation: _backward_total,
        jacobian_product(states).equation: _jacobian_product,
        SEEN.equation: _seen,
        WINDOW.equation: _truncated(dropped_by_window),
        CHUNKS.equation: _truncated(dropped_by_chunks),
    }
