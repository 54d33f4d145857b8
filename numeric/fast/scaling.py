"""Vanishing derivatives kept away from subnormal numbers, on which processors are tens of times slower.

The backward recursion is linear in what the later steps hand back.  Where the loss gives nothing for some steps, that
is multiplied by a power of two when it has become small, and the sums that it enters are multiplied back when they are
added to the gradients: exact, unless a result is subnormal itself.  As soon as the loss gives something again, the
factor goes back to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from numeric.fast.code import Place
from numeric.fast.frame import Frame
from numeric.fast.vector import Vec

__all__ = ["Scaling"]

# Largest carried number at which the factor changes, and what it becomes: exponents, for float32 and float64.  A chunk
# has at most 16 steps; on the way up there is room for 9 bits a step, on the way down for 4.
_SMALL, _TO = {False: -60, True: -400}, {False: -20, True: -100}


class Scaling:
    """The factor's inverse as a variable; ``flush`` adds the sums so far to the gradients and clears them."""

    def __init__(self, frame: Frame, flush: Callable[[], None]) -> None:
        self.frame, self.code, self.flush = frame, frame.code, flush
        self.room = self.code.room(self.code.real)
        self.code.builder.store(self.real(1), self.room)

    def real(self, value: float) -> Any:
        """A number of the loop's type."""
        return ir.Constant(self.code.real, value)

    def inverse(self) -> Vec:
        """What scaled numbers are multiplied by, in every lane."""
        return self.code.splat(self.code.builder.load(self.room))

    def adjust(self, loss_gives: Any) -> None:
        """Before the steps of a chunk: one where the loss gives something, else what suits the carried numbers."""
        code, b = self.code, self.code.builder
        with code.either(loss_gives) as (given, nothing):
            with given, code.when(b.fcmp_unordered("!=", b.load(self.room), self.real(1))):
                self.flush()
                self.carried_times(self.inverse())
                b.store(self.real(1), self.room)
            with nothing:
                largest = self.largest()
                small = b.fcmp_ordered("<", largest, self.real(2.0 ** _SMALL[code.double]))
                grown = b.and_(
                    b.fcmp_unordered("!=", b.load(self.room), self.real(1)),
                    b.fcmp_ordered(">", largest, self.real(1)),
                )
                with code.when(b.and_(b.or_(small, grown), b.fcmp_ordered(">", largest, self.real(0)))):
                    self.flush()
                    self.rescale(largest)

    def rescale(self, largest: Any) -> None:
        """Bring the largest carried number near the middle, but never below its true size."""
        code, b = self.code, self.code.builder
        digits, bias = (52, 1023) if code.double else (23, 127)
        number = lambda n: ir.Constant(code.bits, n)  # noqa: E731
        exponent = b.lshr(b.bitcast(largest, code.bits), number(digits))
        most = 2 * bias + _TO[code.double] - 1  # the factor, too, is to be a normal number
        exponent = b.select(b.icmp_unsigned("<", exponent, number(1)), number(1), exponent)
        exponent = b.select(b.icmp_unsigned(">", exponent, number(most)), number(most), exponent)
        up = b.sub(number(2 * bias + _TO[code.double]), exponent)  # the factor's exponent field
        factor = b.bitcast(b.shl(up, number(digits)), code.real)
        inverse = b.bitcast(b.shl(b.sub(number(2 * bias), up), number(digits)), code.real)
        after = b.fmul(b.load(self.room), inverse)
        too_far = b.fcmp_ordered(">", after, self.real(1))
        factor = b.select(too_far, b.load(self.room), factor)
        b.store(b.select(too_far, self.real(1), after), self.room)
        self.carried_times(code.splat(factor))

    def _carried(self) -> tuple[Place, Any]:
        frame = self.frame
        return frame.region["carried"], frame.batch * frame.width["carried"] // self.code.lanes

    def largest(self) -> Any:
        """The largest carried number's size; NaN does not count."""
        code, (place, count) = self.code, self._carried()
        room = code.room(code.vector)
        code.builder.store(code.number(0).value, room)
        with code.loop(count) as i:
            x, so_far = code.abs((place + i * code.lanes).vector()), Vec(code, code.builder.load(room))
            code.builder.store(code.select(x.is_(">", so_far), x, so_far).value, room)
        return code.largest(Vec(code, code.builder.load(room)))

    def carried_times(self, factor: Vec) -> None:
        """Multiply everything that is carried."""
        code, (place, count) = self.code, self._carried()
        with code.loop(count) as i:
            here = place + i * code.lanes
            here.put(here.vector() * factor)
