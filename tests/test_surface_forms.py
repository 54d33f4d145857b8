"""The shipped derivations can be read, and other forms of them stay readable and say where each line went."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_forms import ALGEBRA, LAYOUTS, REWRITINGS, read_form, surface_forms, surfaces
from turns import drawing

import derive
from derive.syntax import Call, Indexed, Name, Transposed, parse_lines
from derive.unparse import unparse_equation

EXAMPLES = {path.stem: path for path in sorted(Path(derive.__file__).parent.joinpath("examples").glob("*.backward"))}
TANH = derive.load("tanh_rnn")
SCALED = derive.parse("h[t] = tanh(alpha*(W @ h[t-1]) + U @ x[t])\nalpha: scalar")

examples = st.sampled_from(sorted(EXAMPLES))


def cell_of(example: str) -> derive.Cell:
    """The cell whose name the example's begins with, the longest such name."""
    fitting = [name for name in derive.cells() if f"{example}_".startswith(f"{name}_")]
    return derive.load(max(fitting, key=len))


def text_of(example: str) -> str:
    return EXAMPLES[example].read_text(encoding="utf-8")


def equations(text):
    return parse_lines(text)[0]


def numbers(text):
    return {e.position[0] for e in equations(text)}


def forms(name: str, text: str, cell: derive.Cell = TANH) -> list[list[str]]:
    """The lines of every form that one application of a rewriting gives."""
    found = REWRITINGS[name](read_form(text, cell))
    return [[unparse_equation(item.target, item.value) for item in form.items] for form in found]


# --------------------------------------------------------------------------------------------------------- the examples


