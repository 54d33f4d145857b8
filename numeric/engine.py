"""Forward and backward over time at full size, for any cell, from its derivation.

    out = engine.forward(params, inputs)
    loss, grads = engine.value_and_grad(params, inputs, targets)

Arrays are time-major; a step's work is what :mod:`numeric.plan` planned from the proven program, compiled by
:mod:`numeric.compile`.  Products with one operand are one product, products with inputs are taken for all steps at once, and
each matrix's gradient is one product over T * B rows.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.adjoint import Backward, differentiate_step
from derive.cell import Cell
from derive.parse import load
from derive.program import cut
from numeric.arguments import DTYPES, Array, check_data, check_sizes
from numeric.losses import check_loss, evaluate_loss
from numeric.run import Plans, Reverse, run_forward

__all__ = ["Engine", "Result"]


@dataclass(frozen=True)
class Result:
    """What a backward pass gives.

    ``params`` holds the gradient of each parameter, ``inputs`` of each input (T, B, size), ``initial`` of each initial
    state (B, size), ``states`` dL/ds_t of each state (T, B, size); ``outputs`` the outputs and states that were computed.
    """

    loss: Any
    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    states: dict[str, Array]
    outputs: dict[str, Array]


class Engine:
    """A cell compiled for NumPy.

    ``cell`` is a :class:`derive.Cell`, a shipped cell's name or a path; ``dtype`` float64, float32 or complex128 (for the
    complex step); ``keep`` what is kept between the passes: "all".  An engine holds no state between calls and may be used
    from several threads.  Raises ValueError for an unknown dtype.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=2, H=3, O=2)
    >>> loss, grads = engine.value_and_grad(params, np.ones((4, 1, 2)), np.zeros((4, 1), int))
    >>> grads["W_hh"].shape
    (3, 3)
    """

    def __init__(
        self,
        cell: Cell | str | os.PathLike[str],
        dtype: str = "float64",
        keep: str = "all",
        *,
        backward: Backward | None = None,
    ) -> None:
        self.cell = cell if isinstance(cell, Cell) else load(cell)
        if str(np.dtype(dtype)) not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        if keep != "all":
            raise ValueError(f"keep is {keep!r}; expected 'all'")
        self.dtype = np.dtype(dtype)
        self.keep = keep
        self.backward_program = backward or differentiate_step(cut(self.cell))
        self.program = self.backward_program.program
        self._plans: dict[frozenset[str] | None, Plans] = {}

    def __repr__(self) -> str:
        return f"<Engine {self.cell.name}, {self.dtype}>"

    # ---------------------------------------------------------------------------------------------------- parameters

    def init(self, seed: int = 0, **sizes: int) -> dict[str, Array]:
        """Random parameters: uniform within 1/sqrt(columns) for a matrix, 1/sqrt(size) for a vector, (1/2, 1) for a scalar.

        ``sizes`` gives every letter of ``cell.dimensions``.  Each parameter has a stream of its own, so that another
        parameter more changes no number.  Raises ValueError for a missing, unknown or impossible size.
        """
        extents = check_sizes(self.cell, sizes)
        out = {}
        for name, shape in self.cell.parameters.items():
            random = np.random.default_rng([seed, zlib.crc32(name.encode())])
            dims = tuple(extents[x] for x in shape)
            bound = 1 / np.sqrt(dims[-1]) if dims else 1.0
            draw = random.uniform(-bound, bound, dims) if dims else random.uniform(0.5, 1.0)
            out[name] = np.asarray(draw).astype(self.dtype)
        return out

    # ------------------------------------------------------------------------------------------------------ passes

    def forward(
        self,
        params: Mapping[str, Any],
        inputs: Any = None,
        initial: Mapping[str, Any] | None = None,
        lengths: Any = None,
        *,
        steps: int | None = None,
        batch: int | None = None,
    ) -> dict[str, Array]:
        """Outputs and states at steps 1..T, each (T, B, size).

        ``inputs`` is (T, B, size), or a dict of such arrays where the cell has several inputs; ``initial`` maps states to
        (B, size), zero where left out; ``lengths`` is (B,), each sequence's number of steps: beyond it states stay as they
        are and outputs are zero.  ``steps`` and ``batch`` say T and B for a cell without inputs.
        Raises ValueError that names the array, its shape and the one expected.
        """
        data = check_data(self.cell, self.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
        with np.errstate(all="ignore"):
            return run_forward(self._plan(None), data, self.dtype).observed()

    def value_and_grad(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Any
    ) -> tuple[Any, dict[str, Array]]:
        """The loss and the gradient of every parameter; arguments as for :meth:`backward`."""
        result = self._backward(params, inputs, targets, want_inputs=False, **options)
        return result.loss, result.params

    def backward(self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Any) -> Result:
        """The loss and every gradient.

        ``targets`` belong to the loss; the options are ``loss`` ("softmax_cross_entropy", "squared_error", "linear"), ``at``
        ("every", "last"), ``on`` (which output), ``reduction`` ("sum", "mean"), ``cotangents`` (for "linear": a dict of
        arrays like the outputs and states; left-out names are zero), and ``initial``, ``lengths``, ``steps``, ``batch`` as
        for :meth:`forward`.  Gradients of padding are exactly zero.
        Raises ValueError that names the array, its shape and the one expected.
        """
        return self._backward(params, inputs, targets, want_inputs=True, **options)

    def _backward(
        self,
        params: Mapping[str, Any],
        inputs: Any,
        targets: Any,
        *,
        want_inputs: bool,
        loss: str = "softmax_cross_entropy",
        at: str = "every",
        on: str | None = None,
        reduction: str = "sum",
        initial: Mapping[str, Any] | None = None,
        lengths: Any = None,
        cotangents: Mapping[str, Any] | None = None,
        steps: int | None = None,
        batch: int | None = None,
    ) -> Result:
        spec = check_loss(
            self.cell, loss=loss, at=at, reduction=reduction, on=on, targets=targets, cotangents=cotangents
        )
        if not self.cell.inputs:
            said = spec.extent()
            steps, batch = steps or said[0], batch or said[1]
        data = check_data(self.cell, self.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
        plans = self._plan(frozenset(spec.roots()))
        with np.errstate(all="ignore"):
            tape = run_forward(plans, data, self.dtype)
            outputs = tape.observed()
            value, local = evaluate_loss(spec, data, outputs)
            reverse = self.reverse(plans, tape, local)
            params, found = reverse.run(want_inputs=want_inputs)
        return Result(value, params, found, reverse.initial, reverse.states, outputs)

    #: The backward pass; a test may put a wrong one in its place.
    reverse = Reverse

    def _plan(self, active: frozenset[str] | None) -> Plans:
        if active not in self._plans:
            self._plans[active] = Plans(self.backward_program, active)
        return self._plans[active]
