"""The exact gradient, certified: for every entry an interval that holds it, for any cell, by ball arithmetic.

    |g - (hi + lo)| <= radius        for the loss, every output and every gradient, at the very floats given

The same derivation that was proven is run with balls (:mod:`numeric.ball_arrays`).  A ball grows with T, by a number of
bits that does not depend on the working precision: so where radii come out too large, the precision is raised by what
was missing and a little more, and the pass is run again.  A pass is good when

    radius_j <= 2^-60 max(|g_j|, 2^-53 G_j),      G_j the sum of the absolute values of the terms of g_j.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Unpack

import flint
import numpy as np

from derive.adjoint import differentiate_step
from derive.balls import precision
from derive.cell import Cell
from numeric.arguments import Array
from numeric.ball_arrays import BallArithmetic, BallArray
from numeric.ball_growth import bits_lost
from numeric.float_arrays import EXTENDED_BITS, FloatArithmetic
from numeric.interpret import Interpreted, Interpreter
from numeric.problem import Options, Problem, check_problem
from numeric.tangent import program_of

__all__ = ["FIRST", "FLINT", "Enclosure", "Enclosures", "certify", "certify_problem"]

#: flint's precision is global: whoever sets it holds this.
FLINT = Lock()

#: Bits wanted of a gradient relative to itself, and to the sum of its terms' absolute values.
GOOD, CANCELLED = 60, 53
#: The first precision, what is added to what was missing, and the last.
FIRST, MORE, MOST = 160, 16, 1 << 14
#: A tensor of which no entry's sign is known is zero by symmetry where it is so many bits below the largest one.
GONE = 1200
#: Steps up to which no loss is expected that the first precision does not cover.
SHORT = 24
#: Balls beyond which a problem is computed in the processor's longest floats instead.
LARGE = 300_000_000


@dataclass(frozen=True)
class Enclosure:
    """hi + lo, two float64, and the base-2 logarithm of the radius, -inf where the value is exact."""

    hi: Array
    lo: Array
    log2_radius: Array

    @property
    def radius(self) -> Array:
        """The radius, rounded up where it is too small for a float64."""
        with np.errstate(under="ignore"):
            size: Array = np.exp2(self.log2_radius)
        return np.where((size == 0) & np.isfinite(self.log2_radius), np.nextafter(0.0, 1.0), size)


@dataclass(frozen=True)
class Enclosures:
    """Enclosures of a problem: ``gradients`` by names of parameters, inputs, and initial states with a ``0``.

    ``bits`` is the working precision of the balls.  Where ``certified`` is false, the problem was too large for balls:
    the values are of extended precision and the radii estimated, 64 units in its last place of ``magnitude``.
    """

    loss: Enclosure
    gradients: Mapping[str, Enclosure]
    outputs: Mapping[str, Enclosure]
    bits: int
    certified: bool


def certify(
    cell: Cell, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
) -> Enclosures:
    """Enclosures of the loss, outputs and gradients; arguments as for :meth:`numeric.Engine.backward`.

    Raises ValueError and TypeError as that does, and ArithmeticError where the exact value cannot be enclosed: a
    function outside of its domain, or a kink that a ball covers.

    >>> import derive
    >>> cell = derive.load("tanh_rnn")
    >>> p = {"W_hh": [[0.5]], "W_xh": [[1.0]], "b": [0.0], "W_hy": [[1.0]]}
    >>> found = certify(cell, p, [[[1.0]], [[0.0]]], loss="linear", cotangents={"h": [[[0.0]], [[1.0]]]})
    >>> float(found.gradients["W_hh"].hi[0, 0]), bool(found.gradients["W_hh"].log2_radius[0, 0] < -100)
    (0.6610186263132454, True)
    """
    problem = check_problem(cell, np.dtype(np.float64), params, inputs, targets, options)
    return certify_problem(cell, problem)


def certify_problem(cell: Cell, problem: Problem) -> Enclosures:
    """The same for a checked problem, whose arrays are float64."""
    if work_of(cell, problem) > LARGE:
        return _extended(cell, problem)
    bits = FIRST
    if problem.data.steps > SHORT and problem.truncate is None:
        bits += int(min(bits_lost(cell, problem), MOST - FIRST))
    while bits <= MOST:
        try:
            with FLINT, precision(bits):
                found = _enclosures(_interpreted(cell, problem, BallArithmetic()), bits)
        except OverflowError:  # an exponent that no float has
            break
        missing = _missing(found)
        if missing <= 0:
            return found
        bits = 2 * bits if missing == np.inf else bits + int(missing) + MORE
    raise ArithmeticError(
        f"the gradient of {cell.name} cannot be enclosed here: "
        f"a function at a kink or outside of its domain, or numbers that overflow"
    )


def work_of(cell: Cell, problem: Problem) -> int:
    """Products of balls, about."""
    data = problem.data
    entries = sum(p.size for p in data.params.values() if p.ndim == 2)
    return 3 * data.steps * data.batch * entries


def _interpreted(cell: Cell, problem: Problem, arithmetic: Any) -> Interpreted:
    program = program_of(cell)
    return Interpreter(program, problem, arithmetic).run(differentiate_step(program))


# ------------------------------------------------------------------------------------------------------------ precision


def _missing(found: Enclosures) -> float:
    """How many bits the worst value is short of."""
    everything = (*found.gradients.values(), found.loss, *found.outputs.values())
    if not all(np.isfinite(x.hi).all() for x in everything):
        return np.inf
    largest = max(float(_exponent(x.hi).max(initial=-np.inf)) for x in everything)
    return max(_short(x, largest - GONE) for x in everything)


def _short(x: Enclosure, gone: float) -> float:
    """How many bits one tensor is short of; none where all of it is zero to 2^gone."""
    size = _exponent(x.hi)
    inexact = x.log2_radius > -np.inf
    if inexact.any() and (size <= x.log2_radius + 1).all():
        return np.inf if x.log2_radius.max() > gone else -np.inf
    wanted = np.maximum(size, size.max(initial=-np.inf) - CANCELLED) - GOOD
    return float((x.log2_radius[inexact] - wanted[inexact]).max(initial=-np.inf))


def _exponent(x: Array) -> Array:
    """The e with 2^(e-1) <= |x| < 2^e; -inf for zero, inf for what is not finite."""
    e: Array = np.frexp(x)[1].astype(np.float64)
    return np.where(np.isfinite(x), np.where(x == 0, -np.inf, e), np.inf)


# ----------------------------------------------------------------------------------------------------------- as floats


def _enclosures(found: Interpreted, bits: int) -> Enclosures:
    return Enclosures(
        _floats(found.loss),
        {n: _floats(x) for n, x in found.gradients.items()},
        {n: _floats(x) for n, x in found.outputs.items()},
        bits,
        True,
    )


def _floats(x: BallArray) -> Enclosure:
    """Both parts of every middle, and the radius with what two floats leave of it."""
    middles = [e.mid() for e in x.entries]
    hi = np.array(list(map(float, middles)))
    rest = list(map(operator.sub, middles, map(flint.arb, hi.tolist())))
    lo = np.where(np.isfinite(hi), np.array(list(map(float, rest))), 0.0)
    # flint counts the bits between the leading ones of middle and radius, plus one
    size = _exponent(hi) - 1 - np.array([e.rel_accuracy_bits() for e in x.entries], np.float64)
    for k in np.nonzero((hi == 0) | ~np.isfinite(hi))[0]:
        size[k] = _log2(x.entries[k].rad() if x.entries[k].is_finite() else x.entries[k])
    exact = np.fromiter((e.is_exact() for e in x.entries), bool, len(x.entries))
    size[exact & np.isfinite(hi)] = -np.inf
    left = np.where(lo == 0, -np.inf, _exponent(lo) - 53)
    left[np.fromiter(map(float, map(operator.sub, rest, map(flint.arb, lo.tolist()))), float, len(lo)) == 0] = -np.inf
    return Enclosure(*(a.reshape(x.shape) for a in (hi, lo, np.logaddexp2(size, left))))


def _log2(x: Any) -> float:
    """The base-2 logarithm of an exact ball that is not negative, rounded up to a whole number; -inf for zero."""
    if not x.is_finite():
        return np.inf
    mantissa, exponent = x.man_exp()
    return float(int(mantissa).bit_length() + int(exponent)) if mantissa != 0 else -np.inf


def _extended(cell: Cell, problem: Problem) -> Enclosures:
    arithmetic = FloatArithmetic(np.longdouble)
    found = _interpreted(cell, problem, arithmetic)

    def floats(x: Array) -> Enclosure:
        x = np.asarray(x)
        hi = x.astype(np.float64)
        lo = (x - hi).astype(np.float64)
        size = np.log2(np.maximum(np.abs(x).astype(np.float64).max(initial=0.0), np.finfo(np.float64).tiny))
        return Enclosure(hi, lo, np.full(x.shape, size + 6 - EXTENDED_BITS))

    return Enclosures(
        floats(found.loss),
        {n: floats(x) for n, x in found.gradients.items()},
        {n: floats(x) for n, x in found.outputs.items()},
        EXTENDED_BITS,
        False,
    )
