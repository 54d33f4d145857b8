"""The laws of the cell language: what a text means, what it is refused for, and that writing undoes reading."""

from __future__ import annotations

import ast
import copy
import dataclasses
import math
import operator
import pickle
import random
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cell_texts

import derive
from derive.algebra import evaluate
from derive.errors import edit_distance, is_one_edit
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.signs import bound, signs
from derive.syntax import parse_lines
from derive.tokens import LIMITS
from derive.write import write

# ------------------------------------------------------------------------------------------------------ roles

LSTM = derive.load("lstm")


@pytest.mark.parametrize(
    ("text", "states", "inputs", "outputs", "intermediates", "parameters"),
    [
        (LSTM.text, "h c", "x", "y", "i f g o", " ".join(f"W_{n} U_{n} b_{n}" for n in "ifgo") + " W_y b_y"),
        ("h[t] = tanh(W @ h[t-1])", "h", "", "", "", "W"),
        ("h[t] = h[t-1]*pi", "h", "", "", "", ""),  # pi is a number
        ("h[t] = a[t]\na[t] = tanh(h[t-1])", "h", "", "", "a", ""),
        ("h[t] = h[t-1]*x[t]\ny[t] = z[t]\nz[t] = x[t]\nq[t] = u[t]", "h", "x u", "y q", "z", ""),
        ("d[t] = h[t-1]\nh[t] = tanh(d[t-1] + b)", "d h", "", "", "", "b"),  # a delay line
        ("c[t] = h[t-1]\nh[t] = c[t]", "h", "", "", "c", ""),
        ("h[t] = h[t-1] + E*S*I*N*Q*O*beta*gamma", "h", "", "", "", "E S I N Q O beta gamma"),
        ("h[t] = h[t-1] + lambda*in*None", "h", "", "", "", "lambda in None"),
    ],
)
def test_roles(text, states, inputs, outputs, intermediates, parameters):
    cell = derive.parse(text)
    assert cell.states == tuple(states.split())
    assert cell.inputs == tuple(inputs.split())
    assert cell.outputs == tuple(outputs.split())
    assert cell.intermediates == tuple(intermediates.split())
    assert set(cell.parameters) == set(parameters.split())


@given(cell_texts(), st.randoms(use_true_random=False))
def test_the_order_of_lines_is_free(text, rng):
    lines = text.split("\n")
    rng.shuffle(lines)
    cell, shuffled = derive.parse(text), derive.parse("\n".join(lines))
    assert dict(cell.equations) == dict(shuffled.equations)
    for role in ("states", "inputs", "outputs", "intermediates"):
        assert set(getattr(cell, role)) == set(getattr(shuffled, role))
    assert {frozenset(n) for n in cell.dimensions.values()} == {frozenset(n) for n in shuffled.dimensions.values()}
    for name, tree in shuffled.trees.items():  # the order of computing is right
        before = shuffled.order[: shuffled.order.index(name)]
        reads = {str(s)[:-3] for s in shuffled.equations[name].free_symbols if str(s).endswith("[t]")}
        assert reads <= {*before, *shuffled.inputs}, tree.text


# ------------------------------------------------------------------------------------------------- dimensions


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("h[t] = tanh(W @ h[t-1] + U @ x[t] + b)\ny[t] = V @ h[t]", "h:H x:D y:O W:H,H U:H,D b:H V:O,H"),
        # several of a kind: the first keeps the letter, in the order of assignment and of reading
        ("c[t] = tanh(W @ h[t-1])\nh[t] = tanh(V @ c[t-1])", "c:H h:H_h W:H,H_h V:H_h,H"),
        ("h[t] = W @ h[t-1] + U @ x[t] + V @ u[t]", "x:D u:D_u U:H,D V:H,D_u"),
        ("h[t] = W @ h[t-1]\ny[t] = U @ h[t]\ns[t] = V @ h[t]", "y:O s:O_s"),
        (
            "k[t] = U @ h[t-1]\nm[t] = V @ h[t-1]\nh[t] = tanh(A @ k[t] + C @ m[t])",
            "k:K m:K_m U:K,H V:K_m,H A:H,K C:H,K_m",
        ),
        ("h[t] = (U @ V) @ h[t-1]", "U:H,K V:K,H"),
        ("h[t] = A @ B @ C @ h[t-1]", "A:H,K B:K,K_B C:K_B,H"),
        # a state beats an input beats an output
        ("h[t] = h[t-1] + x[t]", "h:H x:H"),
        ("h[t] = W @ h[t-1] + U @ x[t]\ny[t] = x[t]", "x:D y:D"),
        ("h[t] = W @ h[t-1]\ny[t] = h[t]", "y:H"),
        # declared letters come first
        ("h: N\nx: M\nh[t] = tanh(W @ h[t-1] + U @ x[t])", "h:N x:M W:N,N U:N,M"),
        ("x: H\nh[t] = tanh(W @ h[t-1] + U @ x[t])", "x:H h:H_h W:H_h,H_h U:H_h,H"),
        ("W: (H, H)\nh[t] = W @ h[t-1]", "h:H W:H,H"),
        ("alpha: scalar\nh[t] = alpha*(W @ h[t-1])", "alpha: W:H,H"),
        # every operation makes sizes equal
        ("h[t] = tanh(p*h[t-1])**2/(1 + q**2) - (-r)", "p:H q:H r:H"),
        ("h[t] = W.T @ x[t] + 0*h[t-1]", "W:D,H"),
        ("h[t] = (V - V.T) @ h[t-1]", "V:H,H"),
        ("h[t] = W @ (W.T @ h[t-1])", "W:H,K"),
        ("h[t] = (p*V) @ x[t] + 0*h[t-1]", "p:H V:H,D"),
        ("h[t] = (p*V).T @ x[t] + 0*h[t-1]", "p:D V:D,H"),
    ],
)
def test_dimensions(text, sizes):
    cell = derive.parse(text)
    found = {**{n: (a,) for n, a in cell.axes.items()}, **cell.parameters}
    for item in sizes.split():
        name, _, letters = item.partition(":")
        assert found[name] == tuple(filter(None, letters.split(","))), item


