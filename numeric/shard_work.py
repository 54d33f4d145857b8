"""What a worker does for :mod:`numeric.shard`: one part of a batch, by an engine that it makes from a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from derive.cell import build
from numeric.blas_threads import one_blas_thread
from numeric.engine import Engine

__all__ = ["Recipe", "work"]


@dataclass(frozen=True)
class Recipe:
    """An engine as a worker is told of it: the text of its cell, and what else its class is called with.

    A few hundred bytes, of which a worker derives and compiles the engine once, however many parts it is given.
    """

    kind: type[Engine]
    text: str
    name: str
    title: str
    settings: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, engine: Engine) -> Recipe:
        """Raises TypeError for an engine that is more than its text, such as one with a planted backward pass."""
        kind: Any
        kind, (cell, *settings) = engine.__reduce__()
        named: Mapping[str, Any] = {}
        if isinstance(kind, partial):  # two of them are never equal, and a worker must know a recipe again
            kind, settings, named = kind.func, [*kind.args, *settings], kind.keywords
        named = dict(named)
        if named.get("threads", 1) is None:  # what pays depends on the machine, and the parts are side by side already
            named["threads"] = 1
        return cls(kind, cell.text, cell.name, cell.title, tuple(settings), tuple(sorted(named.items())))


@lru_cache(maxsize=16)
def _engine(recipe: Recipe) -> Engine:
    return recipe.kind(build(recipe.text, recipe.name, recipe.title), *recipe.settings, **dict(recipe.named))


def work(recipe: Recipe, method: str, arguments: Mapping[str, Any], number: int) -> Any:
    """What the engine's ``method`` gives; with one BLAS thread, so that no bit depends on how many there would be.

    ``number`` is another one for each call, so that no two are the same: dask.distributed takes equal calls for one
    task, and would answer a call that is made again after a fault with the fault that it still holds.
    """
    with one_blas_thread:
        return getattr(_engine(recipe), method)(**arguments)
