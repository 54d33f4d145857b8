"""Which compiled pass a call gets: built once for each kind of loss, with buffers for each shape and thread."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from derive.adjoint import Backward
from derive.cell import Cell
from numeric.arguments import Data
from numeric.blas_threads import BlasThreads
from numeric.graph import Graph
from numeric.inplace import Compiled
from numeric.losses import Loss
from numeric.memory import Keep, MemoryPlan
from numeric.operations import Multiply
from numeric.parts import Parts, blas_threads_for, parts_for
from numeric.plan import Plans, refined_plans
from numeric.segments import Layout, lay_out, rows_for
from numeric.session import Session
from numeric.states_session import StatesSession
from numeric.storage import Storage

__all__ = ["LAYOUTS", "Passes", "check_fast", "check_layout", "numba_is_there"]

#: A step is kept as (sequences, features) or (features, sequences).
LAYOUTS = ("rows", "columns")

_KEPT = 4  # shapes whose buffers a thread keeps
_LOOP_WORK = 120_000  # entries of the matrices up to which the compiled loop is faster than calls of BLAS
_EAGER = 1 << 14  # bytes of a state at one step from which numbers are better used while they are in the cache
#: Entries of the matrices in the loop from which float32 is faster in columns.  One core, OpenBLAS 0.3.31, AVX-512,
#: B = 8 to 128, time in columns / in rows: tanh H 256 1.04, 512 1.0, 1024 0.95 (B 8: 0.8); GRU H 192 1.08, 256 1.03,
#: 512 0.9; LSTM H 192 1.0, 256 0.94, 512 0.88, 1024 0.95.  float64: 1.12 to 1.25.
_COLUMNS = 1 << 18


class Passes:
    """The passes of one cell and dtype; may be used from several threads, each with buffers of its own."""

    def __init__(
        self,
        backward: Backward,
        dtype: np.dtype[Any],
        keep: Keep,
        rows: int | None,
        fast: bool | None,
        threads: int | None,
        layout: str | None = None,
    ) -> None:
        self.backward, self.dtype, self.keep, self.rows, self.fast = backward, dtype, keep, rows, fast
        self.threads, self.layout = threads, layout
        self.compiled: dict[Any, Any] = {}
        self.lock = threading.Lock()
        self.local = threading.local()

    def pass_for(
        self,
        active: frozenset[str] | None,
        *,
        full: bool = False,
        eager: bool = False,
        fused: bool = False,
        bare: bool = False,
        given: bool = False,
        columns: bool = False,
    ) -> Compiled:
        """The compiled pass for a loss that reads ``active``; None: forward only."""
        key = active, full, eager, fused, bare, given, columns
        if key not in self.compiled:
            plans = refined_plans(self.backward, active)
            with self.lock:
                if key not in self.compiled:
                    graph = self._graph(plans, full=full, eager=eager, fused=fused, bare=bare, given=given)
                    self.compiled[key] = Compiled(graph, self.dtype, fused=fused, columns=columns)
        return self.compiled[key]

    def _graph(self, plans: Plans, *, full: bool, **how: bool) -> Graph:
        """The operations of a pass, with every gradient or the parameters' alone."""
        return Graph(plans, want_inputs=full, want_states=full, **how)

    def _storage(self, active: frozenset[str], **how: bool) -> Storage:
        """Where a pass would have its numbers, which nobody runs."""
        key = active, *sorted(how.items())
        if key not in self.compiled:
            plans = refined_plans(self.backward, active)
            with self.lock:
                if key not in self.compiled:
                    self.compiled[key] = Storage(self._graph(plans, **how))
        return self.compiled[key]

    def session(self, data: Data, loss: Loss | None, *, full: bool) -> Session | Parts:
        """A pass with its buffers, for this thread, ready for a call's data; without a loss, forward only."""
        kept: OrderedDict[Any, Session | Parts] = self.local.__dict__.setdefault("kept", OrderedDict())
        key = None if loss is None else loss.kind, full, data.steps, data.batch, data.lengths is None, data.shape
        session = kept.get(key)
        if session is None:
            session = kept[key] = self._made(data, loss, full=full)
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        else:
            kept.move_to_end(key)
        session.prepare(data)
        return session

    def _made(self, data: Data, loss: Loss | None, *, full: bool) -> Session | Parts:
        work = sum(data.sizes[r] * data.sizes[c] for r, c in _matrices(self.backward.program.cell))
        rows = self.rows or rows_for(work)
        make = partial(self._session, loss=loss, full=full, work=work, rows=rows)
        if self.threads is None and not self._compiles(work):
            session = make(data)
            if (many := blas_threads_for(data, work)) > 1:
                session.limit = BlasThreads(many)
            return session
        count = parts_for(self.threads, data, work)
        return Parts(make, data, rows, count) if count > 1 else make(data)

    def _session(
        self, data: Data, whole: Layout | None = None, *, loss: Loss | None, full: bool, work: int, rows: int
    ) -> Session:
        active = None if loss is None else frozenset(loss.full)
        keep: Keep = "all" if loss is None else self.keep
        if self._compiles(work):
            from numeric.loop_session import LoopSession

            keep = "starts" if keep == "states" else keep  # numeric.loop_session says why
            return LoopSession(self._loop(loss, active, full=full), data, keep=keep, rows=rows, whole=whole)
        return self._products(data, active, keep, rows, whole, full=full)

    def _products(
        self, data: Data, active: frozenset[str] | None, keep: Keep, rows: int, whole: Layout | None, *, full: bool
    ) -> Session:
        """A pass of calls of BLAS."""
        cell = self.backward.program.cell
        widest = max(data.sizes[cell.axes[name]] for name in cell.states)
        fused = self.fast is not False and numba_is_there()
        eager = active is not None and (fused or data.batch * widest * self.dtype.itemsize >= _EAGER)
        if keep == "states" and active is not None:
            if data.lengths is not None or len((whole or lay_out(data, rows)).segments) > 1:
                ahead = self.pass_for(None, fused=fused, bare=True)
                again = self.pass_for(active, full=full, fused=fused, given=True)
                usual = self._storage(active, full=full, eager=eager, fused=fused)
                return StatesSession(ahead, again, usual, data, rows=rows, whole=whole)
            keep = "all"  # one segment's tape is all there is
        columns = self._in_columns(data, active)
        compiled = self.pass_for(active, full=full, eager=eager, fused=fused, columns=columns)
        return Session(compiled, data, keep=keep, rows=rows, whole=whole)

    def plan(self, data: Data, on: str) -> MemoryPlan:
        """What a pass keeps for a loss that reads ``on`` at every step."""
        full = {on: np.broadcast_to(np.zeros((), np.intp), (data.steps, data.batch))}
        loss = Loss("softmax_cross_entropy", "every", ..., full, full, 1)
        return self._made(data, loss, full=False).plan

    def _in_columns(self, data: Data, active: frozenset[str] | None) -> bool:
        """Whether steps are kept as (features, sequences): where that is asked for, or is faster."""
        if self.layout is not None:
            return self.layout == "columns"
        if self.dtype != np.float32 or data.batch == 1:
            return False
        loop = (o for o in refined_plans(self.backward, active).operations["loop"] if isinstance(o, Multiply))
        shapes = self.backward.program.cell.parameters
        matrices = [shapes[matrix] for operation in loop for _, matrix, _ in operation.parts]
        return sum(data.sizes[rows] * data.sizes[columns] for rows, columns in matrices) >= _COLUMNS

    def _compiles(self, work: int) -> bool:
        """Whether the compiled loop runs: where it is asked for, or can be had and is faster."""
        if self.fast is None:
            return work <= _LOOP_WORK and numba_is_there()
        return self.fast

    def _loop(self, loss: Loss | None, active: frozenset[str] | None, *, full: bool) -> Any:
        from numeric.fast.loop import compile_loop

        plans = refined_plans(self.backward, active)
        if loss is None:
            return compile_loop(plans, str(self.dtype), None)
        at = "from" if loss.begin else loss.at
        return compile_loop(plans, str(self.dtype), loss.name, at, loss.classes, full)


