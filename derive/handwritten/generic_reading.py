"""Reading an author's lines at a generic time, for any T.

A sum over time is what it adds up at every t and what it adds or leaves out at the ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from derive.handwritten.explicit_reading import falls
from derive.handwritten.generic import GenericTruth
from derive.handwritten.indices import Range
from derive.handwritten.reading import Env, Reading
from derive.handwritten.text import NotSayableError
from derive.handwritten.times import EVERY, LAST, START, When, resolve
from derive.handwritten.values import ZERO, applied, plus, scaled, times, turned
from derive.syntax import Call, Indexed, Number, Tree, walk

__all__ = ["GenericReading", "Series", "as_series"]

FURTHEST = 6  # steps from t, from the first or from the last one


@dataclass(frozen=True)
class Series:
    """The sum of ``each`` over t = 1..T, and ``once``."""

    each: Any
    once: Any

    def __add__(self, other: Any) -> Series:
        if isinstance(other, Series):
            return Series(plus(self.each, other.each), plus(self.once, other.once))
        return Series(self.each, plus(self.once, other))

    __radd__ = __add__

    def __mul__(self, scale: Any) -> Series:
        return self.linear(scale, lambda x: times(x, scale))

    __rmul__ = __mul__

    def __truediv__(self, scale: Any) -> Series:
        return self.linear(scale, lambda x: times(x, scale, lambda a, b: a / b))

    def __matmul__(self, other: Any) -> Series:
        return self.linear(other, lambda x: applied(x, other))

    def __rmatmul__(self, other: Any) -> Series:
        return self.linear(other, lambda x: applied(other, x))

    def __pow__(self, n: int) -> Series:
        raise NotSayableError("a power of a sum over time")

    def __rtruediv__(self, other: Any) -> Series:
        raise NotSayableError("a quotient by a sum over time")

    def linear(self, other: Any, product: Callable[[Any], Any]) -> Series:
        """A linear operation, term by term."""
        if isinstance(other, Series):
            raise NotSayableError("a product of sums over time")
        return Series(product(self.each), product(self.once))

    @property
    def T(self) -> Series:
        """The transpose."""
        return Series(turned(self.each), turned(self.once))


def as_series(a: Any, b: Any) -> tuple[Any, Any]:
    """Two values, both sums over time if one is: a value alone is a sum of nothing, and itself once."""
    if isinstance(a, Series) == isinstance(b, Series):
        return a, b
    return (a, Series(ZERO, b)) if isinstance(a, Series) else (Series(ZERO, a), b)


class GenericReading(Reading):
    """Any T, any size."""

    truth: GenericTruth

    def time(self, when: When, env: Env) -> Any:
        """A time, its variable replaced; nothing is computed there before its states are known."""
        out = resolve(when, env)
        if out.anchor not in (EVERY, LAST, START):
            raise NotSayableError(f"[{out}]")
        self.truth.prepare(out)
        return out

    def first_time(self) -> When:
        """Step 1."""
        return When(START, 1)

    def last_time(self) -> When:
        """Step T."""
        return When(LAST, 0)

    def distance(self, later: When, earlier: When) -> int:
        """Steps between two times."""
        if later.anchor != earlier.anchor:
            raise NotSayableError("a Jacobian over any number of steps")
        return later.shift - earlier.shift

    def total(self, tree: Call, env: Env) -> Any:
        """A sum over time, moved so that the derivatives in it stand at t."""
        over = self.text.indices.ranges.get(id(tree), Range(EVERY, When(START, 1), When(LAST, 0)))
        first, last = resolve(over.first, env), resolve(over.last, env)
        body = tree.arguments[0]
        if first.anchor == last.anchor:
            return self.few(body, over.variable, first, last, env)
        if (first.anchor, last.anchor) == (LAST, START):
            first, last = last, first
        if (first.anchor, last.anchor) != (START, LAST) or dict(env) != {EVERY: self.first_time()}:
            raise NotSayableError("a sum over time beside another time")
        move = -self.ahead_of(body, over.variable)
        each = self.value(body, {**env, over.variable: When(EVERY, move)})
        # now the sum runs from first - move to last - move; it is wanted from 1 to T, or to what comes before T
        once: Any = ZERO
        low, high, end = first.shift - move, last.shift - move, self.end
        for k in range(min(low, 1), max(low, 1)):
            term = self.value(body, {**env, over.variable: When(START, k + move)})
            once = plus(once, scaled(term, 1 if low < 1 else -1))
        for k in range(min(high, end) + 1, max(high, end) + 1):
            term = self.value(body, {**env, over.variable: When(LAST, k + move)})
            once = plus(once, scaled(term, 1 if high > end else -1))
        return Series(each, once)

    @property
    def end(self) -> int:
        """The last step that is like every other, counted from T: the last one has a loss of its own if only it has."""
        return -1 if self.truth.loss.last else 0

    def over_time(self, term: Callable[[When], Any]) -> Series:
        """The sum of a term over t = 1..T."""
        return Series(term(When(EVERY, 0)), term(When(LAST, 0)) if self.end else ZERO)

    def few(self, body: Tree, variable: str, first: When, last: When, env: Env) -> Any:
        """A sum over a range of fixed length."""
        out: Any = ZERO
        for shift in range(min(first.shift, last.shift), max(first.shift, last.shift) + 1):
            out = plus(out, self.value(body, {**env, variable: When(first.anchor, shift)}))
        return out

    def ahead_of(self, body: Tree, variable: str) -> int:
        """How far ahead of the variable the derivatives of a term stand."""
        shifts = []
        for part in walk(body):
            if isinstance(part, Indexed) and self.text.indices.of(part).anchor == variable:
                reference = self.names.indexed(part.name, part.position)
                if reference.role in ("derivative", "local") or (
                    reference.role == "own" and self.is_derivative(part.name)
                ):
                    shifts.append(self.text.indices.of(part).shift)
        return min(shifts, default=0)

    def is_derivative(self, name: str) -> bool:
        """Whether an own definition is made of derivatives."""
        if name in self.meanings:
            return True
        for line in self.text.script.defining(name):
            for part in walk(line.value):
                if isinstance(part, Indexed) and self.names.indexed(part.name, part.position).role in (
                    "derivative",
                    "local",
                    "target",
                ):
                    return True
        return False

    def call(self, tree: Call, name: str, env: Env) -> Any:
        """An operation or a function; of sums over time, only what is linear."""
        if name in ("sum", "prod", "jacobian", "truncated", "softmax"):
            return super().call(tree, name, env)
        values = [self.value(a, env) for a in tree.arguments]
        if any(isinstance(x, Series) for x in values):
            raise NotSayableError(f"{name} of a sum over time")
        return super().call(tree, name, env)

    def product_over_time(self, tree: Call, env: Env) -> Any:
        """A product over a range of fixed length."""
        over = self.text.indices.ranges[id(tree)]
        first, last = resolve(over.first, env), resolve(over.last, env)
        if first.anchor != last.anchor:
            raise NotSayableError("a product over any number of steps")
        step = -1 if falls(Range("", first, last)) else 1
        out: Any = None
        matrix = self.text.kinds.of(tree).what == "matrix"
        for shift in range(first.shift, last.shift + step, step):
            factor = self.value(tree.arguments[0], {**env, over.variable: When(first.anchor, shift)})
            out = factor if out is None else applied(out, factor) if matrix else times(out, factor)
        return out

    def gradient(self, name: str) -> Any:
        """The whole gradient of a parameter."""
        return self.over_time(lambda t: self.truth.gradient(name, t))

    def own(self, name: str, time: Any) -> Any:
        """An own definition; a recursion whose meaning is not known cannot be followed to the sequence's end."""
        if time is not None and abs(time.shift) > FURTHEST:
            raise NotSayableError(f"{name} is a recursion that is not known to be a derivative")
        return super().own(name, time)

    def defined(self, name: str, time: Any) -> Any:
        """What the line for every t says; a line for one step alone cannot be seen from a generic one."""
        for line in self.text.script.defining(name):
            when = line.target.when
            if when is None or when.anchor == EVERY or (when.anchor, when.shift) == (time.anchor, time.shift):
                continue
            zero = isinstance(line.value, Number) and line.value.value == 0
            if not (zero and when == When(LAST, 1) and self.is_derivative(name)):
                raise NotSayableError(f"{name}[{when}] has a line of its own")
        return super().defined(name, time)
