"""Which adapter knows what was handed in; nothing is imported but the library that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from derive.cell import Cell
from numeric.oracle.adapters.adapter import Adapter
from numeric.oracle.case import Case

__all__ = ["adapted", "adapter_of", "from_jax", "from_onnx", "from_torch", "own_cell"]


def adapter_of(implementation: Any) -> Any:
    """The adapter of a layer of a library that is known, the adapter itself where it is one, else None.

    Raises TypeError or ValueError for what comes from such a library and cannot be judged as it is.
    """
    if isinstance(implementation, Adapter):
        return implementation
    if getattr(type(implementation), "__module__", "").startswith("numeric.oracle.adapters"):
        return implementation
    kind = implementation if isinstance(implementation, type) else type(implementation)
    homes = [base.__module__ + "." for base in kind.__mro__]
    for home, make in _MAKERS.items():
        if any(h.startswith(home) for h in homes):
            return make(implementation)
    return None


def adapted(implementation: Any, cell: Cell) -> Callable[[Case], Any]:
    """A function of a case; what no adapter knows is one already.

    Raises ValueError for a layer that does not have the parameters of the cell.
    """
    adapter = adapter_of(implementation)
    if adapter is not None:
        adapter.check(cell)
    function: Callable[[Case], Any] = implementation if adapter is None else adapter
    return function


def own_cell(implementation: Any) -> Cell | None:
    """The cell that a layer computes by its own documentation; None where nothing says it."""
    adapter = adapter_of(implementation)
    cell: Cell | None = None if adapter is None else adapter.cell
    return cell


# ---------------------------------------------------------------------------------- each imports its library when asked


def _torch(layer: Any) -> Any:
    from numeric.oracle.adapters.pytorch import torch_layer

    return torch_layer(layer)


def _flax(layer: Any) -> Any:
    from numeric.oracle.adapters.flax_layers import flax_layer

    return flax_layer(layer)


def _keras(layer: Any) -> Any:
    from numeric.oracle.adapters.keras_layers import keras_layer

    return keras_layer(layer)


def from_torch(function: Callable[..., Any], name: str = "") -> Any:
    """A function of tensors, f(params, inputs, initial) -> outputs, differentiated by autograd."""
    from numeric.oracle.adapters import pytorch

    return pytorch.from_torch(function, name)


def from_jax(function: Callable[..., Any], name: str = "", *, jit: bool = True) -> Any:
    """A pure function of JAX arrays, f(params, inputs, initial) -> outputs, differentiated by jax.grad."""
    from numeric.oracle.adapters import jax_functions

    return jax_functions.from_jax(function, name, jit=jit)


def from_onnx(model: Any, runtime: str = "onnxruntime", **attributes: Any) -> Any:
    """An operator, "RNN", "LSTM" or "GRU", or a model with one, run by "onnxruntime" or the "reference" evaluator."""
    from numeric.oracle.adapters import onnx_nodes

    return onnx_nodes.from_onnx(model, runtime, **attributes)


#: Beginnings of modules, and what makes an adapter of their classes and instances.  Keras before PyTorch: on that
#: backend its layers are modules of PyTorch, too.
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "keras.": _keras, "flax.": _flax, "onnx.": from_onnx, "torch.": _torch,
}  # fmt: skip