def _matrices(cell: Cell) -> list[tuple[str, str]]:
    return [(shape[0], shape[1]) for shape in cell.parameters.values() if len(shape) == 2]


@cache
def numba_is_there() -> bool:
    """Whether the extra `fast` is installed."""
    return find_spec("numba") is not None


def check_layout(layout: object) -> str | None:
    """How steps are kept; raises ValueError for no such choice."""
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected 'rows', 'columns', or None for whatever is faster")
    return None if layout is None else str(layout)


def check_fast(fast: object) -> bool | None:
    """Whether the compiled loop is to be used; raises ValueError for no such choice, and where Numba is missing.

    None, where left out, is what the environment variable BPTT_FAST says, 0 or 1; if it says nothing, None.
    """
    if fast is None:
        said = os.environ.get("BPTT_FAST", "")
        if said not in ("", "0", "1"):
            raise ValueError(f"the environment variable BPTT_FAST is {said!r}; expected 0, 1 or nothing")
        fast = None if not said else said == "1"
    if not (fast is None or isinstance(fast, bool)):
        raise ValueError(f"fast is {fast!r}; expected True, False, or None for whatever is faster")
    if fast and not numba_is_there():
        raise ValueError("fast is True, but Numba is not installed; pip install 'bptt[fast]'")
    return None if fast is None else bool(fast)
