"""Wrong steps of cells with gates: direct paths, mixtures, candidates, output gates and resets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sympy import Add, Expr, Integer, Mul, Symbol, expand

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.mistakes.edit import Edit, Edits, changed, dropped, extended
from derive.mistakes.shape import Direct, Output, Reset, Shape, feeds
from derive.notation import FUNCTIONS, at, time_of
from derive.program import Pointwise, Product

__all__ = [
    "candidate_factor",
    "dc_carry_missing",
    "direct_path",
    "factors_swapped",
    "forget_skipped",
    "forget_uses_new_cell",
    "output_gate",
    "reset_path",
    "reset_variant",
    "update_sign",
    "whole_variant",
]


def _factor(shape: Shape, target: Symbol, i: int, factor: Expr) -> Edit:
    """Another factor in a pointwise flow."""
    return changed(shape.backward, target, i, Through(shape.backward.flows[target][i].source, factor))


# --------------------------------------------------------------------------------------------------- the direct path


def dc_carry_missing(shape: Shape) -> Edits:
    """A cell whose d is left to what the other state hands it: dc = dh o tanh'(c)."""
    for d in shape.direct:
        if shape.is_cell(d):
            yield Edit(d.before, ())
            yield dropped(shape.backward, d.before, d.i)


def forget_skipped(shape: Shape) -> Edits:
    """dc_prev = dc, or dc * i."""
    for d in shape.direct:
        if not d.mixed or shape.is_cell(d):
            yield _factor(shape, d.before, d.i, Integer(1))
            yield from (_factor(shape, d.before, d.i, other) for other in other_gates(shape, d))


def other_gates(shape: Shape, d: Direct) -> list[Symbol]:
    """The gates beside the direct path's in a state's sum: values of the same function."""
    own = {shape.function(g) for g in d.gates} - {""}
    return [s for pair in shape.products_of_two(d.state) for s in pair if shape.function(s) in own and s not in d.gates]


def direct_path(shape: Shape) -> Edits:
    """The direct path of a mixture: dh z left out, or (1 - z), or 1."""
    for d in shape.direct:
        if d.mixed:
            yield dropped(shape.backward, d.before, d.i)
            yield _factor(shape, d.before, d.i, 1 - d.factor)
            yield _factor(shape, d.before, d.i, Integer(1))


def _into_gates(shape: Shape) -> Iterator[tuple[Direct, Symbol, int, Through]]:
    for d in shape.direct:
        yield from ((d, target, i, flow) for target, i, flow in shape.through(d.state) if target in d.gates)


def forget_uses_new_cell(shape: Shape) -> Edits:
    """df = dc c[t] for dc c[t-1]."""
    for d, target, i, flow in _into_gates(shape):
        yield _factor(shape, target, i, flow.factor.xreplace({d.before: d.state}))


def update_sign(shape: Shape) -> Edits:
    """The difference in a mixture's gate: n - h for h - n; one of the two alone."""
    for d, target, i, flow in _into_gates(shape):
        terms = Add.make_args(flow.factor)
        if d.mixed and len(terms) > 1:
            yield _factor(shape, target, i, -flow.factor)
            yield from (_factor(shape, target, i, term) for term in terms)


def candidate_factor(shape: Shape) -> Edits:
    """dn = dh z for dh (1 - z): the direct path's factor for the candidate's; or none."""
    for candidate, d in shape.candidates.items():
        for target, i, flow in shape.through(d.state):
            own = _own_factor(d, flow.factor) if target == candidate else None
            if own is not None:
                yield _factor(shape, target, i, flow.factor / own * d.factor)
                yield _factor(shape, target, i, flow.factor / own)


def _own_factor(d: Direct, factor: Expr) -> Expr | None:
    """The gate in a candidate's factor: 1 - z of a mixture, otherwise all of it."""
    if not d.mixed:
        return factor
    return next((f for f in Mul.make_args(factor) if expand(f + d.factor - 1) == 0), None)


def factors_swapped(shape: Shape) -> Edits:
    """di and dg swapped: each gets what belongs to the other."""
    for name in shape.cell.states:
        for u, v in shape.products_of_two(at(name)):
            for target, i, flow in shape.through(at(name)):
                if target in (u, v) and flow.factor in (u, v):
                    yield _factor(shape, target, i, target)


# -------------------------------------------------------------------------------------------------------- output gates


def output_gate(shape: Shape) -> Edits:
    """do = dh c; o left out of dc; tanh'(c) as 1 - c**2, 1 - h**2, 1."""
    for o in shape.outputs:
        for target, i, flow in shape.through(o.product):
            if target == o.cell:
                yield from (_factor(shape, target, i, wrong) for wrong in _into_cell(o, flow.factor))
            elif target in o.rest.free_symbols and o.call != o.cell:
                yield _factor(shape, target, i, flow.factor.xreplace({o.call: o.cell}))


