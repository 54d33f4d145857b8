"""Families of cases, each with a purpose; the default cases are all of them.

A family is data: its purpose in a sentence, and how each of its cases is made from numbers drawn for the cell at hand.
Everything is drawn from a seed, and works for any cell; what a cell cannot have (inputs that are zero, for a cell that
has none) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any
from zlib import crc32

import numpy as np

from derive.cell import Cell
from numeric.oracle.behaviour import SATURATED, Behaviour
from numeric.oracle.case import DTYPES, Case
from numeric.oracle.probe import impulse, probe_of
from numeric.oracle.setting import Draft, ImpossibleError, Setting, as_case, numpy_type, settled

__all__ = ["FAMILIES", "Family", "Member", "cases", "default_cases", "families", "low_precision_cases"]

#: exp() of more is infinite, in float64.
OVERFLOWS = 710.0


@dataclass(frozen=True)
class Member:
    """One case of a family: its id, how it is made, and what its network should do."""

    id: str
    make: Callable[[Setting], Draft]
    wanted: Callable[[Behaviour], bool] = lambda b: True
    dtype: str = "float64"


@dataclass(frozen=True)
class Family:
    """Cases of one kind; ``purpose`` says in a sentence what they are there to show."""

    name: str
    purpose: str
    members: tuple[Member, ...]
    default: bool = True

    def __post_init__(self) -> None:
        if not self.purpose or not self.members:
            raise ValueError(f"the family {self.name} lacks a purpose, or cases")


# ---------------------------------------------------------------------------------------------------- how they are made


def separating(s: Setting) -> Draft:
    """Square matrices, so that a transpose does not show by its shape; biases and initial states that are not zero."""
    return s.draft(5, 3, s.equal(4)).classes()


def ascending(s: Setting) -> Draft:
    """T, B and every size another number, the sizes rising in the order of the cell's letters."""
    return s.draft(3 + len(s.cell.dimensions), 2, s.rising(3)).squared()


def descending(s: Setting) -> Draft:
    """The same with falling sizes, and more sequences than anything else."""
    return s.draft(3, 4 + len(s.cell.dimensions), s.falling(4)).distributions(reduction="mean")


def of_size(size: int, T: int, B: int, s: Setting) -> Draft:
    """Every letter of one size."""
    return s.draft(T, B, s.equal(size)).squared(reduction="mean")


def pulse(step: Callable[[int], int], s: Setting) -> Draft:
    """An impulse at one of eight steps."""
    return _pulsed(s, 8, step, 0.7).squared()


def faint(s: Setting) -> Draft:
    """An impulse at t = 1 whose whole gradient has come a long way, to a loss of the last step."""
    return _pulsed(s, 24, lambda T: 1, 0.45).linear(at="last")


def _pulsed(s: Setting, T: int, step: Callable[[int], int], weights: float) -> Draft:
    draft, probe = s.draft(T, 2, s.equal(4), weights=weights), probe_of(s.cell)
    if not s.cell.inputs:
        raise ImpossibleError(f"{s.cell.name} has no inputs")
    if probe is not None:
        return impulse(draft, probe, step(T))
    louder = {n: np.where(np.arange(T)[:, None, None] == step(T) - 1, x, x / 8) for n, x in draft.inputs.items()}
    return replace(draft, inputs=louder)


def vanishing(T: int, s: Setting) -> Draft:
    """Small weights, a long time, and a loss of the last step."""
    weights = (0.35, 0.25, 0.5, 0.7)[s.attempt % 4]
    return s.draft(T, 2, s.equal(4), weights=weights).linear(at="last")


def expanding(s: Setting) -> Draft:
    """Large weights and tiny signals, so that nothing saturates before the end."""
    tiny, weights = 2e-4, (2.0, 4.0, 7.0, 10.0)[s.attempt % 4]
    return s.draft(10, 2, s.equal(4), weights=weights, biases=tiny, inputs=tiny, initial=tiny).linear(at="last")


