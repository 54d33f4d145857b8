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
from numeric.oracle.criterion import LIMITS, Limits, blurred
from numeric.problem import Problem
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

#: How much of a tensor float32 may lose in a case that is surely decidable, by what the case is stored in.
_SURE = {"float64": 2.0**-10, "float32": 2.0**-15}


def decidable(case: Case) -> bool:
    """Whether rounding leaves something to judge of every tensor, with room to spare."""
    limits, problem = LIMITS[case.dtype], case.problem
    with np.errstate(all="ignore"):
        wide, short = (_gradients(case, problem, dtype) for dtype in (np.float64, np.float32))
        if all(_in_range(limits, np.abs(g)) and _close(g, short[n], _SURE.get(case.dtype, 0.0)) for n, g in wide.items()):
            return True
        noise = measure_noise(case.parsed, problem, runs=4)
    return all(_judged(limits, sigma, noise.magnitude[n]) for n, sigma in noise.scale.items())


def _gradients(case: Case, problem: Problem, dtype: Any) -> dict[str, Array]:
    program = program_of(case.parsed)
    return Interpreter(program, problem, FloatArithmetic(dtype)).run(differentiate_step(program)).gradients


def _close(right: Array, short: Array, most: float) -> bool:
    """Whether float32 loses little of a tensor: then float64 and float32 leave enough of it to be judged."""
    return bool(np.abs(right - short).max(initial=0.0) <= most * np.abs(right).max(initial=0.0))


def _in_range(limits: Limits, size: Array) -> bool:
    """Whether no entry comes near the ends of the type's range."""
    present = size[size > 0]
    if not present.size:
        return True
    return bool(limits.tiny / limits.unit < present.min() and present.max() < limits.largest / 2**12)


def _judged(limits: Limits, noise: Array, magnitude: Array) -> bool:
    """Whether a tensor is neither blurred nor out of range."""
    size, room = float(magnitude.max(initial=0.0)), 8 if limits.unit < 2.0**-20 else 1
    return size == 0 or (
        _in_range(limits, magnitude) and room * limits.unit * float(noise.max()) < blurred(limits) * size
    )
