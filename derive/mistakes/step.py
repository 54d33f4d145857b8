"""Wrong steps that any cell can have: sums, carries, matrices and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sympy import Expr, Integer, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.mistakes.edit import Edit, Edits, changed, dropped, only
from derive.mistakes.shape import Shape, is_parameter, is_previous
from derive.notation import at, time_of
from derive.program import Pointwise

Maker = Callable[[Shape], Edits]

# ------------------------------------------------------------------------------------------------------- what there is


def flows(b: Backward, kind: type) -> Iterator[tuple[Symbol, int, Any]]:
    """Every flow of a kind."""
    for target, terms in b.flows.items():
        for i, flow in enumerate(terms):
            if isinstance(flow, kind):
                yield target, i, flow


def outers(b: Backward) -> Iterator[tuple[str, int, Outer]]:
    """Every outer product."""
    for name, pairs in b.matrices.items():
        for i, pair in enumerate(pairs):
            yield name, i, pair


def is_bias(shape: Shape, target: Symbol) -> bool:
    """Whether a parameter is added somewhere, and multiplies nothing."""
    if not is_parameter(target):
        return False
    inside = [e for node in shape.program.nodes if isinstance(node, Pointwise) for e in _parts(node.expression)]
    return not any(e.is_Mul and target in e.args for e in inside)


def _parts(e: Expr) -> Iterator[Expr]:
    yield e
    for a in e.args:
        yield from _parts(a)


def is_square(shape: Shape, matrix: str) -> bool:
    """Whether a matrix can stand for its transpose."""
    rows, columns = shape.cell.parameters[matrix]
    return rows == columns


def other_time(shape: Shape, symbol: Symbol) -> Symbol | None:
    """h[t] for h[t-1] and the reverse, for a state."""
    name, shift = time_of(symbol)
    return at(name, -1 - shift) if name in shape.cell.states and shift is not None else None


# ------------------------------------------------------------------------------------------------------------ the sums


def carry_missing(shape: Shape) -> Edits:
    """Nothing arrives at a previous state."""
    return (Edit(target, ()) for target, terms in shape.backward.flows.items() if is_previous(target) and terms)


def carry_overwrites(shape: Shape) -> Edits:
    """A state gets what is carried alone, or all but what comes from the outputs."""
    for s, terms in shape.backward.flows.items():
        if s in shape.states and terms:
            yield Edit(s, ())
            kept = tuple(f for f in terms if not shape.is_readout(f.source))
            if 0 < len(kept) < len(terms):
                yield Edit(s, kept)


def from_some(wanted: Callable[[Shape, Symbol], bool]) -> Maker:
    """A sum of which a term is missing, or of which one term is left; a sum's only term is not a part of it."""

    def edits(shape: Shape) -> Edits:
        b = shape.backward
        for target, terms in b.flows.items():
            if wanted(shape, target) and (len(terms) > 1 or not is_previous(target)):
                yield from (dropped(b, target, i) for i in range(len(terms)))
        for target, terms in b.flows.items():
            if is_previous(target) and wanted(shape, target) and len(terms) > 1:
                yield from (only(b, target, i) for i in range(len(terms)))
                yield Edit(target, ())

    return edits


def assigned(shape: Shape) -> Edits:
    """= for +=: the first or the last term is all that is left of a sum."""
    b = shape.backward
    for target, terms in (*b.flows.items(), *b.matrices.items()):
        if len(terms) > 1:
            yield from (only(b, target, i) for i in (-1, 0))


def _is_inner(shape: Shape, s: Symbol) -> bool:
    return not is_previous(s) and not is_parameter(s)


dh_partial = from_some(lambda shape, s: is_previous(s))
path_missing = from_some(_is_inner)
bias_missing = from_some(is_bias)
vector_missing = from_some(lambda shape, s: is_parameter(s) and not is_bias(shape, s))


def other_bias(shape: Shape) -> Edits:
    """One gate's bias gets what belongs to another's."""
    found = [(s, i, f) for s, i, f in flows(shape.backward, Through) if is_bias(shape, s)]
    axis = shape.program.axes
    for target, i, flow in found:
        for other, _, given in found:
            if other != target and given.source != flow.source and axis[given.source] == axis[flow.source]:
                yield changed(shape.backward, target, i, given)


# -------------------------------------------------------------------------------------------------------- the matrices

Place = Callable[[Shape, Symbol, Adjoint], bool]


def in_carry(shape: Shape, target: Symbol, flow: Adjoint) -> bool:
    """On the way to the previous state."""
    return shape.on_the_way_back(target)


def in_readout(shape: Shape, target: Symbol, flow: Adjoint) -> bool:
    """From an output to the step's own states and nodes."""
    return shape.is_readout(flow.source) and not shape.on_the_way_back(target) and target in shape.program.node


def elsewhere(shape: Shape, target: Symbol, flow: Adjoint) -> bool:
    """To an input, or between the nodes of the step."""
    return not in_carry(shape, target, flow) and not in_readout(shape, target, flow)


