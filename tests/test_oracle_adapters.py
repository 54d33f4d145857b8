"""Layers of real libraries, judged by what they are; each library's tests are skipped where it is not installed."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from unittest.mock import patch

import numpy as np
import pytest

import derive
from numeric.oracle import judge
from numeric.oracle.adapters import DISCREPANCIES, adapted, from_jax, from_onnx, from_torch, own_cell
from numeric.oracle.adapters.layouts import FLAX, KERAS, NNX, ONNX, TORCH, form
from numeric.oracle.adapters.precision import effective_dtype
from numeric.oracle.adapters.weights import Block, check_cover, pack, unpack
from numeric.oracle.families import FAMILIES, cases
from numeric.oracle.store import Store
from numeric.oracle.suite import cell_for
from tests.benchmarks import oracle_conformance

pytestmark = pytest.mark.filterwarnings("ignore")

STORE = Store(None)
FEW = ("separating", "ragged-last-mean", "carried-every", "float32-ragged")


def library(name):
    """A library, or a test skipped; Keras asks for its backend before it is imported."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if name == "keras":
        pytest.importorskip("torch")
    return pytest.importorskip(name, exc_type=ImportError)


@lru_cache(maxsize=64)
def some(cell, ids=FEW, dtype=None):
    """A few default cases of a cell."""
    names = [f.name for f in FAMILIES if any(m.id in ids for m in f.members) and not (dtype and f.name == "float32")]
    return [case for name in names for case in cases(cell, name, dtype=dtype) if case.id in ids]


def verdict(layer, cell=None, ids=FEW, **options):
    """The verdict on a few cases, of the cell that the layer says it is."""
    own = own_cell(layer) if cell is None else derive.load(cell)
    chosen = options.pop("cases", None) or some(own, ids)
    with patch.object(sys.modules[judge.__module__], "untested", return_value=()):  # it draws all cases of every cell
        return judge(layer, own, cases=chosen, store=STORE, **options)


def agrees(layer, ids=FEW, **options):
    found = verdict(layer, ids=ids, **options)
    assert found.status == "agrees", str(found)
    return found


# ------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("table", [TORCH, KERAS, FLAX, NNX, ONNX])
def test_weights_come_back_as_they_were(table):
    cells = {"R": "tanh_rnn", "S": "tanh_rnn", "L": "lstm", "O": "lstm", "G": "gru_reset_after"}
    for name, blocks in table.items():
        cell = derive.load(cells[name[0]])
        params = some(cell, ("sizes-rising",))[0].params
        kept = {k: b for k, b in blocks.items() if any(n.removeprefix("=") in params for n in b.names)}
        doubled = {k for k, b in kept.items() if any(n.startswith("=") for n in b.names)}
        once = {k: b for k, b in kept.items() if k not in doubled}
        packed = pack(kept, params)
        assert all(packed[k].any() for k in kept if k not in doubled)
        back = unpack(once, {k: packed[k] for k in once}, {n: params[n] for b in once.values() for n in b.names})
        assert all(np.array_equal(back[n], params[n]) for n in back)


def test_gradients_of_two_biases_are_both_looked_at():
    params = {"b": np.zeros(4)}
    blocks = {"one": Block(("b",)), "two": Block(("=b",))}
    assert not pack(blocks, {"b": np.ones(4)})["two"].any()
    found = unpack(blocks, {"one": np.array([1.0, 2, 3, 4]), "two": np.array([10.0, 20, 30, 40])}, params)
    assert found["b"].tolist() == [1, 20, 3, 40]


def test_a_layer_without_a_place_for_a_parameter_is_refused():
    with pytest.raises(ValueError, match="no place for p_i, p_f, p_o of the cell lstm_peephole"):
        check_cover("a layer", TORCH["LSTM"] | {"y": Block(("W_y", "b_y"))}, derive.load("lstm_peephole"))


def test_forms_are_cells_of_their_own():
    assert "c_n" not in form("gru_reset_after", without=("c_n",)).parameters
    bare = form("lstm", biased=False)
    assert [n for n in bare.parameters if n.startswith("b")] == ["b_y"]
    projected = form("lstm_projected")
    assert projected.axes["h"] != projected.axes["c"]
    assert form("tanh_rnn", activation="relu").name == "relu_rnn"


# ----------------------------------------------------------------------------------------------------------- precision


class Numbers:
    """A library that says float64 and multiplies in another type."""

    def __init__(self, name, inside):
        self.name, self.inside = name, inside

    def product(self, a, b, dtype):
        inside = min(self.inside, np.dtype(dtype), key=lambda d: d.itemsize)
        return np.tanh(a.astype(inside) @ b.astype(inside)).astype(dtype)


def test_the_precision_is_measured_not_believed():
    assert effective_dtype(Numbers("honest", np.dtype("float64")), "float64") == "float64"
    assert effective_dtype(Numbers("honest", np.dtype("float64")), "float32") == "float32"
    assert effective_dtype(Numbers("narrow", np.dtype("float32")), "float64") == "float32"
    assert effective_dtype(Numbers("half", np.dtype("float16")), "float32") == "float16"


