"""How many threads BLAS has for whoever computes here: one for small passes and for parts side by side, or more.

    with one_blas_thread:                  with BlasThreads(2):
        ...                                    ...

Threads of BLAS meet at every product and wait for each other by spinning: large products gain from a second one, small
ones lose, and on a machine that is busy otherwise they may be 40 times slower. Whoever needs one thread comes first: a
product that is summed by another number of threads may differ in its last bits; and with several Python
threads in BLAS at once some builds of OpenBLAS that start threads of their own have returned wrong products.

Where the number of threads belongs to the process, it is put back when the last of those inside has left; where it
belongs to the thread, as with OpenMP, when that thread has left.  A library is told only where its number is another
one, which costs about a microsecond a pass.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["BlasThreads", "one_blas_thread"]


@dataclass(frozen=True)
class _Library:
    """How to ask a BLAS for its number of threads, and to change it."""

    get: Callable[[], int | None]
    put: Callable[[int], Any]


def _library(controller: Any) -> _Library:
    """A library as threadpoolctl knows it, without its rule that only the first Python thread may change the number.

    That rule is silent: whoever else asks is not heard.  OpenBLAS's own functions take a tenth of the time.
    """
    for name in getattr(controller, "check_symbols", ()) if not _by_thread(controller) else ():
        get, put = (getattr(controller.dynlib, n, None) for n in (name, name.replace("_get_", "_set_")))
        if "openblas_get_num_threads" in name and get is not None and put is not None:
            return _Library(get, put)
    return _Library(controller.get_num_threads, controller.set_num_threads)


def _by_thread(controller: Any) -> bool:
    """Whether each thread has a number of its own."""
    return getattr(controller, "threading_layer", None) == "openmp"


@cache
def _libraries() -> tuple[tuple[_Library, ...], tuple[_Library, ...]]:
    """Those whose number belongs to the process, and to the thread; to find them takes longer than a small pass."""
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    alone, shared = ([_library(c) for c in found if _by_thread(c) is which] for which in (True, False))
    return tuple(shared), tuple(alone)


def _limit(libraries: Sequence[_Library], threads: int = 1) -> list[tuple[_Library, int]]:
    """So many threads for these; returns which had another number, and how many."""
    changed = []
    for library in libraries:
        number = library.get()
        if number is not None and number != threads:
            library.put(threads)
            changed.append((library, number))
    return changed


class _OneBlasThread:
    """A context that may be entered from many threads at once, and within itself."""

    def __init__(self) -> None:
        self.changed: list[tuple[_Library, int]] = []
        self.forget()

    def __enter__(self) -> None:
        shared, alone = _libraries()
        with self.lock:
            if not self.inside:
                self.changed = _limit(shared)
            self.inside += 1
        if alone:
            own = self.own.__dict__
            if not own.get("inside"):
                own["changed"] = _limit(alone)
            own["inside"] = own.get("inside", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside and self.changed:
                self._put_back(self.changed)
        if _libraries()[1]:
            self.own.inside -= 1
            if not self.own.inside:
                self._put_back(self.own.changed)

    def leave(self, library: _Library, number: int) -> None:
        """Give a library its number: now, or when the last of those inside has left."""
        if not self.inside:
            library.put(number)
            return
        others = [(other, n) for other, n in self.changed if other is not library]
        self.changed[:] = others if number == 1 else [*others, (library, number)]

    def _put_back(self, changed: list[tuple[_Library, int]]) -> None:
        while changed:
            library, number = changed.pop()
            library.put(number)

    def forget(self) -> None:
        """In a child process: nobody is inside, and a lock that another thread held in the parent is free."""
        self.lock, self.inside, self.own = threading.Lock(), 0, threading.local()
        self.changed = []


one_blas_thread = _OneBlasThread()


class BlasThreads:
    """A context with ``threads`` BLAS threads, for one Python thread at a time; one where anybody needs one."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.changed: list[tuple[_Library, int]] = []

    def __enter__(self) -> None:
        with one_blas_thread.lock:
            if not one_blas_thread.inside:
                self.changed = _limit(_libraries()[0], self.threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with one_blas_thread.lock:
            for library, number in self.changed:
                one_blas_thread.leave(library, number)
            self.changed = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.forget)
