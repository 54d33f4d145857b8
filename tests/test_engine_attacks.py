"""What an attack on the engine found: each case gave a wrong number or an error from the inside."""

from __future__ import annotations

import numpy as np
import pytest

import derive
import numeric
from numeric import passes


@pytest.fixture(params=["numpy", "eager", "fused", "loop"])
def form(request, monkeypatch):
    """Every form of the engine, whatever the sizes: what makes one for a cell."""
    if request.param in ("fused", "loop"):
        pytest.importorskip("numba")
    monkeypatch.delenv("BPTT_FAST", raising=False)
    monkeypatch.setattr(passes, "_LOOP_WORK", 0)
    monkeypatch.setattr(passes, "_EAGER", 0 if request.param == "eager" else 1 << 60)
    fast = {"fused": None, "loop": True}.get(request.param, False)
    return lambda cell, dtype="float64": numeric.Engine(cell, dtype, fast=fast)


def agree(found, right):
    for name, x in right.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-10, atol=1e-12, err_msg=name)


def test_the_derivative_of_a_function_of_a_parameter_may_be_saturated(form):
    cell = derive.parse("h[t] = sigmoid(b)*h[t-1] + x[t]\ny[t] = tanh(b) + h[t]")
    params, x = {"b": np.array([5.0, 0.0])}, np.ones((3, 1, 2))
    options = {"loss": "linear", "cotangents": {"h": np.ones((3, 1, 2)), "y": np.ones((3, 1, 2))}}
    right = numeric.Engine(cell, plain=True).value_and_grad(params, x, **options)[1]
    agree(form(cell).value_and_grad(params, x, **options)[1], right)
    moved = numeric.Engine(cell, plain=True).jvp(params, x, {"b": np.ones(2)})[1]
    agree(form(cell).jvp(params, x, {"b": np.ones(2)})[1], moved)


@pytest.mark.parametrize(
    "text",
    [
        "c: H\nx: H\nc[t] = sin(tanh(x[t]) + W @ (x[t]*c[t-1]))",
        "h[t] = h[t-1]\nm[t] = tanh(W @ h[t-1] + x[t])",
        "h[t] = tanh(W @ h[t-1] + x[t])\ny[t] = tanh(b)",
        "h[t] = W @ h[t-1] + x[t]\ny[t] = sigmoid(V @ h[t] + x[t])",
    ],
)
def test_inputs_may_be_read_entry_by_entry(form, text):
    cell = derive.parse(text)
    rng = np.random.default_rng(0)
    params = numeric.Engine(cell).init(seed=0, **dict.fromkeys(cell.dimensions, 5))
    x = rng.normal(size=(4, 3, 5))
    on = (cell.outputs or cell.states)[0]
    wanted = rng.normal(size=(4, 3, 5))
    right = numeric.Engine(cell, plain=True).backward(params, x, wanted, loss="squared_error", on=on)
    found = form(cell).backward(params, x, wanted, loss="squared_error", on=on)
    for group in ("params", "inputs", "initial", "states", "outputs"):
        agree(getattr(found, group), getattr(right, group))


def test_an_output_that_the_loss_does_not_read_may_have_no_room(form):
    cell = derive.parse("m[t] = tanh(U @ h[t-1] + V @ x[t])\nh[t] = 0.5*h[t-1] + 0.2*m[t]\nz[t] = m[t]")
    params = numeric.Engine(cell).init(seed=0, **dict.fromkeys(cell.dimensions, 6))
    x, targets = np.ones((4, 8, 6)), np.zeros((4, 8), int)
    right = numeric.Engine(cell, plain=True).value_and_grad(params, x, targets, on="h")
    found = form(cell).value_and_grad(params, x, targets, on="h")
    agree(found[1], right[1])


@pytest.mark.filterwarnings("ignore:the loss is")
def test_the_gradient_of_a_loss_of_infinite_outputs_is_no_number(form):
    cell = derive.parse("h[t] = h[t-1]*x[t] + c[t-1]\nc[t] = c[t-1]*h[t-1] + tanh(x[t])\ny[t] = h[t]*c[t]")
    initial = {"h": np.array([[1e200, 1.0]]), "c": np.array([[1e150, 1.0]])}
    found = form(cell).backward({}, np.ones((4, 1, 2)), np.ones((4, 1), int), initial=initial)
    assert not np.isfinite(found.loss)
    assert np.isnan(found.states["h"][-1]).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [2, 4])
def test_gates_of_one_number_each(form, dtype, batch):
    """NumPy 2.4.6's negative is wrong in place for columns that are so far apart."""
    cell, rng = derive.load("lstm_peephole"), np.random.default_rng(0)
    params = numeric.Engine(cell, dtype).init(seed=0, H=1, D=4, O=3)
    x, wanted = (rng.normal(size=(3, batch, n)).astype(dtype) for n in (4, 3))
    right = numeric.Engine(cell, dtype, plain=True).value_and_grad(params, x, wanted, loss="squared_error")[1]
    found = form(cell, dtype).value_and_grad(params, x, wanted, loss="squared_error")[1]
    for name, g in right.items():
        np.testing.assert_allclose(found[name], g, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-6)


def test_what_has_vanished_does_not_stay_denormal():
    from numeric.emit import flush

    x = np.array([1e-310, -1e-305, 1e-290, 1.0])
    flush(x)
    assert x.tolist() == [0.0, 0.0, 1e-290, 1.0]


@pytest.mark.parametrize(
    ("given", "said"), [({"T": 1.5}, "T is 1.5"), ({"B": True}, "B is True"), ({"T": -3}, "T is -3")]
)
def test_a_memory_plan_of_no_size_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        numeric.Engine("tanh_rnn").memory_plan(**({"T": 5, "B": 2, "D": 2, "H": 2, "O": 2} | given))
