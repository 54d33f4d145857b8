"""The losses of :mod:`numeric.losses`, row by row: the value, and what each root receives.

Cross-entropy as there: with p = softmax(y) taken from the largest entry on and R the sum of exp(y - max y) over the
others, -log p = log(1 + R) - (y - max y), and p - 1 is minus the sum of the other p; no digit is lost where p is near
one.  Where several entries are the largest, no p is above 1/2, and the plain form loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir

from derive.notation import at as now
from numeric.fast.code import Code, Int, Place
from numeric.fast.frame import Frame
from numeric.fast.functions import exp, log
from numeric.fast.rows import Row, Steps
from numeric.fast.vector import Mask, Vec
from numeric.operations import local_of

__all__ = ["Losses"]

_DOUBLE = ir.DoubleType()


class Losses:
    """Writes the loss of some steps; ``kind`` is its name, ``at`` which steps count.

    ``at`` is "every", "last", a sequence's last step, or "from", the steps from one on; ``classes``: the targets are
    class indices.
    """

    def __init__(self, frame: Frame, kind: str, at: str, classes: bool) -> None:
        self.frame, self.code, self.at, self.last = frame, frame.code, at, at == "last"
        b = self.code.builder
        self.total = self.code.room(_DOUBLE)
        b.store(ir.Constant(_DOUBLE, 0.0), self.total)
        scale = frame.numbers["scale"]
        self.scale = scale if self.code.double else b.fptrunc(scale, self.code.real)
        formulas: dict[str, Callable[..., None]] = {"linear": self.linear, "squared_error": self.squared_error}
        self.formula = formulas.get(kind, self.of_class if classes else self.of_distribution)
        assert frame.plans.backward is not None
        self.roots = sorted(frame.plans.backward.active)
        #: Whether there may be steps without a loss; then ``gives`` says whether the last ones written have one.
        self.sparse = at != "every" or kind == "linear"
        self.batched = self.formula == self.of_class
        self._gives = self.code.room(ir.IntType(1))

    def gives(self) -> Any:
        """Whether the loss gave anything at the steps that were written last."""
        return self.code.builder.load(self._gives)

    def value(self) -> Any:
        """The whole loss, scaled."""
        return self.code.builder.fmul(self.code.builder.load(self.total), self.frame.numbers["scale"])

    def write(self, steps: Steps) -> None:
        """The loss of some steps is added, and what the roots receive is stored."""
        code, frame = self.code, self.frame
        code.builder.store(ir.Constant(ir.IntType(1), 0), self._gives)
        for name in self.roots:
            with frame.rows(steps) as row:
                place, _ = frame.entry(local_of(now(name)), row)
                one = _Row(frame, name, row, self.last)
                if self.at == "every":
                    self.formula(one, place)
                    continue
                with code.either(self.counts(row)) as (yes, no):
                    with yes:
                        self.formula(one, place)
                        code.builder.store(ir.Constant(ir.IntType(1), 1), self._gives)
                    with no:
                        code.clear(place, frame.wide[one.axis])
                        if self.batched:
                            self.rest(row).put_scalar(ir.Constant(code.real, 0.0))
        if self.batched:
            self.add_logarithms(steps)

    def counts(self, row: Row) -> Any:
        """Whether a row has a loss, where not all do."""
        if not self.last:
            return row.steps.t.is_(">=", self.code.int(self.frame.numbers["begin"]))
        ends = self.code.int((self.frame.array("last").place + row.r).scalar())
        return ends.is_("==", row.steps.t)

    def rest(self, row: Row) -> Place:
        """Where R of a row is left until there are enough of them."""
        return self.frame.region["rests"] + row.number

    def add_logarithms(self, steps: Steps) -> None:
        """Add log(1 + R) of all rows of some steps."""
        code, rows, place = self.code, steps.count * self.frame.batch, self.frame.region["rests"]
        with _Sum(code, double=True) as total, code.loop(code.padded(rows) // code.lanes) as i:
            k = i * code.lanes
            total.add(_log1p((place + k).vector_where(code.mask(k, rows))))
        self.add(total.result)

    def add(self, number: Any) -> None:
        """Add to the loss in double precision."""
        b = self.code.builder
        wide = number if number.type == _DOUBLE else b.fpext(number, _DOUBLE)
        b.store(b.fadd(b.load(self.total), wide), self.total)

    # ------------------------------------------------------------------------------------------------------- formulas

    def linear(self, row: _Row, local: Place) -> None:
        """The sum of cotangent times value."""
        scale, b = self.code.splat(self.scale), self.code.builder
        with _Sum(self.code, double=True) as total:
            for k in row.blocks():
                c = row.target(k)
                nonzero = b.fcmp_unordered("!=", c.value, self.code.number(0).value)
                b.store(b.or_(b.load(self._gives), Mask(self.code, nonzero).any()), self._gives)
                total.add(c * row.value(k))
                (local + k).put(c * scale)
        self.add(total.result)

    def squared_error(self, row: _Row, local: Place) -> None:
        """Half the squared norm of the difference."""
        scale = self.code.splat(self.scale)
        with _Sum(self.code, double=True) as total:
            for k in row.blocks():
                difference = row.value(k) - row.target(k)
                total.add(difference * difference)
                (local + k).put(difference * scale)
        self.add(self.code.builder.fmul(total.result, ir.Constant(_DOUBLE, 0.5)))

    def softmax(self, row: _Row, local: Place) -> tuple[Any, Any, Any]:
        """exp(y - max y) is left in ``local``; max y, R and how many entries are the largest, as numbers."""
        code, b = self.code, self.code.builder
        room = code.room(code.vector)
        b.store(code.number(-math.inf).value, room)
        for k in row.blocks():
            before = Vec(code, b.load(room))
            y = code.select(row.inside(k), row.value(k), -math.inf)
            b.store(code.select(y.is_(">", before), y, before).value, room)
        top = code.largest(Vec(code, b.load(room)))
        with _Sum(code) as others, _Sum(code) as ties:
            for k in row.blocks():
                y = row.value(k)
                inside, highest = row.inside(k), y.is_("==", code.splat(top))
                e = exp(y - code.splat(top))
                others.add(code.select(inside, code.select(highest, 0, e), 0))
                ties.add(code.select(inside, code.select(highest, 1, 0), 0))
                (local + k).put(code.select(inside, e, 0))
        one = ir.Constant(code.real, 1.0)
        return top, b.fadd(others.result, b.fsub(ties.result, one)), ties.result

    def of_class(self, row: _Row, local: Place) -> None:
        """Cross-entropy of the class whose index is the target."""
        code, b = self.code, self.code.builder
        top, rest, _ = self.softmax(row, local)
        index = row.index()
        y = (row.place + index).scalar()
        self.add(b.fsub(top, y))
        self.rest(row.row).put_scalar(rest)
        factor = code.splat(b.fdiv(self.scale, b.fadd(rest, ir.Constant(code.real, 1.0))))
        with _Sum(code) as others:
            for k in row.blocks():
                p = (local + k).vector() * factor
                others.add(code.select(row.is_at(index, k), 0, p))
                (local + k).put(p)
        (local + index).put_scalar(b.fneg(others.result))

    def of_distribution(self, row: _Row, local: Place) -> None:
        """Cross-entropy of a distribution over classes."""
        code, b = self.code, self.code.builder
        top, rest, ties = self.softmax(row, local)
        cost, alone = _log1p(code.splat(rest)), b.fcmp_ordered("==", ties, ir.Constant(code.real, 1.0))
        zero = code.number(0)
        with _Sum(code) as mass, _Sum(code) as highest, _Sum(code) as lower, _Sum(code, double=True) as total:
            for k in row.blocks():
                target, shifted = row.target(k), row.value(k) - code.splat(top)
                is_top = shifted.is_("==", 0)
                mass.add(target)
                highest.add(code.select(is_top, target, zero))
                lower.add(code.select(is_top, zero, target))
                total.add(code.select(row.inside(k), target * (cost - shifted), 0))
        self.add(total.result)
        below = b.fadd(rest, ir.Constant(code.real, 1.0))
        at_top = b.fdiv(b.fsub(lower.result, b.fmul(highest.result, rest)), below)
        single = Mask(code, self._everywhere(alone))
        scale = code.splat(self.scale)
        for k in row.blocks():
            y, target = row.value(k), row.target(k)
            slope = (local + k).vector() / code.splat(below) * code.splat(mass.result) - target
            is_top = y.is_("==", code.splat(top)) & single
            (local + k).put(code.select(row.inside(k), code.select(is_top, code.splat(at_top), slope) * scale, 0))

    def _everywhere(self, truth: Any) -> Any:
        b, lanes = self.code.builder, self.code.lanes
        kind = ir.VectorType(ir.IntType(1), lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = b.insert_element(undefined, truth, ir.Constant(ir.IntType(32), 0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None))


def _log1p(x: Vec) -> Vec:
    """log(1 + x) for x >= 0: with u = 1 + x rounded, log(u) + (x - (u - 1)) / u."""
    u = 1 + x
    return log(u) + (x - (u - 1)) / u


class _Row:
    """One root at one row: its value and its target, vector by vector; zero beyond the last entry."""

    def __init__(self, frame: Frame, name: str, row: Row, last: bool) -> None:
        self.frame, self.code, self.row = frame, frame.code, row
        self.axis = frame.cell.axes[name]
        self.array = frame.array("target", name)
        self.number = row.r if last else row.steps.t * frame.whole_batch + row.r
        self.symbol = now(name)

    @property
    def place(self) -> Place:
        """The first entry of the value."""
        return self.frame.entry(self.symbol, self.row)[0]

    def blocks(self) -> Iterator[Int]:
        """The vectors."""
        return self.frame.blocks(self.axis)

    def inside(self, k: Int) -> Mask:
        """Lanes that hold entries."""
        return self.frame.tail(self.axis, k)

    def value(self, k: Int) -> Vec:
        """Entries of the root from k on."""
        return (self.place + k).vector_where(self.inside(k))

    def target(self, k: Int) -> Vec:
        """Entries of the target from k on."""
        return (self.array.place + self.number * self.frame.size[self.axis] + k).vector_where(self.inside(k))

    def index(self) -> Int:
        """The class that is the target."""
        return self.code.int((self.array.place + self.number).scalar())

    def is_at(self, index: Int, k: Int) -> Mask:
        """The lane of one entry."""
        code, kind = self.code, ir.VectorType(ir.IntType(64), self.code.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = code.builder.insert_element(undefined, (index - k).value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), code.lanes), None)
        spread = code.builder.shuffle_vector(first, undefined, zeros)
        return Mask(code, code.builder.icmp_signed("==", ir.Constant(kind, list(range(code.lanes))), spread))


class _Sum:
    """A sum over the vectors of a row: lane by lane within the block, over the lanes at its end."""

    def __init__(self, code: Code, *, double: bool = False) -> None:
        self.code, self.wide = code, double and not code.double
        kind = ir.VectorType(_DOUBLE, code.lanes) if double else code.vector
        self.room = code.room(kind)
        code.builder.store(ir.Constant(kind, [0.0] * code.lanes), self.room)
        self.kind = kind
        self.result: Any = None

    def __enter__(self) -> _Sum:
        return self

    def add(self, x: Vec) -> None:
        """One vector more."""
        b = self.code.builder
        value = b.fpext(x.value, self.kind) if self.wide else x.value
        b.store(b.fadd(b.load(self.room), value), self.room)

    def __exit__(self, *_: object) -> None:
        self.result = self.code.total(self.code.builder.load(self.room))