def _into_cell(o: Output, factor: Expr) -> Iterator[Expr]:
    yield factor / o.rest
    name = type(o.call).__name__
    if name in ("tanh", "sigmoid"):
        wrong = (*(FUNCTIONS[name].closed(y, y) for y in (o.cell, o.product)), Integer(1))
        yield from (o.rest * derivative for derivative in wrong)


# -------------------------------------------------------------------------------------------------------------- resets


def reset_path(shape: Shape) -> Edits:
    """dr = da h; r left out on the hidden branch; the way through a gate missing from dh_prev."""
    for r in shape.resets:
        yield from _reset_left_out(shape, r)
        for target, i, flow in shape.through(r.operand if r.inside else r.above):
            if target in r.gates:
                slope = flow.factor if r.inside else r.factor.diff(target) * r.before
                yield changed(shape.backward, target, i, Through(r.above, slope))
        for gate in dict.fromkeys((*r.gates, *(g for d in shape.direct if d.mixed for g in d.gates))):
            yield from (dropped(shape.backward, target, i) for target, i in feeds(shape, gate))


def _reset_left_out(shape: Shape, r: Reset) -> Edits:
    b = shape.backward
    if r.inside:
        i = b.flows[r.before].index(Through(r.operand, r.factor))
        yield changed(b, r.before, i, Through(r.operand, Integer(1)))
        return
    yield changed(b, r.product, 0, Through(r.above, Integer(1)))
    for i, flow in enumerate(b.flows[r.before]):
        if flow.source == r.product:
            yield changed(b, r.before, i, replace(flow, source=r.above))


def reset_variant(shape: Shape) -> Edits:
    """The step of the other form: r*(W s) for W (r*s), or the reverse; and the weight's gradient without the reset."""
    for r in shape.resets:
        for name, i, outer in _outers_of(shape.backward, r):
            plain = replace(outer, operand=r.before) if r.inside else replace(outer, source=r.above)
            yield changed(shape.backward, name, i, plain)
        yield from other_form(shape, r)


def _outers_of(b: Backward, r: Reset) -> list[tuple[str, int, Outer]]:
    return [(m, i, o) for m, pairs in b.matrices.items() for i, o in enumerate(pairs) if o.source == r.product]


def other_form(shape: Shape, r: Reset) -> list[Edit]:
    """The sums that differ between the two forms, each as it is in the other one."""
    product = shape.program.node[r.product]
    axes = shape.program.axes
    if not isinstance(product, Product) or axes[r.product] != axes[r.before]:
        return []
    return (_as_if_outside if r.inside else _as_if_inside)(shape.backward, r, product)


def _fresh(b: Backward, wanted: str) -> Symbol:
    taken = {time_of(s)[0] for s in b.flows} | set(b.matrices)
    return at(next(n for n in (wanted, *(f"{wanted}_{k}" for k in range(2, 99))) if n not in taken))


def _as_if_outside(b: Backward, r: Reset, product: Product) -> list[Edit]:
    """W (r*s) taken for r*(W s): the product W s is a node, with d = r*da."""
    new = _fresh(b, f"{product.matrix}_{time_of(r.before)[0]}_prev")
    node = replace(product, symbol=new, operand=r.before)
    wide = extended(b, r.above, node, (Through(r.above, r.factor),))
    adjoint = Adjoint(new, product.matrix, not product.transposed)
    instead = {r.before: adjoint} | {g: Through(r.above, r.factor.diff(g) * new) for g in r.gates}
    weights = [changed(b, m, i, replace(o, source=new, operand=r.before), wide) for m, i, o in _outers_of(b, r)]
    return [*weights, *_moved(b, wide, r.operand, instead)]


def _as_if_inside(b: Backward, r: Reset, product: Product) -> list[Edit]:
    """r*(W s) taken for W (r*s): the operand r*s is a node, with d = W.T da."""
    new = _fresh(b, f"q_{time_of(r.above)[0].removeprefix('a_')}")
    node = Pointwise(new, r.factor * r.before, b.program.axes[r.before])
    wide = extended(b, r.above, node, (Adjoint(r.above, product.matrix, not product.transposed),))
    gates: dict[Symbol, Flow] = {g: Through(new, r.factor.diff(g) * r.before) for g in r.gates}
    weights = [changed(b, m, i, replace(o, source=r.above, operand=new), wide) for m, i, o in _outers_of(b, r)]
    states = _moved(b, wide, r.product, {r.before: Through(new, r.factor)})
    return [*weights, *states, *_moved(b, wide, r.above, gates)]


def _moved(b: Backward, wide: Backward, source: Symbol, instead: dict[Symbol, Flow]) -> list[Edit]:
    """Flows from one node replaced by flows from the new one."""
    return [
        changed(b, target, i, flow, wide)
        for target, flow in instead.items()
        for i, right in enumerate(b.flows[target])
        if right.source == source
    ]


def whole_variant(b: Backward) -> Backward:
    """The first reset of a cell in the other form, all sums at once; the same program where there is none."""
    shape = Shape(b)
    for r in shape.resets[:1]:
        for k, edit in enumerate(other_form(shape, r)):
            b = edit.of(b) if k == 0 else replace(edit, base=b).of(b)
    return b
