"""Where libraries do something else than they say, found while their layers were judged, with how to see it again.

``reproduce`` is Python for the library alone; its assertion holds as long as the library is so, and the tests run it
where the version that it was measured on is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

__all__ = ["DISCREPANCIES", "Discrepancy"]


@dataclass(frozen=True)
class Discrepancy:
    """One of them: ``distribution`` as installed, the ``version`` measured, ``what`` it does, ``measured`` how much.

    ``environment`` must be set before the import; ``timed`` says that the assertion is about seconds.
    """

    distribution: str
    version: str
    what: str
    measured: str
    reproduce: str
    environment: tuple[tuple[str, str], ...] = ()
    timed: bool = False


_NODE = """\
import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

def model(op, fed, **attributes):
    kind = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
    names = [n if n in fed else "" for n in ("X", "W", "R", "B", "sequence_lens")]
    node = helper.make_node(op, names, ["Y", "Y_h"], hidden_size=fed["R"].shape[-1], **attributes)
    given = [helper.make_tensor_value_info(n, kind[str(x.dtype)], x.shape) for n, x in fed.items()]
    wanted = [helper.make_tensor_value_info(n, kind[str(fed["X"].dtype)], None) for n in ("Y", "Y_h")]
    graph = helper.make_graph([node], "one", given, wanted)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)

def fed(op, dtype):
    gates, random = {"RNN": 1, "LSTM": 4, "GRU": 3}[op], np.random.default_rng(0)
    shapes = {"X": (4, 2, 3), "W": (1, 2 * gates, 3), "R": (1, 2 * gates, 2)}
    return {n: random.standard_normal(s).astype(dtype) for n, s in shapes.items()}
