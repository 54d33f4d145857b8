"""What a name of a backward equation means: a value of the cell, a derivative, the loss, or the author's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from derive.cell import Cell
from derive.errors import CellError, Position, nearest
from derive.notation import FUNCTIONS, PRIMES

__all__ = ["Names", "Reference"]

# What a file may call besides the functions of cells.
_OPERATIONS = ("outer", "diag", "dot", "sum", "prod", "softmax", "jacobian", "immediate", "truncated")
CALLS = (*FUNCTIONS, *PRIMES, *_OPERATIONS)

_INSTEAD = {
    "mean": "sum(...)/T, or plain sum(...): the loss is the sum over the steps",
    "average": "sum(...)/T, or plain sum(...): the loss is the sum over the steps",
    "Sum": "sum(...)", "concat": "one line a gate: gates are not stacked here", "vstack": "one line a gate",
    "concatenate": "one line a gate: gates are not stacked here", "stack": "one line a gate",
    "hstack": "one line a gate", "split": "one line a gate", "chunk": "one line a gate", "transpose": "W.T",
    "matmul": "W @ v", "einsum": "outer(a, b), or W @ v", "hadamard": "a*b", "mul": "a*b", "trace": "dot(a, b)",
    "product": "prod(J[k], k, T, t+1)", "inner": "dot(a, b)", "vdot": "dot(a, b)",
    "softmax_cross_entropy": "p[t] - target[t]", "cross_entropy": "p[t] - target[t]", "ones": "a number",
    "zeros": "0", "zeros_like": "0", "ones_like": "1", "clip": "the gradient itself: clipping belongs to the update",
}  # fmt: skip


_ALSO_CALLED = {
    **dict.fromkeys(("y_true", "label", "labels", "targets", "tgt", "ytrue", "y_target"), "target"),
    **dict.fromkeys(("y_hat", "yhat", "y_pred", "prob", "probs", "softmax", "phat", "p_hat"), "p"),
}


@dataclass(frozen=True)
class Reference:
    """``role`` is forward, derivative, local, gradient, initial, own, softmax, target, parameter, steps or pi."""

    role: str
    name: str


@dataclass(frozen=True)
class Names:
    """The names of a cell, and those that the author defined."""

    cell: Cell
    own: frozenset[str] = frozenset()  # with an index
    plain: frozenset[str] = frozenset()  # without one
    inner: frozenset[str] = field(default=frozenset())

    def derivative_of(self, name: str) -> str | None:
        """The name that ``name`` is the derivative by: dL_dh, or dh where the cell has no dh of its own."""
        for prefix in ("dL_d", "d"):
            of = name.removeprefix(prefix)
            if of != name and (of in self.cell.axes or of in self.cell.parameters) and name not in self.cell.axes:
                return of
        return None

    def indexed(self, name: str, position: Position) -> Reference:
        """What ``name[...]`` means; raises :class:`CellError` for a name that nothing defines."""
        found = self.find_indexed(name)
        if found is not None:
            return found
        if name in self.cell.parameters:
            why = f"{name} is a parameter: it is the same at every step"
            raise CellError(why, position, found=f"{name}[...]", expected=name)
        of = name.removeprefix("dL_d") if name.startswith("dL_d") else name.removeprefix("d")
        near = _ALSO_CALLED.get(name.lower()) or nearest(name, self.known_indexed())
        if of in self.cell.parameters:
            why, wanted = f"{name} has no index: it is summed over time", f"{name}, or an equation {name}[t] = ..."
            raise CellError(why, position, found=f"{name}[...]", expected=wanted)
        if name.startswith("d") and len(name) > 1:
            wanted = f"d and a name of the cell ({', '.join(self.cell.axes)}), or an equation {name}[t] = ..."
            raise CellError("unknown derivative", position, found=name, expected=wanted, near=near)
        wanted = f"a name of the cell ({', '.join(self.cell.axes)}), or an equation {name}[t] = ..."
        raise CellError("nothing defines this name", position, found=f"{name}[...]", expected=wanted, near=near)

    def find_indexed(self, name: str) -> Reference | None:
        """What ``name[...]`` means, or None."""
        if name in self.cell.axes:
            return Reference("forward", name)
        local = name.removeprefix("dl_d")
        if local != name and local in self.cell.axes and name not in self.own:
            return Reference("local", local)
        of = self.derivative_of(name)
        if of in self.cell.axes:
            return Reference("derivative", str(of))
        if name in self.own:
            return Reference("own", name)
        if name == "p":
            return Reference("softmax", "")
        if name == "target":
            return Reference("target", "")
        return None

    def bare(self, name: str, position: Position) -> Reference:
        """What a name without an index means; raises :class:`CellError` for a name that nothing defines."""
        if name in self.cell.parameters:
            return Reference("parameter", name)
        if name in ("T", "pi"):
            return Reference("steps" if name == "T" else "pi", name)
        found = self.gradient(name)
        if found is not None:
            return found
        if name in self.plain:
            return Reference("own", name)
        if name.endswith("0") and name[:-1] in self.cell.states:
            return Reference("initial value", name[:-1])
        if self.find_indexed(name) is not None:
            raise CellError(f"{name} is a value of one step", position, found=name, expected=f"{name}[t]")
        if name == "t":
            raise CellError("t is the time index", position, found="t", expected="an index such as h[t]")
        if indexed := self.as_indexed(name):
            raise CellError("an index stands in brackets", position, found=name, expected=indexed)
        if name.endswith("_next") or name.endswith("_prev"):
            wanted = f"{name}[t], with an equation {name}[t] = ..."
            raise CellError("what changes from step to step has an index", position, found=name, expected=wanted)
        wanted = f"a parameter ({', '.join(self.cell.parameters)}), its derivative, or a number"
        raise CellError("unknown name", position, found=name, expected=wanted, near=nearest(name, self.known_bare()))

    def as_indexed(self, name: str) -> str | None:
        """dh[t] for dh_t, dh[t+1] for dh_next: what a name without an index may stand for."""
        stem, _, index = name.rpartition("_")
        places = {"t": "t", "next": "t+1", "prev": "t-1", "T": "T"}
        return f"{stem}[{places[index]}]" if index in places and self.find_indexed(stem) else None

    def gradient(self, name: str) -> Reference | None:
        """What a d-name without an index is the derivative by: a parameter, or a state and 0."""
        for prefix in ("dL_d", "d"):
            of = name.removeprefix(prefix)
            if of == name or name in self.cell.parameters:
                continue
            if of in self.cell.parameters:
                return Reference("gradient", of)
            if of.endswith("0") and of[:-1] in self.cell.states:
                return Reference("initial", of[:-1])
        return None

    def known_indexed(self) -> Iterable[str]:
        """Names that may have an index."""
        return {*self.cell.axes, *(f"d{n}" for n in self.cell.axes), *self.own, "p", "target"}

    def known_bare(self) -> Iterable[str]:
        """Names that may have none."""
        gradients = {f"d{n}" for n in self.cell.parameters} | {f"d{s}0" for s in self.cell.states}
        return {*self.cell.parameters, *gradients, *self.plain}

    def check_call(self, name: str, position: Position) -> None:
        """Raise :class:`CellError` for what is not an operation of backward equations."""
        if name in CALLS:
            return
        if name in _INSTEAD:
            raise CellError(f"{name} is not in the language", position, found=name, expected=_INSTEAD[name])
        if self.find_indexed(name) is not None:
            raise CellError("an index stands in square brackets", position, found=f"{name}(...)", expected=f"{name}[t]")
        near = nearest(name, CALLS)
        raise CellError("unknown function", position, found=name, expected=f"one of {', '.join(CALLS)}", near=near)
