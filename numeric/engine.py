"""Forward and backward over time at full size, for any cell, from its derivation.

    out = engine.forward(params, inputs)
    loss, grads = engine.value_and_grad(params, inputs, targets)

Arrays are time-major; a step's work is what :mod:`numeric.plan` planned from the proven program, compiled by
:mod:`numeric.compile`.  Products with one operand are one product, products with inputs are taken for all steps at
once, and each matrix's gradient is one product over T * B rows.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from sympy import Expr

from derive.adjoint import Backward, Through, differentiate_step
from derive.cell import Cell
from derive.parse import load
from derive.program import Pointwise, cut
from numeric.arguments import Array, Data, as_dtype, check_data, check_sizes
from numeric.compile import check_constants
from numeric.losses import evaluate_loss
from numeric.plan import Plans
from numeric.problem import Options, check_problem
from numeric.run import Reverse
from numeric.tape import run_forward

__all__ = ["Engine", "Result"]


@dataclass(frozen=True)
class Result:
    """What a backward pass gives.

    ``params`` holds the gradient of each parameter, ``inputs`` of each input (T, B, size), ``initial`` of each initial
    state (B, size), ``states`` dL/ds_t of each state (T, B, size); ``outputs`` the outputs and states that were
    computed.  All arrays are the caller's own: none shares memory with another or with what was handed in.
    """

    loss: Any
    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    states: dict[str, Array]
    outputs: dict[str, Array]


class Engine:
    """A cell compiled for NumPy.

    ``cell`` is a :class:`derive.Cell`, a shipped cell's name or a path; ``dtype`` float64, float32 or complex128 (for
    the complex step); ``keep`` what is kept between the passes: "all".  ``backward`` puts another backward program in
    place of the derived one, to see it fail.  An engine holds no state between calls and may be used from several
    threads.  Raises ValueError for an unknown dtype, and for a constant of the cell that ``dtype`` cannot hold.

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
        if keep != "all":
            raise ValueError(f"keep is {keep!r}; expected 'all'")
        self.dtype = as_dtype(dtype)
        self.keep = keep
        if backward is not None and backward.program.cell != self.cell:
            raise ValueError(f"backward belongs to the cell {backward.program.cell.name}, not to {self.cell.name}")
        self.backward_program = backward or differentiate_step(cut(self.cell))
        self.program = self.backward_program.program
        check_constants(_expressions(self.backward_program), self.dtype)
        self._planted = backward is not None
        self._plans: dict[frozenset[str] | None, Plans] = {}

    def __repr__(self) -> str:
        return f"<Engine {self.cell.name}, {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._planted or "reverse" in vars(self):
            raise TypeError("an engine with a backward pass of its own cannot be copied or pickled")
        return type(self), (self.cell, str(self.dtype), self.keep)

    # ---------------------------------------------------------------------------------------------------- parameters

    def init(self, seed: int = 0, **sizes: int) -> dict[str, Array]:
        """Random parameters, drawn uniformly.

        Within 1/sqrt(columns) for a matrix, within 1/sqrt(size) for a vector, from (1/2, 1) for a scalar.  ``sizes``
        gives every letter of ``cell.dimensions``.  Each parameter has a stream of its own, so that another parameter
        more changes no number.  Raises ValueError for a missing, unknown or impossible size.
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

        ``inputs`` is (T, B, size), or a dict of such arrays where the cell has several inputs; ``initial`` maps
        states to (B, size), zero where left out; ``lengths`` is (B,), each sequence's number of steps: beyond it
        states stay as they are and outputs are zero.  ``steps`` and ``batch`` say T and B for a cell without inputs.
        Raises ValueError that names the array, its shape and the one expected.
        """
        data = check_data(self.cell, self.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
        with np.errstate(all="ignore"):
            outputs = run_forward(self._plan(None), data).observed()
        return _apart(data, (outputs,))[0]

    def value_and_grad(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> tuple[Any, dict[str, Array]]:
        """The loss and the gradient of every parameter; arguments as for :meth:`backward`."""
        result = self._backward(params, inputs, targets, options, want_inputs=False)
        return result.loss, result.params

    def backward(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> Result:
        """The loss and every gradient.

        ``targets`` belong to the loss: class indices (T, B) or distributions (T, B, size) for
        "softmax_cross_entropy", an array like the output for "squared_error"; with ``at="last"`` they have no time
        axis.  The options are ``loss``, ``at``, ``on``, ``reduction``, ``cotangents``, ``initial``, ``lengths``,
        ``steps`` and ``batch``, as :class:`numeric.problem.Options` says.  Gradients of padding are exactly zero.
        Raises TypeError for an unknown option and ValueError that names the array, its shape and the one expected.
        """
        return self._backward(params, inputs, targets, options, want_inputs=True)

    def _backward(
        self, params: Mapping[str, Any], inputs: Any, targets: Any, options: Options, *, want_inputs: bool
    ) -> Result:
        problem = check_problem(self.cell, self.dtype, params, inputs, targets, options)
        plans = self._plan(frozenset(problem.loss.given))
        with np.errstate(all="ignore"):
            tape = run_forward(plans, problem.data)
            outputs = tape.observed()
            value, local = evaluate_loss(problem.loss, outputs)
            reverse = self.reverse(plans, tape, local)
            gradients, found = reverse.run(want_inputs=want_inputs)
        states, found, initial, outputs = _apart(problem.data, (reverse.states, found, reverse.initial, outputs))
        return Result(value, gradients, found, initial, states, outputs)

    #: The backward pass; a test may put a wrong one in its place.
    reverse = Reverse

    def _plan(self, active: frozenset[str] | None) -> Plans:
        if active not in self._plans:
            self._plans[active] = Plans(self.backward_program, active)
        return self._plans[active]


def _expressions(backward: Backward) -> Iterator[Expr]:
    """All entrywise work of one step, forward and backward."""
    yield from (node.expression for node in backward.program.nodes if isinstance(node, Pointwise))
    for flow in (f for flows in backward.flows.values() for f in flows):
        yield flow.factor if isinstance(flow, Through) else flow.scale


def _apart(data: Data, groups: Iterable[dict[str, Array]]) -> list[dict[str, Array]]:
    """The same arrays, copied where they share memory with the user's or with each other: each may be written to."""
    taken = list(data.inputs.values())
    out = []
    for group in groups:
        own = {}
        for name, x in group.items():
            own[name] = x.copy() if any(np.may_share_memory(x, other) for other in taken) else x
            taken.append(own[name])
        out.append(own)
    return out