def test_dimensions_hold_the_names_that_have_them():
    assert dict(LSTM.dimensions) == {"H": ("h", "c", "i", "f", "g", "o"), "D": ("x",), "O": ("y",)}
    assert dict(derive.parse("h[t] = (U @ V) @ h[t-1]").dimensions) == {"H": ("h",), "K": ("U", "V")}


def test_what_nothing_separates_is_noted():
    assert LSTM.notes == ()
    merged = derive.parse("h[t] = V @ c[t-1]\nc[t] = c[t-1]*x[t]")
    assert merged.axes["x"] == merged.axes["c"] != merged.axes["h"]
    assert "input x" in merged.notes[0]
    assert "state c" in merged.notes[0]
    assert derive.parse("x: H\nh: H\nh[t] = h[t-1]*x[t]").notes == ()
    assert "M is taken for a vector" in derive.parse("h[t] = (M*W) @ h[t-1]").notes[0]
    assert derive.parse("M: H\nh[t] = (M*W) @ h[t-1]").notes == ()
    assert derive.parse("h[t] = (M*W) @ h[t-1] + M").notes == ()


# ------------------------------------------------------- what an expression means: Python's own reading


class Rationals:
    """Fractions; each function is replaced by a polynomial of its own, which any reading must respect."""

    def number(self, value):
        return Fraction(355, 113) if value is sympy.pi else Fraction(int(value.p), int(value.q))

    def call(self, name, x):
        return x * x + x + 2 + list(FUNCTIONS).index(name)


RATIONALS = Rationals()


class Direct:
    """The same text read by Python's parser and computed with whole matrices: no part of the language takes part."""

    def __init__(self, text, values):
        self.text, self.values = text, values

    def value(self, node):
        match node:
            case ast.Constant():
                return Fraction(ast.get_source_segment(self.text, node))
            case ast.Name(id=name):
                return RATIONALS.number(sympy.pi) if name == "pi" else self.values[name]
            case ast.Attribute(value=inner, attr="T"):
                return self.value(inner).T
            case ast.Subscript():
                return self.values[ast.unparse(node).replace(" ", "")]
            case ast.Call(func=ast.Name(id=name), args=[x]):
                return RATIONALS.call(name, self.value(x))
            case ast.UnaryOp(op=op, operand=x):
                return -self.value(x) if isinstance(op, ast.USub) else self.value(x)
            case ast.BinOp(left=a, op=ast.Pow(), right=n):
                return self.value(a) ** int(self.value(n))
            case ast.BinOp(left=a, op=op, right=b):
                return self.binary(op, self.value(a), self.value(b))
        raise NotImplementedError(ast.dump(node))

    def binary(self, op, a, b):
        match op:
            case ast.MatMult():
                return a.dot(b)
            case ast.Mult():
                return a[:, None] * b if np.ndim(a) == 1 and np.ndim(b) == 2 else a * b  # a vector scales rows
            case ast.Div():
                return a / b
        return a + b if isinstance(op, ast.Add) else a - b


def random_values(cell, seed):
    """Fractions for everything that a step of ``cell`` may read, by the text of the name; sizes differ by letter."""
    rng = random.Random(seed)
    sizes = {letter: 2 + i % 2 for i, letter in enumerate(cell.dimensions)}

    def array(*shape):
        flat = [Fraction(rng.choice([-3, -2, -1, 1, 2, 3]), rng.choice([1, 2, 5])) for _ in range(int(np.prod(shape)))]
        return np.array(flat, dtype=object).reshape(shape) if shape else flat[0]

    values = {name: array(*(sizes[a] for a in shape)) for name, shape in cell.parameters.items()}
    for name, axis in cell.axes.items():
        values |= {f"{name}[t]": array(sizes[axis]), f"{name}[t-1]": array(sizes[axis])}
    return values, sizes


def read(e, values, rows):
    """The entries of an expression of the language: lin(W, v) is the product, everything else goes entry by entry."""
    if e.is_Symbol:
        return values[e.name]
    if isinstance(e, lin):
        matrix = values[e.args[0].args[0].name].T if isinstance(e.args[0], transpose) else values[e.args[0].name]
        return matrix.dot(read(e.args[1], values, matrix.shape[1]) + np.full(matrix.shape[1], Fraction(0)))
    if not e.args:
        return RATIONALS.number(e)
    if e.is_Pow:
        return read(e.base, values, rows) ** int(e.exp)
    parts = [read(a, values, rows) for a in e.args]
    if e.is_Add or e.is_Mul:
        return reduce(operator.add if e.is_Add else operator.mul, parts)
    return RATIONALS.call(type(e).__name__, *parts)


def check_meaning(cell, name, right_side, expression, seed=0):
    """Whether ``expression`` has the value that Python's reading of ``right_side`` has, exactly."""
    values, sizes = random_values(cell, seed)
    direct = Direct(right_side, values).value(ast.parse(right_side, mode="eval").body)
    rows = sizes[cell.axes[name]]
    return np.all(np.full(rows, Fraction(0)) + direct == np.full(rows, Fraction(0)) + read(expression, values, rows))


@given(cell_texts(), st.integers(0, 2**20))
def test_an_expression_means_what_python_reads_with_whole_matrices(text, seed):
    cell = derive.parse(text)
    for line in text.split("\n"):
        left, equals, right = line.partition(" = ")
        if equals:
            name = left.removesuffix("[t]")
            assert check_meaning(cell, name, right, cell.equations[name], seed), line