# ------------------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_layers_of_pytorch_agree(name):
    found = agrees(getattr(library("torch").nn, name))
    assert found.implementation == f"torch.nn.{name}"
    assert not found.declined


def test_a_layer_says_which_cell_it_is():
    torch = library("torch")
    assert cell_for(torch.nn.GRU).name == own_cell(torch.nn.GRUCell).name == "gru_reset_after"
    assert own_cell(lambda case: {}) is None
    with pytest.raises(ValueError, match="say it"):
        judge(lambda case: {})


def test_pytorch_is_judged_on_every_default_case():
    found = judge(library("torch").nn.RNN, store=STORE)
    assert found.status == "agrees", str(found)
    assert {reason for _, reason in found.declined} == {"PyTorch differentiates the whole sequence"}
    assert set(found.untested) == {"chunks", "windows"}


def test_options_of_an_instance_are_respected():
    nn = library("torch").nn
    for layer in (
        nn.LSTM(9, 8, bias=False, batch_first=True),
        nn.LSTM(5, 7, proj_size=3),
        nn.RNN(1, 1, nonlinearity="relu"),
        nn.GRUCell(2, 2, bias=False),
    ):
        agrees(layer, ids=("separating", "ragged-last-mean", "carried-every"))


def test_what_cannot_be_judged_of_pytorch_is_refused():
    nn = library("torch").nn
    for layer, said in (
        (nn.LSTM(2, 2, num_layers=2), "num_layers=2"),
        (nn.GRU(2, 2, bidirectional=True), "directional"),
    ):
        with pytest.raises(ValueError, match=said):
            own_cell(layer)
    with pytest.raises(TypeError, match="from_torch"):
        judge(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no place for b_i"):
        adapted(nn.LSTM(2, 2, bias=False), derive.load("lstm"))


def test_wrong_modules_derived_from_pytorch_are_seen():
    torch = library("torch")

    class Forgets(torch.nn.LSTM):
        def forward(self, x, states=None):
            return super().forward(x)

    class Detaches(torch.nn.RNN):
        """One bias has no gradient."""

        def forward(self, x, h):
            bias = self.bias_hh_l0
            fixed = dict(self.named_parameters()) | {"bias_hh_l0": bias.detach()}
            plain = torch.nn.RNN(self.input_size, self.hidden_size, dtype=bias.dtype)
            return torch.func.functional_call(plain, fixed, (x, h))

    assert verdict(Forgets).status == "disagrees"
    found = verdict(Detaches)
    assert found.status == "disagrees"
    assert {f.tensor for f in found.findings} == {"b"}
    assert all(f.index[0] % 2 for f in found.findings)


def test_reset_after_is_not_reset_before():
    assert verdict(library("torch").nn.GRU, "gru").status == "disagrees"


def tanh_rnn(np_like, stack, params, inputs, initial):
    h, seen = initial["h"], []
    for x in inputs["x"]:
        h = np_like.tanh(h @ params["W_hh"].T + x @ params["W_xh"].T + params["b"])
        seen.append(h)
    h = stack(seen)
    return {"h": h, "y": h @ params["W_hy"].T}


def test_functions_of_tensors_are_judged():
    torch = library("torch")

    def mine(params, inputs, initial):
        return tanh_rnn(torch, torch.stack, params, inputs, initial)

    def cut(params, inputs, initial):
        return mine(params, inputs, {"h": initial["h"].detach()})

    assert verdict(from_torch(mine), "tanh_rnn").status == "agrees"
    found = verdict(from_torch(cut), "tanh_rnn")
    assert found.status == "disagrees"
    assert {f.tensor for f in found.findings} == {"h0"}
    assert "cut" in found.implementation


# ------------------------------------------------------------------------------------------------------ JAX and Flax


def test_functions_of_jax_arrays_are_judged():
    jax = library("jax")

    def mine(params, inputs, initial):
        return tanh_rnn(jax.numpy, jax.numpy.stack, params, inputs, initial)

    def cut(params, inputs, initial):
        return mine({**params, "b": jax.lax.stop_gradient(params["b"])}, inputs, initial)

    assert verdict(from_jax(mine), "tanh_rnn", ids=("ragged-last-mean", "float32-ragged")).status == "agrees"
    assert {f.tensor for f in verdict(from_jax(cut), "tanh_rnn", ids=FEW[:1]).findings} == {"b"}
    assert jax.numpy.ones(1).dtype == "float32"  # its switch is as it was


@pytest.mark.parametrize("home", ["linen", "nnx"])
@pytest.mark.parametrize("name", ["SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell"])
def test_cells_of_flax_agree(home, name):
    flax = library(f"flax.{home}")
    found = agrees(getattr(flax, name), ids=("ragged-last-mean",))
    assert found.implementation == f"flax.{home}.{name}"


def test_instances_of_flax_are_respected():
    linen, nnx = library("flax.linen"), library("flax.nnx")
    assert own_cell(linen.RNN(linen.GRUCell(3))).name == "gru_reset_after"
    assert "c_n" not in own_cell(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))).parameters
    assert own_cell(linen.LSTMCell(3, activation_fn=linen.relu)) is None
    with pytest.raises(TypeError, match="from_jax"):
        own_cell(linen.Dense(3))