def test_every_shipped_cell_has_derivations():
    assert {cell_of(example).name for example in EXAMPLES} == set(derive.cells())
    assert all(sum(cell_of(e).name == cell for e in EXAMPLES) >= 2 for cell in derive.cells())


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_opens_with_its_name_its_cell_and_its_source(example):
    first, second, *_ = text_of(example).splitlines()
    assert first.startswith(f"# {example}.backward -- {cell_of(example).name}, ")
    assert second.startswith("# ")
    assert first.split(", ")[1].partition(":")[0].startswith(("softmax cross-entropy", "half the squared", "any loss"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_gives_every_parameter_once(example):
    targets = [e.target.name for e in equations(text_of(example)) if isinstance(e.target, Name)]
    wanted = {f"d{name}" for name in cell_of(example).parameters}
    assert wanted <= set(targets) <= wanted | {f"d{name}0" for name in cell_of(example).states}
    assert len(targets) == len(set(targets))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_comes_back_from_its_trees(example):
    for e in equations(text_of(example)):
        (again,) = equations(unparse_equation(e.target, e.value))
        assert (again.target, again.value) == (e.target, e.value)


# -------------------------------------------------------------------------------------------------------- all the forms


@st.composite
def example_surfaces(draw):
    example = draw(examples)
    return example, draw(surfaces(text_of(example), cell_of(example)))


@drawing(50)
@given(example_surfaces())
def test_a_form_can_be_read_and_keeps_the_opening_comment(found):
    example, surface = found
    comment = [line for line in text_of(example).splitlines() if line.startswith("#")]
    assert surface.text.splitlines()[: len(comment)] == comment
    assert equations(surface.text)


@drawing(50)
@given(example_surfaces())
def test_every_line_is_carried_and_every_line_carries(found):
    example, surface = found
    assert set(surface.lines) == numbers(text_of(example))
    assert all(surface.lines.values())
    assert {line for carriers in surface.lines.values() for line in carriers} == numbers(surface.text)


@drawing(50)
@given(example_surfaces())
def test_a_line_for_a_derivative_is_carried_by_the_line_for_it(found):
    example, surface = found
    after = {e.position[0]: e.target for e in equations(surface.text)}
    for e in equations(text_of(example)):
        if isinstance(e.target, Name | Call):
            assert e.target in [after[line] for line in surface.lines[e.position[0]]]


@drawing(50)
@given(example_surfaces())
def test_what_was_done_is_named(found):
    _, surface = found
    assert set(surface.rewritings) <= {*REWRITINGS, *LAYOUTS}


@drawing(50)
@given(example_surfaces())
def test_no_line_reaches_further_than_one_step(found):
    _, surface = found
    assert "[t+2]" not in surface.text
    assert "[t-2]" not in surface.text


@settings(max_examples=20, derandomize=True)
@given(st.data())
def test_the_plain_strategy_gives_the_texts_alone(data):
    assert equations(data.draw(surface_forms(text_of("tanh_rnn_seed"), TANH)))


def test_the_same_forms_are_drawn_in_every_run():
    def run():
        drawn = []

        @settings(max_examples=20, derandomize=True)
        @given(example_surfaces())
        def collect(found):
            drawn.append(found[1])

        collect()
        return drawn

    assert run() == run()


# ------------------------------------------------------------------------------------------------------- each rewriting

# Right sides that no derivation has, so that every rewriting has a place.
EVERYTHING = """
dh[t] = (2*dy[t] + dy[t]) @ W_hy + W_hh.T @ (dh[t+1] - dh[t+1]*h[t+1])
g[t] = outer(dh[t] + dy[t] @ W_hy, x[t])
J[t] = diag(1 - h[t]**2) @ (W_hh @ h[t])
u[t] = h[t]*W_hh @ h[t] - -(h[t]*h[t]*(1 - h[t]))
"""
DOT = "da[t] = dh[t]*(1 - h[t]**2)\ndalpha = sum(dot(da[t], W @ h[t-1]))"


@pytest.mark.parametrize("name", REWRITINGS)
def test_every_rewriting_applies_and_is_read_as_it_was_meant(name):
    materials = [(text_of(example), cell_of(example)) for example in EXAMPLES]
    materials += [(EVERYTHING, TANH), (DOT, SCALED)]
    found = [form for text, cell in materials for form in REWRITINGS[name](read_form(text, cell))]
    assert found
    for form in found[:: 1 + len(found) // 200]:
        for item in form.items:
            (again,) = equations(unparse_equation(item.target, item.value))
            assert (again.target, again.value) == (item.target, item.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_changes_no_tree(name):
    for e in (e for example in EXAMPLES for e in equations(text_of(example))):
        (again,) = equations(LAYOUTS[name](unparse_equation(e.target, e.value)))
        assert (again.target, again.value) == (e.target, e.value)


@pytest.mark.parametrize("name", ALGEBRA)
def test_both_sides_of_a_rule_have_the_same_letters(name):
    for rule in ALGEBRA[name]:
        left, right = ({c for c in side if c.isalpha() and len(c) == 1} for side in map(letters, rule.split(" = ")))
        assert left == right


def letters(side: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in side.replace(".T", "")).split()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("factors of one minus a square", "da[t] = dh[t]*(1 - h[t]**2)", "da[t] = dh[t]*((1 - h[t])*(1 + h[t]))"),
        (
            "a value written out",
            "da[t] = dh[t]*(1 - h[t]**2)",
            "da[t] = dh[t]*dtanh(W_hh @ h[t-1] + W_xh @ x[t] + b)",
        ),
        (
            "a value written out",
            "da[t] = dh[t]*(1 - tanh(W_hh @ h[t-1] + W_xh @ x[t] + b)**2)",
            "da[t] = dh[t]*(1 - h[t]**2)",
        ),
        ("slope of a function", "da[t] = dh[t]*(1 - tanh(h[t])**2)", "da[t] = dh[t]*dtanh(h[t])"),
        ("logistic slope", "da[t] = h[t]*(1 - h[t])", "da[t] = h[t] - h[t]**2"),
        ("row layout", "dh[t] = W_hy.T @ dy[t]", "dh[t] = dy[t] @ W_hy"),
        ("row layout", "dh[t] = W_hy @ dy[t]", "dh[t] = dy[t] @ W_hy.T"),
        ("outer", "dW_hh = sum(outer(dh[t], h[t-1]))", "dW_hh = sum(dh[t] @ h[t-1].T)"),
        ("a product over a sum", "dh[t] = W_hh.T @ (dh[t] + h[t])", "dh[t] = W_hh.T @ dh[t] + W_hh.T @ h[t]"),
        ("rows scaled by a diagonal", "dh[t] = diag(h[t]) @ (W_hh @ h[t])", "dh[t] = h[t]*(W_hh @ h[t])"),
        ("a sum over time split", "db = sum(dh[t] + h[t])", "db = sum(dh[t]) + sum(h[t])"),
        ("a variable for the sum", "db = sum(dh[t]*h[t-1])", "db = sum(dh[k]*h[k-1], k, 1, T)"),
        ("a line shifted", "dh[t] = W_hh.T @ dh[t+1] + h[t]", "dh[t-1] = W_hh.T @ dh[t] + h[t-1]"),
        ("a line shifted", "dh[t-1] = W_hh.T @ dh[t]", "dh[t] = W_hh.T @ dh[t+1]"),
        ("softmax", "dy[t] = p[t] - target[t]", "dy[t] = softmax(y[t]) - target[t]"),
    ],
)
def test_what_a_rewriting_does_to_a_line(name, before, after):
    assert [after] in forms(name, before)


def test_a_definition_is_inlined_at_the_time_at_which_it_is_used():
    text = "dh[t] = W_hh.T @ da[t+1]\nda[t] = dh[t]*(1 - h[t]**2)\ndh0 = W_hh.T @ da[1]"
    assert forms("a definition inlined", text) == [
        ["dh[t] = W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))", "dh0 = W_hh.T @ (dh[1]*(1 - h[1]**2))"]
    ]
    (form,) = REWRITINGS["a definition inlined"](read_form(text, TANH))
    assert [item.carries for item in form.items] == [{1, 2}, {3, 2}]


def test_a_part_is_split_off_at_the_time_at_which_it_can_be_defined():
    found = forms("a definition split off", "dh[t] = W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))")
    assert ["q[t] = 1 - h[t]**2", "dh[t] = W_hh.T @ (dh[t+1]*q[t+1])"] in found
    assert ["q[t] = dh[t]*(1 - h[t]**2)", "dh[t] = W_hh.T @ q[t+1]"] in found
    assert not any(line.startswith("q") and "h[t+1]**2" in line for lines in found for line in lines)


def test_a_gradient_of_each_step_is_split_off():
    found = forms("a definition split off", "dW_hh = sum(outer(dh[t]*h[t], h[t-1]))")
    assert ["q[t] = outer(dh[t]*h[t], h[t-1])", "dW_hh = sum(q[t])"] in found
    assert ["q[t] = dh[t]*h[t]", "dW_hh = sum(outer(q[t], h[t-1]))"] in found


def test_renaming_changes_every_place_and_takes_no_name_that_is_used():
    found = forms("a definition renamed", "e[t] = p[t]\nu[t] = e[t]\ndW_hy = sum(outer(e[t], h[t]))")
    assert ["rho[t] = p[t]", "u[t] = rho[t]", "dW_hy = sum(outer(rho[t], h[t]))"] in found
    assert not any(lines[0].startswith("u[") for lines in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a product commuted", "dh[t] = W_hh.T @ dh[t+1]"),
        ("a product commuted", "J[t] = h[t]*W_hh"),
        ("row layout", "dh[t] = dh[t+1] @ jacobian(h[t+1], h[t])"),
        ("a sum over time split", "db = sum(dh[k] + h[k], k, 1, T)"),
        ("a product commuted", "J[t] = prod(diag(h[k]*h[k-1]) @ W_hh, k, T, t+1)"),
        ("a definition inlined", "delta[t] = W_hh.T @ delta[t+1]"),
        ("a definition inlined", "s[T] = 0\ns[t] = dh[t]\ndb = sum(s[t])"),
        ("a definition inlined", "s[t] = W_hh.T @ dh[t+1]\ndh[t] = s[t+1]"),
        ("a definition renamed", "dy[t] = p[t] - target[t]\ndh[t] = dl_dh[t]"),
        ("a value written out", "dh[t-1] = h[t-1]"),
        ("a line shifted", "dh[T] = W_hy.T @ dy[T]"),
        ("a line shifted", "dh[t] = h[t-1]"),
        ("a definition split off", "db = sum(h[k]*h[k-1], k, 1, T)"),
        ("a definition split off", "dh[t] = dl_dh[T] @ (2*W_hh)"),
    ],
)
def test_what_would_change_the_meaning_or_reach_too_far_is_left_alone(name, text):
    assert forms(name, text) == []


WRONG = """# a comment
dy[t] = p[t] - target[t]
dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]
da[t] = dh[t]*(1 - h[t])
dW_hh = sum(outer(da[t], h[t-1]))
"""


@given(surfaces(WRONG, TANH))
def test_lines_that_a_mistake_does_not_touch_are_not_said_to_carry_it(surface):
    """The wrong line goes on in its own line, in parts split off from it, or in the lines that use it: not in dy."""
    after = {e.position[0]: e.target for e in equations(surface.text)}
    carriers = [after[line] for line in surface.lines[4]]
    assert not any(isinstance(target, Indexed) and target.name == "dy" for target in carriers)
    if not {"a definition inlined", "a definition split off"} & set(surface.rewritings):
        assert len(carriers) == 1


def test_a_declaration_is_refused():
    with pytest.raises(ValueError, match="line 1 is a declaration"):
        read_form("alpha: scalar\ndh[t] = alpha*dh[t+1]", TANH)


def test_a_transpose_is_never_transposed():
    for example in EXAMPLES:
        for form in REWRITINGS["row layout"](read_form(text_of(example), cell_of(example))):
            trees = [item.value for item in form.items]
            assert not any(isinstance(tree, Transposed) and isinstance(tree.operand, Transposed) for tree in trees)