BESIDE = "\nk[t] = p*q*r*s*h[t-1]\nx: H\nV: (H, H)\nU: (H, H)\nW: (H, H)\nalpha: scalar"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("W @ h[t-1]**2", "(W @ h[t-1])**2"),
        ("W @ -h[t-1]**2", "W @ (-h[t-1])**2"),
        ("-h[t-1]**2", "(-h[t-1])**2"),
        ("p - q - r", "p - (q - r)"),
        ("p/q/r", "p/(q/r)"),
        ("p/q*r", "p/(q*r)"),
        ("2*p**-1", "(2*p)**-1"),
        ("1/2*p", "1/(2*p)"),
        ("W.T @ h[t-1]", "W @ h[t-1]"),
        ("(U @ W) @ h[t-1]", "(W @ U) @ h[t-1]"),
        ("(U @ W).T @ h[t-1]", "U.T @ (W.T @ h[t-1])"),
        ("U @ W @ h[t-1]", "U @ h[t-1]"),
        ("(V - V.T) @ h[t-1]", "(V.T - V) @ h[t-1]"),
        ("(p*V) @ h[t-1]", "V @ (p*h[t-1])"),
        ("(p*V).T @ h[t-1]", "p*(V.T @ h[t-1])"),
        ("p*V @ h[t-1]", "V @ (p*h[t-1])"),
        ("W @ (p*h[t-1])", "p*(W @ h[t-1])"),
        ("W @ p*h[t-1]", "W @ (p*h[t-1])"),
        ("-V @ h[t-1]", "V @ h[t-1]"),
        ("(V/alpha - 2*U*3) @ h[t-1]", "(V*alpha - 2*U*3) @ h[t-1]"),
        ("(V*alpha) @ h[t-1]", "V @ h[t-1]"),
        ("(V @ (p*U)).T @ h[t-1]", "(V @ U).T @ (p*h[t-1])"),
        ("tanh(p)*h[t-1]", "sigmoid(p)*h[t-1]"),
        ("0.1*p", "0.1000001*p"),
        ("1e-3*p + .5 + 5.", "1e-2*p + .5 + 5."),
        ("pi*p", "3*p"),
        ("h[t-1] + x[t]", "h[t] + x[t]"),
    ],
)
def test_precedence_and_matrix_algebra_are_those_of_mathematics(right, wrong):
    rest = "h[t] = tanh(0*h[t-1])" + BESIDE
    cell, other = (
        derive.parse(f"y[t] = 0*h[t-1] + {text} + 0*(V @ U @ W @ (alpha*x[t]))\n{rest}") for text in (right, wrong)
    )
    assert check_meaning(cell, "y", right, cell.equations["y"])
    assert not check_meaning(cell, "y", right, other.equations["y"])


def test_tied_weights_are_one_parameter():
    cell = derive.parse("h[t] = tanh(W @ h[t-1] + W.T @ h[t-1])\ny[t] = W @ h[t]")
    assert list(cell.parameters) == ["W"]
    assert cell.equations["h"].atoms(lin) == {
        lin(parameter("W"), at("h", -1)),
        lin(transpose(parameter("W")), at("h", -1)),
    }


def test_functions_and_constants_stay_as_they_were_written():
    x = at("x")
    expression = derive.parse("h[t] = h[t-1]*exp(log(x[t])) + tanh(0) + sqrt(4) + abs(-1)").equations["h"]
    calls = {
        FUNCTIONS["exp"](FUNCTIONS["log"](x)),
        FUNCTIONS["tanh"](sympy.Integer(0)),
        FUNCTIONS["sqrt"](sympy.Integer(4)),
    }
    assert calls < expression.atoms(sympy.Function)


# ------------------------------------------------------------------------------------------- where it is defined


@pytest.mark.parametrize(
    ("right", "conditions"),
    [
        ("x[t]/x[t]", ["x[t] != 0"]),
        ("exp(log(x[t]))", ["x[t] > 0"]),
        ("x[t]**-2 + 0*sqrt(p)", ["x[t] != 0", "p > 0"]),
        ("relu(x[t]) + abs(W @ x[t])", ["x[t] != 0", "W @ x[t] != 0"]),
        ("x[t]/(x[t] - p) + 1/(x[t] - p)", ["x[t] - p != 0"]),
        ("((1/p)*W) @ x[t]", ["p != 0"]),
        ("log(1 + x[t]**2) + 1/(2 + p**4) + sqrt(exp(x[t]))", []),
        ("1/(-1 - x[t]**2) + 1/(-sigmoid(p)) + log(softplus(x[t]))", []),
        ("x[t]/(pi - 3) + x[t]/(-2) + log(exp(1) - 2.7) + log(sin(1))", []),  # constants are decided
        ("1/(2 + tanh(p)) + x[t]/(sin(p)*cos(x[t]) - 3/2) + log(1.1 - erf(x[t])**2)", []),
        ("1/(1 + tanh(p)) + log(3 - 3*sigmoid(p))", ["1 + tanh(p) != 0", "3 - 3*sigmoid(p) > 0"]),
        ("abs(-3) + relu(p - p) + tanh(x[t])", []),  # no kink at a constant
    ],
)
def test_conditions_are_read_from_the_text(right, conditions):
    cell = derive.parse(f"h[t] = h[t-1] + 0*(W @ x[t])\ny[t] = {right} + 0*p*h[t-1]")
    assert [f"{write(h.expression)} {h.relation}" for h in cell.hypotheses] == conditions
    assert all(h.line == 2 and h.equation.startswith("y[t] = ") for h in cell.hypotheses)


OWN = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "relu": lambda x: max(x, 0.0), "abs": abs,
    "softplus": lambda x: math.log1p(math.exp(x)), "softsign": lambda x: x / (1 + abs(x)),
}  # fmt: skip


class Floats:
    """Plain floats, in which a sign can be looked at."""

    def number(self, value):
        return float(value)

    def call(self, name, x):
        return OWN[name](x) if name in OWN else getattr(math, name)(x)


def check_signs(expression, seed, claimed=signs, limit=bound):
    """Whether every part of an expression has a sign and a size that were claimed, at a random point."""
    rng = random.Random(seed)
    values = {}

    def leaf(symbol):
        return values.setdefault(symbol, rng.uniform(-2, 2))

    known = {product: leaf(product) for product in expression.atoms(lin)}
    evaluate(expression, leaf, Floats(), known)
    seen = {part: value for part, value in known.items() if abs(value) > 1e-9}
    return all(
        int(math.copysign(1, value)) in claimed(part) and abs(value) < limit(part) + 1e-9
        for part, value in seen.items()
    )


@given(cell_texts(), st.integers(0, 2**20))
def test_the_signs_that_are_claimed_are_the_signs_that_are_seen(text, seed):
    for expression in derive.parse(text).equations.values():
        assert check_signs(expression, seed)


