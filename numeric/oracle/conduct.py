"""What an implementation does that no formula says: between its calls, to its arguments, with its precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from numeric.arguments import Array
from numeric.oracle.criterion import LIMIT, LIMITS
from numeric.oracle.evidence import REPRODUCES, Evidence
from numeric.oracle.mutants import Run
from numeric.oracle.result import Result

if TYPE_CHECKING:
    from numeric.oracle.judge import JudgedCase

__all__ = [
    "Behaviour",
    "blurs",
    "clipped",
    "clipped_by_entry",
    "of_arguments",
    "of_calls",
    "padding_read",
    "precision",
    "short_loss",
]


@dataclass(frozen=True)
class Behaviour:
    """A name, and what is done, as a sentence goes on; ``final`` where the numbers say nothing beyond it."""

    name: str
    sentence: str
    final: bool = True


def of_arguments(judged: Sequence[JudgedCase]) -> Behaviour | None:
    """Arrays of the case that are written to."""
    names = list(dict.fromkeys(n for j in judged for n in j.outcome.changed))
    if not names:
        return None
    return Behaviour("modifies-inputs", f"it writes to its arguments: {', '.join(names)}", final=False)


# ---------------------------------------------------------------------------------------------------------------- calls


def of_calls(evidence: Sequence[Evidence]) -> Behaviour | None:
    """Results of equal calls that are apart by more than rounding."""
    apart = [e for e in evidence if any(_apart(e, _first(e), r) for r in e.judged.repeated)]
    if not apart:
        return None
    if any(_is_twice(e) for e in apart):
        says = "a gradient is not set to zero: the second call gives twice the first"
        return Behaviour("stale-gradient", says)
    if any(_goes_on(e) for e in apart):
        says = "the states at the end of one call are the initial states of the next"
        return Behaviour("state-between-calls", says)
    at_once = [e for e in apart if _apart(e, _first(e), e.judged.repeated[0])]
    names = ", ".join(dict.fromkeys(e.case.id for e in apart))
    if all(not e.wrong and not e.wrong_values for e in evidence):
        return Behaviour(
            "state-between-calls", f"a first call is right, a later one for the same case is not ({names})"
        )
    if not at_once:
        return Behaviour("state-between-calls", f"a result depends on the calls for other cases before it ({names})")
    return Behaviour("not-deterministic", f"equal calls give different results ({names})")


def _first(e: Evidence) -> Result:
    assert e.judged.result is not None
    return e.judged.result


def _apart(e: Evidence, a: Result, b: Result) -> bool:
    """Whether two results differ by more than rounding."""
    shared = [n for n in a.tensors if n in b.tensors and n in e.judged.measured]
    if set(a.tensors) != set(b.tensors):
        return True
    return any(e.misfit(n, a.tensors[n], b.tensors[n]) > REPRODUCES for n in shared)


def _is_twice(e: Evidence) -> bool:
    """Whether the second call gives twice the first for all parameters, or for whatever gradients there are."""
    first, second = _first(e).tensors, e.judged.repeated[0].tensors
    given = [n for n in first if n in e.gradients_found and np.any(first[n])]
    names = [n for n in given if n in e.case.params] or given
    return bool(names) and all(n in second and e.misfit(n, 2 * first[n], second[n]) <= REPRODUCES for n in names)


def _goes_on(e: Evidence) -> bool:
    """Whether the second call starts from the states in which the first ended."""
    if e.wrong or not e.case.initial:
        return False
    last = {n: np.asarray(e.run.interpreter.outputs[n][-1], e.case.initial[n].dtype) for n in e.case.initial}
    right = Run(replace(e.case, initial=last)).right
    second = e.judged.repeated[0].tensors
    return all(n in second and e.misfit(n, right[n], second[n]) <= REPRODUCES for n in e.gradients_found)


# ------------------------------------------------------------------------------------------------------------ precision

#: Types of fewer bits that arithmetic may have hidden in; only numbers of the type itself show one of 16 bits.
_SHORTER = (("float32", False), ("float16", True), ("bfloat16", True))


def blurs(evidence: Sequence[Evidence]) -> list[tuple[str, float]]:
    """Shorter types that the results may have been computed in, with what they multiply noise by."""
    out = []
    for name, strict in _SHORTER:
        wide = [e for e in evidence if LIMITS[e.case.dtype].unit < LIMITS[name].unit]
        if wide and (not strict or all(_representable(e, name) for e in wide)):
            out.append((name, LIMITS[name].unit))
    return out


def _representable(e: Evidence, name: str) -> bool:
    return all(_is_of(e.found[n], name) for n in e.wrong)


def _rounded(x: Array, name: str) -> Array:
    with np.errstate(all="ignore"):
        if name != "bfloat16":
            return x.astype(name).astype(np.float64)
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def precision(evidence: Sequence[Evidence]) -> Behaviour | None:
    """Errors that are the rounding of a shorter type: below the limit everywhere, and not far below it."""
    for name, unit in blurs(evidence):
        wide = [e for e in evidence if LIMITS[e.case.dtype].unit < unit and (e.wrong or e.wrong_values)]
        if wide and all(_is_noise(e, name) for e in wide) and _rest_right(evidence, unit):
            kinds = " and ".join(dict.fromkeys(e.case.dtype for e in wide))
            return Behaviour("precision-lost", f"{kinds} cases are computed in {name}: every error is its rounding")
    return None


def _rest_right(evidence: Sequence[Evidence], unit: float) -> bool:
    return all(not e.wrong and not e.wrong_values for e in evidence if LIMITS[e.case.dtype].unit >= unit)


def _is_noise(e: Evidence, shorter: str) -> bool:
    """Whether errors are of the size of a shorter type's rounding: at most its limit, typically near its unit.

    What is below the type's normal numbers may be lost altogether.
    """
    ratio = LIMITS[shorter].unit / LIMITS[e.case.dtype].unit
    for m in e.judged.measured.values():
        lost = np.abs(m.found - m.exact.hi) <= LIMITS[shorter].tiny
        if not np.all((m.units <= LIMIT * ratio) | lost):
            return False
    if set(e.found) != set(e.judged.measured):
        return False
    wrong = np.concatenate([e.judged.measured[n].units.ravel() for n in (*e.wrong, *e.wrong_values)]) / ratio
    typical = float(np.median(wrong[np.isfinite(wrong) & (wrong > 0)]))
    # what is rounded at the end alone has smaller errors, and no bit beyond the shorter type's
    of_type = all(np.array_equal(_rounded(e.found[n], shorter), e.found[n]) for n in e.wrong)
    of_noise = typical > 2.0**-6 and not _one_sided(e)
    return (of_type or of_noise) and not all(_is_multiple(e, n) for n in e.wrong)


def _one_sided(e: Evidence) -> bool:
    """Whether nearly all errors make entries larger, or nearly all smaller: rounding does both."""
    pairs = [(e.found[n], e.exact(n)) for n in e.wrong]
    ways = np.concatenate([(np.sign(g - exact) * np.sign(exact)).ravel() for g, exact in pairs] or [np.zeros(0)])
    ways = ways[ways != 0]
    return ways.size >= 16 and abs(float(ways.mean())) > 0.8


def short_loss(evidence: Sequence[Evidence]) -> Behaviour | None:
    """A loss that is wrong in longer types alone, and a number of a shorter one, as near as that can be."""
    wrong = [e for e in evidence if "loss" in e.wrong_values]
    for name, unit in blurs(evidence):
        wide = [e for e in evidence if LIMITS[e.case.dtype].unit < unit and "loss" in e.judged.measured]
        near = all(e.judged.measured["loss"].most <= LIMIT * unit / LIMITS[e.case.dtype].unit for e in wide)
        if near and all(e in wide for e in wrong) and all(_is_of(e.found["loss"], name) for e in wide):
            return Behaviour("precision-lost", f"the value of the loss is rounded to {name}")
    return None


def _is_of(x: Array, name: str) -> bool:
    return np.array_equal(_rounded(x, name), x, equal_nan=True)


def _is_multiple(e: Evidence, name: str) -> bool:
    """Whether a tensor is the right one times a number, and its error no noise."""
    exact, found = e.exact(name), e.found[name]
    return exact.size > 1 and e.fits(name, exact * (np.vdot(exact, found) / np.vdot(exact, exact)))


# ------------------------------------------------------------------------------------------------------------- clipping


def clipped(evidence: Sequence[Evidence]) -> Behaviour | None:
    """Gradients of parameters that are divided by one number, so that their norm is the same in every such case."""
    cut = [e for e in evidence if e.wrong]
    norms = [_norm_if_scaled(e) for e in cut]
    known = [n for n in norms if n is not None]
    if len(known) < 2 or len(known) < len(cut) or np.ptp(known) > 1e-5 * known[0]:
        return None
    if any(_norm(e) > known[0] * (1 + 1e-5) for e in evidence):
        return None
    return Behaviour("clipped", f"the whole gradient is clipped to the norm {known[0]:.7g}")


def clipped_by_entry(evidence: Sequence[Evidence]) -> Behaviour | None:
    """Every entry that is too large is one number, and every other one is right."""
    wrong = [(e, n) for e in evidence for n in e.wrong]
    bound = max((float(np.abs(e.found[n]).max(initial=0.0)) for e, n in wrong), default=np.inf)
    sizes = [np.abs(e.exact(n)) for e, n in wrong]
    cut = sum(int((x > bound).sum()) for x in sizes)
    whole = any(np.any((x > 0) & (x < bound)) for x in sizes)
    if not np.isfinite(bound) or cut < 2 or not whole or any(e.wrong_values for e in evidence):
        return None
    if not all(e.fits(n, np.clip(e.exact(n), -bound, bound)) for e, n in wrong):
        return None
    return Behaviour("clipped", f"every entry of a gradient is clipped to at most {bound:.7g}")


def _norm(e: Evidence) -> float:
    return float(np.hypot.reduce([0.0, *(x for n in _scaled(e) for x in e.found[n].ravel())]))


def _scaled(e: Evidence) -> list[str]:
    """The tensors that a norm is of: the parameters alone, or whatever is wrong."""
    return [n for n in e.gradients_found if n in e.case.params or n in e.wrong]


def _norm_if_scaled(e: Evidence) -> float | None:
    """The norm of what was found, where it is less than one times what is right."""
    right = np.concatenate([np.zeros(1), *(e.exact(n).ravel() for n in _scaled(e))])
    c = _norm(e) / float(np.linalg.norm(right)) if right.any() else 1.0
    return _norm(e) if c < 1 and all(e.fits(n, c * e.exact(n)) for n in _scaled(e)) else None


# -------------------------------------------------------------------------------------------------------------- padding


def padding_read(evidence: Sequence[Evidence]) -> Behaviour | None:
    """Numbers that are not finite in ragged cases alone: the content of padding was read."""
    bad = [e for e in evidence if any(not np.isfinite(x).all() for x in e.found.values())]
    if not bad or any(e.case.lengths is None for e in bad):
        return None
    if any((e.wrong or e.wrong_values) and e not in bad for e in evidence):
        return None
    if not all(any(not np.isfinite(x).all() for x in e.case.inputs.values()) for e in bad):
        return None
    return Behaviour("padding-counted", "padding is read: what is not a number there is one in the result")
