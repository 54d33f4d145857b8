"""Edits of a right line: what it is worth when one thing in it is another.

The line for dX is computed once more with one sum of the backward program edited, as far as the author wrote it out:
what the author names (dh[t+1], da[t+1]) keeps its true value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, Rational, Symbol

from derive.adjoint import Backward
from derive.algebra import evaluate
from derive.handwritten.candidates import Candidate, symbol_named
from derive.handwritten.claims import entries_of, left_side, right_side, same_numbers
from derive.handwritten.explicit_reading import ExplicitReading
from derive.handwritten.generic_reading import Series
from derive.handwritten.lines import Line
from derive.handwritten.reading import Reading
from derive.handwritten.times import EVERY
from derive.handwritten.truth import Truth
from derive.handwritten.values import UNDEFINED, ZERO, plus, times, turned
from derive.mistakes import STEPS, SUM_EDITS, SumEdit
from derive.notation import at, time_of
from derive.syntax import Call, terms

__all__ = ["Named", "Pins", "Value", "factors", "forward_edit", "jacobian_edits", "loss_edit", "step_edit", "sum_edits"]

Pins = Mapping[tuple[str, str, Any], Any]  # ("derivative" or "carried", name, time) -> the true value
# The author's value of a line under an edit; None where the edit does not apply there.
Value = Callable[[Reading, Line, Any, Pins], Any]


@dataclass(frozen=True)
class Named:
    """A known mistake that a line is: its name, what should change, and other names that fit."""

    mistake: str
    says: str  # in the time of the step where the edited sum stands
    also: tuple[str, ...] = ()
    ahead: int = 0  # how many steps after the line's own that step is


def step_edit(backward: Backward, target: Candidate) -> Value:
    """What ``target`` is worth by a wrong backward program."""

    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        def at_time(t: Any) -> Any:
            return _edited(reading.truth, backward, target, t, pins)

        if target.role == "gradient" and line.target.role == "gradient":
            return reading.over_time(at_time)
        if line.target.role == "jacobian" and line.target.when is not None:
            return at_time(reading.time(line.target.when, {EVERY: time}))
        return at_time(reading.start() if time is None else time)

    return value


def _edited(truth: Truth, backward: Backward, target: Candidate, time: Any, pins: Pins) -> Any:
    """What the target is worth when one sum is another, and everything that has a name keeps its true value."""
    if target.role == "jacobian":
        other = _Follow(truth, backward)
        return other.jacobian(target.name, time, target.by, truth.moved(time, -1))
    if target.role == "handed":
        before = truth.moved(time, -1)
        return _carried(truth, backward, before, pins).get(target.name, ZERO)
    arriving = truth.from_loss(time)
    if target.role != "local":
        for name, value in _carried(truth, backward, time, pins).items():
            if target.role == "carried" and name == target.name:
                return value
            arriving[at(name)] = plus(arriving.get(at(name), ZERO), value)
    if truth.place(time) == "start":
        return ZERO
    own = at(target.name) if target.role == "derivative" else None
    if target.role == "path":
        symbol, i = symbol_named(target.name), int(target.by)
        slopes = truth.step_back(arriving, time, _pinned(pins, time), backward)
        same = len(backward.flows[symbol]) == len(truth.backward.flows[symbol])
        return truth.flowed(symbol, backward.flows[symbol][i], slopes, time) if same else None
    pinned = {s: v for s, v in _pinned(pins, time).items() if s != own}
    slopes = truth.step_back(arriving, time, pinned, backward)
    if target.role == "gradient":
        return truth.gradient(target.name, time, slopes, backward)
    return slopes.get(at(target.name), ZERO)


def _pinned(pins: Pins, time: Any) -> dict[Symbol, Any]:
    return {at(name): value for (role, name, when), value in pins.items() if role == "derivative" and when == time}


def _carried(truth: Truth, backward: Backward, time: Any, pins: Pins) -> dict[str, Any]:
    """What the step after hands back, edited."""
    if truth.place(time) in ("last", "after"):
        return {}
    if truth.ends(time):
        return {s: truth.carried(s, time) for s in truth.cell.states}
    later = truth.moved(time, 1)
    slopes = truth.step_back(truth.arriving(later), later, _pinned(pins, later), backward)
    known = {s: pins.get(("handed", s, later), slopes[at(s, -1)]) for s in truth.cell.states}
    return {s: pins.get(("carried", s, time), value) for s, value in known.items()}


class _Follow:
    """One-step Jacobians along an edited program."""

    def __init__(self, truth: Truth, backward: Backward) -> None:
        self.truth, self.backward = truth, backward

    def jacobian(self, of: str, time: Any, by: str, earlier: Any) -> Any:
        """The derivative of one state by another, one step earlier."""
        arriving = {at(of): self.truth.same_size(self.truth.program.axes[at(of)])}
        slopes = self.truth.step_back(arriving, time, None, self.backward)
        return turned(slopes[at(by, -1)])


def loss_edit(wrong: Expr, on: str) -> Value:
    """A wrong derivative of the loss by what it reads."""

    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        truth = reading.truth

        def leaf(symbol: Symbol) -> Any:
            name = time_of(symbol)[0]
            if name == "target":
                return truth.target(time)
            return truth.softmax(on, time) if name == "p" else truth.forward(on, time)

        return evaluate(wrong, leaf, truth.domain)

    return value


def sum_edits(name: str) -> Iterator[tuple[Named, Value]]:
    """A parameter's terms combined in a wrong way over time."""
    for edit in SUM_EDITS:
        yield Named(edit.mistake, edit.says), _sum_edit(edit, name)


