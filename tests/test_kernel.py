"""Compiled kernels give what the same operations give one by one in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from numeric.functions import FUNCTIONS

pytest.importorskip("numba")

from numeric.fast.kernel import Spot, Work, compile_kernel, kernel_supports

DTYPES = ("float32", "float64")
UFUNCS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "negative": np.negative}
SHAPES = ("rows", "rows", "vector", "scalar")


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("BPTT_CACHE", str(tmp_path))


def member(array, spot, n):
    """The entries of a spot, as they spread over rows."""
    return array if array.ndim == 0 else array[..., spot.at * n : (spot.at + 1) * n]


def reference(work, arrays, n):
    """The operations one by one."""
    known = {}
    rows, dtype = arrays[0].shape[0], arrays[0].dtype
    for w in work:
        args = [known[s] if s in known else member(arrays[s.array], s, n) for s in w.args]
        with np.errstate(all="ignore"):
            if w.kind == "number":
                out = dtype.type(w.data)
            elif w.kind == "call":
                out = FUNCTIONS[w.data](np.asarray(args[0]))
            else:
                out = args[0] if w.kind == "copy" else UFUNCS[w.kind](*args)
        known[w.out] = out = np.broadcast_to(out, (rows, n)).astype(dtype)
        if w.store:
            member(arrays[w.out.array], w.out, n)[...] = out


def random_work(rng):
    """A few operations that read and write anything that may be read or written, some of it in place."""
    leaves = [Spot(a, k) for a in (0, 1, 2) for k in range(3)] + [Spot(3, 0)]
    out, temporaries = [], []
    for _ in range(12):
        kind = rng.choice([*UFUNCS, "copy", "call", "number"])
        count = {"number": 0, "negative": 1, "copy": 1, "call": 1}.get(kind, 2)
        args = tuple(
            (leaves + 2 * temporaries)[i] for i in rng.integers(len(leaves) + 2 * len(temporaries), size=count)
        )
        data = {"call": rng.choice(["tanh", "sigmoid", "relu"]), "number": rng.normal()}.get(kind)
        spot = Spot(-1, len(temporaries)) if rng.random() < 0.5 else Spot(int(rng.integers(2)), int(rng.integers(3)))
        temporaries += [spot] if spot.array < 0 else []
        out.append(Work(str(kind), str(data) if kind == "call" else data, args, spot, bool(rng.random() < 0.7)))
    return tuple(Work(w.kind, w.data, w.args, w.out, w.store and w.out.array >= 0) for w in out)


FIRST, SECOND = Spot(0, 0), Spot(1, 0)


def one(kind, data=None, args=(FIRST,), out=SECOND):
    return (Work(kind, data, args, out, True),)


def random_arrays(rng, dtype, b, n, stride):
    wide = [rng.normal(size=(b, 3 * n + stride)).astype(dtype)[:, : 3 * n] for _ in range(2)]
    return [*wide, rng.normal(size=3 * n).astype(dtype), np.array(rng.normal(), dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_operations_in_order(seed, dtype):
    rng = np.random.default_rng(seed)
    work = random_work(rng)
    f = compile_kernel(SHAPES, work, dtype)
    for b, n, stride in ((1, 1, 0), (3, 7, 5), (2, 16, 0), (4, 33, 1)):
        arrays = random_arrays(rng, dtype, b, n, stride)
        expected = [a.copy() for a in arrays]
        reference(work, expected, n)
        f(*arrays, n)
        for got, want in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_operations_in_order_on_columns(seed, dtype):
    """One number of a vector for each feature, whose sequences are neighbours."""
    rng = np.random.default_rng(seed)
    work = random_work(rng)
    shapes = tuple("columns" if s == "rows" else s for s in SHAPES)
    for b, n in ((1, 1), (3, 7), (16, 2), (33, 4)):
        arrays = [np.asfortranarray(x) for x in random_arrays(rng, dtype, b, n, 0)]
        expected = [a.copy() for a in arrays]
        reference(work, expected, n)
        compile_kernel(shapes, work, dtype)(*arrays, n)
        for got, want in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_remainders_of_columns(dtype):
    """All sequences of all features of a member, and nothing beyond."""
    f = compile_kernel(("columns", "columns"), one("add", None, (Spot(0, 0), Spot(0, 1)), Spot(1, 1)), dtype)
    for b, n in itertools.product((1, 2, 3, 5, 17), range(1, 9)):
        x, out = np.arange(2 * n * b, dtype=dtype).reshape(2 * n, b).T, np.full((3 * n, b), -1, dtype).T
        f(x, out, n)
        np.testing.assert_array_equal(out[:, n : 2 * n], x[:, :n] + x[:, n:])
        assert (out[:, :n] == -1).all()
        assert (out[:, 2 * n :] == -1).all()


def test_rows_and_columns_do_not_go_together():
    with pytest.raises(ValueError, match="do not go together"):
        compile_kernel(("rows", "columns"), one("copy"), "float64")


def grid(dtype):
    """Numbers of every size, in a row, and those that are none."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=200) * s for s in (1e-8, 0.1, 1, 5, 40, 1000)] + [np.linspace(-120, 120, 999)])
    limits = np.finfo(dtype)
    special = [0, -0.0, np.inf, -np.inf, np.nan, limits.tiny, -limits.tiny, limits.max, limits.smallest_subnormal]
    return np.concatenate([x, special]).astype(dtype)[None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype):
    """Both are within 4 units in the last place of the true value; subnormal ones within 3 smallest numbers."""
    x = grid(dtype)
    got = np.empty_like(x)
    compile_kernel(("rows", "rows"), one("call", name), dtype)(x, got, x.size)
    with np.errstate(all="ignore"):
        want = FUNCTIONS[name](x)
        known = np.isfinite(want)
        np.testing.assert_array_equal(got[~known], want[~known])
        off = np.abs(got[known] - want[known]) / np.spacing(np.abs(want[known]))
    assert off.max() <= 6
    if name in ("tanh", "sin", "erf", "softsign"):
        np.testing.assert_array_equal(np.signbit(got[x == 0]), np.signbit(x[x == 0]))