def test_a_claim_about_signs_that_is_too_bold_is_seen():
    x = at("x")
    assert check_signs(1 - x**2, 1)
    assert not check_signs(1 - x**2, 1, claimed=lambda e: {1})
    assert not check_signs(FUNCTIONS["exp"](x), 1, limit=lambda e: 1)


# ---------------------------------------------------------------------------------------------- what is refused

H = "h[t] = tanh(W @ h[t-1])\n"  # a line that is right

# text; line, column; what the message says; found, expected and near (None: nothing)
ERRORS = [
    # what cannot be read
    ("h[t] = tanh(W @ h[t-1]", (1, 12), "'(' is never closed", None, "')'"),
    ("h[t] = tanh(W @ h[t-1]\ny[t] = h[t]", (2, 1), "cannot be read", "'y'", "'(' of line 1"),
    ("h[t] = tanh(W h[t-1])", (1, 15), "cannot be read", "'h'", "an operator or ')'"),
    ("h[t] = h[t-1])", (1, 14), "cannot be read", "')'", "the end of the line"),
    ("h[t]", (1, 5), "cannot be read", "the end of the line", "'='"),
    ("h[t] = ", (1, 8), "cannot be read", "the end of the line", "a number, a name"),
    ("h[t] = h[t-1] = x[t]", (1, 15), "one equation a line", "a second '='", "a new line"),
    ("h[t] = h[t-1]; y[t] = 1", (1, 14), "one equation a line", "';'", "a new line"),
    ("h[t] += h[t-1]", (1, 6), "'+=' is not in the language", "'+='", "the whole value"),
    ("h[t] == h[t-1]", (1, 7), "comparison", "'=='", "'='"),
    ("h[t] = 2h[t-1]", (1, 9), "a number is followed by a letter", "'h'", "'*'"),
    ("h[t] = x[t][0]", (1, 12), "only a name has an index", "'['", "h[t]"),
    ("", None, "there is no equation", None, "a line such as"),
    ("# only a comment", None, "there is no equation", None, "a line such as"),
    # characters: named, with what to write instead
    ("h[t] = λ*h[t-1]", (1, 8), "ASCII", "'λ' (GREEK SMALL LETTER LAMDA)", "lambda"),
    ("h[t] = σ(h[t-1])", (1, 8), "ASCII", "GREEK SMALL LETTER SIGMA", "sigmoid"),
    ("h[t] = h[t−1]", (1, 11), "ASCII", "MINUS SIGN", "-"),
    ("h[t] = W·h[t-1]", (1, 9), "ASCII", "MIDDLE DOT", "*"),
    ("h[t] = а*h[t-1]", (1, 8), "ASCII", "CYRILLIC SMALL LETTER A", "a"),
    ("h[t] = h[t-1]²", (1, 14), "ASCII", "SUPERSCRIPT TWO", "**2"),
    ("h[t] = ½*h[t-1]", (1, 8), "ASCII", "VULGAR FRACTION", "1/2"),
    ("h[t] = é*h[t-1]", (1, 8), "ASCII", "E WITH ACUTE", "e"),
    ("h[t] = ℎ[t-1]", (1, 8), "ASCII", "PLANCK CONSTANT", "h"),
    ("h[t] = h[t-1]\u00a0+ b", (1, 14), "ASCII", "NO-BREAK SPACE", "a space"),
    ("h[t] = h[t-1]^2", (1, 14), "not in the language", "'^'", "**"),
    ("h[t] = {h[t-1]}", (1, 8), "braces", "'{'", "[t-1]"),
    ("h[t] = h[t-1]\0", (1, 14), "does not show", "U+0000", "nothing"),
    ("# \x1b[31m\nh[t] = h[t-1]", (1, 3), "does not show", "U+001B", "nothing"),
    ("h[t] = h[t-1] # \u202e", (1, 17), "does not show", "U+202E", "nothing"),
    ("h[t] = h[t-1] # \u2028y[t] = 1", (1, 17), "does not show", "U+2028", "nothing"),
    # what is not in the language
    ("h[t] = softmax(h[t-1])", (1, 8), "a reduction over entries (softmax) is not in", None, "one of tanh"),
    ("h[t] = h[t-1] + sum(x[t])", (1, 17), "a reduction over entries (sum)", None, "one of tanh"),
    ("h[t] = h[t-1] > 0", (1, 15), "comparison", "'>'", "relu"),
    ("h[t] = where(h[t-1])", (1, 8), "a comparison (where)", None, "one of tanh"),
    ("h[t] = t*h[t-1]", (1, 8), "dependence on the time t", "'t'", "an input"),
    ("h[t] = h[t-1] % 2", (1, 15), "remainder", "'%'", "one of +"),
    ("h[t] = h[t-1]**0.5", (1, 16), "a small integer", "'0.5'", "sqrt(x)"),
    ("h[t] = h[t-1]**b", (1, 16), "a small integer", "'b'", "exp(a*log(x))"),
    ("h[t] = h[t-1]**2**2", (1, 17), "a power of a power", "'**'", "(x**a)**b"),
    ("h[t] = W.dot(h[t-1])", (1, 9), "after a dot is T", "'.'", "W.T"),
    ("h[t] = W.T.T @ h[t-1]", (1, 11), "the matrix itself", "'.T.T'", "without .T"),
    # functions
    ("h[t] = tahn(h[t-1])", (1, 8), "unknown function", "'tahn'", "one of tanh", "tanh"),
    ("h[t] = SIGMOID(h[t-1])", (1, 8), "unknown function", "'SIGMOID'", "one of tanh", "sigmoid"),
    ("h[t] = tanh(h[t-1], x[t])", (1, 8), "one argument", "2 arguments", "tanh(...)"),
    ("h[t] = tanh*h[t-1]", (1, 8), "tanh is a function", None, "another name"),
    ("h[t] = tanh(h(t-1))", (1, 13), "square brackets", "h(...)", "h[t-1]"),
    ("h(t) = tanh(h[t-1])", (1, 1), "square brackets", "h(...)", "h[t-1]"),
    # indices and left sides
    ("h[t] = h[t-2]", (1, 8), "one step back", "h[t-2]", "h_1[t] = h[t-1]"),
    ("h[t] = h[t+1]", (1, 8), "the future", "h[t+...]", "[t-1]"),
    ("h[t] = h[0]", (1, 8), "the initial state is given", "h[0]", "h[t-1]"),
    ("h[t] = h[k]", (1, 8), "an index is t or t-1", "h[k]", "h[t-1]"),
    ("h[t+1] = h[t]", (1, 1), "states the value at t", None, "h[t] = ..."),
    ("h[0] = 0", (1, 1), "states the value at t", None, "given when the cell is run"),
    (H + "b = 0.5", (2, 1), "a parameter has no equation", "'b'", "b[t] = ..."),
    (H + "2*y[t] = h[t]", (2, 1), "the left side is one name", None, "h[t] = ..."),
    ("pi = 3", (1, 1), "pi is reserved", None, "another name"),
    ("t[t] = 3", (1, 1), "t is reserved", None, "another name"),
    # roles
    ("y[t] = W @ x[t]", (1, 1), "a cell needs a state", None, "[t-1]"),
    ("h[t] = tanh(c[t-1])", (1, 13), "c is a state, but no equation assigns it", None, "c[t] = ..."),
    ("hidden[t] = tanh(hiden[t-1])", (1, 18), "no equation assigns it", None, "hiden[t] = ...", "hidden"),
    ("h[t] = h[t-1] + x[t] + x[t-1]", (1, 24), "a cell keeps only states", None, "x_1[t] = x[t]"),
    ("hidden[t] = hidden[t-1] + hiddne[t]", (1, 27), "one letter away from hidden", None, "'hiddne: D'"),
    ("h[t] = h[t-1] + x\ny[t] = x[t]", (1, 17), "both with and without", None, "x[t]"),
    (H + "h[t] = h[t-1]", (2, 1), "assigned twice", "line 1", "one equation"),
    ("h[t] = h[t-1] + h0", (1, 17), "the initial value of the state h", None, "another name"),
    ("h[t] = h[t-1] + h0[t]", (1, 17), "the initial value of the state h", None, "another name"),
    (H + "a[t] = b[t]\nb[t] = -c[t]\nc[t] = a[t]", (2, 1), "a circle", "a[t] needs b[t] needs c[t] needs a[t]", "t-1"),
    # declarations
    (H + "x: D", (2, 1), "no equation has it", None, "a name that"),
    (H + "Wh: (H, H)", (2, 1), "no equation has it", None, "a name that", "W"),
    ("W: (H, H)\n" + H + "W: (H, H)", (3, 1), "declared twice", "line 1", "one declaration"),
    (H + "h[t]: H", (2, 1), "has no time index", None, "h: H"),
    (H + "h: (H, H)", (2, 1), "so it is a vector", None, "'h: H'"),
    (H + "W: H, H", (2, 5), "in parentheses", "','", "(H, D)"),
    (H + "W: (H, D, K)", (2, 1), "two sizes", "3", "(rows, columns)"),
    (H + "h: T", (2, 1), "the number of time steps", None, "another letter"),
    # sizes and kinds
    ("h: H\nx: D\nh[t] = h[t-1] + x[t]", (3, 15), "do not agree in the sum", "H and D", "one size"),
    ("W: (H, D)\nh: H\nh[t] = W @ h[t-1]", (3, 10), "the product '@'", "D and H", "one size"),
    (H + "a[t] = 1", (2, 1), "what size a has", None, "'a: H'"),
    ("h[t] = h[t-1] @ W", (1, 8), "a vector, not a matrix", None, "W.T @ h"),
    ("h[t] = W*h[t-1]\ny[t] = W @ h[t]", (2, 8), "W is a vector (line 1) where a matrix belongs", None, "W*v"),
    ("h[t] = W @ h[t-1]\ny[t] = W*h[t]", (2, 8), "W is a matrix (line 1) where a vector belongs", None, "W @ v"),
    ("b: scalar\nh[t] = b @ h[t-1]", (2, 8), "a scalar, not a matrix", None, "'*' in place of '@'"),
    ("h[t] = (V*r[t]) @ h[t-1]", (1, 11), "scales the rows", None, "v*M"),
    ("U: (H, H)\nh[t] = (U*V) @ h[t-1]", (2, 11), "elementwise product of two matrices", None, "U @ V"),
    ("h[t] = (U/V) @ h[t-1]", (1, 11), "divided by a number", None, "a declared scalar"),
    ("h[t] = tanh(W) @ h[t-1]", (1, 8), "tanh of a matrix", None, "a sum or .T"),
    ("h[t] = (W + 1) @ h[t-1]", (1, 13), "a number is not a matrix", "1", "a matrix parameter"),
    ("h[t] = h[t-1] + W.T", (1, 18), "a transpose is a matrix", None, "left side of '@'"),
    ("h[t] = h[t-1] + W @ 2", (1, 19), "has no size", "a scalar", "a vector"),
    # what is visibly undefined
    ("h[t] = h[t-1]/0", (1, 15), "division by zero", "0", "not 0"),
    ("h[t] = h[t-1]/(x[t] - x[t])", (1, 21), "division by zero", "0", "not 0"),
    ("h[t] = h[t-1]*0**-1", (1, 16), "division by zero", "0", "not 0"),
    ("h[t] = h[t-1] + log(sin(pi))", (1, 17), "cannot be told to be positive", "log(sin(pi))", "a positive argument"),
    ("h[t] = h[t-1]/sin(pi)", (1, 15), "cannot be told from 0", "sin(pi)", "not 0"),
    ("h[t] = h[t-1]/(exp(0) - 1)", (1, 23), "division by zero", "exp(0) - 1", "not 0"),
    ("h[t] = ((1/(b - b))*W) @ h[t-1]", (1, 15), "division by zero", "0", "not 0"),
    ("h[t] = h[t-1] + log(0)", (1, 17), "log is undefined", "log(0)", "a positive argument"),
    ("h[t] = h[t-1] + log(-x[t]**2)", (1, 17), "log is undefined", "log(-x[t]**2)", "a positive argument"),
    ("h[t] = h[t-1] + sqrt(-2)", (1, 17), "sqrt is undefined", "sqrt(-2)", "a positive argument"),
    ("h[t] = h[t-1] + sqrt(0)", (1, 17), "no derivative at 0", "sqrt(0)", "a positive argument"),
    ("h[t] = h[t-1] + 0*log(cos(pi))", (1, 19), "log is undefined", "log(cos(pi))", "a positive argument"),
    # numbers and powers
    ("h[t] = h[t-1]*1e401", (1, 15), "out of range", "1e401", "within 400"),
    ("h[t] = h[t-1]*" + "1" * 31, (1, 15), "too long", "1" * 31, "30 digits"),
    ("h[t] = h[t-1]*1e400*1e400", (1, 20), "out of range", None, "430 digits"),
    ("h[t] = h[t-1]**65", (1, 16), "exponent is too large", "65", "at most 64"),
    ("h[t] = h[t-1]**-65", (1, 17), "exponent is too large", "65", "at most 64"),
    ("h[t] = (h[t-1]**8)**9", (1, 19), "exponent is too large", "72", "at most 64"),
    ("h[t] = x[t]**60*x[t]**5*h[t-1]", (1, 16), "exponent is too large", "65", "at most 64"),
]  # fmt: skip


