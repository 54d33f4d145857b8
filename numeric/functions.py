"""Elementwise functions of the cell language and their derivatives, right to a few units in the last place everywhere.

A derivative that is written as it is read loses everything in the tails: 1 - tanh(20)^2 is 0 in float64, not 1.7e-17.
The forms below neither cancel nor overflow before the result does (s is the sigmoid):

    s(x)             1 / (1 + exp(-x)), and exp(x) where exp(-x) could overflow
    s'(x)            s(x) s(-x) = e / (1 + e)^2 = e / (1 + e (2 + e)),   e = exp(-|x|)
    tanh'(x)         sech^2 x = 4 s'(2x)
    softplus(x)      max(x, 0) + log(1 + exp(-|x|))
    erf(c + h)       the Taylor series at the nearest c in Z/16
    erf'(x)          2/sqrt(pi) exp(-a^2) exp((a - x)(a + x)),   a = x rounded to 24 bits, so that a^2 is exact
    softsign'(x)     (1 / q) / q,   q = 1 + |x|

The denominator 1 + e (2 + e) is one rounding better than the square of 1 + e: 2.4 against 4.0 ulp at worst in float64.

Every function takes an array or a NumPy scalar of float32, float64 or complex128 and returns a new one of the same type
and shape, within 3 ulp in float64 and 4 in float32; a subnormal result within three smallest subnormals.  NaN gives
NaN.  There are no warnings, also at infinity; only log and sqrt warn as NumPy does, outside their domain (log(0) is
-inf, a negative number gives NaN).

NumPy's float64 exp is right to 0.77 ulp (https://github.com/numpy/numpy/pull/15648), but its float32 exp and log only
to 2.52 and 3.83 (https://github.com/numpy/numpy/pull/13134), which is most of the bound for float32.  log, erf and erf'
are therefore computed in float64 and rounded once; the others are not, because they decide the speed of a cell.

Complex arguments serve the complex step, f'(x) = Im f(x + i eps) / eps (Squire and Trapp, SIAM Review 40, 1998,
doi:10.1137/S003614459631241X).  With z = x + iy each f(z), unless it is NumPy's own, is written through f(x), f'(x) and
functions of y, so that the imaginary part is f'(x) times y when y is small, without cancellation, and the real part is
that of the real function.  relu, abs and softsign branch on the sign of x; at the kink of relu and abs the derivative
is 0, as in drelu and dabs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import flint
import numpy as np
from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "Array", "Elementwise"]

Array = NDArray[Any]
Elementwise = Callable[[Array], Array]

# Overflow to infinity, underflow to zero and NaN at infinity are the results wanted here, not accidents.
_quiet = np.errstate(all="ignore")


def _in_double(f: Elementwise) -> Elementwise:
    """Compute float32 in float64 and round once."""

    @wraps(f)
    def rounded(x: Array) -> Array:
        return f(x.astype(np.float64)).astype(np.float32) if x.dtype == np.float32 else f(x)

    return rounded


def _complex(real: Array, imag: Array) -> Array:
    """Real + i imag, without the NaN that 1j * inf makes."""
    z = np.empty(np.shape(real), np.complex128)
    z.real, z.imag = real, imag
    return z


# ------------------------------------------------------------------------------------------ the sigmoid and its kin


@_quiet
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)); complex: (s - k + i d sin y) / (1 - 2k), d = s'(x), k = 2 d sin(y/2)^2."""
    if np.iscomplexobj(x):
        d = dsigmoid(x.real)
        k = 2 * d * np.sin(x.imag / 2) ** 2
        return _complex(sigmoid(x.real) - k, d * np.sin(x.imag)) / (1 - 2 * k)
    s = np.negative(x, out=np.empty_like(x))
    np.exp(s, out=s)
    s += 1
    np.reciprocal(s, out=s)
    tail = x < -88  # exp(88) is finite in float32, and s(x) = exp(x) (1 - exp(-88) ...) to every digit
    return np.where(tail, np.exp(x), s) if tail.any() else s


def _decay(x: Array, rate: int) -> Array:
    """exp(-rate |x|), in (0, 1]."""
    e = np.abs(x, out=np.empty_like(x))
    e *= -rate
    return np.exp(e, out=e)