"""


def _snippet(text: str, before: str = "") -> str:
    return before + dedent(text).lstrip("\n")


DISCREPANCIES: tuple[Discrepancy, ...] = (
    Discrepancy(
        "keras", "3.15.1",
        "On the PyTorch backend keras.ops.matmul casts float64 to float32; a layer of dtype float64 multiplies by it "
        "and reports float64.",
        "A (4, 6) by (6, 5) product of normal numbers is off by 6e-7.",
        _snippet("""
            import numpy as np
            import keras
            a = np.random.default_rng(0).standard_normal((4, 4))
            x = keras.ops.convert_to_tensor(a, dtype="float64")
            product = keras.ops.convert_to_numpy(keras.ops.matmul(x, x))
            assert product.dtype == "float32" and abs(product - a @ a).max() > 1e-9
            layer = keras.layers.SimpleRNN(4, dtype="float64")
            assert "float64" in str(layer(keras.ops.reshape(x, (1, 4, 4))).dtype)
        """),
        (("KERAS_BACKEND", "torch"),),
    ),
    Discrepancy(
        "keras", "3.15.1",
        "On the JAX backend, with 64 bits enabled, keras.ops.tanh casts float64 to float32; matmul does not.",
        "tanh of normal numbers is off by 6e-8.",
        _snippet("""
            import jax
            import numpy as np
            import keras
            with jax.enable_x64(True):
                a = np.random.default_rng(0).standard_normal((4, 4))
                x = keras.ops.convert_to_tensor(a, dtype="float64")
                assert keras.ops.matmul(x, x).dtype == "float64"
                assert keras.ops.tanh(x).dtype == "float32"
        """),
        (("KERAS_BACKEND", "jax"),),
    ),
    Discrepancy(
        "onnxruntime", "1.31.1",
        "RNN, LSTM and GRU have no float64 kernels, though their specification has the type: RNN fails when the "
        "session is made, the other two when it is run.",
        "All three raise.",
        _snippet("""
            import onnxruntime
            onnxruntime.set_default_logger_severity(4)
            for op in ("RNN", "LSTM", "GRU"):
                values = fed(op, "float64")
                try:
                    onnxruntime.InferenceSession(model(op, values).SerializeToString()).run(None, values)
                except Exception as error:
                    assert "implementation" in str(error) or "double" in str(error)
                else:
                    assert False
        """, _NODE),
        (("ORT_DISABLE_TELEMETRY", "1"),),
    ),
    Discrepancy(
        "onnxruntime", "1.31.1",
        "The operator RNN computes tanh with an absolute error of 1.7e-7 in float32: small states lose their digits, "
        "which shows where a signal vanishes. The operators Tanh, LSTM and GRU keep them, to a relative 5e-7.",
        "tanh(3.7e-5) is off by 0.2 %, tanh(4.5e-8) by 165 %.",
        _snippet("""
            import onnxruntime
            x = (10 ** np.linspace(-8, 1, 2001)).astype(np.float32)
            one, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
            values = {"X": x[None, :, None], "W": one, "R": zero}
            session = onnxruntime.InferenceSession(model("RNN", values).SerializeToString())
            y, right = session.run(None, values)[0].ravel(), np.tanh(x.astype(float))
            assert abs(y - right).max() < 1e-6 < 1 < (abs(y - right) / right).max()
        """, _NODE),
        (("ORT_DISABLE_TELEMETRY", "1"),),
    ),
    Discrepancy(
        "onnx", "1.23.2",
        "The reference evaluator ignores sequence_lens of RNN, LSTM and GRU: Y_h is the state after the padding, and Y "
        "is not zero there.",
        "Y_h is the same to the last bit with lengths 2 and 4 as without.",
        _snippet("""
            for op in ("RNN", "LSTM", "GRU"):
                values = fed(op, "float32")
                ragged = values | {"sequence_lens": np.array([2, 4], np.int32)}
                _, whole = ReferenceEvaluator(model(op, values)).run(None, values)
                y, last = ReferenceEvaluator(model(op, ragged)).run(None, ragged)
                assert (last == whole).all() and (y[2:, :, 0] != 0).any()
        """, _NODE),
    ),
    Discrepancy(
        "onnx", "1.23.2",
        "The reference evaluator ignores clip of RNN, LSTM and GRU, and input_forget and activations of LSTM and GRU.",
        "Results are the same to the last bit; onnxruntime's change by 0.3 to 36.",
        _snippet("""
            def same(op, **attributes):
                values = fed(op, "float32")
                models = model(op, values), model(op, values, **attributes)
                plain, changed = (ReferenceEvaluator(m).run(None, values)[0] for m in models)
                return (plain == changed).all()
            assert all(same(op, clip=0.1) for op in ("RNN", "LSTM", "GRU"))
            assert same("LSTM", input_forget=1)
            assert same("LSTM", activations=["Relu"] * 3) and same("GRU", activations=["Relu"] * 2)
        """, _NODE),
    ),
    Discrepancy(
        "flax", "0.12.8",
        "nnx.GRUCell has no bias b_hn inside the reset, though the formula in its docstring has one; linen's has it. "
        "So its weights are not those of PyTorch's, and no PyTorch GRU whose b_hn is not zero can be loaded into it.",
        "dense_h.bias is None.",
        _snippet("""
            from flax import nnx
            cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
            assert cell.dense_h.bias is None or getattr(cell.dense_h.bias, "value", None) is None
            assert "b_{hn}" in nnx.GRUCell.__doc__
        """),
    ),
    Discrepancy(
        "torch", "2.13.0",
        "Time for a packed sequence, forward and backward, grows faster than its length: from some hundred steps on it "
        "is several times that of the padded one, in spite of less to do.",
        "One thread, 32 sequences of 64 units, random lengths up to 1000: 8.0 (RNN), 10.3 (LSTM), 6.8 (GRU) times as "
        "long; up to 250: 0.9 to 1.4 times.",
        _snippet("""
            import time
            import torch
            from torch.nn.utils.rnn import pack_padded_sequence
            torch.manual_seed(0)
            torch.set_num_threads(1)
            layer, x = torch.nn.RNN(64, 64), torch.randn(1000, 32, 64)
            packed = pack_padded_sequence(x, torch.randint(1, 1001, (32,)), enforce_sorted=False)
            def seconds(given):
                found = []
                for _ in range(2):
                    start = time.perf_counter()
                    layer(given)[1].sum().backward()
                    found.append(time.perf_counter() - start)
                return min(found)
            assert seconds(packed) > 3 * seconds(x)
        """),
        timed=True,
    ),
    Discrepancy(
        "torch", "2.13.0",
        "gradcheck's fast mode scales its absolute tolerance by the number of entries: one wrong entry of 65,536 "
        "passes unless it is off by 0.7 to 1, where the largest right one is 0.15.",
        "See tests/benchmarks/oracle_conformance.py.",
        _snippet("""
            import torch
            class Planted(torch.autograd.Function):
                @staticmethod
                def forward(ctx, w):
                    ctx.size = w.numel()
                    return w.sum()
                @staticmethod
                def backward(ctx, g):
                    wrong = torch.ones(ctx.size, dtype=torch.float64)
                    wrong[7] += 0.3
                    return g * wrong
            torch.manual_seed(0)
            w = torch.zeros(65_536, dtype=torch.float64, requires_grad=True)
            assert torch.autograd.gradcheck(Planted.apply, (w,), fast_mode=True)
        """),
    ),
    Discrepancy(
        "numpy", "2.4.6",
        "np.negative in place is wrong for arrays whose entries are 16 bytes (float32) or 64 bytes (float64) apart.",
        "A column of four float32 or eight float64 numbers a row; the same with negative strides.",
        _snippet("""
            import numpy as np
            for dtype, width in ((np.float32, 4), (np.float64, 8)):
                column = np.arange(5.0 * width).astype(dtype).reshape(5, width)[:, :1]
                right = -column.copy()
                assert not (np.negative(column, column) == right).all()
        """),
    ),
)  # fmt: skip
