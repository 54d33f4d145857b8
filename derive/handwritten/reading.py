"""The value of an author's line, with every derivative in it taken at its true value.

One reading serves every kind of value: entries at a generic index (:class:`GenericReading`), where a sum over time is
what it adds up at every t and what it adds or leaves out at the ends; and explicit steps (:class:`ExplicitReading`).
An author's own definition is what it says, or what it is known to mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from sympy import Integer, Rational, pi

from derive.handwritten.explicit import ExplicitTruth
from derive.handwritten.generic import GenericTruth
from derive.handwritten.indices import Indices, Range
from derive.handwritten.kinds import Kinds
from derive.handwritten.lines import Line, Script
from derive.handwritten.times import EVERY, LAST, START, When, resolve
from derive.handwritten.truth import Truth
from derive.handwritten.values import UNDEFINED, ZERO, applied, plus, scaled, times, turned
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree, walk

__all__ = [
    "UNREADABLE",
    "ExplicitReading",
    "GenericReading",
    "Meaning",
    "NotSayableError",
    "Reading",
    "Series",
    "Text",
    "falls",
]

Env = Mapping[str, Any]

FURTHEST = 6  # steps from t, from the first or from the last one


class Meaning(Protocol):
    """What an own definition means: a known quantity, by its role and name, and its true value."""

    @property
    def role(self) -> str:
        """derivative, carried, local, gradient or jacobian."""

    @property
    def name(self) -> str:
        """What it is the derivative by."""

    def __call__(self, truth: Truth, time: Any) -> Any:
        """The true value at a time."""


class NotSayableError(Exception):
    """A line that cannot be read at a generic time."""


# What evaluating somebody's line may end in: it says nothing here, divides by zero, or leaves the range of floats.
UNREADABLE = (NotSayableError, ZeroDivisionError, OverflowError, ValueError)


@dataclass(frozen=True, eq=False)
class Text:
    """A script with its kinds and indices: everything that a reading needs."""

    script: Script
    kinds: Kinds
    indices: Indices

    def rounds(self, name: str) -> frozenset[int]:
        """By how many steps an own definition comes back to itself, through itself and others; -1, 0 or 1 for each."""
        return self._rounds.get(name, frozenset())

    @cached_property
    def _rounds(self) -> dict[str, frozenset[int]]:
        reads: dict[str, set[tuple[str, int]]] = {}
        for line in self.script.lines:
            if line.target.role == "own" and line.target.when is not None and line.target.when.anchor == EVERY:
                reads[line.target.name] = {
                    (x.name, self.indices.of(x).shift + line.offset)
                    for x in walk(line.value)
                    if isinstance(x, Indexed) and x.name in self.script.names.own
                }
        return {name: _comes_back(name, reads) for name in reads}


def _comes_back(name: str, reads: Mapping[str, set[tuple[str, int]]]) -> frozenset[int]:
    """Signs of the shifts with which a name is reached from itself."""
    seen: set[tuple[str, int]] = set()
    waiting = [(name, 0)]
    while waiting:
        current, shift = waiting.pop()
        for other, by in reads.get(current, ()):
            step = (other, max(-2, min(2, shift + by)))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return frozenset((shift > 0) - (shift < 0) for other, shift in seen if other == name)


class Reading(ABC):
    """Values of trees; ``meanings`` says what own definitions are taken for."""

    def __init__(
        self,
        text: Text,
        truth: Truth,
        meanings: Mapping[str, Meaning] | None = None,
        conventions: Mapping[str, str] | None = None,
    ) -> None:
        self.text, self.truth, self.meanings = text, truth, dict(meanings or {})
        self.conventions = dict(conventions or {})
        self.names, self.domain = text.script.names, truth.domain
        self.known: dict[Any, Any] = {}
        self.waiting: set[Any] = set()
        self.watch: dict[tuple[str, str, Any], Any] | None = None  # records which derivatives are taken by name

    # --------------------------------------------------------------------------------------------------- by kind

    @abstractmethod
    def time(self, when: When, env: Env) -> Any:
        """A time, its variable replaced."""

    @abstractmethod
    def total(self, tree: Call, env: Env) -> Any:
        """A sum over time."""

    @abstractmethod
    def product_over_time(self, tree: Call, env: Env) -> Any:
        """A product over time."""

    @abstractmethod
    def gradient(self, name: str) -> Any:
        """The whole gradient of a parameter."""

    @abstractmethod
    def over_time(self, term: Callable[[Any], Any]) -> Any:
        """The sum of a term over t = 1..T."""

    @abstractmethod
    def distance(self, later: Any, earlier: Any) -> int:
        """Steps between two times."""

    @abstractmethod
    def first_time(self) -> Any:
        """The first step."""

    @abstractmethod
    def last_time(self) -> Any:
        """The last step."""

    # ------------------------------------------------------------------------------------------------------------ trees

    def value(self, tree: Tree, env: Env) -> Any:
        """The value of a tree."""
        match tree:
            case Number(value=value):
                return ZERO if value == 0 else self.domain.number(Rational(value.numerator, value.denominator))
            case Name(name=name):
                return self.bare(name)
            case Indexed(name=name):
                return self.indexed(name, self.time(self.text.indices.of(tree), env))
            case Negative(operand=x):
                return scaled(self.value(x, env), -1)
            case Transposed(operand=x):
                value = self.value(x, env)
                return turned(value) if self.text.kinds.of(x).what == "matrix" else value
            case Power(base=base, exponent=n):
                return self.power(self.value(base, env), n)
            case Call(name=name):
                return self.call(tree, name, env)
            case Binary(sign="@", left=a, right=b):
                return self.product(a, b, env)
            case Binary(sign=sign, left=a, right=b):
                return self.entrywise(sign, a, b, env)
        raise TypeError(f"no reading of {tree}")

    def power(self, base: Any, n: int) -> Any:
        """base ** n."""
        if base is ZERO:
            return ZERO if n > 0 else self.domain.number(Integer(1)) if n == 0 else UNDEFINED
        return base if base is UNDEFINED else base**n if n >= 0 else self.domain.number(Integer(1)) / base**-n

    def entrywise(self, sign: str, a: Tree, b: Tree, env: Env) -> Any:
        """a sign b."""
        left, right = self.value(a, env), self.value(b, env)
        if sign in "+-":
            return plus(left, right if sign == "+" else scaled(right, -1))
        if sign == "/":
            return UNDEFINED if right is ZERO else times(left, right, lambda x, y: x / y)
        if self.text.kinds.of(a).what == "vector" and self.text.kinds.of(b).what == "matrix":
            return times(left, right, self.domain.scale_rows)
        return times(left, right)

    def product(self, a: Tree, b: Tree, env: Env) -> Any:
        """a @ b."""
        kinds = self.text.kinds.of(a).what, self.text.kinds.of(b)
        left = self.value(a, env)
        if kinds[1].what == "immediate":
            return self.immediate(left, b, env)
        right = self.value(b, env)
        if kinds[0] == "matrix":
            return applied(left, right)
        if kinds[1].what == "matrix":
            return applied(turned(right), left)
        both = self.domain.outer if kinds[1].what == "row" else self.domain.dot
        return times(left, right, both)

    def immediate(self, d: Any, tree: Tree, env: Env) -> Any:
        """d @ immediate(h[t], W)."""
        assert isinstance(tree, Call)
        of, parameter = tree.arguments
        assert isinstance(of, Indexed)
        assert isinstance(parameter, Name)
        time = self.time(self.text.indices.of(of), env)
        if d is ZERO or d is UNDEFINED:
            return d
        return self.truth.immediate(of.name, time, parameter.name, d)

    def bare(self, name: str) -> Any:
        """A name without an index."""
        reference = self.names.bare(name, (0, 0))
        match reference.role:
            case "parameter":
                return self.truth.value_of(name)
            case "steps":
                return self.truth.steps()
            case "gradient":
                return self.gradient(reference.name)
            case "initial":
                return self.truth.derivative(reference.name, self.start())
            case "initial value":
                return self.truth.forward(reference.name, self.start())
            case "own":
                return self.own(name, None)
        return self.domain.number(pi)

    def start(self) -> Any:
        """The time of initial values."""
        return self.truth.moved(self.first_time(), -1)

    def indexed(self, name: str, time: Any) -> Any:
        """A name with an index."""
        reference = self.names.indexed(name, (0, 0))
        match reference.role:
            case "forward":
                return self.truth.forward(reference.name, time)
            case "derivative":
                return self.derivative(reference.name, time)
            case "local":
                return self.truth.local(reference.name, time)
            case "softmax":
                return self.truth.softmax(self.truth.loss.on, time)
            case "target":
                return self.truth.target(time)
        return self.own(name, time)

    def derivative(self, name: str, time: Any) -> Any:
        """The derivative by a name, or by what the author's convention takes the name for."""
        of = self.conventions.get(name, name)
        return self.watched("derivative", of, time, self.truth.derivative(of, time))

    def watched(self, role: str, name: str, time: Any, value: Any) -> Any:
        """A value, its use recorded."""
        if self.watch is not None:
            self.watch[role, name, time] = value
        return value

    def call(self, tree: Call, name: str, env: Env) -> Any:
        """An operation or a function."""
        if name == "sum":
            return self.total(tree, env)
        if name == "prod":
            return self.product_over_time(tree, env)
        if name == "jacobian":
            return self.jacobian(tree, env)
        if name == "truncated":
            of, steps = tree.arguments
            assert isinstance(of, Indexed)
            assert isinstance(steps, Number)
            reference = self.names.indexed(of.name, of.position)
            return self.truth.truncated(reference.name, self.time(self.text.indices.of(of), env), int(steps.value))
        if name == "softmax":
            (of,) = tree.arguments
            assert isinstance(of, Indexed)
            return self.truth.softmax(of.name, self.time(self.text.indices.of(of), env))
        values = [self.value(a, env) for a in tree.arguments]
        if name in ("outer", "dot"):
            return times(values[0], values[1], self.domain.outer if name == "outer" else self.domain.dot)
        (x,) = values
        if name == "diag":
            return x if x is ZERO or x is UNDEFINED else self.domain.diag(x)
        return x if x is UNDEFINED else self.domain.call(name, self.domain.number(Integer(0)) if x is ZERO else x)

    def jacobian(self, tree: Call, env: Env) -> Any:
        """jacobian(h[t+1], h[t])."""
        of, by = tree.arguments
        assert isinstance(of, Indexed)
        assert isinstance(by, Indexed)
        later, earlier = (self.time(self.text.indices.of(x), env) for x in (of, by))
        return self.truth.jacobian(of.name, later, by.name, earlier, self.distance(later, earlier))

    # -------------------------------------------------------------------------------------------------- own definitions

    def own(self, name: str, time: Any) -> Any:
        """An own definition at a time: what it means, what the line for this step says, or what the line for t says."""
        meaning = self.meanings.get(name)
        if meaning is not None:
            return self.watched(meaning.role, meaning.name, time, meaning(self.truth, time))
        key = (name, time)
        if key not in self.known:
            if key in self.waiting:
                raise NotSayableError(f"{name} at one step needs itself at the same step")
            self.waiting.add(key)
            try:
                self.known[key] = self.defined(name, time)
            finally:
                self.waiting.discard(key)
        return self.known[key]

    def defined(self, name: str, time: Any) -> Any:
        """What the lines of an own definition say."""
        lines = self.text.script.defining(name)
        for line in lines:
            when = line.target.when
            if when is not None and when.anchor != EVERY and self.time(when, {}) == time:
                return self.value(line.value, self.env_of(line, time))
        general = next((x for x in lines if x.target.when is None or x.target.when.anchor == EVERY), None)
        if general is None or self.beyond(general, time):
            return ZERO
        return self.value(general.value, self.env_of(general, time))

    def beyond(self, line: Line, time: Any) -> bool:
        """Whether a recursion has run out of the sequence: what goes back in time is zero after T, forward at 0."""
        if time is None:
            return False
        end = {"after": 1, "start": -1, "before": -1}.get(self.truth.place(time), 0)
        return any(shift * end > 0 for shift in self.text.rounds(line.target.name))

    def env_of(self, line: Line, time: Any) -> Env:
        """What t stands for in a line; without an index and without a sum, the last pass of the backward loop."""
        if time is not None:
            return {EVERY: self.truth.moved(time, line.offset)}
        return {EVERY: self.first_time()}


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