def _bell(x: Array, rate: int) -> Array:
    """e / (1 + e)^2 with e = exp(-rate |x|), an even function with values in (0, 1/4]."""
    e = _decay(x, rate)
    square = e + 2
    square *= e
    square += 1  # (1 + e)^2
    e /= square
    return e


@_quiet
def dsigmoid(x: Array) -> Array:
    """s'(x) = s(x) s(-x) = tanh'(x/2) / 4."""
    return dtanh(x / 2) / 4 if np.iscomplexobj(x) else _bell(x, 1)


@_quiet
def tanh(x: Array) -> Array:
    """Hyperbolic tangent; complex: (t + i/2 d sin 2y) / (1 - d sin(y)^2), t = tanh x, d = sech(x)^2."""
    if not np.iscomplexobj(x):
        return np.tanh(x)
    d, y = dtanh(x.real), x.imag
    return _complex(np.tanh(x.real), d * np.sin(2 * y) / 2) / (1 - d * np.sin(y) ** 2)


@_quiet
def dtanh(x: Array) -> Array:
    """sech(x)^2; complex: d / (cos 2y + d sin(y)^2 + i t sin 2y), t = tanh x, d = sech(x)^2."""
    if not np.iscomplexobj(x):
        bell = _bell(x, 2)
        bell *= 4
        return bell
    d, y = dtanh(x.real), x.imag
    return d / _complex(np.cos(2 * y) + d * np.sin(y) ** 2, np.tanh(x.real) * np.sin(2 * y))


@_quiet
def softplus(x: Array) -> Array:
    """log(1 + exp(x)); complex: softplus(x) + log(1 - 2k)/2 + i arg(1 + s (exp(iy) - 1)), s and k as in the sigmoid."""
    if not np.iscomplexobj(x):
        e = _decay(x, 1)
        np.log1p(e, out=e)
        e += np.maximum(x, 0)
        return e
    s, versine = sigmoid(x.real), 2 * np.sin(x.imag / 2) ** 2  # 1 - cos y
    log_modulus = softplus(x.real) + np.log1p(-2 * versine * dsigmoid(x.real)) / 2
    return _complex(log_modulus, np.arctan2(s * np.sin(x.imag), 1 - s * versine))


# --------------------------------------------------------------------------------------------- NumPy's own functions


@_quiet
def exp(x: Array) -> Array:
    """Exponential function."""
    return np.exp(x)


@_in_double
def log(x: Array) -> Array:
    """Natural logarithm; NumPy's warning and value outside x > 0."""
    return np.log(x)


@_quiet
def sin(x: Array) -> Array:
    """Sine; NaN at infinity."""
    return np.sin(x)


@_quiet
def cos(x: Array) -> Array:
    """Cosine; NaN at infinity."""
    return np.cos(x)


def sqrt(x: Array) -> Array:
    """Square root; NumPy's warning and value for x < 0."""
    return np.sqrt(x)


# ------------------------------------------------------------------------------------- functions made of two branches


def relu(x: Array) -> Array:
    """max(x, 0)."""
    if np.iscomplexobj(x):
        return _complex(np.maximum(x.real, 0), x.imag * drelu(x.real))
    return np.maximum(x, 0)


def drelu(x: Array) -> Array:
    """1 for x > 0, otherwise 0."""
    return np.sign(np.maximum(x.real, 0)).astype(x.dtype, copy=False)


def abs(x: Array) -> Array:
    """Absolute value; complex: z or -z, never the modulus."""
    if np.iscomplexobj(x):
        return _complex(np.abs(x.real), x.imag * np.sign(x.real))
    return np.abs(x)


def dabs(x: Array) -> Array:
    """The sign of x, 0 at 0."""
    return np.sign(x.real).astype(x.dtype, copy=False)


