"""The derivation reads as papers print it, counts its own cost, and cannot be changed."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from sympy import Integer, Symbol

import derive
from derive.chapters import CHAPTERS
from derive.cost import evaluated, size_symbol
from derive.program import Product
from tests.odd_cells import ODD, cell_named

CELLS = derive.cells()
T, B, D, H, O = (size_symbol(x) for x in "TBDHO")  # noqa: E741

PRINTED = {
    "tanh_rnn": {
        "dh[t]": "dl[t]/dh[t] + lin(transpose(W_hh), da_h[t+1]) + lin(transpose(W_hy), dy[t])",
        "da_h[t]": "dh[t]*(1 - h[t]**2)",
        "dW_hh": "time_sum(outer(da_h[t], h[t-1]))",
        "dW_xh": "time_sum(outer(da_h[t], x[t]))",
        "dW_hy": "time_sum(outer(dy[t], h[t]))",
        "db": "time_sum(da_h[t])",
        "dh[0]": "lin(transpose(W_hh), da_h[1])",
        "dh[t]/dh[t-1]": "diag(1 - h[t]**2)*W_hh",
    },
    "lstm": {
        "dc[t]": "dc[t+1]*f[t+1] + dh[t]*o[t]*(1 - tanh(c[t])**2) + dl[t]/dc[t]",
        "df[t]": "c[t-1]*dc[t]",
        "di[t]": "dc[t]*g[t]",
        "do[t]": "dh[t]*tanh(c[t])",
        "da_f[t]": "df[t]*f[t]*(1 - f[t])",
        "dc[t]/dc[t-1]": "diag(f[t])",
        "dc[0]": "dc[1]*f[1]",
    },
    "gru": {
        "dz[t]": "dh[t]*(h[t-1] - n[t])",
        "dr[t]": "h[t-1]*lin(transpose(U_n), da_n[t])",
        "dU_n": "time_sum(outer(da_n[t], h[t-1]*r[t]))",
    },
    "gru_reset_after": {
        "dr[t]": "da_n[t]*(c_n + lin(U_n, h[t-1]))",
        "dU_n": "time_sum(outer(da_n[t]*r[t], h[t-1]))",
        "dc_n": "time_sum(da_n[t]*r[t])",
    },
}


def equations(name):
    return {str(s.equation.lhs): str(s.equation.rhs) for s in derive.differentiate(derive.load(name)).steps}


@pytest.mark.parametrize("name", PRINTED)
def test_the_recursion_is_the_one_that_papers_print(name):
    found = equations(name)
    for left, right in PRINTED[name].items():
        assert found[left] == right


@pytest.mark.parametrize("name", CELLS)
def test_every_parameter_input_and_state_has_a_gradient(name):
    cell, found = derive.load(name), equations(name)
    wanted = [
        *(f"d{p}" for p in cell.parameters),
        *(f"d{x}[t]" for x in cell.inputs),
        *(f"d{s}[0]" for s in cell.states),
    ]
    assert set(wanted) <= set(found)


# multiply-adds over T B: gates G, as counted by hand for one, four and three gates
@pytest.mark.parametrize(("name", "gates"), [("tanh_rnn", 1), ("lstm", 4), ("gru", 3), ("gru_reset_after", 3)])
def test_the_cost_is_the_one_counted_by_hand(name, gates):
    cost = derive.differentiate(derive.load(name)).cost
    assert cost.forward == (T * B * (gates * (H * D + H * H) + H * O)).expand()
    assert cost.backward == (T * B * (gates * (H * D + 2 * H * H) + 2 * H * O)).expand()
    assert cost.inputs == (T * B * gates * H * D).expand()
    assert cost.sequential == (2 * T * B * gates * H * H).expand()


class Counting:
    """A number that counts the multiplications it takes part in."""

    count = 0

    def __add__(self, other):
        return self

    __radd__ = __add__

    def __mul__(self, other):
        Counting.count += 1
        return self

    __rmul__ = __mul__


@pytest.mark.parametrize("name", CELLS)
def test_the_forward_count_is_that_of_a_counted_run(name):
    derivation = derive.differentiate(derive.load(name))
    sizes = {"H": 3, "D": 2, "O": 4}
    Counting.count = 0
    for node in derivation.program.nodes:
        if isinstance(node, Product):
            rows, columns = derivation.cell.parameters[node.matrix]
            matrix = [[Counting()] * sizes[columns]] * sizes[rows]
            for row in matrix:
                sum((w * Counting() for w in row), Counting())
    assert Counting.count == evaluated(derivation.cost.forward, sizes | {"T": 1, "B": 1})


@pytest.mark.parametrize("name", CELLS)
def test_latex_is_balanced_and_every_section_is_there(name):
    steps = derive.differentiate(derive.load(name)).steps
    for step in steps:
        counts = Counter(step.latex)
        assert counts["{"] == counts["}"]
        assert step.latex.count(r"\left") == step.latex.count(r"\right")
        assert "lin(" not in step.latex
        assert "[t" not in step.latex
    assert tuple(dict.fromkeys(s.chapter for s in steps)) == CHAPTERS
    assert len({(s.chapter, s.section) for s in steps}) == len(CHAPTERS)


TITLES = {
    "tanh_rnn": ("Output weights", "The hidden-state recursion", "Input weights, biases and the inputs"),
    "lstm": (
        "Output weights",
        "The recursion through two states and three gates",
        "Input weights, biases and the inputs",
    ),
    "gru": (
        "Output weights",
        "The recursion through the hidden state and two gates",
        "Input weights, biases and the inputs",
    ),
    "no outputs": ("", "The hidden-state recursion", "Input weights and the inputs"),
    "neither": ("", "The hidden-state recursion", ""),
    "no parameters": ("The outputs", "The recursion through two states", "The inputs"),
    "vectors only": ("The outputs", "The hidden-state recursion", "Other parameters and the inputs"),
}


@pytest.mark.parametrize("name", TITLES)
def test_the_titles_fit_the_cell(name):
    found = {s.chapter: s.section for s in derive.differentiate(cell_named(name)).steps}
    assert tuple(found.get(chapter, "") for chapter in ("outputs", "recursion", "others")) == TITLES[name]


@pytest.mark.parametrize("name", [*CELLS, *ODD])
def test_a_step_rests_on_earlier_ones_and_every_name_is_told_once(name):
    derivation = derive.differentiate(cell_named(name))
    for step in derivation.steps:
        assert all(r < step.number for r in step.rests_on if isinstance(r, int))
    told = Counter(s.obligation for s in derivation.steps if s.obligation.startswith("P3/"))
    cell = derivation.cell
    wanted = {f"P3/{n}" for n in cell.parameters} | {f"P3/{n}[t]" for n in (*cell.inputs, *cell.equations)}
    assert wanted | {f"P3/{s}[t-1]" for s in cell.states} <= set(told)
    assert set(told.values()) == {1}


def test_a_derivation_is_frozen():
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        derivation.steps = ()
    with pytest.raises(TypeError):
        derivation.backward.flows[Symbol("h")] = ()
    with pytest.raises(TypeError):
        derivation.cell.equations["h"] = Integer(0)


def test_only_a_cell_can_be_differentiated():
    with pytest.raises(TypeError, match="Cell"):
        derive.differentiate("lstm")


def test_notebooks_show_typeset_mathematics():
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    proof = derive.prove(derivation)
    assert r"\tanh" in derivation.cell._repr_latex_()
    assert r"\tanh" in derivation.cell._repr_html_()
    assert r"\mathrm{d}h_{t}" in derivation._repr_latex_()
    assert r"\mathrm{d}h_{t}" in derivation._repr_html_()
    assert "P3/W_hh" in proof._repr_html_()
    assert r"\text{holds}" in proof._repr_latex_()


def test_names_that_would_clash_are_told_apart():
    text = "h[t] = tanh(W @ h[t-1] + dh[t])\ndh[t] = x[t]*h[t-1]"
    found = {str(s.equation.lhs) for s in derive.differentiate(derive.parse(text)).steps}
    assert {"h[t]", "dh[t]", "dL_dh[t]", "dL_ddh[t]"} <= found
