"""The parts of one batch on their way: handed to an executor, and taken back in their order, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from typing import Any

__all__ = ["ShardError", "results_in_order"]


class ShardError(RuntimeError):
    """A part of a batch that came to no result; nothing was changed, and the call may be made again.

    ``shard`` is its number, from 1 to ``shards``; ``__cause__`` is what the executor raised.  Where an executor loses
    several parts at once, it is one of them.
    """

    def __init__(self, message: str, shard: int, shards: int) -> None:
        super().__init__(message, shard, shards)
        self.shard, self.shards = shard, shards

    def __str__(self) -> str:
        return str(self.args[0])


def results_in_order(
    executor: Executor,
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    named: Sequence[str],
    timeout: float | None,
) -> Iterator[Any]:
    """What ``function`` gives for each of the ``calls``, in their order, each as soon as those before it are there.

    On the way out, whatever the reason, parts that have not begun are cancelled; one that has begun ends by itself, and
    nobody looks at it.  Raises :class:`ShardError` as soon as any part fails; ``named`` says what each of them is.
    """

    def failed(k: int, why: str) -> ShardError:
        return ShardError(f"shard {k + 1} of {len(calls)}, {named[k]}: {why}; nothing was changed", k + 1, len(calls))

    futures: dict[Future[Any], int] = {}
    ready: dict[int, Any] = {}
    taken = 0
    try:
        for k, call in enumerate(calls):
            try:
                futures[executor.submit(function, *call)] = k
            except Exception as error:
                raise failed(k, _why(error)) from error
        for future in as_completed(list(futures), timeout):
            k = futures.pop(future)  # no result is held for longer than it is waited for
            try:
                ready[k] = future.result()
            except (Exception, CancelledError) as error:
                raise failed(k, _why(error)) from error
            while taken in ready:
                yield ready.pop(taken)
                taken += 1
    except TimeoutError as error:
        why = f"no result after {timeout} seconds; give a longer timeout, or see whether the workers are alive"
        raise failed(min(futures.values()), why) from error
    finally:
        for future in futures:
            future.cancel()


def _why(error: BaseException) -> str:
    """What happened, and what to do."""
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    advice = "if memory ran out, with fewer workers, or more shards"
    if isinstance(error, BrokenExecutor):
        return f"a worker died ({said}); make a new executor and call again; {advice}"
    if type(error).__name__ == "KilledWorker":  # dask.distributed, after it has tried several workers
        return f"each worker that began it died ({said}); call again; {advice}"
    if isinstance(error, CancelledError):
        return "it was cancelled before it was computed: the executor was shut down or has lost its workers; call again"
    return said