def saturated(s: Setting) -> Draft:
    """Arguments so large that little of a derivative is left."""
    return s.draft(5, 3, s.equal(4), weights=2.5 + s.attempt / 4, inputs=2.0).squared()


def overflowing(s: Setting) -> Draft:
    """Logits of which exp() is infinite, made by the parameters that nothing but the loss's output reads."""
    draft = s.draft(4, 3, s.equal(3))
    on = draft.roots[0]
    inner = {name for n, tree in s.cell.equations.items() if n != on for name in _names(tree)}
    last = [n for n in s.cell.parameters if n in _names(s.cell.equations[on]) and n not in inner]
    if not s.cell.outputs or not last:
        raise ImpossibleError(f"{s.cell.name} has no readout of its own")
    loud = {n: p * 2000.0 if n in last else p for n, p in draft.params.items()}
    return replace(draft, params=loud).classes(on)


def _names(expression: Any) -> set[str]:
    return {symbol.name for symbol in expression.free_symbols}


def ragged(lengths: Sequence[int], finish: Callable[[Draft], Draft], s: Setting) -> Draft:
    """Sequences of their own lengths, in no order; what stands behind their ends is numbers like any other."""
    draft = s.draft(6, len(lengths), s.equal(3)).having(lengths=np.array(lengths))
    return finish(draft)


def truncated(k1: int, k2: int, T: int, s: Setting) -> Draft:
    """The gradient of windows of k2 steps, taken every k1 steps."""
    return s.draft(T, 2, s.equal(3)).having(truncate=(k1, k2)).squared()


def _in_windows(draft: Draft) -> Draft:
    """Windows that lap, of a mean over distributions."""
    return draft.having(truncate=(2, 3)).distributions(reduction="mean")


def carried(s: Setting) -> Draft:
    """Cotangents of every output and state."""
    return s.draft(4, 3, s.rising(3)).linear(reduction="mean")


def carried_ragged(s: Setting) -> Draft:
    """Cotangents of every output and state, of sequences that end."""
    return ragged((3, 5, 6), lambda d: d.linear(reduction="mean"), s)


def carried_alone(s: Setting) -> Draft:
    """Cotangents of the last states, as the next part of a longer sequence hands them back."""
    return s.draft(5, 2, s.equal(3)).linear(s.cell.states, at="last")


def on_a_state(s: Setting) -> Draft:
    """A loss of the first state, of a cell that has outputs."""
    if not s.cell.outputs:
        raise ImpossibleError(f"{s.cell.name} has no outputs: every loss is of a state")
    return s.draft(4, 2, s.equal(3)).squared(s.cell.states[0])


def of_loss(finish: Callable[[Draft], Draft], s: Setting) -> Draft:
    """A short case with one loss."""
    return finish(s.draft(4, 3, s.rising(3)))


def from_rest(s: Setting) -> Draft:
    """Initial states of zero, as most implementations start."""
    draft = s.draft(5, 3, s.equal(4))
    return replace(draft, initial={n: np.zeros_like(x) for n, x in draft.initial.items()}).classes()


# ------------------------------------------------------------------------------------------------------------- families

