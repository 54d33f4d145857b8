"""Where a result that nothing explains first goes wrong: cases, tensors, gate, time steps, sequences, entries, path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from derive.adjoint import differentiate_step
from derive.cell import Cell
from derive.mistakes.order import gate_groups
from derive.notation import at, time_of
from numeric.arguments import Array
from numeric.oracle.compose import downstream, right_program
from numeric.oracle.evidence import REPRODUCES, Evidence
from numeric.oracle.frameworks import gate_names
from numeric.tangent import program_of

__all__ = ["located"]

#: An error of so little of a tensor is no wrong formula's, as a rule.
NEARLY = 1e-5


def located(cell: Cell, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    """Sentences, the most telling first; none where nothing is wrong."""
    wrong = [e for e in evidence if e.wrong or e.wrong_values]
    if not wrong:
        return tuple(_missing(evidence))
    best = max(wrong, key=lambda e: (e.case.T > 1, len(e.found), -len(e.wrong), -e.cost))
    where = [*_sequences(wrong), *_entries(best), *_multiple(wrong)]
    near = list(_nearly(wrong))
    found = [*_forward(wrong), *_missing(evidence), *_not_finite(wrong), *near]
    found += [*_tensors(cell, evidence), *_traced(wrong)]
    steps = [] if where or near else _steps(wrong)
    return tuple(dict.fromkeys([*found, *steps, *where, *_cases(evidence, wrong)]))


# -------------------------------------------------------------------------------------------------------------- tensors


def _forward(wrong: Sequence[Evidence]) -> Iterator[str]:
    values = list(dict.fromkeys(n for e in wrong for n in e.wrong_values))
    outputs = [n[8:] for n in values if n.startswith("outputs.")]
    if outputs:
        steps = [t for e in wrong for n in e.wrong_values if n != "loss" for t in _wrong_steps(e, n)]
        since = f", from t = {min(steps)} on" if steps else ""
        yield f"the forward pass is wrong already: {_list(outputs)}{since}"
        if not any(e.wrong for e in wrong) and any(e.gradients_found for e in wrong):
            yield "the gradients are right"
    elif "loss" in values and not any(e.wrong for e in wrong):
        yield "the value of the loss is wrong, the gradients are right"
    elif "loss" in values:
        yield "the value of the loss is wrong, too"


def _missing(evidence: Sequence[Evidence]) -> Iterator[str]:
    names = list(dict.fromkeys(n for e in evidence for n in e.missing))
    if names:
        yield f"the gradient{_s(names)} of {_list(names)} {_is(names)} missing"


def _not_finite(wrong: Sequence[Evidence]) -> Iterator[str]:
    names = dict.fromkeys(n for e in wrong for n in e.wrong if not np.isfinite(e.found[n]).all())
    if names:
        yield f"the gradient{_s(names)} of {_list(list(names))} {_is(names)} not finite"


def _nearly(wrong: Sequence[Evidence]) -> Iterator[str]:
    """That every wrong tensor is right to several digits, if that is so."""
    pairs = [(e.found[n], e.exact(n)) for e in wrong for n in (*e.wrong, *e.wrong_values)]
    if any(x.shape != g.shape or not np.isfinite(x).all() for x, g in pairs):
        return
    sizes = [(float(np.abs(x - g).max(initial=0.0)), float(np.abs(g).max(initial=0.0))) for x, g in pairs]
    if sizes and all(0 < error <= NEARLY * size for error, size in sizes):
        digits = int(-np.log10(max(error / size for error, size in sizes)))
        yield f"what is wrong is right to {digits} digits: an approximation, or few digits, rather than a wrong formula"


def _multiple(wrong: Sequence[Evidence]) -> Iterator[str]:
    """Tensors that are the right ones times a number."""
    constant: dict[str, list[str]] = {}
    for name in dict.fromkeys(n for e in wrong for n in e.wrong):
        own = [e for e in wrong if name in e.wrong and e.found[name].shape == e.exact(name).shape]
        with np.errstate(all="ignore"):
            ratios = [float(np.vdot(e.exact(name), e.found[name]) / np.vdot(e.exact(name), e.exact(name))) for e in own]
        if not own or not np.isfinite(ratios).all():
            continue
        if all(e.fits(name, c * e.exact(name)) for e, c in zip(own, ratios, strict=True)):
            same = np.ptp(ratios) <= 1e-6 * abs(ratios[0])
            factor = f"{ratios[0]:.9g} times" if same else "a multiple, another in each case, of"
            constant.setdefault(factor, []).append(name)
    for factor, names in constant.items():
        yield f"the gradient{_s(names)} of {_list(names)} {_is(names)} {factor} the right one{_s(names)}"


def _tensors(cell: Cell, evidence: Sequence[Evidence]) -> Iterator[str]:
    """Which gradients are wrong in some case, and what they have in common."""
    known = dict.fromkeys(n for e in evidence for n in e.gradients_found)
    bad = dict.fromkeys(n for e in evidence for n in e.wrong)
    if not bad:
        return
    right = [n for n in known if n not in bad]
    gate = _gate(cell, list(bad))
    path = f": the path through the gate {gate}" if gate else ""
    if not right:
        yield "every gradient is wrong" if len(known) > 1 else f"the gradient of {_list(list(bad))} is wrong"
    elif len(bad) <= len(right) or gate:
        yield f"only the gradient{_s(bad)} of {_list(list(bad))} {_is(bad)} wrong{path}"
    else:
        yield f"the gradient{_s(right)} of {_list(right)} {_is(right)} right, those of {_list(list(bad))} wrong"
    source = _source(cell, [e for e in evidence if e.wrong])
    if source and not gate and len(bad) > 1:
        rest = ", the rest is right" if right else ""
        yield f"what comes from dL/d{source} is wrong{rest}: look at dL/d{source}"


def _source(cell: Cell, wrong: Sequence[Evidence]) -> str:
    """The last equation of the cell whose derivative reaches what is wrong, and nothing that is right."""
    e = min(wrong, key=lambda e: (e.case.T > 1, e.cost))
    right = right_program(cell)
    names, found = set(e.gradients_found), ""
    if e.case.T == 1 and len(e.wrong) == 1 and e.wrong[0][:-1] in cell.states:
        return str(at(e.wrong[0][:-1], -1))
    for symbol in (s for s in right.flows if time_of(s)[1] == 0 and time_of(s)[0] in cell.equations):
        reached = downstream(right, [symbol])
        if e.case.T > 1 and reached & {f"{s}0" for s in cell.states}:
            reached |= downstream(right, [at(s) for s in cell.states])
        if reached & names == set(e.wrong):
            found = str(symbol)
    return found


def _gate(cell: Cell, names: Sequence[str]) -> str:
    """The gate that all of some parameters belong to."""
    for gate, group in zip(gate_names(cell), gate_groups(cell, program_of(cell)), strict=False):
        own = {p for p in cell.parameters if p in {s.name for s in cell.equations[gate].free_symbols}} | set(group)
        if len(names) > 1 and set(names) <= own:
            return gate
    return ""


# ----------------------------------------------------------------------------------------------------------- time steps


def _units(e: Evidence, name: str) -> Array:
    """Whether each entry is wrong."""
    if name not in e.judged.measured:
        return np.zeros(e.found[name].shape, bool)
    bad: Array = e.judged.measured[name].units > REPRODUCES
    return bad


def _wrong_steps(e: Evidence, name: str) -> list[int]:
    """The steps, from 1, at which a tensor with a time axis is wrong."""
    bad = _units(e, name)
    return [int(t) + 1 for t in np.nonzero(bad.reshape(len(bad), -1).any(axis=1))[0]] if bad.ndim == 3 else []


def _steps(wrong: Sequence[Evidence]) -> Iterator[str]:
    """What the gradients of the inputs say about time."""
    for e in sorted(wrong, key=lambda e: (-e.case.T > -3, e.cost)):
        for name in e.case.inputs:
            if name in e.found and e.case.T > 1 and any(n in e.wrong for n in e.case.params):
                steps = _wrong_steps(e, name)
                if not steps and any(name in other.wrong for other in wrong):
                    continue  # right here, and not everywhere
                said = _of_steps(e, name, steps)
                if said:
                    yield f"{said} ({e.case.id})"
                    return


def _of_steps(e: Evidence, name: str, steps: list[int]) -> str:
    last = e.case.T
    if not steps:
        return f"dL/d{name} is right: what is passed back is right, and the sums over time are wrong"
    if steps == list(range(1, steps[-1] + 1)) and steps[-1] < last:
        return (
            f"dL/d{name} is right from t = {steps[-1] + 1} on, wrong before: "
            f"what is carried back from step to step is wrong"
        )
    if steps == list(range(1, last + 1)):
        return f"dL/d{name} is wrong at every step, the last one included: it goes wrong within one step"
    if len(steps) == 1:
        return f"dL/d{name} is wrong at t = {steps[0]} only"
    return f"dL/d{name} is wrong at t = {', '.join(map(str, steps))}"


def _traced(wrong: Sequence[Evidence]) -> Iterator[str]:
    """The first line of a trace that is wrong: forward in time for values, backward for derivatives."""
    for e in wrong:
        trace = e.judged.result.trace if e.judged.result else {}
        if not trace or e.case.truncate:
            continue
        run = e.run.interpreter
        d = run.run(differentiate_step(run.program)).d
        for name, found in trace.items():
            back = name.startswith("dL_d")
            symbol = at(name.removeprefix("dL_d"))
            steps = [np.asarray(x[symbol]) for x in (d if back else run.tape) if symbol in x]
            if len(steps) != e.case.T or found.shape != (e.case.T, *steps[0].shape):
                continue
            bad = [t + 1 for t, x in enumerate(steps) if not _close(found[t], x, e)]
            if bad:
                first = max(bad) if back else min(bad)
                yield f"in the trace, {name} is wrong first at t = {first} ({e.case.id})"
                return


def _close(found: Array, right: Array, e: Evidence) -> bool:
    """Whether traced values are right to half the digits; a trace has no noise scale of its own."""
    return bool(np.abs(found - right).max(initial=0.0) <= np.sqrt(e.unit) * np.abs(right).max(initial=1e-300))


# ------------------------------------------------------------------------------------------------ sequences and entries


def _sequences(wrong: Sequence[Evidence]) -> Iterator[str]:
    """Sequences that are wrong while others are right, in every tensor that has them."""
    found: set[tuple[int, ...]] = set()
    for e in wrong:
        named = [n for n in e.found if n in e.judged.measured and _batch_axis(e, n) is not None]
        bad = [_units(e, n).swapaxes(0, _batch_axis(e, n) or 0) for n in named]
        rows = [b.reshape(e.case.B, -1).any(axis=1) for b in bad]
        if rows and e.case.B > 1 and np.any(rows):
            found.add(tuple(int(b) for b in np.nonzero(np.any(rows, axis=0))[0] if not np.all(rows)))
    if len(found) == 1 and (one := found.pop()):
        which = f"sequence b = {one[0]} is" if len(one) == 1 else f"sequences b = {', '.join(map(str, one))} are"
        yield f"only {which} wrong (the first is 0)"


def _batch_axis(e: Evidence, name: str) -> int | None:
    if name in e.case.inputs or name.startswith("outputs."):
        return 1
    return 0 if name in e.case.gradients() and name not in e.case.params else None


def _entries(e: Evidence) -> Iterator[str]:
    """Rows, columns or single entries of parameters, where the rest of the tensor is right."""
    for name in e.wrong:
        bad = _units(e, name)
        if name not in e.case.params or bad.all() or not bad.any():
            continue
        where = np.argwhere(bad)
        if len(where) == 1:
            yield f"only the entry {name}{[int(i) for i in where[0]]} is wrong ({e.case.id})"
        for axis, word in enumerate(("row", "column")[: bad.ndim]):
            own = sorted({int(i) for i in where[:, axis]})
            if bad.ndim == 2 and len(where) > 1 and len(own) == 1:
                yield f"only {word} {own[0]} of {name} is wrong ({e.case.id})"


# ---------------------------------------------------------------------------------------------------------------- cases

_FEATURES: tuple[tuple[str, Callable[[Evidence], bool]], ...] = (
    ("with lengths", lambda e: e.case.lengths is not None),
    ("that are truncated", lambda e: e.case.truncate is not None),
    ("of one step", lambda e: e.case.T == 1),
    ("of more than one step", lambda e: e.case.T > 1),
    ("of one sequence", lambda e: e.case.B == 1),
    ("of more than one sequence", lambda e: e.case.B > 1),
    ("with the loss at the last step", lambda e: e.case.at == "last"),
    ("with the loss at every step", lambda e: e.case.at == "every"),
    ("with reduction mean", lambda e: e.case.reduction == "mean"),
    ("with reduction sum", lambda e: e.case.reduction == "sum"),
    ("with softmax cross-entropy", lambda e: e.case.loss == "softmax_cross_entropy"),
    ("with the squared error", lambda e: e.case.loss == "squared_error"),
    ("with a linear loss", lambda e: e.case.loss == "linear"),
    ("in float32", lambda e: e.case.dtype == "float32"),
    ("in float64", lambda e: e.case.dtype == "float64"),
    ("of 16 bits", lambda e: e.case.dtype in ("float16", "bfloat16")),
    ("with an odd number of steps", lambda e: e.case.T % 2 == 1),
    ("with an even number of steps", lambda e: e.case.T % 2 == 0),
    ("with initial states that are not zero", lambda e: any(s.any() for s in e.case.initial.values())),
)


def _cases(evidence: Sequence[Evidence], wrong: Sequence[Evidence]) -> Iterator[str]:
    """A feature that the wrong cases have and the right ones do not."""
    if len(wrong) == len(evidence):
        return
    for words, has in _FEATURES:
        if all(has(e) == (e in wrong) for e in evidence):
            yield f"only cases {words} are wrong"
            return
    names, most = [e.case.id for e in wrong], 6
    listed = names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    yield f"{len(wrong)} of {len(evidence)} cases {_is(wrong)} wrong: {_list(listed)}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _s(names: object) -> str:
    return "" if len(names) == 1 else "s"  # type: ignore[arg-type]


def _is(names: object) -> str:
    return "is" if len(names) == 1 else "are"  # type: ignore[arg-type]
