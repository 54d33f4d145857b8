"""Reading an author's lines over explicit steps 1..T."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sympy import Integer

from derive.handwritten.explicit import ExplicitTruth
from derive.handwritten.indices import Range
from derive.handwritten.reading import Env, Reading
from derive.handwritten.times import EVERY, LAST, START, When
from derive.handwritten.values import ZERO, applied, plus, times
from derive.syntax import Call

__all__ = ["ExplicitReading", "falls"]


class ExplicitReading(Reading):
    """Steps 1..T, all there."""

    truth: ExplicitTruth

    def time(self, when: When, env: Env) -> Any:
        """A step's number."""
        if when.anchor == START:
            return when.shift
        return (self.truth.count if when.anchor == LAST else env[when.anchor]) + when.shift

    def first_time(self) -> int:
        """Step 1."""
        return 1

    def last_time(self) -> int:
        """Step T."""
        return self.truth.count

    def distance(self, later: int, earlier: int) -> int:
        """Steps between two times."""
        return later - earlier

    def range(self, tree: Call, env: Env) -> Iterator[Env]:
        """What the variable of a sum or product stands for, factor by factor."""
        over: Range | None = self.text.indices.ranges.get(id(tree))
        if over is None:
            yield from ({**env, EVERY: t} for t in range(1, self.truth.count + 1))
            return
        first, last = self.time(over.first, env), self.time(over.last, env)
        falling = falls(over)
        for k in range(first, last - 1, -1) if falling else range(first, last + 1):
            yield {**env, over.variable: k}

    def total(self, tree: Call, env: Env) -> Any:
        """A sum over time."""
        out: Any = ZERO
        for inner in self.range(tree, env):
            out = plus(out, self.value(tree.arguments[0], inner))
        return out

    def product_over_time(self, tree: Call, env: Env) -> Any:
        """A product over time, the first factor at the left; nothing times nothing is the identity."""
        kind = self.text.kinds.of(tree)
        out: Any = None
        for inner in self.range(tree, env):
            factor = self.value(tree.arguments[0], inner)
            out = factor if out is None else applied(out, factor) if kind.what == "matrix" else times(out, factor)
        if out is not None:
            return out
        if kind.what == "matrix":
            return self.domain.identity(kind.sizes[0])
        return self.domain.number(Integer(1))

    def gradient(self, name: str) -> Any:
        """The whole gradient of a parameter."""
        return self.over_time(lambda t: self.truth.gradient(name, t))

    def over_time(self, term: Callable[[int], Any]) -> Any:
        """The sum of a term over t = 1..T."""
        out: Any = ZERO
        for t in range(1, self.truth.count + 1):
            out = plus(out, term(t))
        return out


def falls(over: Range) -> bool:
    """Whether a range is written from the later to the earlier end."""
    order = {START: 0, EVERY: 1, LAST: 3}  # the variable of a sum that this stands in is between t and T
    a, b = (order.get(x.anchor, 2) for x in (over.first, over.last))
    return (a, over.first.shift) > (b, over.last.shift) if a == b else a > b