def check_error(text, position, message, found, expected, near=None, parse=derive.parse):
    """Whether the text is refused there, in one line, for this reason."""
    try:
        parse(text)
    except derive.CellError as error:
        says = [(message, error.message), (found, error.found), (expected, error.expected), (near, error.near)]
        return (
            (error.line, error.column) == (position or (None, None))
            and all(part in whole if part and whole else not part for part, whole in says if part or part is near)
            and str(error).isprintable()
        )
    return False


@pytest.mark.parametrize("case", ERRORS, ids=[repr(case[0]) for case in ERRORS])
def test_errors_say_where_what_was_found_and_what_to_write(case):
    assert check_error(*case)


@pytest.mark.parametrize("case", ERRORS[::6], ids=[repr(case[0]) for case in ERRORS[::6]])
def test_an_error_elsewhere_or_for_another_reason_would_not_do(case):
    text, position, message, *rest = case
    wrong_place = (position or (1, 1))[0], (position or (1, 0))[1] + 1
    assert not check_error(text, wrong_place, message, *rest)
    assert not check_error(text, position, message + " at all", *rest)
    assert not check_error("h[t] = h[t-1]", position, message, *rest)


def test_an_error_reads_as_one_line():
    with pytest.raises(derive.CellError) as caught:
        derive.parse("hidden[t] = tanh(hiden[t-1])")
    assert str(caught.value) == (
        "line 1, column 18: hiden[t-1] is read, so hiden is a state, but no equation assigns it (expected an equation "
        "hiden[t] = ..., or, if hiden is an input, a state hiden_1[t] = hiden[t], read as hiden_1[t-1]; "
        "nearest known name: hidden)"
    )
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.line, again.near) == (str(caught.value), 1, "hidden")


