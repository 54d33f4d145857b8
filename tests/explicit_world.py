"""A cell unrolled over four steps at size 2, and what every LaTeX name in its derivation is worth there.

Exact arithmetic at a random point, so that what agrees agrees to the last digit.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

from sympy import Integer

import derive
from derive.jacobian import immediate_column, influence
from derive.latex import d_latex, name_latex
from derive.notation import at, time_of
from derive.sample import Sample
from derive.unroll import explicit, step_back
from derive.unrolled_proofs import Unrolled
from tests.latex_reading import Reader

__all__ = ["SIZE", "T", "World"]

T, SIZE = 4, 2
ENTRIES = range(1, SIZE + 1)


def frac(above, below, top=r"\partial", bottom=r"\partial"):
    """One derivative as the derivation prints it."""
    return rf"\frac{{{top} {above}}}{{{bottom} {below}}}"


class World:
    """The values; ``reader`` reads the steps of the recursion, ``laws`` what holds for every cell."""

    def __init__(self, cell):
        self.derivation = derive.differentiate(cell)
        self.cell, self.program = cell, self.derivation.program
        self.sample = Sample(7)
        self.zero, self.one = self.sample.number(Integer(0)), self.sample.number(Integer(1))
        self.unrolled = Unrolled(self.program, T, dict.fromkeys(cell.dimensions, SIZE), self.sample)
        self.tapes = self.unrolled.tapes[0]
        self.local = self.unrolled.cotangents("")
        self.entries = [(s, k) for s in cell.states for k in ENTRIES]

    def column(self, t, key):
        """The immediate derivative of every state by an entry of a parameter."""
        return immediate_column(self.program, self.unrolled.problem, self.tapes[t - 1], key)

    # ----------------------------------------------------------------------------------------------- one step's names

    @cached_property
    def parameters(self):
        """Entries of parameters."""
        matrices, vectors, scalars = self.unrolled.problem.parameters
        out = {name_latex(s.name): v for s, v in scalars.items()}
        out |= {name_latex(s.name, str(k)): v[k - 1] for s, v in vectors.items() for k in ENTRIES}
        for name, rows in matrices.items():
            out |= {name_latex(name, f"{i}{j}"): rows[i - 1][j - 1] for i, j in product(ENTRIES, repeat=2)}
        return out

    def values(self, t):
        """Entries of nodes, inputs and states around step ``t`` and at the beginning; beyond the end they are 1."""
        out = {}
        for label, u in (("t-1", t - 1), ("t", t), ("t+1", t + 1), ("1", 1)):
            for s, found in self.tapes[min(max(u, 1), T) - 1].items():
                name, shift = time_of(s)
                shown = found if 1 <= u <= T else [self.one] * len(found)
                out |= {name_latex(name, label, str(k)): shown[k - 1] for k in ENTRIES if shift == 0}
        for s, k in self.entries:
            out[name_latex(s, "t-1", str(k))] = self.tapes[t - 1][at(s, -1)][k - 1]
            out[name_latex(s, "0", str(k))] = self.tapes[0][at(s, -1)][k - 1]
        return out

    @cached_property
    def swept(self):
        """The derivative of the loss by every node at every step."""
        found, carried = [None] * T, {}
        for t in reversed(range(T)):
            arriving = {s: list(v) for s, v in self.local[t].items()}
            for s, v in carried.items():
                arriving[s] = [a + b for a, b in zip(arriving[s], v, strict=True)]
            found[t], _ = step_back(self.derivation.backward, self.unrolled.problem, self.tapes[t], arriving)
            carried = {at(s): found[t][at(s, -1)] for s in self.cell.states}
        return found

    def slopes(self, t):
        """Derivatives of the loss around step ``t`` and at the ends."""
        out = {}
        for label, u in (("t", t), ("t+1", t + 1), ("1", 1), ("T+1", T + 1)):
            for s, found in self.swept[min(u, T) - 1].items():
                name, shift = time_of(s)
                shown = [self.zero] * len(found) if u > T else found
                out |= {d_latex(name, label, str(k)): shown[k - 1] for k in ENTRIES if shift == 0}
        out |= {d_latex(s, "0", str(k)): self.swept[0][at(s, -1)][k - 1] for s, k in self.entries}
        return out

    @cached_property
    def gradients(self):
        """The gradient by every parameter, differentiated forward through the unrolled network."""
        out = {}
        for key in self.unrolled.problem.entries():
            if key[0] in self.cell.parameters:
                index = "".join(str(i + 1) for i in key[1:])
                value = self.unrolled.truth.get(explicit(self.cell, key), self.zero)
                out[d_latex(key[0], *([index] if index else []))] = value
        return out

    def reader(self, t):
        """Everything that the recursion names at step ``t``."""
        seen = {
            frac(r"\ell_t", name_latex(s.name[:-3], "t", str(k))): found[k - 1]
            for s, found in self.local[t - 1].items()
            for k in ENTRIES
        }
        known = self.parameters | self.values(t) | self.gradients | self.slopes(t) | seen | self.jacobian("t", t)
        return Reader(known, self.sample)

    def jacobian(self, label, t):
        """The step Jacobian's entries; ``label`` is how step ``t`` is called."""
        before = {"t": "t-1", "t+1": "t", "t+2": "t+1"}[label]
        out = {}
        for (s, i), (r, j) in product(self.entries, repeat=2):
            value = self.unrolled.jacobians[t - 1][s][r][i - 1][j - 1] if t <= T else self.zero
            out[frac(name_latex(s, label, str(i)), name_latex(r, before, str(j)))] = value
        return out

    def directed(self, t, name):
        """A direction of a matrix, and what the immediate derivatives give in it."""
        given = {(i, j): self.sample.generator(f"direction {i}{j}") for i, j in product(ENTRIES, repeat=2)}
        known = self.parameters | self.values(t)
        for (i, j), value in given.items():
            known[d_latex(name, f"{i}{j}")] = known[name_latex(f"d{name}", f"{i}{j}")] = value
        columns = {key: self.column(t, (name, key[0] - 1, key[1] - 1)) for key in given}
        for s, k in self.entries:
            left = rf"\partial^{{+}} {name_latex(s, 't', str(k))} \left[\mathrm{{d}}{name_latex(name)}\right]"
            known[left] = sum((columns[key][s][k - 1] * given[key] for key in given), self.zero)
        return Reader(known, self.sample)

    # ----------------------------------------------------------------------------- the laws, for a loss of the states

    @cached_property
    def theta(self):
        """A direction in the entries of the first parameter: (entry, weight) pairs; empty where there is none."""
        keys = [k for k in self.unrolled.problem.entries() if k[0] in self.cell.parameters]
        return [(k, self.sample.generator(f"theta {k}")) for k in keys if k[0] == keys[0][0]]

    def along(self, by):
        """The derivative in that direction, from the derivatives by entries."""
        return sum((by[key] * weight for key, weight in self.theta), self.zero)

    def direct(self, t):
        """The immediate derivative of every state."""
        columns = {key: self.column(t, key) for key, _ in self.theta}
        return {(s, k): self.along({key: found[s][k - 1] for key, found in columns.items()}) for s, k in self.entries}

    @cached_property
    def of_states(self):
        """The loss's cotangents, those of outputs left out."""
        silent = [self.zero] * SIZE
        return [{s: v if s.name[:-3] in self.cell.states else silent for s, v in x.items()} for x in self.local]

    @cached_property
    def totals(self):
        """dL/ds and ds/dtheta at every step, and dL/dtheta."""
        seen = self.unrolled.total_by_state(self.derivation.backward, self.of_states)
        problem, jacobians = self.unrolled.problem, self.unrolled.jacobians
        by = {key: influence(self.program, problem, self.tapes, jacobians, key) for key, _ in self.theta}
        so_far = [
            {(s, k): self.along({key: p[t][s][k - 1] for key, p in by.items()}) for s, k in self.entries}
            for t in range(T)
        ]
        terms = [self.of_states[t][at(s)][k - 1] * so_far[t][s, k] for t in range(T) for s, k in self.entries]
        return seen, so_far, sum(terms, self.zero)

    def laws(self, t):
        """Everything that the laws name at step ``t``."""
        seen, so_far, whole = self.totals
        known = {frac(r"\mathcal{L}", r"\theta", r"\mathrm{d}", r"\mathrm{d}"): whole}
        for label, u in (("t-1", t - 1), ("t", t), ("t+1", t + 1)):
            direct = self.direct(u) if 1 <= u <= T else None
            loss = r"\ell_t" if label == "t" else rf"\ell_{{{label}}}"
            for s, k in self.entries:
                shown = name_latex(s, label, str(k))
                inside = 1 <= u <= T
                known[frac(shown, r"\theta", r"\mathrm{d}", r"\mathrm{d}")] = (
                    so_far[u - 1][s, k] if inside else self.zero
                )
                known[frac(shown, r"\theta", r"\partial^{+}")] = direct[s, k] if inside else self.zero
                known[frac(r"\mathcal{L}", shown)] = seen[u - 1][s][k - 1] if inside else self.zero
                known[frac(loss, shown)] = self.of_states[u - 1][at(s)][k - 1] if inside else self.zero
        known |= self.jacobian("t", t) | self.jacobian("t+1", t + 1) | self.jacobian("t+2", t + 2) | self.twice(t)
        return Reader(known, self.sample)

    def twice(self, t):
        """The Jacobian over two steps, by differentiation through them."""
        out = {}
        if t + 2 > T:
            return out
        first, second = (self.unrolled.jacobians[u] for u in (t, t + 1))
        for (s, i), (r, j) in product(self.entries, repeat=2):
            ways = [second[s][m][i - 1][n - 1] * first[m][r][n - 1][j - 1] for m, n in self.entries]
            out[frac(name_latex(s, "t+2", str(i)), name_latex(r, "t", str(j)))] = sum(ways, self.zero)
        return out

    @cached_property
    def pairs(self):
        """The terms of the gradient by theta, by the steps of the loss and of the use, as truncated loops see them."""
        out = {}
        for pair in ((u, j) for u in range(1, T + 1) for j in range(1, u + 1)):
            term = self.unrolled.contribution(self.derivation.backward, pair)
            out[f"g_{{{pair[0]},{pair[1]}}}"] = self.along(term)
        return out

    def truncated(self, chunks, k):
        """The gradient by theta that a truncated loop computes, and what is missing from the whole."""
        loop = self.unrolled.in_chunks if chunks else self.unrolled.in_windows
        parts = loop(self.derivation.backward, k)
        kept = self.along({key: self.unrolled.sum(parts, key) for key, _ in self.theta})
        return {r"\text{kept}": kept, r"\text{dropped}": sum(self.pairs.values(), self.zero) - kept}