_IN_PLACES = {"t1": lambda T: 1, "t2": lambda T: 2, "middle": lambda T: T // 2, "T": lambda T: T}
_MEAN, _LAST = {"reduction": "mean"}, {"at": "last"}


def _shrinks(b: Behaviour, most: float = 1e-3) -> bool:
    return b.path is not None and 0 < b.path < most


def _grows(b: Behaviour) -> bool:
    return b.path is not None and b.path > 100


_LOSSES = (
    Member("loss-classes", partial(of_loss, lambda d: d.classes(**_MEAN))),
    Member("loss-classes-last", partial(of_loss, lambda d: d.classes(**_LAST))),
    Member("loss-distributions", partial(of_loss, Draft.distributions)),
    Member("loss-squared-error", partial(of_loss, Draft.squared)),
    Member("loss-squared-error-last", partial(of_loss, lambda d: d.squared(**_LAST, **_MEAN))),
    Member("loss-linear", partial(of_loss, lambda d: d.linear(d.roots[:1]))),
    Member("loss-large-logits", overflowing, lambda b: b.logit > OVERFLOWS),
)

_RAGGED = (
    Member("ragged-every-sum", partial(ragged, (4, 6, 1, 3), Draft.classes)),
    Member("ragged-every-mean", partial(ragged, (2, 5, 4, 3), lambda d: d.squared(**_MEAN))),
    Member("ragged-last-sum", partial(ragged, (3, 1, 6, 4), lambda d: d.linear(**_LAST))),
    Member("ragged-last-mean", partial(ragged, (6, 2, 1, 5), lambda d: d.classes(**_LAST, **_MEAN))),
)

FAMILIES: tuple[Family, ...] = (
    Family(
        "separating",
        "tells the known mistakes apart: square matrices, several steps and sequences, nothing that is zero or equal",
        (Member("separating", separating),),
    ),
    Family(
        "sizes",
        "shows what mixes up two sizes, and what counts on one of them: all different, ones, more than a block",
        (
            Member("sizes-rising", ascending),
            Member("sizes-falling", descending),
            Member("sizes-of-one", partial(of_size, 1, 3, 1)),
            Member("sizes-beyond-a-block", partial(of_size, 17, 2, 2)),
        ),
    ),
    Family(
        "impulse",
        "lets single entries hold a single time step's contribution, so that a mistake at one step cannot hide",
        (
            *(Member(f"impulse-{name}", partial(pulse, step)) for name, step in _IN_PLACES.items()),
            Member("impulse-vanishing", faint, _shrinks),
        ),
    ),
    Family(
        "long",
        "shows what is lost or grows over many steps: gradients that nearly vanish, and gradients that expand",
        (
            Member("long-vanishing", partial(vanishing, 40), lambda b: _shrinks(b, 1e-6)),
            Member("long-expanding", expanding, _grows),
        ),
    ),
    Family(
        "short",
        "shows what counts on a second step: one step has no carry, two have one",
        (
            Member("one-step", lambda s: s.draft(1, 3, s.equal(3)).squared()),
            Member("two-steps", lambda s: s.draft(2, 3, s.equal(3)).squared()),
        ),
    ),
    Family(
        "batch",
        "shows what mixes sequences, or loses their axis: a sequence alone, and many",
        (
            Member("batch-of-one", lambda s: s.draft(5, 1, s.equal(4)).classes()),
            Member("batch-of-many", lambda s: s.draft(3, 18, s.equal(2)).squared()),
        ),
    ),
    Family(
        "saturated",
        "shows derivatives that are taken at the wrong value: where units are saturated, they differ most",
        (Member("saturated", saturated, lambda b: b.deepest > SATURATED),),
    ),
    Family(
        "ragged",
        "shows what reads behind the ends of sequences, counts steps that do not count, or takes T for every end",
        _RAGGED,
    ),
    Family(
        "truncated",
        "shows which contributions a truncated gradient leaves out: chunks, the last one shorter, and windows that lap",
        (
            Member("truncated-chunks", partial(truncated, 3, 3, 7)),
            Member("truncated-windows", partial(truncated, 2, 4, 6)),
            Member("truncated-ragged", partial(ragged, (5, 6, 2, 3), _in_windows)),
        ),
    ),
    Family("losses", "shows each loss with its own derivative and its own count of terms", _LOSSES),
    Family(
        "carried",
        "shows what reaches the gradient through the states alone: states with cotangents, at every step or at the end",
        (
            Member("carried-every", carried),
            Member("carried-ragged", carried_ragged),
            Member("carried-states-alone", carried_alone),
            Member("carried-loss-of-a-state", on_a_state),
            Member("carried-from-rest", from_rest),
        ),
    ),
    Family(
        "float32",
        "shows whether float32 is computed as well as float32 can be",
        (
            Member("float32-separating", separating, dtype="float32"),
            Member("float32-ragged", partial(ragged, (4, 6, 1, 3), lambda d: d.classes(**_MEAN)), dtype="float32"),
            Member("float32-vanishing", partial(vanishing, 24), _shrinks, "float32"),
        ),
    ),
    Family(
        "padding",
        "shows what computes with padding, and multiplies by zero afterwards: padding that is no number",
        (Member("padding-nan", lambda s: _unfilled(ragged((4, 6, 1, 3), Draft.classes, s))),),
        default=False,
    ),
)


def _unfilled(draft: Draft) -> Draft:
    """NaN for every input behind the end of its sequence."""
    inside = np.arange(draft.T)[:, None] < draft.options["lengths"]
    return replace(draft, inputs={n: np.where(inside[..., None], x, np.nan) for n, x in draft.inputs.items()})


# ------------------------------------------------------------------------------------------------------------ the cases


def families() -> tuple[str, ...]:
    """The names of all families; :data:`FAMILIES` says what they are for."""
    return tuple(family.name for family in FAMILIES)


def cases(cell: Cell, family: str, *, seed: int = 0, dtype: str | None = None) -> tuple[Case, ...]:
    """The cases of one family, by its name; ``dtype`` stores all of them in one type.

    Empty where the cell cannot have such a case.  Raises ValueError for a family or a type that is not known.
    """
    known = {f.name: f for f in FAMILIES}
    if family not in known:
        raise ValueError(f"the family is {family!r}; expected one of {', '.join(known)}")
    found = (_case(cell, known[family], member, seed, dtype) for member in known[family].members)
    return tuple(case for case in found if case is not None)


@lru_cache(maxsize=32)
def default_cases(cell: Cell, seed: int = 0, dtype: str | None = None) -> tuple[Case, ...]:
    """The cases that an implementation is judged by where nothing else is said.

    Most are float64, some float32; ``dtype`` stores all of them in one type.  Cases that a cell cannot have, and those
    of which no numbers leave something to judge, are left out.  Raises ValueError for a type that is not known.
    """
    chosen = [f for f in FAMILIES if f.default and (dtype is None or f.name != "float32")]
    return tuple(case for f in chosen for case in cases(cell, f.name, seed=seed, dtype=dtype))


def low_precision_cases(cell: Cell, seed: int = 0, dtypes: Sequence[str] = ("bfloat16", "float16")) -> tuple[Case, ...]:
    """Short cases stored in types of few bits and summed in float32, as accelerators compute.

    bfloat16 needs the package ml_dtypes and is left out where that is not installed.
    """
    found = []
    for dtype in dtypes:
        try:
            numpy_type(dtype)
        except ImportError:
            continue
        for name, make in _SHORT.items():
            purpose = f"shows whether {dtype} is computed as well as {dtype} can be"
            family = Family(dtype, purpose, (Member(f"{dtype}-{name}", make, dtype=dtype),))
            found.append(_case(cell, family, family.members[0], seed, None))
    return tuple(case for case in found if case is not None)


_SHORT: dict[str, Callable[[Setting], Draft]] = {
    "separating": lambda s: s.draft(4, 2, s.equal(4)).squared(),
    "sizes": lambda s: s.draft(3, 2, s.rising(3)).squared(),
    "batch-of-one": lambda s: s.draft(3, 1, s.equal(3)).squared(),
}


def _case(cell: Cell, family: Family, member: Member, seed: int, dtype: str | None) -> Case | None:
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    finish = partial(as_case, id=member.id, family=family.name, purpose=family.purpose, dtype=dtype or member.dtype)
    return settled(member.make, cell, [seed, crc32(member.id.encode())], finish, member.wanted)
