"""The smallest network on which a wrong line shows: few steps, few entries, and as many zeros as it can have.

Values are enclosed by balls, so a difference that is shown is certain.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint

from derive.adjoint import Backward
from derive.balls import BITS, Balls, precision
from derive.handwritten.bench import Understanding
from derive.handwritten.claims import entries_of, left_side, right_side, times_of
from derive.handwritten.explicit import ExplicitTruth
from derive.handwritten.explicit_reading import ExplicitReading
from derive.handwritten.lines import Line
from derive.handwritten.text import UNREADABLE, Text
from derive.handwritten.values import UNDEFINED, ZERO, Mat

__all__ = ["Counterexample", "find_counterexample"]

SIZES = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 2), (2, 3), (5, 1), (5, 2), (8, 1))
DISTINCT = ((1, 2), (2, 2), (3, 2), (4, 3))  # steps, and the first letter's size; each letter is one larger
SEEDS = 3


@dataclass(frozen=True)
class Counterexample:
    """A network of ``steps`` steps with the given ``sizes``, and one entry where the line's two sides differ.

    ``point`` maps entries to their values; what it leaves out is zero.
    """

    steps: int
    sizes: dict[str, int]
    point: dict[str, str]
    entry: str
    yours: str
    right: str

    def __str__(self) -> str:
        sizes = ", ".join(f"{letter} = {size}" for letter, size in {"T": self.steps, **self.sizes}.items())
        shown = ", ".join(f"{name} = {value}" for name, value in self.point.items())
        where = f"{sizes}; {shown}, all else 0" if shown else f"{sizes}; all 0"
        return f"{where}; {self.entry}: yours {self.yours}, right {self.right}"


def find_counterexample(
    text: Text, backward: Backward, how: Understanding, line: Line, *, sizes: tuple[tuple[int, int], ...] = SIZES
) -> Counterexample | None:
    """The first network, by steps and then by size, on which the two sides of a line certainly differ."""
    letters = text.script.cell.dimensions

    def first(steps: int, each: dict[str, int]) -> _Case | None:
        cases = (_Case(text, backward, how, line, steps, each, seed) for seed in range(SEEDS))
        return next((case for case in cases if case.differs() is not None), None)

    for steps, size in sizes:
        found = first(steps, dict.fromkeys(letters, size))
        if found is None:
            continue
        for letter in letters if line.number not in text.kinds.misfits and size > 1 else ():
            found = first(steps, {**found.sizes, letter: 1}) or found
        found.shrink()
        return found.shown()
    for steps, size in DISTINCT if line.number not in text.kinds.misfits else ():
        found = first(steps, {letter: size + i for i, letter in enumerate(letters)})
        if found is not None:
            found.shrink()
            return found.shown()
    return None


class _Case:
    def __init__(
        self,
        text: Text,
        backward: Backward,
        how: Understanding,
        line: Line,
        steps: int,
        sizes: dict[str, int],
        seed: int,
    ) -> None:
        self.text, self.backward, self.how, self.line, self.steps = text, backward, how, line, steps
        self.sizes = sizes
        self.values: dict[Any, Fraction] = {}
        self.random = random.Random(seed)

    def make(self, key: Any) -> Any:
        """An entry as a ball."""
        if key not in self.values:
            self.values[key] = Fraction(self.random.choice((-2, -1, 1, 2, 3)), self.random.choice((1, 2)))
        value = self.values[key]
        return flint.arb(flint.fmpq(value.numerator, value.denominator))

    def reading(self) -> ExplicitReading:
        truth = ExplicitTruth(self.backward, self.how.loss, Balls(), self.steps, self.sizes, self.make)
        return ExplicitReading(self.text, truth, self.how.meanings, self.how.conventions)

    def differs(self) -> tuple[str, Any, Any] | None:
        """The first entry where the two sides certainly differ, and both values."""
        with precision(BITS):
            try:
                return self._differs()
            except UNREADABLE:
                return None

    def _differs(self) -> tuple[str, Any, Any] | None:
        reading = self.reading()
        for time in times_of(reading, self.line):
            right, yours = left_side(reading, self.line, time), right_side(reading, self.line, time)
            if right is UNDEFINED:
                continue
            b = entries_of(right, yours if right is ZERO else right)
            a = entries_of(yours, right)
            if a is None:
                return self.name(time, 0, right), "undefined", b[0] if b else 0
            if b is None or len(a) != len(b):
                return None
            for k, (x, y) in enumerate(zip(a, b, strict=True)):
                gap = flint.arb(x) - flint.arb(y)
                if gap.is_finite() and not gap.contains(0):
                    return self.name(time, k, right), x, y
        return None

    def name(self, time: Any, k: int, like: Any) -> str:
        """How an entry of the left side is written."""
        tree = self.line.text.partition("=")[0].strip()
        target = self.line.target
        columns = len(like.rows[0]) if isinstance(like, Mat) else 0
        entry = f"[{k // columns + 1},{k % columns + 1}]" if columns else f"[{k + 1}]"
        name = tree.partition("[")[0]
        if target.role == "jacobian":
            return f"{tree} at t = {time}, entry {entry}"
        return f"{name}[{time}]{entry}" if target.when is not None else f"{name}{entry}"

    def shrink(self) -> None:
        """Zero for every entry that can be, then one."""
        for value in (Fraction(0), Fraction(1)):
            groups: dict[Any, list[Any]] = {}
            for key in self.values:
                groups.setdefault(key[0], []).append(key)
            for keys in groups.values():
                if not self.attempt(keys, value) and len(keys) > 1:
                    for key in keys:
                        self.attempt([key], value)

    def attempt(self, keys: list[Any], value: Fraction) -> bool:
        """Set entries to a value if the sides still differ."""
        before = dict(self.values)
        changed = [key for key in keys if self.values[key] != 0 and self.values[key] != value]
        if not changed:
            return True
        self.values.update(dict.fromkeys(changed, value))
        if self.differs() is None:
            self.values = before
            return False
        return True

    def shown(self) -> Counterexample:
        """As a person reads it."""
        found = self.differs()
        assert found is not None
        entry, yours, right = found
        point = {self.key_name(k): str(v) for k, v in sorted({**self.values, **self.rest()}.items(), key=str) if v}
        return Counterexample(self.steps, dict(self.sizes), point, entry, number(yours), number(right))

    def rest(self) -> dict[Any, Fraction]:
        """The last entry of each target of a softmax: what the others leave of one."""
        loss, cell = self.how.loss, self.text.script.cell
        if loss.kind != "softmax_cross_entropy":
            return {}
        last = self.sizes[cell.axes[loss.on]] - 1
        times = {k[1] for k in self.values if k[0] == "target"}
        return {
            ("target", t, last): 1
            - sum((self.values.get(("target", t, k), Fraction(0)) for k in range(last)), Fraction(0))
            for t in times
        }

    def key_name(self, key: Any) -> str:
        """How an entry is written: W[1,2], h[0][1], x[2][1]."""
        name, *index = key
        if name in self.text.script.cell.parameters:
            return f"{name}[{','.join(str(i + 1) for i in index)}]" if index else str(name)
        if (
            name[1:] in self.text.script.cell.axes
            and not self.text.script.cell.outputs
            and name not in self.text.script.cell.axes
        ):
            name = f"dl_{name}"  # what the loss gives a state, which is not all of its derivative
        return f"{name}[{index[0]}][{index[1] + 1}]"


def number(ball: Any) -> str:
    """A ball as the simple number that it encloses, or six digits."""
    if isinstance(ball, int | str):
        return str(ball)
    with precision(BITS):
        ball = flint.arb(ball)
        if not abs(ball) < 100_000:
            return str(flint.arb(ball.mid()).str(6, radius=False))
        for below in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64):
            above = round(float((ball * below).mid()))
            exact = flint.arb(flint.fmpq(above, below))
            if (ball - exact).contains(0) and abs(above) < 10_000 and float((ball - exact).abs_upper()) < 1e-25:
                return str(Fraction(above, below))
        return str(flint.arb(ball.mid()).str(6, radius=False))
