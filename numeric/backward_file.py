"""A file of backward equations, read, and whether the loss that it speaks of is the one that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from derive.adjoint import Backward, backward_of
from derive.cell import Cell
from derive.handwritten.bench import Bench
from derive.handwritten.source import loss_of, read
from derive.handwritten.text import Text
from derive.handwritten.truth import LossRead
from derive.syntax import Indexed, walk
from numeric.plan import Plans
from numeric.problem import Options, Problem

__all__ = ["File", "check_file_loss", "prepared"]


@dataclass(frozen=True)
class File:
    """A file of backward equations, read; ``loss`` is the loss that it speaks of."""

    text: Text
    backward: Backward
    loss: LossRead
    plans: Plans

    @property
    def cell(self) -> Cell:
        """The cell whose derivatives it speaks of."""
        return self.text.script.cell


@lru_cache(maxsize=64)
def prepared(text: str, cell: Cell) -> File:
    """A text, read; raises :class:`CellError` for what cannot be read."""
    whole, backward = read(text, cell), backward_of(cell)
    return File(whole, backward, loss_of(whole, Bench(whole, backward)), Plans(backward, None))


# ------------------------------------------------------------------------------------------------------- whose loss


def check_file_loss(file: File, problem: Problem, options: Options) -> None:
    """Raise ValueError where the file speaks of another loss than the arguments."""
    loss, roots = file.loss, tuple(problem.loss.given)
    last, mean = options.get("at", "every") == "last", options.get("reduction", "sum") == "mean"
    said = f"loss={problem.loss.name!r}"
    if loss.kind not in ("any", problem.loss.name):
        raise ValueError(f"the file speaks of {loss.kind}, by its target[t]; the arguments say {said}")
    if loss.kind != "any" and roots != (loss.on,):
        raise ValueError(f"the file's target belongs to {loss.on}; the arguments say on={roots[0]!r}")
    if (loss.kind != "any" or loss.last) and loss.last != last:
        mine, yours = ("the last step only", "every step")[:: 1 if loss.last else -1]
        at = options.get("at", "every")
        raise ValueError(f"the file's loss is that of {mine}; the arguments say at={at!r}, {yours}")
    if loss.per_step and (last or not mean):
        wanted = "take the division by T out of the file" if last else "say reduction='mean'"
        raise ValueError(f"the file divides its loss by T; the arguments say no such thing: {wanted}")
    unseen = [n for n in roots if file.cell.outputs and n not in file.cell.outputs and not _reads_loss(file, n)]
    if loss.kind == "any" and unseen:
        wanted = f"term dl_d{unseen[0]}[t]"
        raise ValueError(
            f"the loss reads the state {unseen[0]}, and the file has no {wanted}: it speaks of outputs only"
        )


def _reads_loss(file: File, root: str) -> bool:
    """Whether the file has dl_d of a root."""
    names = file.text.script.names
    trees = (x for line in file.text.script.lines for x in walk(line.value) if isinstance(x, Indexed))
    found = {(y.role, y.name) for y in (names.indexed(x.name, x.position) for x in trees)}
    return ("local", root) in found
