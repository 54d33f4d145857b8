"""Which known mistake a wrong line is: the edit of the right line that gives exactly this one.

The right line for dX is computed once more with one sum of the backward program edited, as far as the author wrote it
out: what the author names (dh[t+1], da[t+1]) keeps its true value.  Edits are compared in floating point first, and one
that fits is then compared as a polynomial, for every size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sympy import Expr, Integer, Rational, Symbol

from derive.adjoint import Backward
from derive.algebra import evaluate
from derive.handwritten.claims import entries_of, left_side, right_side, times_of
from derive.handwritten.generic import HigherError
from derive.handwritten.lines import Line
from derive.handwritten.meanings import Bench, Candidate, Understanding, symbol_named
from derive.handwritten.proofs import Prover, is_nothing
from derive.handwritten.reading import UNREADABLE, ExplicitReading, Reading, Series
from derive.handwritten.times import EVERY, When
from derive.handwritten.truth import Truth
from derive.handwritten.values import UNDEFINED, ZERO, minus, plus, times, turned
from derive.mistakes import LOSS_EDITS, STEPS, SUM_EDITS, Planted, SumEdit, plant, sentence
from derive.notation import at, time_of
from derive.syntax import Call
from derive.zero import BudgetError

__all__ = ["Named", "Namer"]

Pins = Mapping[tuple[str, str, Any], Any]  # ("derivative" or "carried", name, time) -> the true value
# The author's value of a line under an edit; None where the edit does not apply there.
Value = Callable[[Reading, Line, Any, Pins], Any]


@dataclass(frozen=True)
class Named:
    """A known mistake that a line is: its name, what should change, and other names that fit."""

    mistake: str
    says: str
    also: tuple[str, ...] = ()


class _Recording:
    """Which derivatives a line takes by name."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.pins: dict[tuple[str, str, Any], Any] = {}

    def __enter__(self) -> _Recording:
        reading = self.reading
        reading.known.clear()  # what was computed before was not recorded
        reading.watch = self.pins
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.watch = None


