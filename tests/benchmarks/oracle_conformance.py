"""The published conformance vectors' weakness, side by side with the default cases here.

``python -m tests.benchmarks.oracle_conformance``: of the wrong layers that people write most (gates in a wrong order, R
transposed, R left out, GRU's reset on the other side of the product), how many do ONNX's node tests reveal, how many
torch's gradcheck, how many the default cases?  Each wrong layer computes another function, and the right gradient of
that one.  Needs the packages onnx and torch; what is not installed is left out.

A second table is about one wrong entry of a gradient of 65,536: how large must the error be?
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from statistics import median
from unittest.mock import patch

import numpy as np

import derive
import numeric
from numeric.oracle import judge
from numeric.oracle.families import default_cases
from numeric.oracle.store import Store

LAYERS = {"LSTM": ("lstm", "iofg"), "GRU": ("gru", "zrn")}
GRADIENT = 65_536
GRADCHECK = {"eps": 1e-6, "atol": 1e-5, "rtol": 1e-3}  # its own values where nothing is said


@dataclass(frozen=True)
class Wrong:
    """A wrong layer: gates read in ``order``, R transposed or zero, or GRU's reset on the other side."""

    name: str
    order: tuple[int, ...]
    recurrent: str = ""
    flipped: bool = False


def wrong_layers(operator):
    """Every wrong layer of an operator, by kind."""
    letters = LAYERS[operator][1]
    right, *others = permutations(range(len(letters)))
    kinds = {"gates in another order": [Wrong("".join(letters[k] for k in o), o) for o in others]}
    kinds["R transposed"] = [Wrong("R transposed", right, "transposed")]
    kinds["R = 0"] = [Wrong("R = 0", right, "zero")]
    if operator == "GRU":
        kinds["reset on the other side"] = [Wrong("reset on the other side", right, flipped=True)]
    return kinds


def recurrent(wrong, matrix):
    """A gate's recurrent matrix as a wrong layer uses it."""
    return matrix.T if wrong.recurrent == "transposed" else 0 * matrix if wrong.recurrent == "zero" else matrix


# --------------------------------------------------------------------------------------------------- ONNX's node tests


@lru_cache(maxsize=1)
def node_tests():
    """ONNX's own cases of recurrent operators: (operator, model, inputs, outputs, rtol, atol)."""
    import onnx.backend.test.loader as loader
    from onnx import numpy_helper

    def arrays(tensors):
        return [numpy_helper.to_array(t) if not isinstance(t, np.ndarray) else t for t in tensors]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = loader.load_model_tests(kind="node")
    kept = []
    for case in found:
        operator = case.model.graph.node[0].op_type if case.model and len(case.model.graph.node) == 1 else ""
        if operator in LAYERS:
            kept += [
                (operator, case.name, case.model, *map(arrays, pair), case.rtol, case.atol) for pair in case.data_sets
            ]
    return kept


