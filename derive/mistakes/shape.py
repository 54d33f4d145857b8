"""Where a gate, a candidate, a direct path or a reset is, read off a backward program: by shape, never by name.

    direct path   s[t-1] += F ds[t],  F pointwise: an LSTM's c[t-1] += f dc[t], a GRU's h[t-1] += z dh[t]
    mixture       some other n += (1 - F) ds[t]
    gate          a node (or parameter) that F is made of
    candidate     n of a mixture, or the factor beside another gate in s's sum, by another function than the gates
    output gate   what stands beside f(c) or c in h = o*f(c), c a state of the same step
    reset         r in W (r*s[t-1]), or in r*(W s[t-1] + c)

These are letters for parts of any cell; a cell has as many of each as it has places of the shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from sympy import Add, Expr, Function, Mul, Symbol, expand

from derive.adjoint import Adjoint, Backward, Through
from derive.notation import FUNCTIONS, at, time_of
from derive.program import Pointwise, Product

__all__ = ["Direct", "Output", "Reset", "Shape", "is_parameter", "is_previous"]


def is_previous(target: Symbol | str) -> bool:
    """Whether a symbol is a state of the step before."""
    return isinstance(target, Symbol) and time_of(target)[1] == -1


def is_parameter(target: Symbol | str) -> bool:
    """Whether a symbol is a vector or scalar parameter."""
    return isinstance(target, Symbol) and time_of(target)[1] is None


@dataclass(frozen=True)
class Direct:
    """The direct path of a state: term ``i`` of d(``before``) is ``factor`` * d(``state``).

    ``mixed`` are the nodes beside 1 - ``factor``; there are none where the sum is not a mixture.
    """

    state: Symbol
    before: Symbol
    i: int
    factor: Expr
    gates: tuple[Symbol, ...]
    mixed: tuple[Symbol, ...]


@dataclass(frozen=True)
class Output:
    """``product`` = ``rest`` * ``call``; ``call`` is f(``cell``) or ``cell``, which is a state of the same step."""

    product: Symbol
    cell: Symbol
    call: Expr
    rest: Expr


@dataclass(frozen=True)
class Reset:
    """A factor next to a previous state: inside the operand of the product ``product``, or outside of it.

    ``above`` is the node that the product is added into, ``operand`` the product's operand, ``factor`` the reset.
    """

    product: Symbol
    above: Symbol
    operand: Symbol
    before: Symbol
    factor: Expr
    inside: bool

    @property
    def gates(self) -> tuple[Symbol, ...]:
        """What the factor is made of."""
        return tuple(sorted(self.factor.free_symbols, key=str))


class Shape:
    """The parts of one backward program that known mistakes are about."""

    def __init__(self, backward: Backward) -> None:
        self.backward, self.program = backward, backward.program
        self.cell = backward.program.cell
        self.states = {at(name) for name in self.cell.states}

    def through(self, source: Symbol) -> Iterator[tuple[Symbol, int, Through]]:
        """Every pointwise flow that comes from one node."""
        for target, flows in self.backward.flows.items():
            for i, flow in enumerate(flows):
                if isinstance(flow, Through) and flow.source == source:
                    yield target, i, flow

    def is_node(self, symbol: Symbol) -> bool:
        """Whether a symbol is computed within the step, or is a parameter."""
        return symbol in self.program.node or is_parameter(symbol)

    def function(self, symbol: Symbol) -> str:
        """The function whose value a node is, or nothing."""
        node = self.program.node.get(symbol)
        name = type(node.expression).__name__ if isinstance(node, Pointwise) else ""
        return name if name in FUNCTIONS else ""

    @cached_property
    def above(self) -> dict[Symbol, frozenset[Symbol]]:
        """Everything within the step that is computed from a symbol, itself left out."""
        out: dict[Symbol, frozenset[Symbol]] = {}
        for target, flows in self.backward.flows.items():
            out[target] = frozenset().union(*({f.source} | out[f.source] for f in flows))
        return out

    # ------------------------------------------------------------------------------------------------------- products

    def on_the_way_back(self, target: Symbol) -> bool:
        """Whether a product's operand is a previous state, or a pointwise function of one made for the product."""
        if is_previous(target):
            return True
        node = self.program.node.get(target)
        if not isinstance(node, Pointwise) or time_of(target)[0] in self.cell.equations:
            return False
        return any(is_previous(s) for s in node.expression.free_symbols)

    def is_readout(self, node: Symbol) -> bool:
        """Whether a product, or another node, reaches outputs only."""
        return not (({node} | self.above[node]) & self.states)

    def gate_above(self, symbol: Symbol) -> Symbol | None:
        """The function value whose argument a product is simply added into."""
        (flow,) = self.backward.flows[symbol] if len(self.backward.flows[symbol]) == 1 else (None,)
        if not isinstance(flow, Through):
            return None
        if self.function(flow.source):
            return flow.source
        return self.gate_above(flow.source) if flow.factor == 1 else None

    # ---------------------------------------------------------------------------------------------------------- gates

    @cached_property
    def direct(self) -> tuple[Direct, ...]:
        """The direct paths of all states."""
        out = []
        for name in self.cell.states:
            state, before = at(name), at(name, -1)
            for i, flow in enumerate(self.backward.flows[before]):
                if isinstance(flow, Through) and flow.source == state:
                    gates = sorted((s for s in flow.factor.free_symbols if self.is_node(s)), key=str)
                    mixed = self.mixed(state, before, flow.factor)
                    out.append(Direct(state, before, i, flow.factor, tuple(gates), mixed))
        return tuple(out)

    def mixed(self, state: Symbol, before: Symbol, factor: Expr) -> tuple[Symbol, ...]:
        """What stands beside 1 - ``factor`` in a state's sum, as the sum is written or as it is differentiated."""
        node = self.program.node[state]
        terms = Add.make_args(node.expression) if isinstance(node, Pointwise) else ()
        beside = {s for term in terms for s in _beside(term, 1 - factor) if s in self.program.node}
        beside |= {target for target, _, flow in self.through(state) if expand(flow.factor + factor - 1) == 0}
        return tuple(sorted(beside - {before}, key=str))

    def products_of_two(self, state: Symbol) -> list[tuple[Symbol, Symbol]]:
        """Terms u*v of a state's sum, u and v nodes of the same step."""
        node = self.program.node[state]
        terms = Add.make_args(node.expression) if isinstance(node, Pointwise) else ()
        pairs = [tuple(sorted(Mul.make_args(t), key=str)) for t in terms]
        return [(p[0], p[1]) for p in pairs if len(p) == 2 and all(s in self.program.node for s in p)]

    def is_cell(self, d: Direct) -> bool:
        """Whether a state is handed on to another state of the same step, as an LSTM's c is to h."""
        return bool(self.above[d.state] & self.states)

    @cached_property
    def candidates(self) -> dict[Symbol, Direct]:
        """What is put into a state through a gate, with the direct path beside it."""
        out: dict[Symbol, Direct] = {}
        for d in self.direct:
            out |= dict.fromkeys(d.mixed, d)
            gates = {self.function(g) for g in d.gates}
            for pair in () if d.mixed else self.products_of_two(d.state):
                odd = [s for s in pair if self.function(s) and self.function(s) not in gates]
                out |= dict.fromkeys(odd, d)
        return out

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """Output gates."""
        out = []
        for node in self.program.nodes:
            if not isinstance(node, Pointwise) or not node.expression.is_Mul:
                continue
            for call in node.expression.args:
                inner = call.args[0] if isinstance(call, Function) and type(call).__name__ in FUNCTIONS else call
                if inner in self.states and inner != node.symbol:
                    out.append(Output(node.symbol, inner, call, node.expression / call))
        return tuple(out)

    @cached_property
    def resets(self) -> tuple[Reset, ...]:
        """Resets, inside of a product and outside of one."""
        found = (self.reset(node) for node in self.program.nodes if isinstance(node, Product))
        return tuple(r for r in found if r is not None)

    def reset(self, product: Product) -> Reset | None:
        """The reset of one product, or None."""
        (flow,) = self.backward.flows[product.symbol] if len(self.backward.flows[product.symbol]) == 1 else (None,)
        if not isinstance(flow, Through):
            return None
        if is_previous(product.operand):
            if not self.is_gate(flow.factor) or flow.source in self.states:
                return None
            return Reset(product.symbol, flow.source, product.operand, product.operand, flow.factor, inside=False)
        made = self.program.node.get(product.operand)
        if not isinstance(made, Pointwise) or flow.factor != 1 or not made.expression.is_Mul:
            return None
        before = [s for s in made.expression.args if is_previous(s)]
        if len(before) != 1 or not self.is_gate(made.expression / before[0]):
            return None
        rest = made.expression / before[0]
        return Reset(product.symbol, flow.source, product.operand, before[0], rest, inside=True)

    def is_gate(self, e: Expr) -> bool:
        """Whether a factor is made of nodes of the same step, such as r or 1 - z."""
        return bool(e.free_symbols) and all(s in self.program.node for s in e.free_symbols) and not e.atoms(Function)


def _beside(term: Expr, factor: Expr) -> frozenset[Symbol]:
    """The symbols of a product's other factors, where ``factor`` is one of them."""
    for own in Mul.make_args(term):
        if expand(own - factor) == 0:
            return (term / own).free_symbols
    return frozenset()


def feeds(shape: Shape, gate: Symbol) -> list[tuple[Symbol, int]]:
    """The ways back to previous states through the products that are added into one gate's argument."""
    return [
        (target, i)
        for target, flows in shape.backward.flows.items()
        for i, flow in enumerate(flows)
        if is_previous(target) and isinstance(flow, Adjoint) and shape.gate_above(flow.source) == gate
    ]