def not_in_carry(shape: Shape, target: Symbol, flow: Adjoint) -> bool:
    """Anywhere but on the way to the previous state."""
    return not in_carry(shape, target, flow)


def of_matrices(place: Place, edit: Callable[[Shape, Adjoint], Flow | None]) -> Maker:
    """Replace each product of a place by ``edit`` of it."""

    def edits(shape: Shape) -> Edits:
        for target, i, flow in flows(shape.backward, Adjoint):
            wrong = edit(shape, flow) if place(shape, target, flow) else None
            if wrong is not None:
                yield changed(shape.backward, target, i, wrong)

    return edits


def turned(shape: Shape, flow: Adjoint) -> Flow:
    """W d for W.T d."""
    return replace(flow, transposed=not flow.transposed)


def activation_above(b: Backward, source: Symbol) -> Through | None:
    """The flow d_a = f'(a) d_v above a product that is only added into the pre-activation a."""
    (flow,) = b.flows[source] if len(b.flows[source]) == 1 else (None,)
    if not isinstance(flow, Through) or flow.factor != 1:
        return None
    (above,) = b.flows[flow.source] if len(b.flows[flow.source]) == 1 else (None,)
    return above if isinstance(above, Through) and above.factor != 1 else None


def before_activation(shape: Shape, flow: Adjoint) -> Flow | None:
    """W.T d_v for W.T (f'(a) d_v)."""
    above = activation_above(shape.backward, flow.source)
    return replace(flow, source=above.source) if above else None


def commuted(shape: Shape, flow: Adjoint) -> Flow | None:
    """f'(a) (W.T d_v) for W.T (f'(a) d_v)."""
    above = activation_above(shape.backward, flow.source)
    if above is None or not is_square(shape, flow.matrix):
        return None
    return replace(flow, source=above.source, scale=above.factor)


def without_matrix(shape: Shape, flow: Adjoint) -> Flow | None:
    """d for W.T d."""
    return Through(flow.source, Integer(1)) if is_square(shape, flow.matrix) else None


def anywhere(shape: Shape, target: Symbol, flow: Adjoint) -> bool:
    """At every place."""
    return True


# --------------------------------------------------------------------------------------------------------- the weights


def of_weights(edit: Callable[[Shape, Outer], Outer | None]) -> Maker:
    """Replace each outer product by ``edit`` of it."""

    def edits(shape: Shape) -> Edits:
        for name, i, outer in outers(shape.backward):
            wrong = edit(shape, outer)
            if wrong is not None:
                yield changed(shape.backward, name, i, wrong)

    return edits


def _of_other_time(shape: Shape, outer: Outer) -> Outer | None:
    moved = other_time(shape, outer.operand)
    return replace(outer, operand=moved) if moved else None


def off_by_one(shape: Shape, outer: Outer) -> Outer | None:
    """h[t] for h[t-1] in a recurrent weight's gradient."""
    return None if shape.is_readout(outer.source) else _of_other_time(shape, outer)


def _read_earlier(shape: Shape, outer: Outer) -> Outer | None:
    return _of_other_time(shape, outer) if shape.is_readout(outer.source) else None


def _turned(shape: Shape, outer: Outer) -> Outer:
    return replace(outer, transposed=not outer.transposed)


def _read_turned(shape: Shape, outer: Outer) -> Outer | None:
    return _turned(shape, outer) if shape.is_readout(outer.source) else None


def _above(shape: Shape, outer: Outer) -> Outer | None:
    above = activation_above(shape.backward, outer.source)
    return replace(outer, source=above.source) if above else None


recurrent_off_by_one = of_weights(off_by_one)
weight_transposed = of_weights(_turned)
weight_before_activation = of_weights(_above)


def readout(shape: Shape) -> Edits:
    """The readout: its weight with h[t-1], its weight transposed, W e for W.T e."""
    yield from of_weights(_read_earlier)(shape)
    yield from of_weights(_read_turned)(shape)
    yield from of_matrices(in_readout, turned)(shape)


def weight_missing(shape: Shape) -> Edits:
    """A weight's gradient lacks a term."""
    yield from (dropped(shape.backward, name, i) for name, i, _ in outers(shape.backward))
    yield from vector_missing(shape)


def weights_swapped(shape: Shape) -> Edits:
    """One gate's d in another gate's weight gradient."""
    listed = list(outers(shape.backward))
    for name, i, outer in listed:
        for other in _alike(shape, name, outer, listed):
            yield changed(shape.backward, name, i, replace(outer, source=other.source))


def _alike(shape: Shape, name: str, outer: Outer, listed: list[tuple[str, int, Outer]]) -> list[Outer]:
    """Products of other matrices of the same sizes with the same operand."""
    sizes = shape.cell.parameters
    own = shape.backward.flows[outer.source]
    same = [(n, o) for n, _, o in listed if sizes[n] == sizes[name] and o.operand == outer.operand]
    return [o for n, o in same if n != name and shape.backward.flows[o.source] != own]