def chain(n, equation="h{i}[t] = h{i}[t-1]"):
    return "\n".join(equation.format(i=i) for i in range(n))


@pytest.mark.parametrize(
    ("template", "most"),
    [
        (lambda n: "h[t] = h[t-1]**" + str(n), LIMITS.power),
        (lambda n: "h[t] = h[t-1]*" + "7" * n, LIMITS.digits),
        (lambda n: f"h[t] = h[t-1]*1e-{n}", LIMITS.decimal_exponent),
        (lambda n: f"{'h' * n}[t] = {'h' * n}[t-1]", LIMITS.name),
        (chain, LIMITS.equations),
        (lambda n: "h[t] = h[t-1] + " + " + ".join(f"b{i}" for i in range(n - 1)), LIMITS.height),
        (lambda n: "h[t] = " + "(" * (n - 1) + "h[t-1]" + ")" * (n - 1), LIMITS.depth - 1),
    ],
)
def test_limits_are_where_they_are_said_to_be(template, most):
    assert derive.parse(template(most)).states
    with pytest.raises(derive.CellError):
        derive.parse(template(most + 1))


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_one_edit_is_an_edit_distance_of_one(a, b):
    assert is_one_edit(a, b) == (edit_distance(a, b) == 1)


def test_short_names_and_declared_ones_are_no_slips():
    assert derive.parse("c[t] = c[t-1] + x[t]").inputs == ("x",)
    assert derive.parse("hidden[t] = hidden[t-1] + hiddan[t]\nhiddan: D\nhidden: D").inputs == ("hiddan",)


# ---------------------------------------------------------------------------------------------- texts and files