def _sum_edit(edit: SumEdit, name: str) -> Value:
    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        truth = reading.truth

        def number(e: Expr) -> Any:
            return evaluate(e, lambda s: truth.steps(), truth.domain)

        first, last = reading.first_time(), reading.last_time()
        total = _weighed(reading.over_time(lambda t: truth.gradient(name, t)), edit.every, number)
        for when, factor in ((first, edit.first), (last, edit.last)):
            if factor != 0:
                total = plus(total, _weighed(truth.gradient(name, when), factor, number))
        return _with_weight(reading, line, total, name) if edit.weight else total

    return value


def _weighed(value: Any, factor: Expr, number: Callable[[Expr], Any]) -> Any:
    if factor == 0:
        return ZERO
    return value if factor == 1 else times(value, number(factor))


def _with_weight(reading: Reading, line: Line, total: Any, name: str) -> Any:
    """The right gradient and the multiple of the parameter that the author has beside it, if it is one."""
    tree = line.value
    for part in terms(tree):
        value = reading.value(part, {EVERY: reading.first_time()})
        if isinstance(value, Series) or value is ZERO or value is UNDEFINED:
            continue
        weight = reading.truth.value_of(name)
        if not isinstance(reading, ExplicitReading) or _is_multiple(value, weight):
            total = plus(total, value)
    return total


def _is_multiple(value: Any, of: Any) -> bool:
    x, y = entries_of(value, of), entries_of(of, of)
    if x is None or y is None or len(x) != len(y):
        return False
    ratios = [a / b for a, b in zip(x, y, strict=True)]
    return all(abs(r - ratios[0]) < 1e-9 * abs(ratios[0]) for r in ratios)


def forward_edit(target: Candidate) -> Value:
    """The carry taken from the step before: the backward loop run forward."""

    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        truth = reading.truth
        if target.role not in ("derivative", "carried") or time is None:
            return None
        before = truth.moved(time, -1)
        inside = truth.place(before) in ("inside", "last")
        back = truth.slopes(before) if inside else {}
        arriving = dict(truth.from_loss(time))
        for s in truth.cell.states:
            arriving[at(s)] = plus(arriving.get(at(s), ZERO), back.get(at(s, -1), ZERO))
        if target.role == "carried":
            return back.get(at(target.name, -1), ZERO)
        pinned = {s: v for s, v in _pinned(pins, time).items() if s != at(target.name)}
        return truth.step_back(arriving, time, pinned)[at(target.name)]

    return value


def factors(target: Candidate) -> Iterator[tuple[Named, Value]]:
    """The whole line times a number."""
    rows = (
        ("sign", Integer(-1), "the sign is wrong"),
        ("doubled", Integer(2), "it is counted twice"),
        ("halved", Rational(1, 2), "it is counted half"),
        ("reduction", 1 / STEPS, "it is divided by T"),
        ("reduction", STEPS, "it is multiplied by T"),
    )
    for name, factor, says in rows:
        yield Named(name, says), _scaled(factor)


def _scaled(factor: Expr) -> Value:
    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        right = left_side(reading, line, time)
        truth = reading.truth
        return times(right, evaluate(factor, lambda s: truth.steps(), truth.domain))

    return value


def jacobian_edits() -> Iterable[tuple[Named, Value]]:
    """A product of Jacobians in the wrong order, or the transpose of one."""

    def reversed_product(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        tree = line.value
        if not isinstance(tree, Call) or tree.name != "prod" or not isinstance(reading, ExplicitReading):
            return None
        env = reading.env_of(line, time)
        out: Any = None
        for inner in reversed(list(reading.range(tree, env))):  # the right product, its factors in the author's order
            factor = reading.value(tree.arguments[0], inner)
            out = factor if out is None else factor if factor is ZERO else out @ factor
        right = left_side(reading, line, time)
        return right_side(reading, line, time) if out is None or same_numbers(out, right, right) else None

    def transposed(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        return turned(left_side(reading, line, time))

    says = "the factors stand in the reverse order: the one of the last step belongs at the left"
    yield Named("product-order", says), reversed_product
    yield Named("jacobian-transposed", "this is the transpose of the Jacobian"), transposed
