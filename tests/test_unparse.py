"""Unparsing is the inverse of reading: text from a tree, with no bracket too few and none too many."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import derive
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree, parse_lines
from derive.unparse import unparse, unparse_equation

HERE = (0, 0)
NAMES = ("h", "W_hh", "da", "x", "t", "T", "k", "b", "dW_hh", "_1", "e")
FUNCTIONS = ("tanh", "sum", "prod", "outer", "diag", "jacobian", "f")
NUMBERS = ("0", "1", "2", "0.5", ".5", "1.", "25e-2", "1E+3", "007")


def number(text: str) -> Number:
    return Number(HERE, Fraction(text), text)


def name(text: str) -> Name:
    return Name(HERE, text)


numbers = st.sampled_from(NUMBERS).map(number)
names = st.sampled_from(NAMES).map(name)
integers = st.integers(0, 3).map(lambda n: number(str(n)))
index_names = st.sampled_from(("t", "T", "k")).map(name)
indices = st.one_of(
    index_names,
    integers,
    st.builds(Binary, st.just(HERE), st.sampled_from("+-"), index_names, integers),
)


def larger(below: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    here = st.just(HERE)
    return st.one_of(
        st.builds(Binary, here, st.sampled_from("+-*/@"), below, below),
        st.builds(Negative, here, below),
        st.builds(Power, here, below, st.integers(-64, 64)),
        st.builds(Transposed, here, below.filter(lambda tree: not isinstance(tree, Transposed))),
        st.builds(Call, here, st.sampled_from(FUNCTIONS), st.lists(below, max_size=3).map(tuple)),
        st.builds(Indexed, here, st.sampled_from(NAMES), below),
    )


leaves = st.one_of(names, numbers, st.builds(Indexed, st.just(HERE), st.sampled_from(NAMES), indices))
trees: st.SearchStrategy[Tree] = st.recursive(leaves, larger, max_leaves=10)


def read(text: str) -> Tree:
    ((equation,), _) = parse_lines(f"v = {text}")
    return equation.value


def _depth(tree: Tree) -> int:
    parts = [getattr(tree, part, None) for part in ("left", "right", "operand", "base", "index")]
    below = [part for part in (*parts, *getattr(tree, "arguments", ())) if isinstance(part, Tree)]
    return 1 + max(map(_depth, below), default=0)


@given(trees.filter(lambda tree: _depth(tree) <= 20))
def test_reading_what_was_unparsed_gives_the_same_tree(tree):
    assert read(unparse(tree)) == tree


@given(trees.filter(lambda tree: _depth(tree) <= 12))
def test_no_pair_of_brackets_can_be_left_out(tree):
    text = unparse(tree)
    for shorter in without_a_pair(text):
        try:
            other = read(shorter)
        except derive.CellError:
            continue
        assert other != tree, (text, shorter)


def without_a_pair(text: str) -> list[str]:
    """The text without each pair of round brackets in turn."""
    opened, out = [], []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")":
            first = opened.pop()
            out.append(text[:first] + text[first + 1 : place] + text[place + 1 :])
    return out


@given(st.lists(st.tuples(st.sampled_from("+-*/@"), leaves), min_size=1, max_size=12), leaves)
def test_a_row_of_operations_is_read_from_the_left(row, first):
    tree = first
    for sign, leaf in row:
        tree = Binary(HERE, sign, tree, leaf)
    assert read(unparse(tree)) == tree
    if len({sign in "+-" for sign, _ in row}) == 1:
        assert "(" not in unparse(tree)


@pytest.mark.parametrize(
    "text",
    [
        "-a*b",
        "-(a*b)",
        "-(-a)",
        "a*-b",
        "a - -b",
        "a - (b - c)",
        "a - b - c",
        "a*(b*c)",
        "a/b/c",
        "a/(b/c)",
        "a @ b.T",
        "(a @ b).T",
        "a*b @ c",
        "a*(b @ c)",
        "-x**2",
        "(-x)**2",
        "x**-2",
        "(x**2)**3",
        "h[t]**2",
        "(2).T",
        "f(x).T**2",
        "(1 - h[t]**2).T",
        "W.T @ (dh[t+1]*(1 - h[t+1]**2))",
        "jacobian(h[T], h[t])",
        "prod(J[k], k, T, t+1)",
        "sum(outer(da[t], h[t-1]))",
        "sum(da[k] + b, k, 1, T)",
        "outer(a + b, c)",
        "h[k+1] + h[0] + h[T-1]",
        "h[t-(1-k)]",
        "f()",
        "0.5*a + .5*b + 25e-2",
    ],
)
def test_texts_with_the_fewest_brackets_stay_as_they_are(text):
    assert unparse(read(text)) == text


@pytest.mark.parametrize(
    "text", ["dh[t-1] = W.T @ da[t]", "dh[T] = 0", "dW_hh = sum(g[t])", "jacobian(h[T], h[t]) = J"]
)
def test_equations(text):
    ((equation,), _) = parse_lines(text)
    assert unparse_equation(equation.target, equation.value) == text


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (Fraction(3), "", "3"),
        (Fraction(1, 4), "1/4", "0.25"),
        (Fraction(10) ** 40, "x", "1E+40"),
        (Fraction(2), "3", "2"),
    ],
)
def test_a_number_whose_text_is_another_number_is_written_anew(value, text, expected):
    assert unparse(Number(HERE, value, text)) == expected
    assert read(expected) == Number(HERE, value, "")


@pytest.mark.parametrize(
    "tree",
    [
        Transposed(HERE, Transposed(HERE, name("W"))),
        Number(HERE, Fraction(1, 3), "1/3"),
        Number(HERE, Fraction(-1), "-1"),
        Binary(HERE, "%", name("a"), name("b")),
        Tree(HERE),
    ],
    ids=["transposed twice", "a third", "negative number", "remainder", "no kind of tree"],
)
def test_what_no_text_gives_is_refused(tree):
    with pytest.raises(ValueError, match="the language cannot say"):
        unparse(tree)


@pytest.mark.parametrize("cell", derive.cells())
def test_the_shipped_cells_come_back(cell):
    for equation in derive.load(cell).trees.values():
        ((again,), _) = parse_lines(unparse_equation(equation.target, equation.value))
        assert again == type(again)(equation.target, equation.value, again.text, again.position)
