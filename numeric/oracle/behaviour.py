"""What a case's network does, measured in float64: how near to a kink it comes, how saturated it is, what vanishes.

Cases are drawn until their network does what they are there for, and the power of a case is read from the same
figures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.adjoint import differentiate_step
from derive.notation import FUNCTIONS, at
from numeric.arguments import Array
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.noise import measure_noise
from numeric.oracle.case import Case
from numeric.oracle.criterion import BLURRED, LIMITS, Limits
from numeric.tangent import program_of

__all__ = ["SATURATED", "Behaviour", "behaviour", "decidable"]

#: An argument of tanh or sigmoid from which on little of a derivative is left.
SATURATED = 4.0
#: Numbers beyond this leave no room for what is made of them.
LARGEST = 1e8
_BOUNDED = ("tanh", "sigmoid", "erf", "softsign")


@dataclass(frozen=True)
class Behaviour:
    """Figures of one case; ragged ones are measured as if every sequence went on to the end.

    ``finite`` says that every value and gradient is a number of moderate size.  ``margin`` is the smallest distance of
    an argument from a kink, or from where a function ends; inf where there is neither.  ``deepest`` is the largest
    argument of a bounded function, ``logit`` the largest entry that the loss reads.  ``path`` is how much larger the
    gradient by the states is at t = 1 than at t = T, None where that is not one path: a loss at every step.
    """

    finite: bool
    margin: float
    deepest: float
    logit: float
    path: float | None


class _Watching(FloatArithmetic):
    """Float64, with a note of what functions were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.margin, self.deepest = np.inf, 0.0

    def call(self, name: str, x: Any) -> Any:
        """A function of every entry."""
        function, size = FUNCTIONS.get(name), np.abs(x)
        if function is not None and function.kink:
            self.margin = min(self.margin, float(size.min()))
        if function is not None and function.positive:
            self.margin = min(self.margin, float(np.min(x)))
        if name in _BOUNDED:
            self.deepest = max(self.deepest, float(size.max()))
        return super().call(name, x)


_KNOWN: OrderedDict[str, Behaviour] = OrderedDict()


def behaviour(case: Case) -> Behaviour:
    """The figures of a case; measured once."""
    known = _KNOWN.get(case.digest)
    if known is None:
        known = _KNOWN[case.digest] = _measured(case)
        while len(_KNOWN) > 512:
            _KNOWN.popitem(last=False)
    return known


def _measured(case: Case) -> Behaviour:
    whole = case if case.lengths is None else _unpadded(case)
    watching, program = _Watching(), program_of(case.parsed)
    problem = replace(whole.problem, truncate=None)
    with np.errstate(all="ignore"):
        interpreter = Interpreter(program, problem, watching)
        found = interpreter.run(differentiate_step(program))
    values = [x for step in found.tape for x in step.values()]
    values += [*found.gradients.values(), np.asarray(found.loss)]
    states, d = case.parsed.states, found.d
    sizes = [max(float(np.abs(step[at(n)]).max()) for n in states) for step in (d[0], d[-1])]
    path = sizes[0] / sizes[1] if case.at == "last" and sizes[1] else None
    logit = max(float(np.abs(step[at(n)]).max()) for step in found.tape for n in problem.loss.full)
    return Behaviour(_moderate(values), watching.margin, watching.deepest, logit, path)


def _unpadded(case: Case) -> Case:
    """The same numbers for whole sequences; padding that is no number is as good as zero."""
    inputs = {n: np.nan_to_num(x.astype(np.float64)) for n, x in case.inputs.items()}
    return replace(case, lengths=None, inputs=inputs)


def _moderate(values: Sequence[Array]) -> bool:
    return all(bool((np.abs(x) <= LARGEST).all()) for x in values)


# ------------------------------------------------------------------------------------------------------- decidability


def decidable(case: Case) -> bool:
    """Whether rounding leaves something to judge of every tensor, with room to spare."""
    limits = LIMITS[case.dtype]
    with np.errstate(all="ignore"):
        noise = measure_noise(case.parsed, case.problem, runs=4)
    return all(_judged(limits, sigma, noise.magnitude[n]) for n, sigma in noise.scale.items())


def _judged(limits: Limits, noise: Array, magnitude: Array) -> bool:
    """Whether a tensor is not blurred, and none of its entries out of range."""
    present = magnitude[magnitude > 0]
    if not present.size:
        return True
    inside = limits.tiny / limits.unit < present.min() and present.max() < limits.largest / 2**12
    return bool(inside) and 8 * limits.unit * float(noise.max()) < BLURRED * float(present.max())