# --------------------------------------------------------------------------------------------------------------- Keras


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU", "LSTMCell", "GRUCell"])
def test_layers_of_keras_agree_in_the_precision_that_they_have(name):
    layer = getattr(library("keras").layers, name)
    own = own_cell(layer)
    found = verdict(layer, cases=some(own, dtype="float32"))
    assert found.status == "agrees", str(found)
    assert any("judged in float32" in note for note in found.notes)
    declined = verdict(layer, own.name, ids=("separating",))
    assert "in fewer bits" in declined.declined[0][1]


def test_options_of_an_instance_of_keras_are_respected():
    layers = library("keras").layers
    before = layers.GRU(3, reset_after=False)
    assert own_cell(before).name == "gru"
    agrees(before, ids=("float32-ragged",))
    agrees(layers.LSTM(3, use_bias=False), ids=("float32-ragged",))
    assert own_cell(layers.LSTM(3, recurrent_activation="relu")) is None
    assert verdict(layers.GRU, "gru", ids=("float32-ragged",)).status == "disagrees"
    with pytest.raises(ValueError, match="go_backwards=True"):
        own_cell(layers.LSTM(3, go_backwards=True))
    with pytest.raises(TypeError, match="no recurrent layer"):
        own_cell(layers.Dense(3))


# ---------------------------------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_operators_of_onnx_agree_in_their_outputs(runtime, name):
    library("onnx" if runtime == "reference" else "onnxruntime")
    found = agrees(
        from_onnx(name, runtime), scope="outputs", ids=("separating", "float32-separating", "float32-ragged")
    )
    assert ("float32-ragged" in dict(found.declined)) == (runtime == "reference")
    assert ("separating" in dict(found.declined)) == (runtime == "onnxruntime")


def test_attributes_of_an_onnx_operator_decide_the_cell():
    onnx = library("onnx")
    node = onnx.helper.make_node("GRU", ["X", "W", "R"], ["Y"], hidden_size=5, linear_before_reset=1)
    graph = onnx.helper.make_graph([node], "mine", [], [])
    adapter = from_onnx(onnx.helper.make_model(graph), "reference")
    assert own_cell(adapter).name == "gru_reset_after"
    agrees(adapter, scope="outputs", ids=("separating",))
    assert verdict(adapter, "gru", scope="outputs", ids=("separating",)).status == "disagrees"
    with pytest.raises(ValueError, match="direction='reverse'"):
        from_onnx("LSTM", direction="reverse")
    with pytest.raises(ValueError, match="0 recurrent operators"):
        from_onnx(onnx.helper.make_model(onnx.helper.make_graph([], "none", [], [])))


def test_small_states_show_what_onnxruntime_loses():
    library("onnxruntime")
    layer = from_onnx("RNN")
    chosen = some(own_cell(layer), ("impulse-vanishing",), dtype="float32")
    found = verdict(layer, cases=chosen, scope="outputs")
    if version("onnxruntime") == "1.31.1":
        assert found.status == "disagrees"


# ------------------------------------------------------------------------------------------ what was found on the way


@pytest.mark.parametrize("one", DISCREPANCIES, ids=lambda d: f"{d.distribution}-{d.what[:30]}")
def test_discrepancies_can_be_seen_again(one):
    try:
        installed = version(one.distribution)
    except PackageNotFoundError:
        pytest.skip(f"{one.distribution} is not installed")
    if installed.partition("+")[0] != one.version or one.timed:
        pytest.skip(f"measured on {one.version}" if not one.timed else "is about seconds")
    module = library(one.distribution)
    backend = dict(one.environment).get("KERAS_BACKEND")
    if backend is not None and module.backend.backend() != backend:
        pytest.skip(f"needs the backend {backend}")
    exec(compile(one.reproduce, one.distribution, "exec"), {})


def test_wrong_layers_of_the_benchmark_are_wrong_and_the_right_one_is_right():
    right = oracle_conformance.Wrong("right", (0, 1, 2, 3))
    kinds = oracle_conformance.wrong_layers("LSTM")
    assert len(kinds["gates in another order"]) == 23
    chosen = some(derive.load("lstm"))
    assert judge(oracle_conformance.wrong_implementation("LSTM", right), "lstm", cases=chosen, store=STORE)
    for kind in kinds.values():
        assert oracle_conformance.revealed_here("LSTM", kind[0], STORE) == "separating"
    (flipped,) = oracle_conformance.wrong_layers("GRU")["reset on the other side"]
    assert oracle_conformance.revealed_here("GRU", flipped, STORE) is not None