@_quiet
def softsign(x: Array) -> Array:
    """x / (1 + |x|); complex: (x/q + sign(x) r^2 + i r/q) / (1 + r^2), q = 1 + |x|, r = y/q."""
    if np.iscomplexobj(x):
        q = 1 + np.abs(x.real)
        r = x.imag / q
        return _complex(softsign(x.real) + np.sign(x.real) * r**2, r / q) / (1 + r**2)
    size = np.abs(x, out=np.empty_like(x))
    np.minimum(size, np.finfo(x.dtype).max, out=size)  # inf / inf is no number, max / (1 + max) is 1
    size /= 1 + size
    return np.copysign(size, x, out=size)


@_quiet
def dsoftsign(x: Array) -> Array:
    """1 / (1 + |x|)^2, by two divisions: the square would overflow where the result is still a number."""
    q = 1 + abs(x)
    return 1 / q / q


# ------------------------------------------------------------------------------------------------ the error function

_CELLS = 16  # to one unit of x
_END = 6  # erf(6) = 1 - 2.2e-17 rounds to 1
_TERMS = 12  # the next one is below 1e-5 units in the last place of erf(c)


@lru_cache(maxsize=1)
@flint.ctx.workprec(128)
def _erf_series() -> Array:
    """Taylor coefficients of erf at c = 0, 1/16, ..., 6, rounded from 128 bits; a_0 in two rows, high part and rest.

    From y'' = -2x y':  (n + 1)(n + 2) a_{n+2} = -2 (c (n + 1) a_{n+1} + n a_n).
    """
    columns = []
    for j in range(_CELLS * _END + 1):
        c = flint.arb(j) / _CELLS
        a = [c.erf(), 2 / flint.arb.pi().sqrt() * (-c * c).exp()]
        for n in range(_TERMS - 2):
            a.append(-2 * (c * (n + 1) * a[n + 1] + n * a[n]) / ((n + 1) * (n + 2)))
        high = float(a[0].mid())
        columns.append([high, float((a[0] - high).mid()), *(float(x.mid()) for x in a[1:])])
    return np.array(columns).T.copy()  # (1 + terms, cells)


@_quiet
@_in_double
def erf(x: Array) -> Array:
    """Error function; complex: erf(x) + i y erf'(x) integral_0^1 exp(y^2 v^2 - 2i x y v) dv."""
    if np.iscomplexobj(x):
        return _erf_complex(x)
    size, (high, *rest) = np.abs(x), _erf_series()
    cell = np.rint(_CELLS * np.fmin(size, _END)).astype(np.intp)  # fmin: also NaN needs a cell
    h = np.minimum(size, _END) - cell / _CELLS
    value = rest[-1].take(cell)
    for a in rest[-2::-1]:
        value *= h
        value += a.take(cell)
    value += high.take(cell)
    return np.copysign(value, x)


def _erf_complex(z: Array) -> Array:
    """Integrate erf' from x to x + iy with 24 Gauss-Legendre points; beyond |x| = 30 erf' is 0."""
    x, y = np.clip(z.real, -30, 30), z.imag
    nodes, weights = np.polynomial.legendre.leggauss(24)  # on [-1, 1]
    steps = ((y * v, w / 2) for v, w in zip((nodes + 1) / 2, weights, strict=True))
    mean = sum(w * np.exp(_complex(v**2, -2 * x * v)) for v, w in steps)
    step = y * derf(z.real)
    return _complex(erf(z.real) - step * mean.imag, step * mean.real)


@_quiet
@_in_double
def derf(x: Array) -> Array:
    """2/sqrt(pi) exp(-x^2); complex: erf'(x) exp(y^2 - 2i x y)."""
    if np.iscomplexobj(x):
        phase = -2 * np.clip(x.real, -30, 30) * x.imag
        return derf(x.real) * np.exp(_complex(x.imag**2, phase))
    size = np.minimum(np.abs(x), 28)  # erf'(28) is 0
    short = size.astype(np.float32).astype(np.float64)
    factor = 2 / math.sqrt(math.pi) * np.exp((short - size) * (short + size))
    return factor * np.exp(-short * short)


_ALL = (tanh, sigmoid, relu, softplus, exp, log, sin, cos, sqrt, abs, erf, softsign)
_PRIMES = (dtanh, dsigmoid, drelu, dabs, derf, dsoftsign)

FUNCTIONS: dict[str, Elementwise] = {f.__name__: f for f in (*_ALL, *_PRIMES)}
