"""A trace is checked line by line: right lines are left alone, and the wrong one is named, not those it spoils."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import derive
from derive.adjoint import differentiate_step
from derive.notation import at, time_of
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.oracle.families import default_cases
from numeric.oracle.traces import check_trace
from numeric.tangent import program_of

CELLS = ("tanh_rnn", "lstm", "gru_reset_after")


@cache
def traced(name):
    """A case, and everything that is computed for it in float64, by the names of a trace."""
    cell = derive.load(name)
    case = default_cases(cell)[0]
    work = Interpreter(program_of(cell), case.problem, FloatArithmetic())
    found = work.run(differentiate_step(work.program))
    out = {}
    for node in work.program.nodes:
        own = time_of(node.symbol)[0]
        out[own] = np.stack([np.broadcast_to(v[node.symbol], work.shape(node.axis)) for v in found.tape])
        out[f"dL_d{own}"] = np.stack([v[node.symbol] for v in found.d])
    return case, out


def named(cell, trace):
    return {n: x.copy() for n, x in trace.items() if n.removeprefix("dL_d") in cell.equations}


@pytest.mark.parametrize("name", CELLS)
def test_right_lines_are_left_alone(name):
    case, everything = traced(name)
    assert check_trace(case, everything) == ([], [])
    assert check_trace(case, named(case.parsed, everything)) == ([], [])


@pytest.mark.parametrize("name", CELLS)
def test_the_first_wrong_forward_line_is_named(name):
    case, everything = traced(name)
    trace = named(case.parsed, everything)
    for wrong in case.parsed.equations:
        spoilt = {n: x.copy() for n, x in trace.items()}
        spoilt[wrong][2, 0, 0] += 1e-9 * (1 + abs(spoilt[wrong][2, 0, 0]))
        lines, _ = check_trace(case, spoilt)
        assert (lines[0].name, lines[0].t, lines[0].index) == (wrong, 3, (0, 0))


@pytest.mark.parametrize("name", CELLS)
def test_what_a_wrong_derivative_spoils_is_not_blamed(name):
    """A carry that is lost at t = 3: everything before follows from it, and only its own line does not."""
    case, everything = traced(name)
    cell = case.parsed
    work = Interpreter(program_of(cell), case.problem, FloatArithmetic())
    backward = differentiate_step(work.program)
    found = work.run(backward)
    _, local = work.local
    carried = {n: work.zero(cell.axes[n]) for n in cell.states}
    d = [None] * case.T
    for t in reversed(range(case.T)):
        d[t] = work.step(backward, t, found.tape[t], local[t], carried)
        carried = {n: (0 if t == 3 else 1) * d[t][at(n, -1)] for n in cell.states}
    trace = named(cell, everything)
    for own in cell.equations:
        trace[f"dL_d{own}"] = np.stack([x[at(own)] for x in d])
    lines, _ = check_trace(case, trace)
    assert {(line.name, line.t) for line in lines} <= {(f"dL_d{n}", 3) for n in cell.states}
    assert lines


def test_unknown_names_and_shapes_are_told():
    case, everything = traced("tanh_rnn")
    lines, notes = check_trace(case, {"hh": everything["h"], "h": everything["h"][:2]})
    assert not lines
    assert "the trace hh is not known" in notes[0]
    assert "expected (5, 3, " in notes[1]


def test_a_nan_is_wrong():
    case, everything = traced("tanh_rnn")
    spoilt = everything["h"].copy()
    spoilt[1, 0, 0] = np.nan
    lines, _ = check_trace(case, {"h": spoilt})
    assert (lines[0].name, lines[0].t) == ("h", 2)