@settings(max_examples=40)
@given(cell_texts(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_line_ends_and_byte_order_marks_mean_nothing(text, end, bom):
    assert derive.parse("\ufeff" * bom + text.replace("\n", end)) == derive.parse(text)


def test_comments_blank_lines_and_lines_inside_brackets():
    cell = derive.parse(
        "\n# my_cell.cell -- A title (Author 2000)\n# a source\n\nh[t] = (  # why\n  h[t-1]\n\n + b)  # end"
    )
    assert (cell.name, cell.title) == ("my_cell", "A title (Author 2000)")
    assert cell.equations["h"] == at("h", -1) + parameter("b")
    assert cell.trees["h"].text == "h[t] = ( h[t-1]  + b)"
    assert derive.parse("h[t] = h[t-1]  # no title").title == ""
    assert derive.parse("# x\th\u00a0y\u00ad\nh[t] = h[t-1]").title == "x h y"
    assert derive.parse(cell.text, name="other").name == "other"


@pytest.mark.parametrize("name", derive.cells())
def test_shipped_cells_load_by_name_and_by_path(name, tmp_path):
    cell = derive.load(name)
    assert cell.name == name
    assert cell.title
    path = tmp_path / f"{name}.cell"
    path.write_bytes(b"\xef\xbb\xbf" + cell.text.replace("\n", "\r\n").encode())
    assert derive.load(path) == derive.load(str(path)) == cell


def test_files_that_are_wrong_say_which_and_where(tmp_path):
    path = tmp_path / "wrong.cell"
    for content, said in [
        (b"h[t] = h[t-1]\ny[t] = \xff", "wrong.cell:2:8: the text is not UTF-8 (found byte 0xff"),
        ("h[t] = h[t-1]".encode("utf-16"), "wrong.cell:1:1: the text is not UTF-8"),
        (b"h[t] = tahn(h[t-1])", "wrong.cell:1:8: unknown function"),
    ]:
        path.write_bytes(content)
        with pytest.raises(derive.CellError) as caught:
            derive.load(path)
        assert said in str(caught.value)
    with pytest.raises(FileNotFoundError, match="did you mean lstm"):
        derive.load("lsmt")
    with pytest.raises(FileNotFoundError):
        derive.load(tmp_path / "no.cell")


# ------------------------------------------------------------------------------------------- writing and SymPy


def declarations(cell):
    said = {0: "scalar", 1: "{}", 2: "({}, {})"}
    return {**cell.axes, **{p: said[len(s)].format(*s) for p, s in cell.parameters.items()}}


def check_round_trip(cell, writer=write):
    """Whether the equations that ``writer`` writes are read as the equations that they were."""
    lines = [f"{name}[t] = {writer(right)}" for name, right in cell.equations.items()]
    lines += [f"{name}: {size}" for name, size in declarations(cell).items() if any(name in line for line in lines)]
    try:
        return dict(derive.parse("\n".join(lines)).equations) == dict(cell.equations)
    except derive.CellError as error:
        # a name or a state may have cancelled, which is not the writer's doing
        return error.message.endswith("no equation has it") or error.message == "a cell needs a state"


@given(cell_texts())
def test_writing_undoes_reading(text):
    assert check_round_trip(derive.parse(text))


AWKWARD = [
    "2*(p + q)*(r + s)", "(p + q)/r*2/3", "-(p + q)*(r + 1)", "-2*(p + q)*(r + 1)/3", "3/(p + 1/q)", "1/p/4",
    "1/(p + 1)**2/4", "(p - 1)*(1 - p)", "(-p - q)**3", "-(p - q)", "W @ (-p)", "W @ (p/2)", "W @ (W.T @ p)",
    "(W @ p)/(W @ q)", "(W @ p)**2", "-1/2 - p", "-p/2 - 1/3*q", "p**-3", "pi**2*p", "2/pi", "1e100*p", "p - 1e100",
    "p/1e400", "(1e25 + 1)**4*p", "(1e20 + 1)/(1e25 + 7)*(p + q)*(r + 1)", "123456789012345678901234567890e400*p",
    "sqrt(p)**3", "exp(-p)**2", "abs(p)/p", "p*q*r*s*(p + q)*2", "softplus(erf(softsign(relu(sin(cos(p))))))",
]  # fmt: skip


@pytest.mark.parametrize("right", AWKWARD)
def test_writing_undoes_reading_where_it_is_awkward(right):
    cell = derive.parse(
        f"h[t] = h[t-1]\ny[t] = p + q + r + s + {right} + W @ h[t]\nz[t] = 0*h[t] + ({right})\nW: (H, H)"
    )
    assert check_round_trip(cell)


@pytest.mark.parametrize("writer", [str, lambda e: write(-e), lambda e: write(e).replace("(", "").replace(")", "")])
def test_a_writer_that_says_something_else_is_caught(writer):
    assert not check_round_trip(derive.parse("h[t] = 2*(W @ h[t-1] + p)*(q + r)"), writer)


def test_sums_longer_than_a_line_may_be_are_grouped():
    long = (
        "h[t] = h[t-1] + ("
        + ") + (".join(" + ".join(f"b{i}" for i in range(j, j + 40)) for j in range(0, 240, 40))
        + ")"
    )
    assert check_round_trip(derive.parse(long))


def test_cells_from_sympy_obey_the_same_rules():
    h, x, W, b = at("h", -1), at("x"), parameter("W"), parameter("b")
    for build in (lambda: FUNCTIONS["tanh"](lin(W, h) + b * x), lambda: sympy.tanh(lin(W, h) + b * x)):
        cell = derive.Cell.from_sympy({"h": build()}, name="made", title="A title")
        assert cell.equations["h"] == FUNCTIONS["tanh"](lin(W, h) + b * x)
        assert (cell.name, cell.title, dict(cell.parameters)) == ("made", "A title", {"b": ("H",), "W": ("H", "H")})
    built = sympy.exp(x) + sympy.Abs(x) + sympy.sqrt(1 + x**2) + sympy.Max(x, 0) + sympy.erf(x) * sympy.E
    text = derive.Cell.from_sympy({"h": h * built}).text
    assert all(
        word in text for word in ("exp(x[t])", "abs(x[t])", "sqrt(1 + x[t]**2)", "relu(x[t])", "erf(x[t])", "exp(1)")
    )
    sized = derive.Cell.from_sympy({"h": b * lin(W, h)}, sizes={"b": "scalar", "W": "(N, N)"})
    assert dict(sized.parameters) == {"b": (), "W": ("N", "N")}
    with pytest.raises(derive.CellError, match="a cell needs a state"):
        derive.Cell.from_sympy({"h": x})
    with pytest.raises(derive.CellError, match="log is undefined"):
        derive.Cell.from_sympy({"h": h + FUNCTIONS["log"](sympy.Integer(-2))})


def deep(n):
    e = at("h", -1)
    for _ in range(n):
        e = FUNCTIONS["tanh"](e)
    return e


def shared(n):
    e = at("h", -1)
    for _ in range(n):
        e = FUNCTIONS["tanh"](e) * (e + parameter("b"))
    return e


@pytest.mark.parametrize(
    ("equations", "sizes"),
    [
        ({"h[t] = 1\nevil": at("h", -1)}, {}),
        ({"h#": at("h", -1)}, {}),
        ({1: at("h", -1)}, {}),
        ({"h": at("h", -1) + sympy.Symbol("b\nevil[t] = 1")}, {}),
        ({"h": at("h", -1) + sympy.Symbol("b # evil")}, {}),
        ({"h": at("h", -1) + sympy.Symbol("x[t] + y[t]")}, {}),
        ({"h": at("h", -1) + sympy.Symbol("é")}, {}),
        ({"h": at("h", -1) * parameter("b")}, {"b": "scalar\nevil: H"}),
        ({"h": at("h", -1) * parameter("b")}, {"b: H\nh": "H"}),
        ({"h": 0.5 * at("h", -1)}, {}),
        ({"h": at("h", -1) * sympy.Integer(10) ** 5000}, {}),
        ({"h": at("h", -1) + sympy.I}, {}),
        ({"h": at("h", -1) / (at("x") - at("x"))}, {}),
        ({"h": sympy.asin(at("h", -1))}, {}),
        ({"h": sympy.Function("f")(at("h", -1))}, {}),
        ({"h": at("h", -1) ** sympy.Rational(1, 3)}, {}),
        ({"h": at("h", -1) > 0}, {}),
        ({"h": "h[t-1]"}, {}),
        ({"h": lin(parameter("U") + parameter("V"), at("h", -1))}, {}),
        ({"h": lin(at("x"), at("h", -1))}, {}),
        ({"h": at("h", -1) + transpose(parameter("W"))}, {}),
        ({"h": at("h", -1) * sympy.Symbol("A", commutative=False)}, {}),
        ({"h": deep(400)}, {}),
        ({"h": shared(40)}, {}),
    ],
)
def test_what_the_language_cannot_say_is_refused_and_never_written(equations, sizes):
    with pytest.raises(ValueError, match=r"expected|more than|needs"):
        derive.Cell.from_sympy(equations, sizes=sizes)


# ------------------------------------------------------------------------------------------------ cells as values


@settings(max_examples=40)
@given(cell_texts())
def test_cells_can_be_pickled_copied_and_hashed(text):
    cell = derive.parse("# a.cell -- A title\n" + text)
    for other in (pickle.loads(pickle.dumps(cell)), copy.copy(cell), copy.deepcopy(cell)):
        assert other == cell
        assert hash(other) == hash(cell)
        for field in dataclasses.fields(cell):
            if field.name != "trees":
                assert getattr(other, field.name) == getattr(cell, field.name)
    assert cell != derive.parse(cell.text + "\n# more")
    assert pickle.loads(pickle.dumps(dict(cell.equations))) == dict(cell.equations)


def test_cells_are_frozen():
    for field in dataclasses.fields(LSTM):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(LSTM, field.name, None)
    for mapping in (LSTM.parameters, LSTM.dimensions, LSTM.axes, LSTM.equations, LSTM.trees):
        with pytest.raises(TypeError, match="item assignment"):
            mapping["a"] = None


# --------------------------------------------------------------------------------------------- the random cells


@pytest.fixture(scope="module")
def texts():
    """Some hundred random cells, the same in every run."""
    found = []
    settings(max_examples=300)(given(cell_texts())(lambda text: found.append(text)))()
    return found


def test_random_cells_are_small_and_valid(texts):
    for cell in map(derive.parse, texts):
        assert len(cell.equations) <= 5
        assert len(cell.parameters) <= 8


@given(cell_texts(functions=("tanh", "exp"), divisions=False))
def test_random_cells_keep_to_the_functions_and_divisions_allowed(text):
    cell = derive.parse(text)
    used = {type(f).__name__ for e in cell.equations.values() for f in e.atoms(sympy.Function)}
    assert used <= {"tanh", "exp", "lin", "transpose"}
    assert not any(p.exp.is_negative for e in cell.equations.values() for p in e.atoms(sympy.Pow))
    assert not cell.hypotheses


FEATURES = {
    **{f"{n} states": lambda c, t, n=n: len(c.states) == n for n in (1, 2, 3)},
    **{f"{n} inputs": lambda c, t, n=n: len(c.inputs) == n for n in (0, 1, 2)},
    **{f"{n} outputs": lambda c, t, n=n: len(c.outputs) == n for n in (0, 1, 2)},
    **{f"{n} intermediates": lambda c, t, n=n: len(c.intermediates) == n for n in (0, 2)},
    **{name: lambda c, t, name=name: f"{name}(" in t for name in FUNCTIONS},
    "a transpose": lambda c, t: ".T" in t,
    "a scalar": lambda c, t: () in c.parameters.values(),
    "a vector": lambda c, t: any(len(shape) == 1 for shape in c.parameters.values()),
    "tied weights": lambda c, t: t.count("W1") > 1,
    "a difference of matrices": lambda c, t: "(W1 - W2" in t,
    "a product of matrices": lambda c, t: "W1 @ W2 @" in t,
    "scaled rows": lambda c, t: "*W1) @" in t and "alpha" not in t,
    "a division": lambda c, t: "]/(" in t,
    "a negative power": lambda c, t: "**-" in t,
    "a cube": lambda c, t: "**3" in t,
    "sizes of their own": lambda c, t: len(c.dimensions) > 3,
    "one size for all": lambda c, t: len(c.dimensions) == 1,
    "two states of two sizes": lambda c, t: len({c.axes[s] for s in c.states}) > 1,
    "a state read at [t]": lambda c, t: any(at(s) in e.free_symbols for s in c.states for e in c.equations.values()),
    "a declaration": lambda c, t: ": (" in t,
    "lines out of order": lambda c, t: c.order != tuple(c.equations),
}


def missing(features, texts):
    """The features that no text has."""
    left = dict(features)
    for text in texts:
        cell = derive.parse(text)
        left = {name: shows for name, shows in left.items() if not shows(cell, text)}
    return set(left)


def test_random_cells_have_every_feature(texts):
    assert not missing(FEATURES, texts)
    assert missing({"six equations": lambda c, t: len(c.equations) > 5}, texts) == {"six equations"}


def test_trees_keep_the_text_and_the_place():
    (equation,), (declaration,) = parse_lines("W: (H, H)\n  h[t] = W @ h[t-1]  # why\n")
    assert (equation.text, equation.position, declaration.position) == ("h[t] = W @ h[t-1]", (2, 3), (1, 1))