def passes(test, wrong):
    """Whether the reference evaluator with a wrong layer's weights gives the outputs of a node test."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    _, _, model, inputs, outputs, rtol, atol = test
    if wrong.flipped:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        kept = [a for a in model.graph.node[0].attribute if a.name != "linear_before_reset"]
        before = len(kept) == len(model.graph.node[0].attribute)
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.extend([*kept, onnx.helper.make_attribute("linear_before_reset", int(before))])
    names = [name for name in model.graph.node[0].input if name]
    fed = {i.name: _relaid(wrong, i.name, x) for i, x in zip(model.graph.input, inputs, strict=True)}
    assert set(fed) == set(names)
    found = ReferenceEvaluator(model).run(None, fed)
    return all(np.allclose(a, b, rtol=rtol, atol=atol) for a, b in zip(found, outputs, strict=True))


def _relaid(wrong, name, x):
    """W, R and B of a node test, as a wrong layer reads them."""
    gates = len(wrong.order)
    if name in ("W", "R"):
        parts = np.split(x, gates, axis=1)
        parts = [parts[k] for k in wrong.order]
        if name == "R":
            parts = [np.stack([recurrent(wrong, m) for m in part]) for part in parts]
        return np.concatenate(parts, axis=1)
    if name == "B":
        parts = np.split(x, 2 * gates, axis=1)
        return np.concatenate([parts[k + half] for half in (0, gates) for k in wrong.order], axis=1)
    return x


def revealed_by_onnx(operator, wrong):
    """The node tests that fail."""
    return [test[1] for test in node_tests() if test[0] == operator and not passes(test, wrong)]


# --------------------------------------------------------------------------------------------------- torch's gradcheck


def gradchecked(function, weight):
    """Whether fast mode accepts a function of one matrix."""
    import torch

    torch.manual_seed(0)
    module = sys.modules["torch.autograd.gradcheck"]
    with patch.object(module, "_run_slow_mode_and_get_error", return_value=""):  # only words the error, for minutes
        return torch.autograd.gradcheck(function, (weight,), fast_mode=True, raise_exception=False, **GRADCHECK)


def network(operator):
    """A layer of so many recurrent weights, as a function of them, (G H, H)."""
    import torch

    gates = len(LAYERS[operator][1])
    hidden = int(np.sqrt(GRADIENT / gates))
    torch.manual_seed(1)
    layer = getattr(torch.nn, operator)(4, hidden, dtype=torch.float64)
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    weight = layer.weight_hh_l0.detach().clone().requires_grad_()
    return lambda w: torch.func.functional_call(layer, {"weight_hh_l0": w}, (x,))[0].sum(), weight


def revealed_by_gradcheck(operator, wrong):
    """Whether fast mode rejects a wrong layer; autograd is right about whatever a layer computes."""
    import torch

    function, weight = network(operator)
    gates = len(wrong.order)

    def layer(w):
        parts = [w.chunk(gates)[k] for k in wrong.order]
        return function(torch.cat([recurrent(wrong, part) for part in parts]))

    return not gradchecked(layer, weight)


def smallest_error(entry):
    """The smallest error of one entry, alone among 65,536, at which fast mode rejects the gradient."""
    import torch

    function, weight = network("LSTM")

    class Planted(torch.autograd.Function):
        error = 0.0

        @staticmethod
        def forward(ctx, loss, w):
            ctx.shape = w.shape
            return loss.clone()

        @staticmethod
        def backward(ctx, g):
            wrong = torch.zeros(ctx.shape, dtype=g.dtype)
            wrong.view(-1)[entry] = g * Planted.error
            return g, wrong

    low, high = 1e-6, 1e3
    while high / low > 1.02:
        Planted.error = float(np.sqrt(low * high))
        if gradchecked(lambda w: Planted.apply(function(w), w), weight):
            low = Planted.error
        else:
            high = Planted.error
    return high


# ---------------------------------------------------------------------------------------------------- the default cases


def wrong_implementation(operator, wrong):
    """A wrong layer as an implementation: right gradients of another function."""
    name, letters = LAYERS[operator]
    table = {letters[k]: letters[j] for k, j in enumerate(wrong.order)}
    cell = derive.load("gru_reset_after" if wrong.flipped else name)
    engine = {dtype: numeric.Engine(cell, dtype=dtype, fast=False) for dtype in ("float64", "float32")}

    def source(parameter):
        kind, _, gate = parameter.partition("_")
        return f"{kind}_{table[gate]}" if gate in table else parameter

    def implementation(case):
        if case.dtype not in engine:
            raise NotImplementedError(case.dtype)
        given = {n: case.params[source(n)] for n in cell.parameters if source(n) in case.params}
        given = {n: recurrent(wrong, p) if n.startswith("U_") else p for n, p in given.items()}
        if wrong.flipped:
            given["c_n"] = np.zeros_like(given["b_n"])
        options = case.options | {"initial": dict(case.initial)}
        if case.cotangents is not None:
            options["cotangents"] = dict(case.cotangents)
        found = engine[case.dtype].backward(given, dict(case.inputs) or None, case.targets, **options)
        grads = {source(n): found.params[n] for n in given if source(n) in case.params}
        grads = {n: g.T if wrong.recurrent == "transposed" and n.startswith("U_") else g for n, g in grads.items()}
        return {"grads": grads, "loss": found.loss, "outputs": found.outputs}

    return implementation


def revealed_here(operator, wrong, store):
    """The first default case that a wrong layer fails; None where it fails none."""
    implementation = wrong_implementation(operator, wrong)
    for case in default_cases(derive.load(LAYERS[operator][0])):
        if judge(implementation, case.parsed, cases=[case], store=store).status == "disagrees":
            return case.id
    return None


def error_seen_here(store):
    """The error of one entry of U_f that the default cases of the LSTM see: the median entry of the median case."""
    seen = []
    for case in default_cases(derive.load("lstm")):
        if case.dtype == "float64" and case.truncate is None:
            truth = store.truth(case)
            seen.append(float(np.median(16 * truth.noise["U_f"])))
    return median(seen)


# -------------------------------------------------------------------------------------------------------------- tables


def conformance(operators=("LSTM", "GRU"), store=None):
    """Rows (operator, kind, how many, revealed by ONNX, by gradcheck, here).

    None stands for what is not installed, or has no such layer.
    """
    store = store or Store()
    rows = []
    for operator in operators:
        for kind, layers in wrong_layers(operator).items():
            onnx = [bool(revealed_by_onnx(operator, w)) for w in layers] if _has("onnx") else None
            said = _has("torch") and not layers[0].flipped  # PyTorch has no such layer
            torch = [revealed_by_gradcheck(operator, w) for w in layers] if said else None
            here = [revealed_here(operator, w, store) is not None for w in layers]
            rows.append((operator, kind, len(layers), *(None if x is None else sum(x) for x in (onnx, torch, here))))
    return rows


def _has(library):
    return importlib.util.find_spec(library) is not None


def main():
    """Print both tables."""
    store = Store()
    print(f"{'':6}{'wrong layers':26}{'how many':>9}{'ONNX':>7}{'gradcheck':>11}{'here':>7}")
    for operator, kind, *counts in conformance(store=store):
        shown = ["-" if c is None else str(c) for c in counts]
        print(
            f"{operator:6}{kind:26}" + "".join(f"{c:>{w}}" for c, w in zip(shown, (9, 7, 11, 7), strict=True)),
            flush=True,
        )
    if _has("onnx"):
        flipped = wrong_layers("GRU")["reset on the other side"][0]
        seen, all_ = revealed_by_onnx("GRU", flipped), [t for t in node_tests() if t[0] == "GRU"]
        print(f"\nGRU's reset on the other side shows in {len(seen)} of ONNX's {len(all_)} tests: {', '.join(seen)}")
    print(f"one wrong entry of a gradient of {GRADIENT:,} is seen when off by")
    if _has("torch"):
        errors = [smallest_error(entry) for entry in np.random.default_rng(0).integers(0, GRADIENT, 5)]
        print(f"  gradcheck, fast mode: {median(errors):.2f} ({min(errors):.2f} to {max(errors):.2f})")
    print(f"  here: {error_seen_here(store):.2g} (median of the default cases, sizes of their own)")


if __name__ == "__main__":
    sys.exit(main())