class Namer:
    """Names the mistakes of one file's lines."""

    def __init__(self, bench: Bench, how: Understanding, prover: Prover) -> None:
        self.bench, self.how, self.prover = bench, how, prover
        self.backward = bench.backward

    @cached_property
    def planted(self) -> list[Planted]:
        """Every edit of a step."""
        return list(plant(self.backward))

    def name(self, line: Line) -> Named | None:
        """The known mistake that a wrong line is, if it is exactly one."""
        found: dict[str, Named] = {}
        for named, value in self.edits(line):
            if named.mistake not in found and self.fits(line, value) and self.is_exact(line, value):
                found[named.mistake] = named
        if not found:
            return None
        first, *others = found.values()
        also = dict.fromkeys((*first.also, *(o.mistake for o in others)))
        return Named(first.mistake, first.says, tuple(also))

    # ------------------------------------------------------------------------------------------------------- comparison

    def fits(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's, in floating point at every step."""
        reading = self.bench.reading(self.how)
        try:
            shown = False
            for time in times_of(reading, line):
                with _Recording(reading) as seen:
                    yours = right_side(reading, line, time)
                if yours is UNDEFINED:
                    continue
                edited, right = value(reading, line, time, seen.pins), left_side(reading, line, time)
                if edited is None or edited is UNDEFINED:
                    return False
                if not _equal(yours, edited, right):
                    return False
                shown = shown or not _equal(edited, right, right)
            return shown
        except UNREADABLE:
            return False

    def is_exact(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's for every size; where that is out of reach, on another network."""
        for ahead in range(1, 4):
            reading = self.prover.reading(True, ahead)
            try:
                time = line.target.when
                if line.target.role == "jacobian":
                    time = When(EVERY, 0)
                if time is None or time.anchor == EVERY:
                    with _Recording(reading) as seen:
                        yours = right_side(reading, line, time)
                    edited = value(reading, line, time, seen.pins)
                    both = _series(yours, edited)
                    return is_nothing(minus(*both)) or self.fits_elsewhere(line, value)
                break
            except HigherError:
                continue
            except (BudgetError, *UNREADABLE):
                break
        return self.fits_elsewhere(line, value)

    def fits_elsewhere(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's on a second network of another size."""
        other = Bench(self.bench.text, self.backward, steps=4, size=3, seed=1)
        return Namer(other, self.how, self.prover).fits(line, value)

    # ------------------------------------------------------------------------------------------------------------ edits

    def edits(self, line: Line) -> Iterator[tuple[Named, Value]]:
        """Every edit that might make this line, the likeliest kinds first."""
        target = _goal(line, self.how)
        if line.target.role == "jacobian":
            yield from _jacobian_edits()
        if target is None:
            return
        if target.role == "derivative" and target.name in self.bench.text.script.cell.outputs:
            yield from self.loss_edits()
        if target.role == "gradient" and line.target.when is None:
            yield from _sum_edits(target.name)
        needed = self.needed(line, target)
        others = self.elsewhere(line, target)
        fitting = [planted for planted in self.planted if planted.target in needed]
        # a sum that has a line of its own is right there: its mistakes are named only if no other fits
        for planted in sorted(fitting, key=lambda p: p.target in others):
            says = sentence(planted.mistake) if target.role == "jacobian" else planted.says
            named = Named(planted.mistake, says, planted.also)
            yield named, _step_edit(planted.backward, target)
        yield Named("time-forward", "the carry comes from t - 1, and should come from t + 1"), _forward_edit(target)
        yield from _factors(target)

    def needed(self, line: Line, target: Candidate) -> set[Symbol | str]:
        """Sums that the line writes out: those between its left side and the derivatives that it names."""
        reading = self.bench.reading(self.how)
        with _Recording(reading) as seen:
            for time in times_of(reading, line):
                try:
                    right_side(reading, line, time)
                except UNREADABLE:
                    continue
        named = {at(name) for role, name, _ in seen.pins if role == "derivative"}
        named |= {at(name, -1) for role, name, _ in seen.pins if role in ("carried", "handed")}
        flows = self.backward.flows
        start: list[Symbol | str] = [target.name] if target.name in self.backward.matrices else [_symbol(target, flows)]
        out: set[Symbol | str] = set()
        while start:
            symbol = start.pop()
            if symbol in out:
                continue
            out.add(symbol)
            if isinstance(symbol, str):
                sources = [pair.source for pair in self.backward.matrices[symbol]]
            else:
                sources = [flow.source for flow in flows[symbol]]
                name, shift = time_of(symbol)
                if shift == 0 and name in self.bench.text.script.cell.states:
                    sources.append(at(name, -1))
            start += [s for s in sources if s not in named]
        return out

    def elsewhere(self, line: Line, target: Candidate) -> set[Symbol | str]:
        """Sums that are the subject of another line."""
        goals = [_goal(x, self.how) for x in self.bench.text.script.lines if x is not line]
        return {at(g.name) for g in goals if g is not None and g.role == "derivative" and g.name != target.name}

    def loss_edits(self) -> Iterator[tuple[Named, Value]]:
        """Wrong derivatives of the loss."""
        on = self.how.loss.on or self.bench.text.script.cell.outputs[0]
        for edit in sorted(LOSS_EDITS, key=lambda e: e.loss != self.how.loss.kind):
            yield Named(edit.mistake, edit.says), _loss_edit(edit.wrong, on)


def _goal(line: Line, how: Understanding) -> Candidate | None:
    """What a line is about, as something that truth knows."""
    target = line.target
    if target.role == "own":
        found = how.meanings.get(target.name)
        return found if isinstance(found, Candidate) else None
    if target.role == "jacobian" and target.when is not None and target.by_when == target.when.moved(-1):
        return Candidate("jacobian", target.name, target.by)
    if target.role in ("derivative", "local", "gradient"):
        name = how.conventions.get(target.name, target.name) if target.role == "derivative" else target.name
        return Candidate(target.role, name)
    return Candidate("carried", target.name) if target.role == "initial" else None


def _symbol(target: Candidate, flows: Mapping[Symbol, Any]) -> Symbol:
    if target.role in ("carried", "handed"):
        return at(target.name, -1)
    if target.role == "path":
        return symbol_named(target.name)
    bare = next((s for s in flows if s.name == target.name), None)
    return bare if bare is not None else at(target.name)


def _series(a: Any, b: Any) -> tuple[Any, Any]:
    if isinstance(a, Series) != isinstance(b, Series):
        return (a, Series(ZERO, b)) if isinstance(a, Series) else (Series(ZERO, a), b)
    return a, b


def _equal(a: Any, b: Any, like: Any) -> bool:
    shape = like if like is not ZERO and like is not UNDEFINED else b if b is not ZERO else a
    x, y = entries_of(a, shape), entries_of(b, shape)
    if x is None or y is None or len(x) != len(y):
        return False
    size = max((abs(v) for v in (*x, *y)), default=0.0)
    return all(abs(v - w) <= 1e-9 * size for v, w in zip(x, y, strict=True))


# ------------------------------------------------------------------------------------------------------ kinds of edits


def _step_edit(backward: Backward, target: Candidate) -> Value:
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


def _loss_edit(wrong: Expr, on: str) -> Value:
    def value(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        truth = reading.truth

        def leaf(symbol: Symbol) -> Any:
            name = time_of(symbol)[0]
            if name == "target":
                return truth.target(time)
            return truth.softmax(on, time) if name == "p" else truth.forward(on, time)

        return evaluate(wrong, leaf, truth.domain)

    return value


def _sum_edits(name: str) -> Iterator[tuple[Named, Value]]:
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
    for part in _terms(tree):
        value = reading.value(part, {EVERY: reading.first_time()})
        if isinstance(value, Series) or value is ZERO or value is UNDEFINED:
            continue
        weight = reading.truth.value_of(name)
        if not isinstance(reading, ExplicitReading) or _is_multiple(value, weight):
            total = plus(total, value)
    return total


def _terms(tree: Any) -> Iterator[Any]:
    from derive.syntax import Binary

    if isinstance(tree, Binary) and tree.sign in "+-":
        yield from _terms(tree.left)
        yield tree.right
    else:
        yield tree


def _is_multiple(value: Any, of: Any) -> bool:
    x, y = entries_of(value, of), entries_of(of, of)
    if x is None or y is None or len(x) != len(y):
        return False
    ratios = [a / b for a, b in zip(x, y, strict=True)]
    return all(abs(r - ratios[0]) < 1e-9 * abs(ratios[0]) for r in ratios)


def _forward_edit(target: Candidate) -> Value:
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


def _factors(target: Candidate) -> Iterator[tuple[Named, Value]]:
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


def _jacobian_edits() -> Iterable[tuple[Named, Value]]:
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
        return right_side(reading, line, time) if out is None or _equal(out, right, right) else None

    def transposed(reading: Reading, line: Line, time: Any, pins: Pins) -> Any:
        return turned(left_side(reading, line, time))

    says = "the factors stand in the reverse order: the one of the last step belongs at the left"
    yield Named("product-order", says), reversed_product
    yield Named("jacobian-transposed", "this is the transpose of the Jacobian"), transposed
