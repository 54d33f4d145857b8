"""A line proven for every size and every T, or at the sizes that brute force reaches.

every size   both sides are the same polynomial in entries at a generic index (derive.handwritten.ring); a recursion
             in an own name holds by induction: what it hands on at t + 1 has its meaning, so it has it at t
at sizes     both sides are the same rational functions, entry by entry, for T = 1, 2, 3
"""

from __future__ import annotations

from typing import Any

from derive.adjoint import Backward
from derive.handwritten.bench import Understanding
from derive.handwritten.candidates import Candidate
from derive.handwritten.claims import entries_of, left_side, right_side, times_of
from derive.handwritten.explicit import ExplicitTruth
from derive.handwritten.explicit_reading import ExplicitReading, falls
from derive.handwritten.forms import Form
from derive.handwritten.generic import MOST_AHEAD, GenericTruth, HigherError
from derive.handwritten.generic_reading import GenericReading, Series, as_series
from derive.handwritten.lines import Line
from derive.handwritten.ring import Poly
from derive.handwritten.text import UNREADABLE, Text
from derive.handwritten.times import EVERY, LAST, START, When
from derive.handwritten.values import UNDEFINED, ZERO, minus
from derive.notation import parameter
from derive.step_proofs import capacity
from derive.syntax import Call
from derive.unroll import explicit
from derive.zero import Budget, BudgetError, Field

__all__ = ["EVERY_SIZE", "Prover", "is_nothing"]

EVERY_SIZE = "proven, every size"


def is_nothing(x: Any) -> bool:
    """Whether a generic value is identically zero."""
    if x is ZERO or x is UNDEFINED:
        return x is ZERO
    if isinstance(x, Series):
        return is_nothing(x.each) and is_nothing(x.once)
    if isinstance(x, Form):
        return x.is_zero
    assert isinstance(x, Poly)
    return x.is_zero or x.cleared().is_zero


