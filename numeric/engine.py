"""Forward and backward over time at full size, for any cell, from its derivation.

    out = engine.forward(params, inputs)
    loss, grads = engine.value_and_grad(params, inputs, targets)

Arrays are time-major; a step's work is what :mod:`numeric.plan` planned from the proven program, compiled by
:mod:`numeric.compile`.  Products with one operand are one product, products with inputs are taken for all steps at
once, and each matrix's gradient is one product over T * B rows.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np
from sympy import Expr

from derive.adjoint import Backward, Through, backward_of
from derive.cell import Cell
from derive.parse import load
from derive.program import Pointwise
from numeric.arguments import Array, Data, as_dtype, check_data, check_lengths, check_sizes, positive_integer
from numeric.blas_threads import one_blas_thread
from numeric.compile import check_constants
from numeric.losses import evaluate_loss
from numeric.memory import MemoryPlan, check_keep
from numeric.parts import check_threads
from numeric.passes import Passes, check_fast, check_layout
from numeric.plan import Plans
from numeric.problem import Options, Problem, check_problem
from numeric.recognise import Recogniser
from numeric.run import Reverse
from numeric.segments import check_segment
from numeric.session import Passed
from numeric.tape import run_forward
from numeric.truncated import run_truncated

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
    """A cell compiled for full size.

    ``cell`` is a :class:`derive.Cell`, a shipped cell's name or a path; ``dtype`` float64, float32 or complex128 (for
    the complex step).  ``keep`` is what is kept between the passes (:meth:`memory_plan` says what it costs): "all";
    "states", those of every step, from which the rest is computed again for all steps of a segment at once; "starts",
    the first states of each segment, which is gone through again step by step; or a number of bytes, for which such a
    plan is made.  "all", "starts" and every number of bytes give the same bits; "states" is equal to rounding, for
    products of other shapes are summed in another order.  It has nothing to compute again where there is one segment,
    and is "starts" where Numba's loop runs (small sizes), in which going through the steps again is the quicker way.

    ``fast`` is whether Numba's compiled code is used: True, False, or None for whatever is faster where Numba is
    installed (the environment variable BPTT_FAST, 0 or 1, decides where ``fast`` is left out). It compiles for a
    second or two, once for a cell, and the results are equal to rounding. ``segment`` is the number of rows, steps
    times sequences, that sums over time are taken over at once; where left out, it depends on the sizes. ``layout`` is
    how the steps of a pass are kept where the compiled loop does not run: "rows", each as (sequences, features);
    "columns", as (features, sequences); or None for whatever is faster; the results are equal to rounding. ``plain``
    runs the lambdified program, which all other forms have to equal; ``backward`` puts another backward program in
    place of the derived one, to see it fail.

    ``threads`` is how many parts of a batch are computed side by side, each with one BLAS thread; a batch takes no more
    of them than it has sequences. None, where left out, is for what pays on the CPUs that the process may use: one
    where sizes are small, parts for the compiled loop, and threads of BLAS's own for large products. On a machine that
    is busy otherwise these lose: say 1. BLAS has the number that it had afterwards. Other numbers give other last
    digits: say ``threads`` for the same bits on machines with other numbers of CPUs.

    An engine may be used from several threads.  It keeps buffers for the last shapes of each thread, so that a call
    like the one before allocates what it returns and little more; they are freed with the engine.  Raises ValueError
    for settings that cannot be, and for a constant of the cell that ``dtype`` cannot hold.

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
        keep: str | int = "all",
        *,
        backward: Backward | None = None,
        plain: bool = False,
        segment: int | None = None,
        fast: bool | None = None,
        threads: int | None = None,
        layout: str | None = None,
    ) -> None:
        if not isinstance(plain, bool):
            raise ValueError(f"plain is {plain!r}; expected True or False")
        if backward is not None and not isinstance(backward, Backward):
            raise TypeError(f"backward has type {type(backward).__name__}; expected a derive.adjoint.Backward")
        self.plain = plain
        self.cell = cell if isinstance(cell, Cell) else load(cell)
        self.dtype = as_dtype(dtype)
        self.keep = check_keep(keep)
        self.segment = check_segment(segment)
        self.fast = check_fast(fast)
        self.threads = check_threads(threads)
        self.layout = check_layout(layout)
        if backward is not None and backward.program.cell != self.cell:
            raise ValueError(f"backward belongs to the cell {backward.program.cell.name}, not to {self.cell.name}")
        self.backward_program = backward or backward_of(self.cell)
        self.program = self.backward_program.program
        check_constants(_expressions(self.backward_program), self.dtype)
        self._planted = backward is not None
        self._plans: dict[frozenset[str] | None, Plans] = {}
        settings = self.segment, self.fast, self.threads, self.layout
        self._passes = Passes(self.backward_program, self.dtype, self.keep, *settings)
        self._recogniser = Recogniser(self.cell, self.dtype)

    def __repr__(self) -> str:
        return f"<Engine {self.cell.name}, {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._planted or "reverse" in vars(self):
            raise TypeError("an engine with a backward pass of its own cannot be copied or pickled")
        names = ("plain", "segment", "fast", "threads", "layout")
        settings = {name: getattr(self, name) for name in names}
        return partial(type(self), **settings), (self.cell, str(self.dtype), self.keep)

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
            if self._plain:
                return _apart(data, (run_forward(self._plan(None), data).observed(),))[0]
            session = self._passes.session(data, None, full=False)
            with session.limit:
                return session.outputs()

    def value_and_grad(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> tuple[Any, dict[str, Array]]:
        """The loss and the gradient of every parameter; arguments as for :meth:`backward`.

        A loss that is inf or nan comes with a RuntimeWarning that names the tensor and the time step where it began.
        """
        with np.errstate(all="ignore"):
            problem = self._problem(params, inputs, targets, options)
            if self._plain:
                result = self._lambdified(problem, want_inputs=False)
                return result.loss, result.params
            if problem.truncate is not None:
                passed = self._truncated(problem, full=False)
                return passed.loss, passed.params
            session = self._passes.session(problem.data, problem.loss, full=False)
            with session.limit:
                loss, gradients = session.value_and_grad(problem.loss)
        if loss - loss != 0:
            self._not_finite(loss, params, inputs, targets, options)
        return loss, gradients

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
        with np.errstate(all="ignore"):
            problem = self._problem(params, inputs, targets, options)
            if self._plain:
                return self._lambdified(problem, want_inputs=True)
            whole = problem.truncate is None
            found = self._run(problem, True) if whole else self._truncated(problem, full=True)
        if found.loss - found.loss != 0:
            self._not_finite(found.loss, params, inputs, targets, options)
        return Result(found.loss, found.params, found.inputs, found.initial, found.states, found.outputs)

    def _not_finite(self, loss: float, params: Any, inputs: Any, targets: Any, options: Options) -> None:
        """Warn, and say where it began."""
        from numeric.nonfinite import first_nonfinite  # it is rarely needed

        told: dict[str, Any] = {name: value for name, value in options.items() if name != "truncate"}
        where = first_nonfinite(self, params, inputs, targets, **told)
        warnings.warn(f"the loss is {loss}: {where}", RuntimeWarning, stacklevel=3)

    def jvp(
        self, params: Mapping[str, Any], inputs: Any = None, tangents: Mapping[str, Any] | None = None, **given: Any
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs and states and their derivatives along a direction; arguments as for :func:`numeric.jvp`."""
        from numeric.forward_mode import jvp  # it runs engines itself

        return jvp(self, params, inputs, tangents or {}, **given)

    def memory_plan(self, *, T: int, B: int, lengths: Any = None, **sizes: int) -> MemoryPlan:
        """What a gradient of T steps and B sequences keeps, and what it computes again.

        ``sizes`` gives every letter of ``cell.dimensions``.  The plan is for the loss that :meth:`backward` takes where
        nothing is said, and for the form that would run.  Raises ValueError where ``keep`` is too few bytes for any
        plan, with the least that works.

        >>> sizes = {"T": 100_000, "B": 1, "D": 10, "H": 20, "O": 5}
        >>> [Engine("tanh_rnn", keep=k, fast=False).memory_plan(**sizes).bytes for k in ("all", "states", "starts")]
        [32004000, 17440160, 1284160]
        """
        extents = check_sizes(self.cell, sizes)
        steps, batch = positive_integer("T", T), positive_integer("B", B)
        on = (self.cell.outputs or self.cell.states)[0]
        ends = check_lengths(lengths, steps, batch)
        data = Data(self.dtype, {}, {}, {}, ends, steps, batch, extents)
        return self._passes.plan(data, on)

    def _run(self, problem: Problem, full: bool) -> Passed:
        """One pass: with everything that it can give, or lean."""
        session = self._passes.session(problem.data, problem.loss, full=full)
        with session.limit:
            return session.backward(problem.loss) if full else session.lean(problem.loss)

    def _truncated(self, problem: Problem, *, full: bool) -> Passed:
        assert problem.truncate is not None
        widths = {name: problem.data.sizes[self.cell.axes[name]] for name in (*self.cell.outputs, *self.cell.states)}

        def advance(data: Data) -> dict[str, Array]:
            session = self._passes.session(data, None, full=False)
            with session.limit:
                return session.advance()

        return run_truncated(self._run, advance, problem, *problem.truncate, widths, full=full)

    def _problem(self, params: Any, inputs: Any, targets: Any, options: Options) -> Problem:
        """A call's arguments, checked; quickly where an earlier call was like it."""
        recogniser = self._recogniser
        key = recogniser.key(params, inputs, targets, options)
        known = recogniser.find(key, params, inputs, targets)
        if known is None:
            known = check_problem(self.cell, self.dtype, params, inputs, targets, options)
            recogniser.remember(key, known, targets)
        return known

    # ------------------------------------------------------------------------------------------------- the plain form

    @property
    def _plain(self) -> bool:
        """Whether the lambdified program runs: for complex numbers, and where something stands in for the derived."""
        return self.plain or self._planted or self.dtype.kind == "c" or "reverse" in vars(self)

    def _lambdified(self, problem: Problem, *, want_inputs: bool) -> Result:
        """The pass that :mod:`numeric.tape` and :mod:`numeric.run` make of the lambdified program."""
        if problem.truncate is not None:
            raise ValueError("truncate does not go with the plain engine, complex numbers or another backward pass")
        plans = self._plan(frozenset(problem.loss.full))
        with one_blas_thread, np.errstate(all="ignore"):
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
