"""A person's backward equations run at full size, exactly as they are written: what their mistake does to a gradient.

A file speaks of one sequence, steps 1..T, and of the plain sum of its steps' losses.  So it is run for each sequence as
it stands, with T the sequence's own length (sequences of one length together), and

    result = sum over sequences b of  weight_b * (what the file gives for sequence b)

where the weight is what the reduction says: 1 for "sum", 1 over the number of steps and sequences that count for
"mean".  Padding is no part of any sequence and has gradient zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from derive.cell import Cell
from derive.errors import CellError
from derive.handwritten.lines import Line
from derive.handwritten.running import Wanted
from derive.handwritten.source import read_source
from derive.handwritten.times import EVERY
from derive.handwritten.values import UNDEFINED, ZERO
from derive.parse import load
from derive.syntax import Indexed, Name
from numeric.arguments import Array, as_dtype
from numeric.backward_file import File, check_file_loss, prepared
from numeric.domain import over_batch
from numeric.losses import Loss, evaluate_loss
from numeric.network import Network, Sequences, Values
from numeric.problem import Options, Problem, check_problem
from numeric.running import Running
from numeric.tape import run_forward

__all__ = ["FileResult", "run_backward"]


@dataclass(frozen=True)
class FileResult:
    """What a file of backward equations gives.

    ``grads`` holds the gradient of each parameter that has a line, ``missing`` the other parameters; ``inputs`` that of
    each input with a line, (T, B, n), ``initial`` of each initial state with a line, (B, n): all of the loss ``loss``,
    reduction included.  ``outputs`` are the outputs and states, as the engine's forward pass gives them.

    ``values`` is what each line with an index says, by its name in the file, (T, B, n), of the plain sum over the steps
    of each sequence: no reduction in it; zero at padding, NaN where the line has no value; matrices are left out.
    ``scale`` is the file's own loss in units of the one asked for: 2 where it says 2*(y[t] - target[t]) and
    squared_error is half of that; ``loss``, ``grads``, ``inputs`` and ``initial`` are the file's.
    """

    loss: Any
    grads: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    values: dict[str, Array]
    missing: tuple[str, ...]
    outputs: dict[str, Array]
    scale: int = 1


def run_backward(
    source: str | os.PathLike[str],
    cell: Cell | str | os.PathLike[str],
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    dtype: str = "float64",
    **options: Unpack[Options],
) -> FileResult:
    """Run backward equations as they are written, right or wrong.

    ``source`` is a text (anything with a line break or an equals sign) or the path of a .backward file, ``cell`` a
    :class:`derive.Cell`, a shipped cell's name or a path; the others are those of :meth:`numeric.Engine.backward`.
    Values of the cell are the engine's.  No derivative is: each is what its line says; an output without a line is what
    the loss gives.  A Jacobian, an immediate or truncated derivative, and dl_dh are truths about the cell.  p[t] and
    target[t] are of the targets given, class indices one-hot; the file's p[t] - target[t] is the gradient where targets
    sum to one.

    Raises what the engine raises for its arguments; CellError, a ValueError, for a text that cannot be read, for a
    derivative that is used and that no line gives or that needs itself, for sizes that do not conform; ValueError for a
    loss that is not the file's; FileNotFoundError for a path where nothing is.

    >>> import numeric
    >>> params = numeric.Engine("tanh_rnn").init(seed=0, D=2, H=3, O=2)
    >>> result = run_backward("dW_hy = sum(outer(p[t] - target[t], h[t]))", "tanh_rnn", params, np.ones((4, 1, 2)),
    ...                       np.zeros((4, 1), int))
    >>> result.grads["W_hy"].shape, result.missing
    ((2, 3), ('W_hh', 'W_xh', 'b'))
    """
    name, text = read_source(source)
    cell = cell if isinstance(cell, Cell) else load(cell)
    numbers = as_dtype(dtype)
    try:
        file = prepared(text, cell)
        problem = check_problem(cell, numbers, params, inputs, targets, options)
        check_file_loss(file, problem, options)
        with np.errstate(all="ignore"):
            return _Run(file, problem, options).result()
    except CellError as error:
        raise error.in_source(name) if name else error from None


# ------------------------------------------------------------------------------------------------------------- the run


class _Run:
    def __init__(self, file: File, problem: Problem, options: Options) -> None:
        self.file, self.cell, self.data, self.loss = file, file.cell, problem.data, problem.loss
        self.last = options.get("at", "every") == "last"
        tape = run_forward(file.plans, self.data)
        self.values = Values(file.backward, tape)
        self.outputs = {name: x.copy() for name, x in tape.observed().items()}
        self.grads: dict[str, Array] = {}
        self.inputs: dict[str, Array] = {}
        self.initial: dict[str, Array] = {}
        self.history: dict[str, Array] = {}

    def result(self) -> FileResult:
        """Every group of sequences run, and the results put together."""
        for weight, sequences in self.groups():
            running = Running(self.file.text, Network(self.file.backward, self.file.loss, sequences))
            running.sweep()
            self.add_history(running, sequences, weight)
            self.add_initial(running, sequences, weight)
            self.add_gradients(running, weight)
        value, scale = evaluate_loss(self.loss, self.outputs)[0], self.file.loss.scale
        missing = tuple(name for name in self.cell.parameters if name not in self.grads)
        grads = {name: self.grads[name] for name in self.cell.parameters if name in self.grads}
        return FileResult(value * scale, grads, self.inputs, self.initial, self.history, missing, self.outputs, scale)

    def groups(self) -> Iterator[tuple[float, Sequences]]:
        """The sequences of each length, and what their results are multiplied by."""
        slopes = evaluate_loss(replace(self.loss, count=1), self.outputs)[1]
        target, data = _targets(self.loss, self.outputs), self.data
        lengths = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
        for steps in map(int, np.unique(lengths)):
            weight = (steps if self.file.loss.per_step else 1) / self.loss.count
            which = np.flatnonzero(lengths == steps)
            yield weight, Sequences(self.values, steps, which, slopes, target, self.last)

    # ------------------------------------------------------------------------------------------------ what is gathered

    def put(self, room: dict[str, Array], name: str, sequences: Sequences, part: Array) -> None:
        """(T, B, n) of some sequences, each in its place; zero at padding."""
        if name not in room:
            room[name] = np.zeros((self.data.steps, self.data.batch, part.shape[-1]), part.dtype)
        room[name][: sequences.steps, sequences.which] = part

    def add_history(self, running: Running, sequences: Sequences, weight: float) -> None:
        """The lines with an index, and the gradients of inputs among them."""
        for role, name in running.vectors:
            part, line = running.history(role, name), running.lines[role, name][-1]
            self.put(self.history, _left(line), sequences, part)
            if role == "derivative" and name in self.cell.inputs and _is_for_every_step(line):
                if any(running.at_step(role, name, t) is UNDEFINED for t in range(1, sequences.steps + 1)):
                    raise _undefined(line)
                self.put(self.inputs, name, sequences, weight * part)

    def add_initial(self, running: Running, sequences: Sequences, weight: float) -> None:
        """The lines for initial states: dh0, dh[0], or a line for dh[t-1]."""
        for name in self.cell.states:
            said = running.line_of("initial", name, None), running.line_of("derivative", name, 0)
            line = said[0] or said[1]
            by_the_way = line is not None and _is_for_every_step(line)
            if line is None or (by_the_way and line.offset < 1):
                continue
            value = running.settled(Wanted("initial", name, None) if said[0] else Wanted("derivative", name, 0))
            if value is UNDEFINED and by_the_way:  # dc[t-1] = ... o[t-1] ... says nothing of c[0]
                continue
            if value is UNDEFINED:
                raise _undefined(line)
            room = self.initial.setdefault(name, np.zeros_like(self.data.initial[name]))
            room[sequences.which] = 0 if value is ZERO else weight * value.array

    def add_gradients(self, running: Running, weight: float) -> None:
        """The lines for parameters, added up over the sequences."""
        for name, p in self.data.params.items():
            line = running.line_of("gradient", name, None)
            if line is None:
                continue
            value = running.settled(Wanted("gradient", name, None))
            if value is UNDEFINED:
                raise _undefined(line)
            total = self.grads.setdefault(name, np.zeros_like(p))
            if value is not ZERO:
                total[...] += weight * _shaped(over_batch(value, running.truth.batch), p.shape, line)


def _targets(loss: Loss, outputs: Mapping[str, Array]) -> Array | None:
    """(T, B, n), class indices one-hot; zero at the steps that do not count."""
    if loss.name == "linear":
        return None
    ((root, given),) = loss.given.items()
    out = np.zeros_like(outputs[root])
    is_classes = given.ndim < out[loss.where].ndim
    out[loss.where] = np.eye(out.shape[-1], dtype=out.dtype)[given] if is_classes else given
    return out


def _shaped(array: Array, shape: tuple[int, ...], line: Line) -> Array:
    """A gradient in its parameter's shape; a number stands for every entry of a vector."""
    if len(shape) < 2 and array.shape == (1,):
        return np.broadcast_to(array, shape) if shape else array[0]
    if array.shape != shape:
        why = f"this has shape {array.shape}"
        raise CellError(why, line.equation.position, found=line.text, expected=f"{shape}, that of {line.target.name}")
    return array


def _is_for_every_step(line: Line) -> bool:
    return line.target.when is not None and line.target.when.anchor == EVERY


def _left(line: Line) -> str:
    """The name on the left side, as the file writes it."""
    assert isinstance(line.equation.target, Indexed | Name)
    return line.equation.target.name


def _undefined(line: Line) -> CellError:
    wanted = "h[0] to h[T] of a state, [1] to [T] of other values; derivatives are zero at [T+1]"
    why = "this has no value: it uses one from outside of the sequence"
    return CellError(why, line.equation.position, found=line.text, expected=wanted)