class Prover:
    """Proves lines of one file, as it is understood."""

    def __init__(self, text: Text, backward: Backward, how: Understanding) -> None:
        self.text, self.backward, self.how = text, backward, how
        self.readings: dict[tuple[bool, int], GenericReading] = {}
        self.exact: dict[tuple[int, int], ExplicitReading] = {}

    def reading(self, cut: bool, ahead: int) -> GenericReading:
        """The file at a generic time."""
        if (cut, ahead) not in self.readings:
            truth = GenericTruth(self.backward, self.how.loss, ahead=ahead, cut=cut)
            self.readings[cut, ahead] = GenericReading(self.text, truth, self.how.meanings, self.how.conventions)
        return self.readings[cut, ahead]

    def every_size(self, line: Line) -> bool:
        """Whether a line is proven for every size."""
        for cut in (True, False):
            for ahead in range(MOST_AHEAD + 1):
                try:
                    if self.holds(line, self.reading(cut, ahead)):
                        return True
                    break
                except HigherError:
                    continue
                except (BudgetError, *UNREADABLE):
                    break
        return False

    def holds(self, line: Line, reading: GenericReading) -> bool:
        """Whether both sides are the same at a generic time."""
        if line.target.role == "jacobian":
            return self.jacobian_holds(line, reading)
        return all(self.holds_at(line, reading, time) for time in self.ends(line))

    def ends(self, line: Line) -> list[When | None]:
        """A generic time, and the first and last step, where there may be less to read: h[T+1] does not exist."""
        when = line.target.when
        if when is None or when.anchor != EVERY:
            return [when]
        same = [
            x.target
            for x in self.text.script.lines
            if (x.target.role, x.target.name) == (line.target.role, line.target.name)
        ]
        ends = [When(LAST, 0)] if line.offset < 0 else [When(LAST, 0), When(START, 1)]
        return [when, *(end for end in ends if all(x.when != end for x in same))]

    def holds_at(self, line: Line, reading: GenericReading, time: When | None) -> bool:
        """Whether both sides are the same at one time."""
        left, right = left_side(reading, line, time), right_side(reading, line, time)
        if (
            line.target.role == "gradient"
            and not isinstance(right, Series)
            and self.is_accumulated(line, reading, right)
        ):
            return True
        left, right = as_series(left, right)
        return is_nothing(minus(right, left))

    def is_accumulated(self, line: Line, reading: GenericReading, right: Any) -> bool:
        """Whether a gradient is what the first step, going back, or the last one, going on, has accumulated."""
        truth, name = reading.truth, line.target.name
        back, forth = truth.accumulated(name, When("", 1)), truth.collected(name, When(LAST, 0))
        return is_nothing(minus(right, back)) or is_nothing(minus(right, forth))

    def jacobian_holds(self, line: Line, reading: GenericReading) -> bool:
        """A Jacobian over one step at a generic t; over any number of steps, by induction, as a product."""
        target = line.target
        assert target.when is not None
        assert target.by_when is not None
        if target.when.anchor == target.by_when.anchor:
            env = {EVERY: When(EVERY, 0)}
            left = left_side(reading, line, When(EVERY, 0))
            return is_nothing(minus(reading.value(line.value, env), left))
        return self.product_holds(line, reading)

    def product_holds(self, line: Line, reading: GenericReading) -> bool:
        """Whether jacobian(h[T], h[t]) is the product of the one-step Jacobians of h, the last step at the left.

        That is so for every T if each factor is the Jacobian of one step and nothing gets from h to h by another state.
        """
        target, tree = line.target, line.value
        if not isinstance(tree, Call) or tree.name != "prod" or target.name != target.by or not self.alone(target.name):
            return False
        over = self.text.indices.ranges[id(tree)]
        if (target.when, target.by_when) != (When(LAST, 0), When(EVERY, 0)) or not falls(over):
            return False
        back = over.last.shift - 1  # the factor of k is to be the Jacobian of step k - back
        if over.last.anchor != EVERY or over.first != When(LAST, back):
            return False
        factor = reading.value(tree.arguments[0], {over.variable: When(EVERY, back)})
        return is_nothing(minus(factor, Candidate("jacobian", target.name, target.name)(reading.truth, When(EVERY, 0))))

    def alone(self, state: str) -> bool:
        """Whether a state's past reaches it through itself alone."""
        cell = self.text.script.cell
        truth = self.reading(True, 0).truth

        def reaches(of: str, by: str) -> bool:
            found = Candidate("jacobian", of, by)(truth, When(EVERY, 0))
            return not is_nothing(found)

        others = [s for s in cell.states if s != state]
        return not any(reaches(state, s) for s in others) or not any(reaches(s, state) for s in others)

    # ------------------------------------------------------------------------------------------------------ brute force

    def at_sizes(self, line: Line) -> str:
        """Where brute force shows both sides to be the same; nothing where it does not reach."""
        done = []
        for steps, size in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)):
            try:
                if not self.same_entries(line, self.exact_reading(steps, size)):
                    return ""
            except (BudgetError, *UNREADABLE):
                break
            done.append(f"T = {steps}, size {size}")
        return f"proven, at sizes up to {done[-1]}" if done else ""

    def exact_reading(self, steps: int, size: int) -> ExplicitReading:
        """The file over rational functions."""
        if (steps, size) not in self.exact:
            cell = self.text.script.cell
            sizes = dict.fromkeys(cell.dimensions, size)
            field = Field(3 * capacity(cell, steps, sizes) + 40, Budget(2_000_000, 5.0), level=1)

            def make(key: Any) -> Any:
                known = key[0] in cell.parameters or key[0] in cell.axes
                return field.generator(explicit(cell, key) if known else parameter("/".join(map(str, key))))

            truth = ExplicitTruth(self.backward, self.how.loss, field, steps, sizes, make)
            self.exact[steps, size] = ExplicitReading(self.text, truth, self.how.meanings, self.how.conventions)
        reading = self.exact[steps, size]
        reading.truth.algebra.budget.renew()
        return reading

    def same_entries(self, line: Line, reading: ExplicitReading) -> bool:
        """Whether every entry at every step is the same rational function."""
        for time in times_of(reading, line):
            right, yours = left_side(reading, line, time), right_side(reading, line, time)
            a, b = entries_of(yours, right), entries_of(right, yours if right is ZERO else right)
            if right is UNDEFINED:
                continue
            if a is None or b is None or len(a) != len(b):
                return False
            if not all(_is_zero(x - y) for x, y in zip(a, b, strict=True)):
                return False
        return True


def _is_zero(x: Any) -> bool:
    return bool(x == 0) if isinstance(x, int) else bool(x.is_zero)
