"""The functions of the cell language on vectors, without branches: a few units in the last place, everywhere.

    exp(x)       2^n (1 + p),   n = round(x / ln 2),   r = x - n ln 2,   p = r + r^2 q(r)
    tanh |x|     -m / (2 + m),  m = exp(-2|x|) - 1 = 2^n p + (2^n - 1)
    s(x)         1 / (1 + e) or e / (1 + e),   e = exp(-|x|);      s'(x) = e / (1 + e (2 + e));   tanh'(x) = 4 s'(2x)
    softplus     max(x, 0) + log(1 + e),   log(1 + e) = 2 atanh(e / (2 + e))
    log(x)       n ln 2 + 2 atanh((m - 1) / (m + 1)),   x = 2^n m,   1/sqrt 2 <= m < sqrt 2
    sin, cos     of r = x - n pi/2; for large x the C library's, number by number
    erf(x)       x P(x^2) for |x| < 1, else 1 - exp(-x^2) Q(u), u = (|x| - 2) / (|x| + 2)
    erf'(x)      2/sqrt(pi) (e - e l),   e = exp(-h),   h + l = x^2 exactly

The reductions of exp, log, sin and cos are those of W. J. Cody and W. Waite, "Software Manual for the Elementary
Functions", Prentice-Hall 1980: constants are split so that products with n are exact.  The polynomials are those of
:mod:`numeric.fast.polynomials`.  Values common to f and f' are written twice and computed once: LLVM sees that they
are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir

from numeric.fast.polynomials import ERFCX_CENTRE, coefficients, parts
from numeric.fast.vector import Vec

__all__ = ["VECTOR_FUNCTIONS", "log1p_of"]

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _polynomial(x: Vec, coefs: Sequence[float]) -> Vec:
    """By Estrin's scheme: pairs, then pairs of pairs, so that few operations wait for each other."""
    w = x.writer
    terms = [w.number(c) for c in coefs]
    power = x
    while len(terms) > 1:
        pairs = [w.fma(terms[i + 1], power, terms[i]) for i in range(0, len(terms) - 1, 2)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        power = power * power
    return terms[0]


def _at_most(x: Vec, bound: float) -> Vec:
    """The smaller one; NaN stays."""
    return x.writer.select(x.is_(">", bound), bound, x)


def _at_least(x: Vec, bound: float) -> Vec:
    return x.writer.select(x.is_("<", bound), bound, x)


# ------------------------------------------------------------------------------------------- exp and what is made of it


def _rounded(x: Vec, factor: float) -> tuple[Vec, Vec]:
    """n = round(factor x) for |n| < 2^21, as a number and as that number plus 3/2 2^(digits - 1), which holds it."""
    w = x.writer
    shift = 1.5 * 2.0 ** (52 if w.double else 23)
    shifted = w.fma(x, factor, shift)
    return shifted - shift, shifted


def _exp_parts(x: Vec) -> tuple[Vec, Vec, Vec]:
    """p, a and b with exp(x) = (1 + p) a b, a and b powers of two; x is between -746 and 710 (-104 and 89)."""
    w = x.writer
    n, shifted = _rounded(x, 1 / math.log(2))
    high, low = parts("ln2", 41, 53) if w.double else parts("ln2", 14, 24)
    r = w.fma(n, -low, w.fma(n, -high, x))
    half = math.log(2) / 2 * 1.0001
    q = _polynomial(r, coefficients("exp", -half, half, 11 if w.double else 5))
    p = w.fma(r * r, q, r)
    bias, digits = (1023, 52) if w.double else (127, 23)
    origin = int(np.array(1.5 * 2.0**digits, w.dtype).view(np.int64 if w.double else np.int32))
    doubled = shifted.as_bits() - (origin - 2 * bias)  # n + 2 bias, positive
    first = doubled >> 1
    return p, (first << digits).as_reals(), ((doubled - first) << digits).as_reals()


def _bounded(x: Vec) -> Vec:
    low, high = (-746, 710) if x.writer.double else (-104, 89)
    return _at_most(_at_least(x, low), high)


def exp(x: Vec) -> Vec:
    """The exponential function, also where its value is subnormal."""
    p, a, b = _exp_parts(_bounded(x))
    return x.writer.fma(p, a, a) * b


def _decay(x: Vec, rate: int) -> tuple[Vec, Vec, Vec]:
    low = -746 if x.writer.double else -104
    return _exp_parts(_at_least(x.writer.abs(x) * -rate, low))


def _decayed(x: Vec, rate: int) -> Vec:
    """exp(-rate |x|)."""
    p, a, b = _decay(x, rate)
    return x.writer.fma(p, a, a) * b


def tanh(x: Vec) -> Vec:
    """Hyperbolic tangent."""
    p, a, b = _decay(x, 2)
    whole = a * b
    m = x.writer.fma(p, whole, whole - 1)
    return x.writer.copysign(m / (m + 2), x)


def sigmoid(x: Vec) -> Vec:
    """1 / (1 + exp(-x))."""
    e = _decayed(x, 1)
    return x.writer.select(x.is_("<", 0), e, 1) / (1 + e)


def dsigmoid(x: Vec) -> Vec:
    """s'(x)."""
    e = _decayed(x, 1)
    return e / x.writer.fma(e, e + 2, 1)


def dtanh(x: Vec) -> Vec:
    """sech(x)^2."""
    e = _decayed(x, 2)
    return 4 * (e / x.writer.fma(e, e + 2, 1))


def log1p_of(e: Vec) -> Vec:
    """log(1 + e) for 0 <= e <= 1."""
    return _log_quotient(e / (e + 2), 1 / 9, 16 if e.writer.double else 6)


def _log_quotient(s: Vec, most: float, count: int) -> Vec:
    """2 atanh(s), s^2 <= most."""
    v = s * s
    tail = _polynomial(v, coefficients("atanh", 1e-9, most * 1.001, count))
    return 2 * s.writer.fma(s * v, tail, s)


def softplus(x: Vec) -> Vec:
    """log(1 + exp(x))."""
    w = x.writer
    return w.select(x.is_("<", 0), 0, x) + log1p_of(_decayed(x, 1))


# ------------------------------------------------------------------------------------------------------------ log


def log(x: Vec) -> Vec:
    """Natural logarithm; -inf at 0, NaN below."""
    w = x.writer
    digits, bias = (52, 1023) if w.double else (23, 127)
    small = x.is_("<", float(np.finfo(w.dtype).tiny))
    grown = w.select(small, x * 2.0 ** (digits + 2), x)
    # adding what lies between sqrt(1/2) and 1 carries into the exponent exactly where m reaches sqrt(2)
    root = int(np.array(math.sqrt(0.5), w.dtype).view(np.int64 if w.double else np.int32))
    one = bias << digits
    shifted = grown.as_bits() + (one - root)
    exponent = shifted >> digits
    fraction = (shifted & ((1 << digits) - 1)) + root
    f = fraction.as_reals() - 1
    large = 2.0**digits
    as_number = (exponent | int(np.array(large, w.dtype).view(np.int64 if w.double else np.int32))).as_reals() - large
    n = as_number - w.select(small, bias + digits + 2, bias)
    high, low = parts("ln2", 41, 53) if w.double else parts("ln2", 14, 24)
    value = w.fma(n, high, w.fma(n, low, _log_quotient(f / (f + 2), 0.02944, 9 if w.double else 4)))
    value = w.select(x.is_("==", math.inf), x, value)
    value = w.select(x.is_("==", 0), -math.inf, value)
    return w.select(x.is_(">=", 0), value, math.nan)


# ---------------------------------------------------------------------------------------------------- sine, cosine


def _quadrant(x: Vec, turn: int, name: str) -> Vec:
    """The sine of x + turn pi/2."""
    w = x.writer
    limit = 2.0**20 if w.double else 2.0**12
    n, shifted = _rounded(x, 2 / math.pi)
    r = x
    for part in parts("pi/2", 33, 33, 33, 53) if w.double else parts("pi/2", 11, 11, 11, 24):
        r = w.fma(n, -part, r)
    v, most = r * r, (math.pi / 4 * 1.001) ** 2
    sine = w.fma(r * v, _polynomial(v, coefficients("sin", 1e-9, most, 8 if w.double else 4)), r)
    tail = _polynomial(v, coefficients("cos", 1e-9, most, 8 if w.double else 4))
    half = v * 0.5
    rest = 1 - half
    cosine = rest + w.fma(v * v, tail, (1 - rest) - half)
    count = shifted.as_bits() + turn
    value = w.select((count & 1).is_zero(), sine, cosine)
    negative = (count & 2) << (62 if w.double else 30)
    value = (value.as_bits() ^ negative).as_reals()
    return _or_library(x, value, limit, name)


def _or_library(x: Vec, value: Vec, limit: float, name: str) -> Vec:
    """``value``, except where |x| >= limit: what the C library says, number by number, also for inf and NaN."""
    w, b = x.writer, x.writer.builder
    small = w.abs(x).is_("<", limit)
    large = b.not_(small.value)
    any_large = w.call(f"llvm.vector.reduce.or.v{w.lanes}i1", ir.IntType(1), large)
    before = b.block
    with b.if_then(any_large, likely=False):
        slow = x.value
        for k in range(w.lanes):
            lane = ir.Constant(ir.IntType(32), k)
            slow = b.insert_element(slow, w.scalar(name, b.extract_element(x.value, lane)), lane)
        chosen = b.select(small.value, value.value, slow)
        after = b.block
    out = b.phi(w.vector)
    out.add_incoming(value.value, before)
    out.add_incoming(chosen, after)
    return Vec(w, out)


def sin(x: Vec) -> Vec:
    """Sine; NaN at infinity."""
    return x.writer.select(x.is_("==", 0), x, _quadrant(x, 0, "sin"))


def cos(x: Vec) -> Vec:
    """Cosine; NaN at infinity."""
    return _quadrant(x, 1, "cos")


# -------------------------------------------------------------------------------------------- made of two branches


def relu(x: Vec) -> Vec:
    """max(x, 0)."""
    return x.writer.select(x.is_("<=", 0), 0, x)


def drelu(x: Vec) -> Vec:
    """1 for x > 0, otherwise 0."""
    w = x.writer
    return w.select(x.is_nan(), x, w.select(x.is_(">", 0), 1, 0))


def dabs(x: Vec) -> Vec:
    """The sign of x, 0 at 0."""
    w = x.writer
    return w.select(x.is_(">", 0), 1, w.select(x.is_("<", 0), -1, x))


def softsign(x: Vec) -> Vec:
    """x / (1 + |x|)."""
    w = x.writer
    size = _at_most(w.abs(x), float(np.finfo(w.dtype).max))
    return w.copysign(size / (1 + size), x)


def dsoftsign(x: Vec) -> Vec:
    """1 / (1 + |x|)^2."""
    q = 1 + x.writer.abs(x)
    return 1 / q / q


# ------------------------------------------------------------------------------------------------ the error function


def erf(x: Vec) -> Vec:
    """Error function."""
    w = x.writer
    size = w.abs(x)
    v = size * size
    inner = size * _polynomial(v, coefficients("erf", 1e-9, 1.001, 13 if w.double else 7))
    end = 6.0 if w.double else 4.0
    s = _at_most(size, end)
    top = (end - ERFCX_CENTRE) / (end + ERFCX_CENTRE)
    u = (s - ERFCX_CENTRE) / (s + ERFCX_CENTRE)
    outer = 1 - exp(-(s * s)) * _polynomial(u, coefficients("erfcx", -0.334, top, 18 if w.double else 9))
    return w.copysign(w.select(size.is_("<", 1), inner, outer), x)


def derf(x: Vec) -> Vec:
    """2/sqrt(pi) exp(-x^2)."""
    w = x.writer
    s = _at_most(w.abs(x), 28.0 if w.double else 11.0)  # 0 beyond
    h = s * s
    low = w.fused(s, s, -h)
    p, a, b = _exp_parts(_at_least(-h, -750 if w.double else -110))
    e = w.fma(p, a, a) * _TWO_OVER_ROOT_PI
    return w.fma(e, -low, e) * b


_ALL = (exp, tanh, sigmoid, softplus, log, sin, cos, relu, softsign, erf, dtanh, dsigmoid, drelu, dabs, dsoftsign, derf)

VECTOR_FUNCTIONS: dict[str, Callable[[Vec], Vec]] = {f.__name__: f for f in _ALL} | {
    "abs": lambda x: x.writer.abs(x),
    "sqrt": lambda x: x.writer.sqrt(x),
}
