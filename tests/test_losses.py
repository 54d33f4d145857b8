"""Every loss is the double sum that it says it is, value and gradient, and keeps its digits where softmax saturates."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import derive
import numeric
from derive.losses import AT, LOSSES, REDUCTIONS

T, B, O = 4, 3, 5  # noqa: E741 - the size of the output
LENGTHS = [2, 4, 1]
U = 2.0**-53

# Outputs and states that are the input itself, so that the gradient by the input is the gradient by them.
MIRROR = derive.parse("s[t] = x[t]\ny[t] = x[t]\nz[t] = s[t-1]", "mirror")
ON = {"y": "an output", "s": "a state"}

# ----------------------------------------------------------------------------------------- the double sum, written out


def softmax(y):
    exponentials = [mpmath.exp(mpmath.mpf(float(v))) for v in y]
    return [e / mpmath.fsum(exponentials) for e in exponentials]


def cross_entropy(y, target):
    p = softmax(y)
    value = -mpmath.fsum(float(g) * mpmath.log(q) for g, q in zip(target, p, strict=True))
    return value, [q * mpmath.fsum(map(float, target)) - float(g) for q, g in zip(p, target, strict=True)]


def class_entropy(y, index):
    return cross_entropy(y, [float(k == index) for k in range(len(y))])


def squared_error(y, target):
    difference = [mpmath.mpf(float(a)) - float(b) for a, b in zip(y, target, strict=True)]
    return mpmath.fsum(d**2 for d in difference) / 2, difference


def linear(y, cotangent):
    return mpmath.fsum(mpmath.mpf(float(a)) * float(b) for a, b in zip(y, cotangent, strict=True)), list(
        map(float, cotangent)
    )


def written_out(one, y, given, at, reduction, lengths):
    """The loss and its gradient by y, one step of one sequence after the other; ``one`` is the loss of one step."""
    terms = []
    for b in range(y.shape[1]):
        for t in range(y.shape[0]) if at == "every" else [lengths[b] - 1]:
            if t < lengths[b]:
                terms.append((t, b, *one(y[t, b], given[b] if at == "last" else given[t][b])))
    count = len(terms) if reduction == "mean" else 1
    gradient = np.zeros(y.shape)
    for t, b, _, slope in terms:
        gradient[t, b] = [float(mpmath.mpf(g) / count) for g in slope]
    return float(mpmath.fsum(value for _, _, value, _ in terms) / count), gradient


def drawn(kind, at, rng, size=O):
    """Targets or cotangents of one kind."""
    lead = (B,) if at == "last" else (T, B)
    if kind == "classes":
        return rng.integers(0, size, lead)
    return rng.random((*lead, size)) if kind == "distribution" else rng.normal(size=(*lead, size))


KINDS = {
    "classes": ("softmax_cross_entropy", class_entropy),
    "distribution": ("softmax_cross_entropy", cross_entropy),  # entries that do not sum to one
    "numbers": ("squared_error", squared_error),
    "cotangents": ("linear", linear),
}


def by_engine(kind, y, given, *, on="y", dtype="float64", **options):
    """The loss and its gradient by the output, as the engine gives them."""
    name = KINDS[kind][0]
    own = {"cotangents": {on: given}} if name == "linear" else {"on": on}
    found = numeric.Engine(MIRROR, dtype).backward(
        {}, y, None if name == "linear" else given, loss=name, **own, **options
    )
    return found.loss, found.inputs["x"]


def assert_near(found, right, scale):
    """Within a few roundings of ``scale``, the sum of the absolute values of the terms."""
    assert np.all(np.abs(np.asarray(found) - right) <= 16 * U * np.asarray(scale))


def test_the_reference_knows_every_loss():
    assert {name for name, _ in KINDS.values()} == set(LOSSES)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_the_double_sum(kind, at, reduction, lengths, on):
    rng = np.random.default_rng(1)
    y, given = 2 * rng.normal(size=(T, B, O)), drawn(kind, at, rng)
    loss, gradient = by_engine(kind, y, given, on=on, at=at, reduction=reduction, lengths=lengths)
    right = written_out(KINDS[kind][1], y, given, at, reduction, lengths or [T] * B)
    magnitude = 20 * T * B / (1 if reduction == "sum" else B)
    assert type(loss) is float
    assert_near(loss, right[0], magnitude)
    assert_near(gradient, right[1], 1 + np.abs(right[1]) + np.abs(given).max())
    assert not gradient[right[1] == 0].any()  # exactly zero where the loss does not look


@pytest.mark.parametrize("kind", KINDS)
def test_other_readings_of_the_options_are_other_numbers(kind):
    """The double sum can tell them apart: the mean over components, over T times B, the last step of the array."""
    rng = np.random.default_rng(2)
    y, every, last = 2 * rng.normal(size=(T, B, O)), drawn(kind, "every", rng), drawn(kind, "last", rng)
    one = KINDS[kind][1]
    loss, _ = by_engine(kind, y, every, reduction="mean", lengths=LENGTHS)
    whole, _ = written_out(one, y, every, "every", "sum", LENGTHS)
    assert loss == pytest.approx(whole / sum(LENGTHS), rel=1e-12)
    for count in (1, T * B, B, sum(LENGTHS) * O):
        assert abs(loss - whole / count) > 1e-3 * abs(whole)
    loss, gradient = by_engine(kind, y, last, at="last", lengths=LENGTHS)
    wrong, elsewhere = written_out(one, y, last, "last", "sum", [T] * B)
    assert abs(loss - wrong) > 1e-3
    assert np.abs(gradient - elsewhere).max() > 1e-3


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_complex_step_of_the_value(kind, at, lengths):
    rng = np.random.default_rng(3)
    y, given, h = rng.normal(size=(T, B, O)), drawn(kind, at, rng), 1e-30
    _, gradient = by_engine(kind, y, given, at=at, lengths=lengths, reduction="mean")
    for index in np.ndindex(T, B, O):
        moved = y.astype(complex)
        moved[index] += 1j * h
        loss, _ = by_engine(kind, moved, given, dtype="complex128", at=at, lengths=lengths, reduction="mean")
        assert type(loss) is complex
        assert_near(loss.imag / h, gradient[index], 1)


def test_the_linear_loss_reads_any_outputs_and_states():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(T, B, O))
    cotangents = {n: rng.normal(size=(T, B, O)) for n in ("y", "z", "s")}
    engine = numeric.Engine(MIRROR)
    whole = engine.backward({}, x, loss="linear", cotangents=cotangents)
    alone = [engine.backward({}, x, loss="linear", cotangents={n: c}) for n, c in cotangents.items()]
    assert whole.loss == pytest.approx(sum(one.loss for one in alone), rel=1e-14)
    np.testing.assert_allclose(whole.inputs["x"], sum(one.inputs["x"] for one in alone), rtol=1e-14, atol=1e-15)
    shifted = np.concatenate([cotangents["z"][1:], np.zeros((1, B, O))])  # z[t] is x[t-1]
    np.testing.assert_array_equal(alone[1].inputs["x"], shifted)


# ------------------------------------------------------------------------------------------------ digits of softmax


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("far", [1e4, -1e4, 800.0, -40.0, 40.0, 1e-9])
def test_softmax_keeps_its_digits_wherever_the_logits_are(far, target):
    y = np.array([[[far, 0.0, -far / 2]]])
    mpmath.mp.dps, before = 40, mpmath.mp.dps
    try:
        value, slope = class_entropy(y[0, 0], target)
    finally:
        mpmath.mp.dps = before
    one_hot = np.eye(3)[target].reshape(1, 1, 3)
    for kind, given in (("classes", np.array([[target]])), ("distribution", one_hot)):
        loss, gradient = by_engine(kind, y, given)
        np.testing.assert_allclose(loss, float(value), rtol=8 * U, atol=5e-324)
        np.testing.assert_allclose(gradient[0, 0], np.array(slope, float), rtol=8 * U, atol=5e-324)


def test_p_minus_one_as_it_is_read_loses_those_digits():
    """What the test above must reject."""
    e = np.exp([0.0, -40.0])
    p = e / e.sum()
    right = -np.exp(-40.0) / (1 + np.exp(-40.0))
    assert abs((p[0] - 1) / right - 1) > 0.9
    assert abs(-np.log(p[0]) / -right - 1) > 0.9


@pytest.mark.parametrize(
    ("kind", "given"), [("classes", np.zeros((T, B), int)), ("distribution", np.full((T, B, 1), 0.7))]
)
def test_softmax_of_one_class_costs_nothing(kind, given):
    loss, gradient = by_engine(kind, np.random.default_rng(5).normal(size=(T, B, 1)), given)
    assert loss == 0
    assert not gradient.any()


def test_equal_logits_share_the_top():
    loss, gradient = by_engine("classes", np.full((1, 1, 4), 7.0), np.array([[2]]))
    assert loss == np.log(4)
    np.testing.assert_array_equal(gradient[0, 0], [0.25, 0.25, -0.75, 0.25])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind):
    rng = np.random.default_rng(6)
    y, given = rng.normal(size=(T, B, O)), drawn(kind, "every", rng)
    low = given if kind == "classes" else given.astype(np.float32)
    loss, gradient = by_engine(kind, y.astype(np.float32), low, dtype="float32", reduction="mean")
    right = written_out(KINDS[kind][1], y.astype(np.float32), low, "every", "mean", [T] * B)
    assert gradient.dtype == np.float32
    assert loss == pytest.approx(right[0], rel=1e-5)
    np.testing.assert_allclose(gradient, right[1], rtol=1e-5, atol=1e-6)


def test_the_sum_of_many_float32_terms_is_taken_in_float64():
    y = np.ones((1, 4096, 1), np.float32)
    y[0, 0] = 2**24  # the next float32 is 2^24 + 2
    assert by_engine("cotangents", y, np.ones_like(y), dtype="float32")[0] == 2**24 + 4095


# --------------------------------------------------------------------------------------- what the arrays may hold


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e300])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_padding_does_not_matter(kind, garbage):
    rng = np.random.default_rng(7)
    y, given = rng.normal(size=(T, B, O)), drawn(kind, "every", rng)
    padding = np.arange(T)[:, None] >= LENGTHS
    right = by_engine(kind, y, given, lengths=LENGTHS)
    spoiled = given.copy()
    spoiled[padding] = -99 if kind == "classes" else garbage
    y[padding] = garbage
    loss, gradient = by_engine(kind, y, spoiled, lengths=LENGTHS)
    assert loss == right[0]
    np.testing.assert_array_equal(gradient, right[1])
    assert not gradient[padding].any()


def test_steps_that_the_loss_does_not_look_at_may_be_anything():
    engine = numeric.Engine(derive.parse("h[t] = h[t-1] + x[t]\ny[t] = log(x[t])"))
    x = np.array([-1.0, -1.0, 2.0]).reshape(3, 1, 1)
    loss, _ = engine.value_and_grad({}, x, [[0.0]], loss="squared_error", at="last")
    assert loss == pytest.approx(np.log(2) ** 2 / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_classes_may_be_integers_of_any_kind(dtype):
    rng = np.random.default_rng(8)
    y, given = rng.normal(size=(T, B, O)), drawn("classes", "every", rng)
    right = by_engine("classes", y, given)
    for other in (given.astype(dtype), given.tolist(), np.asfortranarray(given), np.repeat(given, 2, 0)[::2]):
        loss, gradient = by_engine("classes", y, other)
        assert loss == right[0]
        np.testing.assert_array_equal(gradient, right[1])


def test_integers_of_the_outputs_shape_are_a_distribution():
    rng = np.random.default_rng(9)
    y, given = rng.normal(size=(T, B, O)), rng.integers(0, 3, (T, B, O))
    assert by_engine("distribution", y, given)[0] == by_engine("distribution", y, given.astype(float))[0]


def test_without_outputs_the_loss_reads_the_first_state():
    engine = numeric.Engine(derive.parse("a[t] = a[t-1] + x[t]\nb[t] = 0.5*b[t-1] + a[t]"))
    x, targets = np.ones((T, B, 2)), np.zeros((T, B, 2))
    default, _ = engine.value_and_grad({}, x, targets, loss="squared_error")
    first, _ = engine.value_and_grad({}, x, targets, loss="squared_error", on="a")
    second, _ = engine.value_and_grad({}, x, targets, loss="squared_error", on="b")
    assert default == first != second
