"""The lines of a file of backward equations on arrays: every derivative is what its line says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from derive.errors import CellError
from derive.handwritten.lines import Line
from derive.handwritten.reading import Env
from derive.handwritten.running import AsWritten, Wanted
from derive.handwritten.text import Text
from derive.handwritten.times import EVERY, When
from derive.handwritten.values import UNDEFINED, ZERO
from derive.notation import at
from derive.syntax import Call, Indexed, Tree, walk
from numeric.arguments import Array
from numeric.batches import Vec, WideError
from numeric.domain import added, over_time
from numeric.network import Network, Span

__all__ = ["Running"]


class Running(AsWritten):
    """The file's lines on arrays; a sum over time is taken for all steps at once where that is possible."""

    truth: Network  # type: ignore[assignment]

    def __init__(self, text: Text, network: Network) -> None:
        super().__init__(text, network)
        self.stacks: dict[tuple[str, str], Vec] = {}

    def time(self, when: When, env: Env) -> Any:
        """A step's number, or a span of steps."""
        base = env.get(when.anchor)
        return self.truth.moved(base, when.shift) if isinstance(base, Span) else super().time(when, env)

    def distance(self, later: Any, earlier: Any) -> int:
        """Steps between two times."""
        if isinstance(later, Span) or isinstance(earlier, Span):
            raise WideError
        return super().distance(later, earlier)

    # ------------------------------------------------------------------------------------------------ values of a line

    def computed(self, wanted: Wanted) -> Any:
        """What the line says, its size compared with what the cell says."""
        try:
            value = super().computed(wanted)
            return value if self.missing else self.fitted(wanted, value)
        except CellError:
            raise
        except ValueError as error:
            raise self.error(f"this cannot be computed at these sizes: {error}") from None

    def fitted(self, wanted: Wanted, value: Any) -> Any:
        """A vector of the cell's own size, (B, n), for what the cell has a size of."""
        cell = self.truth.cell
        if not isinstance(value, Vec) or wanted.role not in ("derivative", "initial", "local"):
            return value
        size = self.truth.data.sizes[cell.axes[wanted.name]]
        array = value.spread(size)
        if array.shape[-1] != size:
            raise ValueError(f"{array.shape[-1]} entries for {self.shown(wanted)}, which has {size}")
        return Vec(np.broadcast_to(array, (self.truth.batch, size)))

    def written(self, role: str, name: str, time: Any) -> Any:
        """A value that a line gives, or its values at a span of steps."""
        if not isinstance(time, Span):
            return super().written(role, name, time)
        unknown = [w for w in _each(role, name, time) if w not in self.known]
        if unknown:
            self.missing.update(dict.fromkeys(unknown))
            return UNDEFINED
        return self.stacked(role, name, time)

    def stacked(self, role: str, name: str, span: Span) -> Vec:
        """What a line gives at the steps of a span, (S, B, n); the whole sequence is put together once."""
        every = Span(1, self.truth.count)
        if (role, name) in self.stacks or all(w in self.known for w in _each(role, name, every)):
            if (role, name) not in self.stacks:
                self.stacks[role, name] = self.joined([self.known[w] for w in _each(role, name, every)])
            whole = self.stacks[role, name]
            return Vec(self.truth.rows(whole.array, span).array, scalar=whole.scalar)
        return self.joined([self.known[w] for w in _each(role, name, span)])

    def joined(self, values: list[Any]) -> Vec:
        """One array of the values at each step; raises WideError where they are not vectors of one size."""
        if not all(isinstance(v, Vec) for v in values) or len({(v.array.shape[-1], v.scalar) for v in values}) > 1:
            raise WideError
        whole = (self.truth.batch, values[0].array.shape[-1])
        return Vec(np.stack([np.broadcast_to(v.array, whole) for v in values]), scalar=values[0].scalar)

    def line_of(self, role: str, name: str, time: Any) -> Line | None:
        """The line for a name at a step, or at every step of a span."""
        if isinstance(time, Span) and self.has_lines(role, name):
            line = self.lines[role, name][-1]
            if line.target.when is None or line.target.when.anchor != EVERY:
                raise WideError  # lines for single steps only
            return line
        return super().line_of(role, name, time)

    # -------------------------------------------------------------------------------------------------- sums over time

    def total(self, tree: Call, env: Env) -> Any:
        """A sum over time: all steps at once but those at the ends, or each by itself where a step needs a matrix."""
        body = tree.arguments[0]
        _no_span(env)
        times = list(self.range(tree, env))
        if len(times) < 2:
            return added(self.value(body, one) for one in times)
        variable = self.text.indices.ranges[id(tree)].variable if id(tree) in self.text.indices.ranges else EVERY
        steps = sorted(one[variable] for one in times)
        first, last = self.inner(body, variable, steps[0], steps[-1])
        try:
            middle = self.at_once(body, {**env, variable: Span(first, last)}) if first < last else None
        except WideError:
            middle = None
        if middle is None:
            return added(self.value(body, {**env, variable: t}) for t in reversed(steps))
        ends = (self.value(body, {**env, variable: t}) for t in steps if not first <= t <= last)
        return added([*ends, middle])

    def at_once(self, body: Tree, env: Env) -> Any:
        """The sum of a term over the one span in ``env``."""
        (span,) = (x for x in env.values() if isinstance(x, Span))
        return over_time(self.value(body, env), span.last - span.first + 1)

    def inner(self, body: Tree, variable: str, first: int, last: int) -> tuple[int, int]:
        """The steps of a sum at which nothing in the term stands outside of the sequence."""
        for part in walk(body):
            if isinstance(part, Indexed) and self.text.indices.of(part).anchor == variable:
                shift, reference = self.text.indices.of(part).shift, self.names.indexed(part.name, part.position)
                start = 0 if reference.role == "forward" and reference.name in self.truth.cell.states else 1
                first, last = max(first, start - shift), min(last, self.truth.count - shift)
        return first, last

    def product_over_time(self, tree: Call, env: Env) -> Any:
        """A product over time, one factor after the other."""
        _no_span(env)
        return super().product_over_time(tree, env)

    # ------------------------------------------------------------------------------------------------------ every line

    @cached_property
    def vectors(self) -> list[tuple[str, str]]:
        """What the lines with an index are about, matrices left out."""
        out: dict[tuple[str, str], None] = {}
        for (role, name), lines in self.lines.items():
            if role in ("derivative", "local", "softmax", "own") and lines[0].target.when is not None:
                kind = self.text.kinds.own.get(name)
                if role != "own" or kind is None or kind.what in ("vector", "scalar"):
                    out[role, name] = None
        return list(out)

    def sweep(self) -> None:
        """Settle every vector line at every step, the last step first."""
        names = list(self.vectors)
        for t in range(self.truth.count, 0, -1):
            for role, name in names:
                self.at_step(role, name, t)
            if t >= self.truth.count - 1:  # from now on in the order in which they were found
                found = [(w.role, w.name) for w in self.known if w.time == t]
                names.sort(key=lambda x: found.index(x) if x in found else len(found))

    def history(self, role: str, name: str) -> Array:
        """(T, B, n) of what a vector line says at every step: zero for ZERO, NaN where it has no value."""
        values = [self.at_step(role, name, t) for t in range(1, self.truth.count + 1)]
        size = self.size(role, name, values)
        out = np.zeros((self.truth.count, self.truth.batch, size), self.truth.data.dtype)
        for t, value in enumerate(values):
            if value is not ZERO:
                out[t] = np.nan if value is UNDEFINED else value.spread(size)
        return out

    def size(self, role: str, name: str, values: list[Any]) -> int:
        """How many entries a line has."""
        sizes, cell = self.truth.data.sizes, self.truth.cell
        if role != "own":
            return sizes[cell.axes[self.truth.loss.on if role == "softmax" else name]]
        kind = self.text.kinds.own.get(name)
        letter = kind.sizes[0] if kind is not None and kind.what == "vector" and kind.sizes else None
        return sizes[letter] if letter else max((v.array.shape[-1] for v in values if isinstance(v, Vec)), default=1)

    def at_step(self, role: str, name: str, t: int) -> Any:
        """What a line says at a step; what the loss gives an output, undefined for others, where no line says it."""
        if self.line_of(role, name, t) is not None:
            return self.settled(Wanted(role, name, t))
        if role == "own":
            return ZERO
        return self.truth.from_loss(t).get(at(name), ZERO) if name in self.truth.cell.outputs else UNDEFINED


def _each(role: str, name: str, span: Span) -> Iterator[Wanted]:
    return (Wanted(role, name, t) for t in range(span.first, span.last + 1))


def _no_span(env: Env) -> None:
    if any(isinstance(x, Span) for x in env.values()):
        raise WideError