@pytest.mark.parametrize("name", ["dtanh", "dsigmoid"])
def test_derivative_beside_its_function(name):
    """The same derivative with the function's value as a second argument, also where that value is one."""
    x = grid("float64")
    n, value, beside, alone = x.size, *(np.empty_like(x) for _ in range(3))
    both = (*one("call", name[1:]), *one("call", name, (Spot(0, 0), Spot(1, 0)), Spot(2, 0)))
    compile_kernel(("rows",) * 3, both, "float64")(x, value, beside, n)
    compile_kernel(("rows",) * 2, one("call", name), "float64")(x, alone, n)
    np.testing.assert_array_equal(beside, alone)
    assert (alone[:, np.abs(x[0]) < 300] > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_remainders(dtype):
    """Every size, in rows that stand apart: nothing beyond the last entry is touched."""
    f = compile_kernel(("rows", "rows"), one("add", None, (Spot(0, 0), Spot(0, 1)), Spot(1, 1)), dtype)
    for n in range(1, 41):
        x, wide = np.arange(6 * n, dtype=dtype).reshape(3, 2 * n), np.full((3, 2 * n + 3), -1, dtype)
        f(x, wide[:, : 2 * n], n)
        np.testing.assert_array_equal(wide[:, n : 2 * n], x[:, :n] + x[:, n:])
        assert (wide[:, :n] == -1).all()
        assert (wide[:, 2 * n :] == -1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype):
    """The result over its argument, under one name and under two."""
    for out, spot in ((0, Spot(0, 0)), (1, Spot(1, 0))):
        x = np.linspace(-3, 3, 37, dtype=dtype)[None].copy()
        want = np.square(x) + x
        square = Work("multiply", None, (Spot(0, 0), Spot(0, 0)), Spot(-1, 0), False)
        shapes = ("rows",) * (out + 1)
        f = compile_kernel(shapes, (square, *one("add", None, (Spot(-1, 0), Spot(0, 0)), spot)), dtype)
        f(*[x] * (out + 1), 37)
        np.testing.assert_array_equal(x, want)


def test_unstored_values_go_on():
    """What was written counts for later operations, and stays out of memory where it is not to be stored."""
    x, y = np.ones((2, 5)), np.zeros((2, 5))
    new = Work("number", 3.0, (), Spot(0, 0), False)
    compile_kernel(("rows", "rows"), (new, *one("add", None, (Spot(0, 0), Spot(0, 0)))), "float64")(x, y, 5)
    assert (x == 1).all()
    assert (y == 6).all()


def test_products_are_rounded():
    """a b + c in two roundings, as NumPy has it."""
    x = np.array([[1 + 2.0**-30, -(1 + 2.0**-29)]])
    product = Work("multiply", None, (Spot(0, 0), Spot(0, 0)), Spot(-1, 0), False)
    y = np.ones((1, 1))
    compile_kernel(("rows", "rows"), (product, *one("add", None, (Spot(-1, 0), Spot(0, 1)))), "float64")(x, y, 1)
    assert y[0, 0] == 0


def test_vectors_without_rows():
    x, y = np.arange(9.0), np.zeros(9)
    compile_kernel(("vector", "vector"), one("negative"), "float64")(x, y, 9)
    np.testing.assert_array_equal(y, -x)


def test_no_rows():
    x, y = np.ones((0, 4)), np.ones((0, 4))
    compile_kernel(("rows", "rows"), one("copy"), "float64")(x, y, 4)


def test_refusals():
    assert kernel_supports(one("call", "tanh"))
    assert not kernel_supports(one("call", "gamma"))
    assert not kernel_supports(one("product"))
    for shapes, work, words in (
        (("rows", "rows"), one("call", "gamma"), "no compiled form"),
        (("rows", "rows"), one("add"), "takes 2 arguments"),
        (("rows", "rows"), one("copy", None, (Spot(-1, 7),)), "before it is written"),
        (("rows", "vector"), one("copy"), "same for every row"),
        (("rows",), one("copy"), "none of the 1 arrays"),
    ):
        with pytest.raises(ValueError, match=words):
            compile_kernel(shapes, work, "float64")
