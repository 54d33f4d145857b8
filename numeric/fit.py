"""Training in a short loop, in full or truncated, that may be interrupted at any moment and goes on from its file.

    for k = 1..N:    one step of the trainer (:mod:`numeric.trainer`) with batches(k), then the file

The file always holds a number of finished steps and nothing else, so a fit that goes on from it repeats, bit for bit,
what one without a break would have computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.checkpoint_file import Seen, Snapshot, read_snapshot, write_snapshot
from numeric.engine import Engine
from numeric.fit_error import FitError
from numeric.optimize import Optimizer, UpdateState
from numeric.progress_bar import Bar
from numeric.shard import ShardedEngine
from numeric.trainer import Reached, Trainer, whole
from numeric.training_batch import Batch, Objective, read_batch

__all__ = ["Fit", "fit"]


@dataclass(frozen=True)
class Fit:
    """What a fit has reached: ``params`` and the optimizer's ``state`` after ``step`` steps, ``losses`` (step,).

    A step's loss is that before its update; in truncated training that of its chunks, each before its own update.
    """

    step: int
    params: dict[str, Array]
    state: UpdateState
    losses: Array

    def __str__(self) -> str:
        return f"step {self.step}" + (f", loss {self.losses[-1]:.6g}" if self.step else "")


def fit(
    engine: Engine | ShardedEngine,
    params: Mapping[str, Any],
    batches: Callable[[int], Any],
    *,
    optimizer: Optimizer,
    steps: int,
    loss: str = "softmax_cross_entropy",
    at: str = "every",
    on: str | None = None,
    reduction: str = "mean",
    clip: float | None = None,
    clip_value: float | None = None,
    truncate: int | None = None,
    file: str | os.PathLike[str] | None = None,
    every: int = 1,
    progress: bool = True,
    callback: Callable[[Fit], object] | None = None,
) -> Fit:
    """Minimise a loss over ``steps`` batches, less those that ``file`` already holds.

    ``engine`` may be one whose batches are computed by many workers (:func:`numeric.shard`).
    ``batches(k)``, k = 1..steps, gives ``(inputs, targets)``, or a dict with any of the engine's arguments ``inputs``,
    ``targets``, ``cotangents``, ``initial``, ``lengths``, ``steps``, ``batch``.  It must depend on k alone
    (``np.random.default_rng([seed, k])``): then a fit that goes on from its file gives bit for bit what one without a
    break gives on the same machine.  ``loss``, ``at``, ``on`` and ``reduction`` are those of :meth:`Engine.backward`,
    except that the mean is taken where nothing is said, so that a rate means the same for every T and B.
    ``clip_value`` bounds each entry of the gradient, ``clip`` then its global norm.  ``truncate`` cuts each batch into
    chunks of so many steps, :mod:`numeric.trainer` says what that means; with ``at="last"`` all chunks but the last
    only hand on their states.

    ``file`` is written after the first step of a run, then every ``every`` steps, at the end, and when anything else
    ends the fit, KeyboardInterrupt included.  A kill that cannot be caught loses the step in flight and up to
    ``every`` - 1 before it.  Where the file is there, ``params`` only say names and shapes.  ``callback`` sees each
    finished step; its arrays are read-only.  The bar is on stderr.

    Raises TypeError and ValueError for arguments that do not fit together, and :class:`FitError` for a file that is
    damaged, belongs to another fit, is written by somebody else meanwhile or cannot be written, for batches that end
    too soon, and for the first inf or nan, with its step, tensor and time step.

    >>> from numeric.optimize import SGD
    >>> engine, x = Engine("tanh_rnn"), np.ones((4, 1, 2))
    >>> params = engine.init(seed=0, D=2, H=3, O=2)
    >>> fit(engine, params, lambda k: (x, np.ones((4, 1), int)), optimizer=SGD(0.5), steps=50, progress=False).step
    50
    """
    trainer = Trainer(engine, optimizer, Objective(loss, at, on, reduction), clip, clip_value, truncate)
    total, every = whole("steps", steps, least=0), whole("every", every, least=1)
    if not callable(batches):
        raise TypeError(f"batches has type {type(batches).__name__}; expected a function of the step number 1, 2, ...")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; expected a function of a Fit, or None")
    keeper = _Keeper(_path(file), trainer, params, total, every)
    with keeper, Bar(total, start=keeper.reached.step, shown=progress) as bar:
        for k in range(keeper.reached.step + 1, total + 1):
            now = trainer.step(keeper.reached, _batch(batches, k, trainer.objective))
            keeper.take(now)
            bar(k, now.loss)
            if callback is not None:
                callback(keeper.fit())
    return _own(keeper.fit())


def _path(file: str | os.PathLike[str] | None) -> Path | None:
    path = None if file is None else Path(file)
    if "\0" in str(path):
        raise ValueError(f"file is {file!r}; a name cannot hold a null character")
    return path


def _batch(batches: Callable[[int], Any], k: int, objective: Objective) -> Batch:
    try:
        return read_batch(batches(k), objective)
    except StopIteration as error:  # of an iterator inside; it would end a generator around the fit in silence
        raise FitError(f"step {k}: batches({k}) gives nothing any more; give batches for all steps", step=k) from error


class _Keeper:
    """Holds the last finished step, in memory and in the file; nothing half done is ever taken."""

    def __init__(self, path: Path | None, trainer: Trainer, params: Mapping[str, Any], total: int, every: int) -> None:
        self.path, self.settings, self.total, self.every = path, trainer.settings(), total, every
        self.reached = trainer.begin(params)
        self.losses: list[float] = []
        self.saved: int | None = None  # the step that the file holds
        self.wrote = self.failed = False
        begin = Snapshot(0, self.reached.params, self.reached.state, np.zeros(0))
        self.seen: Seen = None  # what the file looked like when it was last read or written
        found = None
        if path is not None:
            found, self.seen = read_snapshot(path, begin, self.settings, total)
        if found is not None:
            self.losses, self.saved = found.losses.tolist(), found.step
            self.reached = Reached(found.step, found.params, found.state)

    def __enter__(self) -> _Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.reached.step != (self.saved or 0) and not self.failed:
            try:
                self.save()
            except FitError as second:
                error.add_note(str(second))
        if isinstance(error, FitError):
            error.reached = _own(self.fit())

    def take(self, reached: Reached) -> None:
        """A step is finished."""
        self.losses.append(reached.loss)
        self.reached = reached
        if not self.wrote or reached.step % self.every == 0 or reached.step == self.total:
            self.save()

    def save(self) -> None:
        """Write the file; raises FitError, and the file is as it was."""
        if self.path is None:
            return
        fit = self.fit()
        try:
            snapshot = Snapshot(fit.step, fit.params, fit.state, fit.losses)
            self.seen = write_snapshot(self.path, snapshot, self.settings, self.seen)
        except (OSError, FitError) as error:
            self.failed = True
            why = f"{error}" if isinstance(error, FitError) else self._why(error)
            reached = ".reached of this error holds the result so far"
            raise FitError(f"{self.path}: step {fit.step} cannot be saved: {why}; {reached}") from error
        self.saved, self.wrote = fit.step, True

    def _why(self, error: OSError) -> str:
        held = "the file does not exist yet" if self.saved is None else f"the file still holds step {self.saved}"
        return f"{error.strerror or error}; {held}; make room there, or give another file"

    def fit(self) -> Fit:
        """The steps that are finished."""
        reached = self.reached
        return Fit(reached.step, dict(reached.params), reached.state, np.array(self.losses[: reached.step]))


def _own(fit: Fit) -> Fit:
    """The same, in arrays that the caller may write to."""
    moments = {kind: {name: x.copy() for name, x in of.items()} for kind, of in fit.state.moments.items()}
    params = {name: x.copy() for name, x in fit.params.items()}
    return Fit(fit.step, params, UpdateState(fit.state.updates, moments), fit.losses)
