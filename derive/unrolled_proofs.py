"""P1: the whole sequence, by brute force, at a size; and what is built on the recursion, against the same brute force.

The loss is a free linear functional of every output and state at every step: whatever the loss is, its gradient is this
one's with the cotangents that the loss gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import product
from typing import Any

from sympy import Integer, Symbol

from derive.adjoint import Backward
from derive.algebra import SymPyScalars, evaluate, total
from derive.jacobian import Dense, dense_jacobian, immediate_column, influence, multiply_jacobian
from derive.jets import Jet, Jets
from derive.mistakes import LoopMistake
from derive.notation import at, parameter
from derive.obligations import Outcome, agree
from derive.program import Program
from derive.sample import Sample
from derive.step_proofs import capacity, differentiate
from derive.truncate import Pair, dropped_by_chunks, dropped_by_window, pairs
from derive.unroll import Gradient, Key, Problem, Values, explicit, run_program, sweep, unroll
from derive.words import roots_of
from derive.zero import Budget, Field

__all__ = ["Unrolled"]

Value = Any  # a Quotient, or a Residue
Dropped = Callable[[int, int], Sequence[Pair]]
RIGHT = LoopMistake("none", "the right loop")


class Unrolled:
    """A cell unrolled over ``steps`` steps for ``batch`` sequences at given sizes."""

    def __init__(
        self, program: Program, steps: int, sizes: Mapping[str, int], field: Field | Sample, batch: int = 1
    ) -> None:
        self.program, self.cell, self.steps, self.sizes, self.field = program, program.cell, steps, sizes, field
        self.sequences = [""] if batch == 1 else [f"({b + 1})" for b in range(batch)]
        self.problems = [
            Problem(self.cell, self.field, steps, sizes, partial(self.value_of, b)) for b in self.sequences
        ]
        self.problem = self.problems[0]

    def cotangents(self, sequence: str) -> list[Values]:
        """Free cotangents of every output and state at every step."""
        return [
            {
                s: [self.cotangent(s, t, k, sequence) for k in range(self.sizes[self.program.axes[s]])]
                for s in roots_of(self.program)
            }
            for t in range(1, self.steps + 1)
        ]

    def cotangent(self, root: Symbol, t: int, k: int, sequence: str) -> Value:
        """One free cotangent."""
        return self.field.generator(parameter(f"d{root.name.removesuffix('[t]')}{sequence}[{t}][{k + 1}]"))

    def value_of(self, sequence: str, key: Key) -> Value:
        """The value of a leaf of one sequence."""
        return self.field.generator(explicit(self.cell, key, sequence))

    def jet_of(self, algebra: Jets, sequence: str, key: Key) -> Jet:
        """The same as a jet."""
        return algebra.leaf(explicit(self.cell, key, sequence))

    @staticmethod
    def exact(program: Program, steps: int, sizes: Mapping[str, int], budget: Budget, batch: int = 1) -> Unrolled:
        """Over rational functions: what agrees is proven."""
        field = Field(batch * capacity(program.cell, steps, sizes), budget)
        return Unrolled(program, steps, sizes, field, batch)

    @cached_property
    def jets(self) -> list[list[Values]]:
        """Each sequence unrolled over jets: values that carry their derivatives by every leaf."""
        algebra = Jets(self.field)
        return [
            unroll(
                Problem(
                    self.cell,
                    algebra,
                    self.steps,
                    self.sizes,
                    partial(self.jet_of, algebra, b),
                )
            )
            for b in self.sequences
        ]

    @cached_property
    def tapes(self) -> list[list[Values]]:
        """Each sequence's node values."""
        return [
            [run_program(self.program, problem, {s: [x.value for x in v] for s, v in step.items()}) for step in steps]
            for problem, steps in zip(self.problems, self.jets, strict=True)
        ]

    @cached_property
    def jacobians(self) -> list[Dense]:
        """The step Jacobians of the first sequence, as numbers."""
        return [dense_jacobian(self.program, self.problem, values) for values in self.tapes[0]]

    @cached_property
    def truth(self) -> dict[Symbol, Value]:
        """The gradient by differentiating forward through the unrolled network."""
        out: dict[Symbol, Value] = {}
        for sequence, steps in zip(self.sequences, self.jets, strict=True):
            for values, local in zip(steps, self.cotangents(sequence), strict=True):
                for s, entries in local.items():
                    for jet, weight in zip(values[s], entries, strict=True):
                        for leaf, slope in jet.d.items():
                            out[leaf] = out[leaf] + slope * weight if leaf in out else slope * weight
        return out

    def literal(self) -> dict[Symbol, Value]:
        """The gradient by SymPy's ``diff`` of the one explicit expression that the loss is."""
        problem = Problem(self.cell, SymPyScalars(), self.steps, self.sizes, lambda key: explicit(self.cell, key))
        loss = Integer(0)
        for t, values in enumerate(unroll(problem), 1):
            for s in roots_of(self.program):
                name = s.name.removesuffix("[t]")
                loss += total([e * parameter(f"d{name}[{t}][{k + 1}]") for k, e in enumerate(values[s])])
        known: dict[Any, Any] = {}
        symbols = [explicit(self.cell, key) for key in problem.entries()]
        slopes = differentiate(loss, symbols)
        return {
            s: evaluate(slope, self.field.generator, self.field, known)
            for s, slope in zip(symbols, slopes, strict=True)
        }

    def derived(self, backward: Backward, loop: LoopMistake = RIGHT, mean: bool = False) -> dict[Symbol, Value]:
        """The gradient by the backward program, summed over time and batch."""
        out: dict[Symbol, Value] = {}
        for problem, tapes, sequence in zip(self.problems, self.tapes, self.sequences, strict=True):
            local = self.cotangents(sequence)
            parts = sweep(backward, problem, tapes, local, carry=loop.carry, backwards=loop.backwards)
            for part in loop.combine(parts):
                for key, value in part.items():
                    s = explicit(self.cell, key, sequence)
                    share = value / len(self.sequences) if mean and key[0] in self.cell.parameters else value
                    out[s] = out[s] + share if s in out else share
        return out

    def compare(self, derived: Mapping[Symbol, Value], right: Mapping[Symbol, Value]) -> Outcome:
        """Whether two gradients are equal, entry by entry."""
        zero = self.field.number(Integer(0))
        symbols = list(dict.fromkeys((*right, *derived)))
        return agree((f"the gradient by {s}", derived.get(s, zero), right.get(s, zero)) for s in symbols)

    def check(self, backward: Backward) -> Outcome:
        """BPTT against differentiation forward through the network."""
        return self.compare(self.derived(backward), self.truth)

    def check_literal(self, backward: Backward) -> Outcome:
        """BPTT against SymPy's ``diff`` of the explicit loss."""
        return self.compare(self.derived(backward), self.literal())

    def rejects(self, backward: Backward, loop: LoopMistake = RIGHT, *, mean: bool = False) -> bool:
        """Whether a wrong program, or a wrong loop, is seen to be wrong."""
        derived = self.derived(backward, loop, mean)
        zero = self.field.number(Integer(0))
        return any(not (derived.get(s, zero) - self.truth.get(s, zero)).is_zero for s in {*derived, *self.truth})

    # -------------------------------------------------------------------- what is built on the recursion

    def unit(self, state: str, k: int) -> dict[str, list[Any]]:
        """A unit vector over all states."""
        one, zero = (self.field.number(Integer(n)) for n in (1, 0))
        axes = self.cell.axes
        return {
            s: [one if (s, j) == (state, k) else zero for j in range(self.sizes[axes[s]])] for s in self.cell.states
        }

    def check_jacobian_product(self, *, order: int = 1) -> Outcome:
        """ds_T/ds_0 against the product of step Jacobians; ``order`` = -1 multiplies the wrong way round."""
        last = self.jets[0][-1]
        found: list[tuple[str, Value, Value]] = []
        for r in self.cell.states:
            for j in range(self.sizes[self.cell.axes[r]]):
                column = self.unit(r, j)
                for dense in self.jacobians[::order]:
                    column = multiply_jacobian(dense, column)
                leaf = explicit(self.cell, (r, 0, j))
                for s in self.cell.states:
                    for k, jet in enumerate(last[at(s)]):
                        what = f"d {s}[{self.steps}][{k + 1}] / d {leaf}"
                        found.append((what, column[s][k], self.slope(jet, leaf)))
        return agree(found)

    def slope(self, jet: Jet, leaf: Symbol) -> Value:
        """The derivative of a jet by a leaf."""
        return jet.d.get(leaf, self.field.number(Integer(0)))

    def check_forward(self) -> Outcome:
        """The forward recursion P_t = J_t P_{t-1} + d+s_t/dtheta against ds_t/dtheta, for every parameter's entries."""
        found: list[tuple[str, Value, Value]] = []
        for key in (k for k in self.problem.entries() if k[0] in self.cell.parameters):
            leaf = explicit(self.cell, key)
            for t, p in enumerate(influence(self.program, self.problem, self.tapes[0], self.jacobians, key)):
                for s, k in product(self.cell.states, range(max(self.sizes.values()))):
                    if k < len(p[s]):
                        what = f"d {s}[{t + 1}][{k + 1}] / d {leaf}"
                        found.append((what, p[s][k], self.slope(self.jets[0][t][at(s)][k], leaf)))
        return agree(found)

    def contribution(self, backward: Backward, pair: Pair) -> Gradient:
        """The term of the full gradient in which the loss at t reaches the parameters' use at j."""
        t, j = pair
        parts = sweep(backward, self.problem, self.tapes[0], self.only(t))
        return {key: v for key, v in parts[j - 1].items() if key[0] in self.cell.parameters}

    def check_truncation(self, backward: Backward, k: int, dropped: Dropped | None = None) -> Outcome:
        """Both truncated loops against the full gradient's kept terms; ``dropped`` replaces the stated ones."""
        for loop, stated in ((self.in_chunks, dropped_by_chunks), (self.in_windows, dropped_by_window)):
            lost = set((dropped or stated)(self.steps, k))
            terms = [self.contribution(backward, pair) for pair in pairs(self.steps) if pair not in lost]
            parts = loop(backward, k)
            outcome = agree(
                (f"the truncated gradient by {explicit(self.cell, key)}", self.sum(terms, key), self.sum(parts, key))
                for key in self.problem.entries()
                if key[0] in self.cell.parameters
            )
            if outcome[0] is not True:
                return outcome
        return True, ""

    def in_chunks(self, backward: Backward, k: int) -> list[Gradient]:
        """One pass in which the carry is lost at the borders of chunks of k steps."""

        def carry(t: int, entries: list[Any]) -> list[Any]:
            return [0 * e for e in entries] if (t - 1) % k == 0 and t > 1 else entries

        return sweep(backward, self.problem, self.tapes[0], self.cotangents(""), carry=carry)

    def in_windows(self, backward: Backward, k: int) -> list[Gradient]:
        """A pass for each loss, carried back over k steps."""
        out: list[Gradient] = []
        for u in range(1, self.steps + 1):

            def carry(t: int, entries: list[Any], first: int = u - k + 1) -> list[Any]:
                return [0 * e for e in entries] if t == first else entries

            out += sweep(backward, self.problem, self.tapes[0], self.only(u), carry=carry)
        return out

    def only(self, t: int) -> list[Values]:
        """The free cotangents of one step, zero at the others."""
        zero = self.field.number(Integer(0))
        whole = self.cotangents("")
        silent = [{s: [zero] * len(v) for s, v in step.items()} for step in whole]
        return [*silent[: t - 1], whole[t - 1], *silent[t:]]

    def sum(self, terms: Sequence[Gradient], key: Key) -> Value:
        """One entry, summed over terms."""
        return total([self.field.number(Integer(0)), *(term[key] for term in terms if key in term)])

    def check_immediate(self, backward: Backward) -> Outcome:
        """Sum over t of (dL/ds_t) d+s_t/dtheta against the total derivative, for parameters that act through the
        states.

        The loss is taken of the states alone, so that every use of a parameter is a use by a state.
        """
        zero = self.field.number(Integer(0))
        local = [
            {s: v if s.name.removesuffix("[t]") in self.cell.states else [zero] * len(v) for s, v in step.items()}
            for step in self.cotangents("")
        ]
        arriving = self.total_by_state(backward, local)
        found: list[tuple[str, Value, Value]] = []
        parts = sweep(backward, self.problem, self.tapes[0], local)
        for key in (k for k in self.problem.entries() if k[0] in self.cell.parameters):
            terms = [zero]
            for t, values in enumerate(self.tapes[0]):
                direct = immediate_column(self.program, self.problem, values, key)
                terms += [a * b for s in self.cell.states for a, b in zip(arriving[t][s], direct[s], strict=True)]
            found.append((f"the gradient by {explicit(self.cell, key)}", total(terms), self.sum(parts, key)))
        return agree(found)

    def total_by_state(self, backward: Backward, local: Sequence[Values]) -> list[dict[str, list[Any]]]:
        """dL/ds_t at every step, the states' own later uses counted through the next step only."""
        out: list[dict[str, list[Any]]] = []
        carried: dict[str, list[Any]] | None = None
        for t in reversed(range(self.steps)):
            here = {s: list(local[t][at(s)]) for s in self.cell.states}
            if carried is not None:
                for r in self.cell.states:
                    for j in range(len(here[r])):
                        column = multiply_jacobian(self.jacobians[t + 1], self.unit(r, j))
                        terms = [a * b for s in self.cell.states for a, b in zip(carried[s], column[s], strict=True)]
                        here[r][j] = total([here[r][j], *terms])
            carried = here
            out.insert(0, here)
        return out
