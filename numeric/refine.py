"""The proven backward program in the form that runs fastest: the same sums, with less left for the recursion.

    calls      every function call of a step is a node of its own: computed once, kept
    chains     a derivative that only passes through is left out:  d_w += g d_v,  d_v = f d_u   gives   d_w += (g f) d_u
    factors    what a derivative is multiplied by is a forward node: known for all steps before the recursion starts

Products are regrouped, nothing else; the result is again a :class:`derive.adjoint.Backward`.
"""

from __future__ import annotations

from types import MappingProxyType

from sympy import Expr, S, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Through
from derive.notation import applications, at, time_of
from derive.program import Node, Pointwise, Program

__all__ = ["refine"]


def refine(backward: Backward, active: frozenset[str]) -> Backward:
    """The same derivatives, for losses that read the outputs and states ``active``, regrouped."""
    return _Refiner(backward, active).result()


class _Refiner:
    def __init__(self, backward: Backward, active: frozenset[str]) -> None:
        self.backward, program = backward, backward.program
        self.cell, self.axes = program.cell, dict(program.axes)
        self.taken = {time_of(s)[0] for s in self.axes} | {*self.cell.axes, *self.cell.parameters}
        self.nodes: list[Node] = []
        self.known: dict[Expr, Symbol] = {}  # entrywise expressions that are nodes
        self.flows: dict[Symbol, tuple[Flow, ...]] = dict(backward.flows)
        self.read_by_matrices = {pair.source for pairs in backward.matrices.values() for pair in pairs}
        self.roots = {at(name) for name in (*active, *self.cell.states)}

    def result(self) -> Backward:
        """The regrouped program."""
        for node in self.backward.program.nodes:
            if not isinstance(node, Pointwise):
                self.nodes.append(node)
                continue
            opened = Pointwise(node.symbol, self.opened(node), node.axis)
            self.nodes.append(opened)
            if applications(opened.expression):  # a call on its own, by now
                self.known.setdefault(opened.expression, node.symbol)
        self.flows = {t: tuple(self.named(f) for f in flows) for t, flows in self.flows.items()}
        for target in tuple(self.flows):
            self.contract(target)
        flows = MappingProxyType(self.flows)
        return Backward(Program(self.cell, tuple(self.nodes)), flows, self.backward.matrices)

    # ---------------------------------------------------------------------------------------------------------- nodes

    def opened(self, node: Pointwise) -> Expr:
        """A node's expression with every call in it a node before it; a call that is the whole stays."""
        e = node.expression
        name = time_of(node.symbol)[0]
        calls = applications(e)
        for call in calls:
            inner = self.told(call)
            if call != e and inner.free_symbols and inner.args:
                self.add(f"{call.func}_{name}", inner, node.axis)
        return e.func(*map(self.told, e.args)) if calls and calls[-1] == e else self.told(e)

    def told(self, e: Expr) -> Expr:
        """``e`` in terms of the nodes that there are, from the inside out."""
        if not e.args or not e.free_symbols:
            return e
        out = e.func(*map(self.told, e.args))
        return self.known.get(out, out)

    def add(self, wanted: str, e: Expr, axis: str) -> Symbol:
        """The node of an expression."""
        if e not in self.known:
            name, count = wanted, 2
            while name in self.taken:
                name, count = f"{wanted}{count}", count + 1
            self.taken.add(name)
            self.nodes.append(Pointwise(at(name), e, axis))
            self.known[e] = at(name)
            self.axes[at(name)] = axis
        return self.known[e]

    # ---------------------------------------------------------------------------------------------------------- flows

    def factor(self, e: Expr, source: Symbol) -> Expr:
        """A factor as a number, a symbol, or the negative of one: by its node."""
        e = self.told(e)
        coefficient, rest = e.as_coeff_Mul()
        if not rest.free_symbols or abs(coefficient) != 1:
            coefficient, rest = S.One, e
        if rest.is_Symbol or all(time_of(s)[1] is None for s in rest.free_symbols):  # parameters are known anyway
            return e
        return coefficient * self.add(f"k_{time_of(source)[0]}", rest, self.axes[source])

    def named(self, flow: Flow) -> Flow:
        """A flow whose factor is a node."""
        if isinstance(flow, Adjoint):  # its scale is one
            return flow
        return Through(flow.source, self.factor(flow.factor, flow.source))

    def contract(self, target: Symbol) -> None:
        """Leave out a derivative that only passes through, where that saves a product at every step."""
        own = self.flows[target]
        users = [(t, f) for t, flows in self.flows.items() for f in flows if f.source == target]
        if not own or not users or target in self.roots or target not in self.backward.program.node:
            return
        if target in self.read_by_matrices or any(isinstance(f, Adjoint) for f in (*own, *(f for _, f in users))):
            return
        outer = [f.factor for _, f in users if isinstance(f, Through)]
        inner = [(f.source, f.factor) for f in own if isinstance(f, Through)]
        before = sum(e not in (1, -1) for e in (*outer, *(e for _, e in inner)))
        after = sum(e * k not in (1, -1) for e in outer for _, k in inner)
        if after >= before:
            return
        for t in dict.fromkeys(t for t, _ in users):
            through: list[Flow] = []
            for f in self.flows[t]:
                if f.source != target or isinstance(f, Adjoint):
                    through.append(f)
                    continue
                through += [Through(source, self.factor(f.factor * e, source)) for source, e in inner]
            self.flows[t] = tuple(through)
        del self.flows[target]
