"""How many bits balls will lose on the way through a recurrence, before the balls are computed.

A radius grows by the absolute values of the derivatives, whatever the precision:

    r(u) = sum |du/dv| r(v) + |u|                   forward, node by node
    r(d v) = sum |factor| r(d u) + r_t |d v|        backward, with r_t the largest forward radius of the step

The recurrences are run once in floats with a long exponent; the answer is an estimate, and whoever uses it looks at
the radii that come out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.adjoint import Flow, differentiate_step
from derive.notation import at
from derive.program import Pointwise
from numeric.arguments import Array
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter, Values
from numeric.problem import Problem
from numeric.tangent import program_of, tangent_terms

__all__ = ["bits_lost"]


def bits_lost(cell: Any, problem: Problem) -> float:
    """About how many bits the worst entry of a gradient loses, relative to the largest; inf where floats overflow."""
    with np.errstate(all="ignore"):
        return _Growth(cell, problem).bits()


class _Growth(Interpreter):
    def __init__(self, cell: Any, problem: Problem) -> None:
        super().__init__(program_of(cell), problem, FloatArithmetic(np.longdouble))
        self.backward = differentiate_step(self.program)
        self.right = self.run(self.backward)
        self.sizes = {name: np.abs(w) for name, w in self.matrices.items()}

    def bits(self) -> float:
        """The largest radius of a gradient over the largest gradient."""
        radii = self.forward()
        d = self.reverse([max(float(np.log2(np.maximum(x.max(), 1))) for x in r.values()) for r in radii])
        found = [x for here in d for x in here.values()]
        most = max((float(np.log2(x.max())) for x in found if x.max() > 0), default=0.0)
        whole = max(float(np.log2(np.abs(g).max())) for g in self.right.gradients.values() if np.any(g))
        return max(most - whole, 0.0) if np.isfinite(most) else np.inf

    def forward(self) -> list[Values]:
        """The radius of every node at every step."""
        terms, out = tangent_terms(self.program), []
        before = {n: np.zeros(s.shape, np.longdouble) for n, s in self.initial.items()}
        for values in self.tape:
            r: Values = {at(n, -1): x for n, x in before.items()}
            for node in self.program.nodes:
                if isinstance(node, Pointwise):
                    size = np.abs(values[node.symbol])
                    for read, slope in terms[node.symbol]:
                        if read in r:
                            size = size + np.abs(self.value(slope, values, node.axis)) * r[read]
                else:
                    inner = np.abs(values[node.operand]) + r.get(node.operand, 0)
                    inner = self.arithmetic.spread(inner, self.shape(self.program.axes[node.operand]))
                    size = self.arithmetic.apply(self.sizes[node.matrix], node.transposed, inner)
                r[node.symbol] = size
            before = {n: r[at(n)] for n in before}
            out.append(r)
        return out

    def reverse(self, radii: list[float]) -> list[Values]:
        """The radius of every derivative; ``radii`` are the base-2 logarithms of the forward pass's, by step."""
        before = self.matrices
        self.matrices = self.sizes
        try:
            carried = {n: np.zeros(s.shape, np.longdouble) for n, s in self.initial.items()}
            out = []
            for t in reversed(range(self.data.steps)):
                scale = np.exp2(np.longdouble(radii[t]))
                injected = {s: scale * np.abs(x) for s, x in self.right.d[t].items() if s in self.program.node}
                d = self.step(self.backward, t, self.tape[t], injected, carried)
                carried = {n: d[at(n, -1)] for n in carried}
                out.append(d)
            return out
        finally:
            self.matrices = before

    def term(self, flow: Flow, values: Values, d: Values, axis: str | None) -> Array:
        """Absolute values while the radii are swept; the pass before them is as it is."""
        found: Array = super().term(flow, values, d, axis)
        return np.abs(found) if self.matrices is getattr(self, "sizes", None) else found
