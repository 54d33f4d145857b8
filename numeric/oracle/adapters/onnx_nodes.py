"""ONNX: the operators RNN, LSTM and GRU, run by onnxruntime or by the reference evaluator.

Neither has a gradient of them, so they are judged with ``scope="outputs"``.  A model with one such operator keeps its
attributes; its weights and sizes become those of each case, the readout one matrix product after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.adapters.adapter import decline, padded
from numeric.oracle.adapters.layouts import ONNX, form, readout
from numeric.oracle.adapters.precision import effective_dtype
from numeric.oracle.adapters.weights import Block, check_cover, pack
from numeric.oracle.case import Case

__all__ = ["OnnxAdapter", "from_onnx"]

_OPSET, _IR = 14, 8
_INPUTS: Mapping[str, tuple[str, ...]] = {
    "RNN": ("W", "R", "B", "lengths", "h0"),
    "LSTM": ("W", "R", "B", "lengths", "h0", "c0", "P"),
    "GRU": ("W", "R", "B", "lengths", "h0"),
}
_JUDGED = {"direction": ("forward", b"forward"), "layout": (0,)}
_DECIDING = ("activations", "activation_alpha", "activation_beta", "clip", "input_forget")


@dataclass(frozen=True)
class OnnxAdapter:
    """An operator with its attributes, as an implementation that returns outputs."""

    operator: str
    attributes: tuple[tuple[str, Any], ...]
    runtime: str
    said: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The operator, and what runs it."""
        return f"ONNX {self.operator} in {self.runtime}"

    @property
    def after(self) -> bool:
        """Whether a GRU resets after the product; ONNX does not unless told so."""
        return bool(dict(self.attributes).get("linear_before_reset", 0))

    @property
    def cell(self) -> Cell | None:
        """What the specification says; an LSTM has peepholes, which are zero where they are not given."""
        if any(name in dict(self.attributes) for name in _DECIDING):
            return None
        gru = "gru_reset_after" if self.after else "gru"
        return form({"RNN": "tanh_rnn", "LSTM": "lstm_peephole", "GRU": gru}[self.operator])

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types that are what they are called, by measurement."""
        return tuple(d for d in ("float64", "float32") if effective_dtype(_Runtime(self.runtime), d) == d)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about how it was judged."""
        lost = f"{self.runtime} does not compute recurrent operators in float64: it is judged in float32"
        return self.said if "float64" in self.dtypes else (*self.said, lost)

    def blocks(self, cell: Cell) -> dict[str, Block]:
        """The operator's arrays; peepholes only where the cell has them, one bias fewer where GRU resets before."""
        own = dict(ONNX[self.operator])
        if "p_i" not in cell.parameters:
            own.pop("P", None)
        return own | readout(cell)

    def check(self, cell: Cell) -> None:
        """Raise ValueError for a cell whose parameters the operator does not have."""
        check_cover(self.name, self.blocks(cell), cell)

    def __call__(self, case: Case) -> dict[str, Any]:
        """Outputs of a case; raises NotImplementedError for what is not computed."""
        decline(case, self.runtime, self.dtypes)
        data = case.problem.data
        if data.lengths is not None and self.runtime == "reference":
            raise NotImplementedError("the reference evaluator of ONNX ignores sequence_lens")
        arrays = pack(self.blocks(case.parsed), data.params) | dict(data.inputs)
        arrays |= {f"{n}0": s for n, s in data.initial.items()}
        fed = {n: x.astype(case.dtype) for n, x in arrays.items()}
        fed = {
            n: x if n in ("x", "readout.bias") else x.T if n == "readout.weight" else x[None] for n, x in fed.items()
        }
        if data.lengths is not None:
            fed["lengths"] = data.lengths.astype(np.int32)
        found = _runner(self.runtime, self._model(fed, case).SerializeToString())(fed)
        outputs = dict(zip(("h", "y"), found, strict=False))
        outputs["h"] = outputs["h"][:, 0]
        return {"grads": {}, "outputs": padded(outputs, case)}

    def _model(self, fed: Mapping[str, Array], case: Case) -> Any:
        """The operator, and the readout after it, for arrays of these shapes."""
        of = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
        types = {n: of.get(x.dtype, TensorProto.DOUBLE) for n, x in fed.items()}
        wanted = [n if n in fed else "" for n in _INPUTS[self.operator]]
        size = case.sizes[case.parsed.axes["h"]]
        nodes = [helper.make_node(self.operator, ["x", *wanted], ["all"], hidden_size=size, **dict(self.attributes))]
        outputs = ["all"]
        if "readout.weight" in fed:
            biased = "readout.bias" in fed
            nodes.append(helper.make_node("Squeeze", ["all", "one"], ["h"]))
            nodes.append(helper.make_node("MatMul", ["h", "readout.weight"], ["product" if biased else "y"]))
            nodes += [helper.make_node("Add", ["product", "readout.bias"], ["y"])] if biased else []
            outputs.append("y")
        out = TensorProto.FLOAT if case.dtype == "float32" else TensorProto.DOUBLE
        graph = helper.make_graph(
            nodes, "case",
            [helper.make_tensor_value_info(n, types[n], x.shape) for n, x in fed.items()],
            [helper.make_tensor_value_info(n, out, None) for n in outputs],
            [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


@dataclass(frozen=True)
class _Runtime:
    """What runs an operator, for measuring what it computes in."""

    name: str

    def product(self, a: Array, b: Array, dtype: str) -> Array:
        """tanh(a b) as the operator RNN computes it; NaN where the type is refused."""
        kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
        fed = {"x": a[None].astype(dtype), "W": b.T[None].astype(dtype), "R": np.zeros((1, *b.shape), dtype)}
        node = helper.make_node("RNN", ["x", "W", "R"], ["all"], hidden_size=len(b))
        infos = [helper.make_tensor_value_info(n, kind, x.shape) for n, x in fed.items()]
        graph = helper.make_graph([node], "product", infos, [helper.make_tensor_value_info("all", kind, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        try:
            found: Array = _runner(self.name, model.SerializeToString())(fed)[0][0, 0]
        except Exception:  # each runtime refuses in a way of its own
            return np.full(a.shape, np.nan)
        return found


@lru_cache(maxsize=32)
def _runner(runtime: str, model: bytes) -> Any:
    """A function of the arrays fed."""
    if runtime == "reference":
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(onnx.load_from_string(model))
        return lambda fed: evaluator.run(None, dict(fed))
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda fed: session.run(None, dict(fed))


def from_onnx(model: Any, runtime: str = "onnxruntime", **attributes: Any) -> OnnxAdapter:
    """An operator by name, with attributes such as ``linear_before_reset=1``, or the only one in a model.

    Raises ValueError for a model without exactly one recurrent operator, and for one that runs in both directions,
    backwards, or batch first.
    """
    if runtime not in ("onnxruntime", "reference"):
        raise ValueError(f"runtime is {runtime!r}; expected 'onnxruntime' or 'reference'")
    operator = model
    if not isinstance(model, str):
        nodes = [node for node in model.graph.node if node.op_type in ONNX]
        if len(nodes) != 1:
            raise ValueError(f"the model has {len(nodes)} recurrent operators; one is judged at a time")
        operator = nodes[0].op_type
        attributes = {a.name: helper.get_attribute_value(a) for a in nodes[0].attribute} | attributes
    if operator not in ONNX:
        raise ValueError(f"the operator is {operator!r}; expected one of {', '.join(ONNX)}")
    for name, expected in _JUDGED.items():
        found = attributes.pop(name, expected[0])
        if found not in expected:
            raise ValueError(f"the operator has {name}={found!r}; it is judged with {expected[0]!r}")
    attributes.pop("hidden_size", None)
    kept = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in sorted(attributes.items()))
    return OnnxAdapter(operator, kept, runtime)
