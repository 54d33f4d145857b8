"""The value of an author's line, with every derivative in it taken at its true value.

One reading serves every kind of value: entries at a generic index (:class:`GenericReading`), where a sum over time is
what it adds up at every t and what it adds or leaves out at the ends; and explicit steps (:class:`ExplicitReading`).
An author's own definition is what it says, or what it is known to mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sympy import Integer, Rational, pi

from derive.handwritten.lines import Line
from derive.handwritten.text import NotSayableError, Text
from derive.handwritten.times import EVERY, When
from derive.handwritten.truth import Truth
from derive.handwritten.values import UNDEFINED, ZERO, applied, plus, scaled, times, turned
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree

__all__ = ["Env", "Meaning", "Reading"]

Env = Mapping[str, Any]


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
