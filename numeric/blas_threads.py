"""One BLAS thread for whoever computes side by side with others: in several Python threads, or in several processes.

    with one_blas_thread:
        ...

A product that is summed by another number of threads may differ in its last bits, and with several Python threads in
BLAS at once some builds of OpenBLAS that start threads of their own have returned wrong products.  The number of
threads belongs to the process, so it is put back only when the last of those inside has left.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries of this process; to find them takes longer than a small product, so it is done once."""
    return ThreadpoolController()


class _OneBlasThread:
    """A context that may be entered from many threads at once, and within itself."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limit = _controller().limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()

    def forget(self) -> None:
        """In a child process: nobody is inside, and a lock that another thread held in the parent is free."""
        self.lock, self.inside = threading.Lock(), 0


one_blas_thread = _OneBlasThread()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.forget)
