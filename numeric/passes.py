"""Which compiled pass a call gets: built once for each kind of loss, with buffers for each shape and thread."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from derive.adjoint import Backward
from derive.cell import Cell
from numeric.arguments import Data
from numeric.graph import Graph
from numeric.inplace import Compiled
from numeric.losses import Loss
from numeric.memory import Keep, MemoryPlan
from numeric.plan import Plans, refined_plans
from numeric.refine import refine
from numeric.segments import rows_for
from numeric.session import Session

__all__ = ["Passes", "check_fast", "numba_is_there"]

_KEPT = 4  # shapes whose buffers a thread keeps
_LOOP_WORK = 120_000  # entries of the matrices up to which the compiled loop is faster than calls of BLAS
_EAGER = 1 << 14  # bytes of a state at one step from which numbers are better used while they are in the cache


class Passes:
    """The passes of one cell and dtype; may be used from several threads, each with buffers of its own."""

    def __init__(
        self, backward: Backward, dtype: np.dtype[Any], keep: Keep, rows: int | None, fast: bool | None
    ) -> None:
        self.backward, self.dtype, self.keep, self.rows, self.fast = backward, dtype, keep, rows, fast
        self.compiled: dict[Any, Any] = {}
        self.lock = threading.Lock()
        self.local = threading.local()

    def pass_for(
        self, active: frozenset[str] | None, *, full: bool, eager: bool = False, fused: bool = False
    ) -> Compiled:
        """The compiled pass for a loss that reads ``active``; None: forward only."""
        key = active, full, eager, fused
        if key not in self.compiled:
            with self.lock:
                if key not in self.compiled:
                    plans = refined_plans(self.backward, active)
                    graph = Graph(plans, want_inputs=full, want_states=full, eager=eager, fused=fused)
                    self.compiled[key] = Compiled(graph, self.dtype, fused=fused)
        return self.compiled[key]

    def session(self, data: Data, loss: Loss | None, *, full: bool) -> Session:
        """A pass with its buffers, for this thread, ready for a call's data; without a loss, forward only."""
        kept: OrderedDict[Any, Session] = self.local.__dict__.setdefault("kept", OrderedDict())
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

    def _made(self, data: Data, loss: Loss | None, *, full: bool) -> Session:
        active = None if loss is None else frozenset(loss.full)
        keep: Keep = "all" if loss is None else self.keep
        work = sum(data.sizes[r] * data.sizes[c] for r, c in _matrices(self.backward.program.cell))
        rows = self.rows or rows_for(work)
        if self._compiles(work, loss):
            from numeric.loop_session import LoopSession

            return LoopSession(self._loop(loss, active, full=full), data, keep=keep, rows=rows)
        cell = self.backward.program.cell
        widest = max(data.sizes[cell.axes[name]] for name in cell.states)
        fused = self.fast is not False and numba_is_there()
        eager = active is not None and (fused or data.batch * widest * self.dtype.itemsize >= _EAGER)
        compiled = self.pass_for(active, full=full, eager=eager, fused=fused)
        return Session(compiled, data, keep=keep, rows=rows)

    def plan(self, data: Data, on: str) -> MemoryPlan:
        """What a pass keeps for a loss that reads ``on`` at every step."""
        full = {on: np.broadcast_to(np.zeros((), np.intp), (data.steps, data.batch))}
        loss = Loss("softmax_cross_entropy", "every", ..., full, full, 1)
        return self._made(data, loss, full=False).plan

    def _compiles(self, work: int, loss: Loss | None) -> bool:
        """Whether the compiled loop runs: where it is asked for, or can be had and is faster."""
        if self.fast is False or (loss is not None and loss.begin):
            return False
        if self.fast is None:
            return work <= _LOOP_WORK and numba_is_there()
        return True

    def _loop(self, loss: Loss | None, active: frozenset[str] | None, *, full: bool) -> Any:
        from numeric.fast.loop import compile_loop

        with self.lock:
            if (active, "plans") not in self.compiled:
                backward = self.backward if active is None else refine(self.backward, active)
                self.compiled[active, "plans"] = Plans(backward, active)
            plans = self.compiled[active, "plans"]
        if loss is None:
            return compile_loop(plans, str(self.dtype), None)
        return compile_loop(plans, str(self.dtype), loss.name, loss.at, loss.classes, full)


def _matrices(cell: Cell) -> list[tuple[str, str]]:
    return [(shape[0], shape[1]) for shape in cell.parameters.values() if len(shape) == 2]


@cache
def numba_is_there() -> bool:
    """Whether the extra `fast` is installed."""
    return find_spec("numba") is not None


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
