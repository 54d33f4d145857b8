"""A person's own derivation: right lines are right in any form, wrong ones are found, named and shown."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from odd_cells import ODD
from planted_files import own_lines, planted_files
from surface_forms import surfaces
from turns import ALL, drawing

import derive
from derive.handwritten.bench import Bench
from derive.handwritten.proofs import EVERY_SIZE
from derive.handwritten.ring import Ring
from derive.handwritten.wording import backward_file

EXAMPLES = {p.name: p for p in files("derive").joinpath("examples").iterdir() if p.name.endswith(".backward")}

TANH = """\
dy[t] = p[t] - target[t]
dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]
da[t] = dh[t]*(1 - h[t]**2)
dW_hy = sum(outer(dy[t], h[t]))
dW_hh = sum(outer(da[t], h[t-1]))
dW_xh = sum(outer(da[t], x[t]))
db = sum(da[t])
"""


def cell_of(name):
    """The cell of an example: the longest cell's name that its name begins with."""
    return max((c for c in derive.cells() if name.startswith(c)), key=len)


def statuses(text, cell="tanh_rnn"):
    return [line.status for line in derive.verify(text, cell).lines]


def only(text, cell="tanh_rnn"):
    """The one wrong line of a file."""
    (line,) = derive.verify(text, cell).wrong
    return line


def changed(old, new):
    assert old in TANH
    return TANH.replace(old, new, 1)


# -------------------------------------------------------------------------------------------------------- right files


def test_the_textbook_derivation_is_right_line_by_line():
    v = derive.verify(TANH, "tanh_rnn")
    assert [line.status for line in v.lines] == ["right", "right", "definition", "right", "right", "right", "right"]
    assert {line.level for line in v.lines} == {EVERY_SIZE}
    assert v.holds
    assert v.ran
    assert v.missing == ()
    assert [line.number for line in v.lines] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_right(name):
    v = derive.verify(EXAMPLES[name].read_text(encoding="utf-8"), cell_of(name))
    assert v.holds, str(v)
    assert v.decided
    assert v.ran is True
    assert v.missing == ()


@pytest.mark.parametrize("name", [*derive.cells(), *ODD])
def test_a_cells_own_derivation_goes_round(name):
    cell = ODD[name] if name in ODD else derive.load(name)
    v = derive.verify(backward_file(derive.differentiate(cell)), cell)
    assert v.holds, str(v)
    assert v.decided, str(v)
    assert v.ran is not False
    assert v.missing == ()


@pytest.mark.parametrize("name", EXAMPLES)
@settings(drawing(5, 10), phases=[Phase.generate])
@given(data=st.data())
def test_a_right_derivation_is_right_in_any_form(name, data):
    cell = derive.load(cell_of(name))
    form = data.draw(surfaces(EXAMPLES[name].read_text(encoding="utf-8"), cell))
    v = derive.verify(form.text, cell)
    assert v.holds, f"{form.rewritings}\n{v}"
    assert v.decided
    assert v.ran is not False


def test_a_derivation_need_not_name_the_loss():
    v = derive.verify(TANH.partition("\n")[2], "tanh_rnn")
    assert v.holds
    assert v.loss == "any loss"


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        ("dy[t] = p[t] - target[t]", "softmax cross-entropy, targets that sum to one"),
        ("dy[t] = softmax(y[t]) - target[t]", "softmax cross-entropy, targets that sum to one"),
        ("dy[t] = (p[t] - target[t])/T", "softmax cross-entropy, targets that sum to one, the mean over the steps"),
        ("dy[t] = y[t] - target[t]", "half the squared error"),
        ("dy[t] = 2*(y[t] - target[t])", "the squared error"),
        ("dy[t] = 2*(y[t] - target[t])/T", "the squared error, the mean over the steps"),
    ],
)
def test_the_loss_is_read_from_the_file(line, loss):
    v = derive.verify(changed("dy[t] = p[t] - target[t]", line), "tanh_rnn")
    assert v.holds
    assert v.loss == loss


def test_the_ambiguous_line_of_the_usual_listing_is_told():
    line = derive.verify(changed("p[t]", "y[t]"), "tanh_rnn").lines[0]
    assert line.status == "right"
    assert "half the squared error" in line.note
    assert "write p[t] - target[t]" in line.note


def test_a_restated_equation_is_given_and_a_misquoted_one_wrong():
    v = derive.verify("h[t] = tanh(W_xh @ x[t] + W_hh @ h[t-1] + b)\np[t] = softmax(y[t])\n" + TANH, "tanh_rnn")
    assert [line.status for line in v.lines[:2]] == ["given", "given"]
    assert only("h[t] = tanh(W_xh @ x[t] + W_hh.T @ h[t-1] + b)\n" + TANH).expected == (
        "h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t] + b)"
    )


def test_a_gate_convention_that_is_kept_throughout_is_right_and_told():
    text = EXAMPLES["lstm_gates.backward"].read_text(encoding="utf-8")
    v = derive.verify(text, "lstm")
    assert v.holds
    assert {note.split()[0] for note in v.notes} == {"di", "df", "dg", "do"}
    # once is not throughout: da_n and dn stand side by side, and one of them is used in the wrong place
    own = backward_file(derive.differentiate(derive.load("gru")))
    mixed = own.replace("outer(da_n[t], x[t])", "outer(dn[t], x[t])")
    v = derive.verify(mixed, "gru")
    assert [line.text for line in v.wrong] == ["dW_n = sum(outer(dn[t], x[t]))"]
    assert v.notes == ()


def test_derivatives_by_pre_activation_may_be_a_recursion_of_their_own():
    text = """\
delta[t] = (W_hy.T @ dy[t] + W_hh.T @ delta[t+1])*(1 - h[t]**2)
dW_hh = sum(outer(delta[t], h[t-1]))
"""
    v = derive.verify(text, "tanh_rnn")
    assert [line.level for line in v.lines] == [EVERY_SIZE, EVERY_SIZE]
    assert v.missing == ("dW_xh", "db", "dW_hy")
    wrong = only(text.replace("1 - h[t]", "1 + h[t]"))
    assert wrong.number == 1
    assert wrong.mistake == "activation-wrong"


def test_the_lines_of_the_usual_introduction_as_it_prints_them():
    text = """\
h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t] + b)
y[t] = W_hy @ h[t]
dW_hy = sum(dl_dy[t] @ h[t].T)
dh[t] = dl_dh[t] + dh[t+1] @ jacobian(h[t+1], h[t])
jacobian(h[T], h[t]) = prod(jacobian(h[k+1], h[k]), k, t, T-1)
jacobian(h[k+1], h[k]) = diag(1 - h[k+1]**2) @ W_hh
"""
    v = derive.verify(text, "tanh_rnn")
    assert [line.status for line in v.lines] == ["given", "given", "right", "right", "wrong", "right"]
    assert v.wrong[0].mistake == "product-order"  # printed upwards: it is meant with the last step at the left
    listing = EXAMPLES["tanh_rnn_seed.backward"].read_text(encoding="utf-8").replace("p[t]", "y[t]")
    v = derive.verify(listing, "tanh_rnn")
    assert v.holds
    assert "for softmax cross-entropy" in next(line.note for line in v.lines if line.text.startswith("dy"))


def test_steps_may_be_counted_with_another_letter():
    text = "dh[k] = W_hy.T @ dy[k] + W_hh.T @ da[k+1]\nda[k] = dh[k]*(1 - h[k]**2)\ndb = sum(da[k], k, 1, T)"
    assert derive.verify(text, "tanh_rnn").holds
    assert derive.verify(text.replace("da[k+1]", "dh[k+1]"), "tanh_rnn").wrong[0].number == 1


# ------------------------------------------------------------------------------------------------------- single claims


@pytest.mark.parametrize(
    "text",
    [
        "jacobian(h[T], h[t]) = prod(J[k], k, T, t+1)\nJ[t] = diag(1 - h[t]**2) @ W_hh",
        "jacobian(h[T], h[t]) = prod(jacobian(h[k+1], h[k]), k, T-1, t)",
        "jacobian(h[t+1], h[t]) = diag(1 - h[t+1]**2) @ W_hh",
        "jacobian(h[t], h[t-1]) = (1 - h[t]**2)*W_hh",
        "jacobian(y[t], h[t]) = W_hy",
        "dh[t] = dl_dh[t] + jacobian(h[t+1], h[t]).T @ dh[t+1]",
        "dl_dh[t] = W_hy.T @ dy[t]",
        "dW_hh = sum(dh[t] @ immediate(h[t], W_hh))",
        "db = sum(dh[t] @ immediate(h[t], b))",
        "truncated(dh[t], 2) = dl_dh[t] + dl_dh[t+1] @ jacobian(h[t+1], h[t])",
        "truncated(dW_hh, 1) = sum(outer((1 - h[t]**2)*dl_dh[t], h[t-1]))",
    ],
)
def test_single_formulas_are_proven_for_every_size(text):
    assert {line.level for line in derive.verify(text, "tanh_rnn").lines} == {EVERY_SIZE}


def test_a_term_of_one_loss_is_proven_at_the_sizes_said():
    text = EXAMPLES["tanh_rnn_last.backward"].read_text(encoding="utf-8")
    levels = {line.level for line in derive.verify(text, "tanh_rnn").lines}
    assert "proven, at sizes up to T = 3, size 2" in levels


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("jacobian(h[T], h[t]) = prod(jacobian(h[k], h[k-1]), k, t+1, T)", "product-order"),
        ("jacobian(h[T], h[t]) = prod(jacobian(h[k+1], h[k]), k, t, T-1)", "product-order"),  # as many books print it
        ("jacobian(h[T], h[t]) = prod(jacobian(h[k], h[k-1]), k, T, t)", None),
        ("jacobian(h[T], h[t]) = prod(jacobian(h[k], h[k-1]), k, T-1, t+1)", None),
        ("jacobian(h[t+1], h[t]) = diag(1 - h[t]**2) @ W_hh", "activation-previous-state"),
        ("jacobian(h[t+1], h[t]) = W_hh.T @ diag(1 - h[t+1]**2)", "jacobian-transposed"),
        ("truncated(dh[t], 2) = dl_dh[t]", None),
        ("truncated(dW_hh, 1) = sum(outer((1 - h[t]**2)*dh[t], h[t-1]))", None),
    ],
)
def test_wrong_single_formulas_are_wrong(text, mistake):
    line = only(text)
    assert line.mistake == mistake
    assert line.counterexample is not None


def test_a_cell_state_reaches_its_past_by_the_output_too():
    line = only("jacobian(c[T], c[t]) = prod(diag(f[k]), k, T, t+1)", "lstm")
    assert line.status == "wrong"


# --------------------------------------------------------------------------------------------------------- wrong lines


def test_the_wrong_line_is_named_and_shown():
    line = only(changed("+ W_hh.T @", "+ W_hh @").partition("\n")[2])  # for any loss
    assert (line.number, line.mistake, line.says) == (1, "carry-not-transposed", "W_hh should be W_hh.T")
    assert line.expected == "dh[t] = W_hh.T @ da[t+1] + W_hy.T @ dy[t]"
    example = line.counterexample
    assert (example.steps, example.sizes) == (2, {"H": 2, "D": 1, "O": 1})
    # by hand: h = 0 everywhere, so da[2] = W_hy.T dy[2] = (0, 1), and dh[1] = W_hh.T da[2]
    assert example.point == {"W_hh[2,1]": "1", "W_hy[1,2]": "1", "dy[2][1]": "1"}
    assert (example.entry, example.yours, example.right) == ("dh[1][1]", "0", "1")


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("p[t] - target[t]", "target[t] - p[t]", "loss-sign"),
        ("p[t] - target[t]", "p[t] + target[t]", "loss-form"),
        ("W_hy.T @ dy", "W_hy @ dy", "readout"),
        (" + W_hh.T @ da[t+1]", "", "carry-missing"),
        ("W_hy.T @ dy[t] + ", "", "carry-overwrites"),
        ("da[t+1]", "dh[t+1]", "carry-before-activation"),
        ("W_hh.T @ da[t+1]", "da[t+1]", "carry-without-matrix"),
        ("da[t+1]", "da[t-1]", "time-forward"),
        ("1 - h[t]**2", "1 + h[t]**2", "activation-wrong"),
        ("1 - h[t]**2", "1 - h[t]", "activation-wrong"),
        ("1 - h[t]**2", "1 - h[t-1]**2", "activation-previous-state"),
        ("(1 - h[t]**2)", "(1 - h[t]**2)**2", "activation-twice"),
        ("1 - h[t]**2", "1 - tanh(h[t])**2", "activation-twice"),
        ("1 - h[t]**2", "1 - (W_hh @ h[t-1] + W_xh @ x[t] + b)**2", "activation-at-preactivation"),
        ("outer(da[t], h[t-1])", "outer(da[t], h[t])", "recurrent-off-by-one"),
        ("sum(outer(da[t], h[t-1]))", "sum(outer(da[t+1], h[t]))", "first-step-lost"),
        ("sum(outer(da[t], h[t-1]))", "outer(da[t], h[t-1])", "assign-for-accumulate"),
        ("outer(da[t], h[t-1])", "outer(h[t-1], da[t])", "weight-transposed"),
        ("sum(outer(da[t], x[t]))", "sum(outer(da[t], x[t]))/T", "reduction"),
        ("sum(outer(da[t], x[t]))", "sum(outer(da[t], x[t])) + 0.01*W_xh", "regulariser-left-in"),
        ("sum(outer(dy[t], h[t]))", "sum(outer(dy[t], h[t-1]))", "readout"),
    ],
)
def test_known_mistakes_are_named(old, new, mistake):
    line = only(changed(old, new))
    assert mistake in (line.mistake, *line.also)
    assert line.counterexample is not None


def test_what_is_no_known_mistake_is_shown_as_a_difference():
    line = only(changed("1 - h[t]**2", "1 + 3*h[t]**2"))
    assert line.mistake is None
    assert line.difference == "-4*dh[t]*h[t]**2"
    assert only(TANH + "dh0 = W_hh.T @ da[1] + dh[1]").difference == "-dh[1]"


def test_several_mistakes_are_found_one_by_one():
    text = changed("+ W_hh.T @", "+ W_hh @").replace("h[t-1]))", "h[t]))").replace("dy[t] = p[t] -", "dy[t] = p[t] +")
    v = derive.verify(text, "tanh_rnn")
    assert [(line.number, line.mistake) for line in v.wrong] == [
        (1, "loss-form"),
        (2, "carry-not-transposed"),
        (5, "recurrent-off-by-one"),
    ]


def test_shapes_that_do_not_conform_are_a_wrong_line_and_not_the_end():
    v = derive.verify(changed("W_hy.T @ dy", "W_hy @ dy"), "tanh_rnn")
    assert [line.number for line in v.wrong] == [2]
    assert "shapes do not conform" in v.wrong[0].note


def test_a_mistake_in_a_definition_is_red_there_and_nowhere_else():
    line = only(changed("1 - h[t]**2", "1 - h[t]**3"))
    assert line.number == 3
    # even where nothing but one line uses it
    assert only("da[t] = dh[t]*(1 - h[t]**3)\ndb = sum(da[t])\n").number == 1


@cache
def first_places():
    """By cell, one place of each mistake; in a usual run each mistake in one of the cells that have it, in turn."""
    found = {name: {} for name in derive.cells()}
    for name, places in found.items():
        for planted in planted_files(derive.load(name)):
            places.setdefault(planted.mistake, planted)
    for i, mistake in enumerate(dict.fromkeys(m for places in found.values() for m in places)):
        having = [name for name, places in found.items() if mistake in places]
        for k, name in enumerate(having):
            if not ALL and (k - i) % len(having):
                del found[name][mistake]
    return found


@pytest.mark.parametrize("name", derive.cells())
@settings(max_examples=1, phases=[Phase.generate])
@given(data=st.data())
def test_every_planted_mistake_is_found_at_its_line_and_named(name, data):
    """One place of each; tests/benchmarks/verification.py plants them all, in three forms each."""
    cell = derive.load(name)
    missed = []
    for planted in first_places()[name].values():
        form = data.draw(surfaces(planted.text, cell, most=2))
        v = derive.verify(form.text, cell)
        there = v.wrong and v.wrong[0].number in {n for k in planted.wrong for n in form.lines[k]}
        named = there and {v.wrong[0].mistake, *v.wrong[0].also} & {planted.mistake, *planted.also}
        missed += [] if named else [(planted.mistake, form.rewritings, str(v))]
    assert missed == []


def test_mistakes_of_a_users_own_cell_are_found_by_shape():
    cell = derive.parse("""
        u[t] = sigmoid(A @ q[t] + B @ s[t-1] + e)
        v[t] = tanh(F @ q[t] + G @ (u[t]*s[t-1]) + k)
        s[t] = u[t]*s[t-1] + (1 - u[t])*v[t]
        z[t] = R @ s[t]""")
    right = backward_file(derive.differentiate(cell))
    assert derive.verify(right, cell).holds
    wrong = right.replace("G.T @ da_v[t+1]", "G @ da_v[t+1]")
    assert wrong != right
    assert derive.verify(wrong, cell).wrong[0].mistake == "carry-not-transposed"


# ------------------------------------------------------------------------------ what must not pass, seen at the ends


@pytest.mark.parametrize(
    "text",
    [
        "dy[T] = p[T] - target[T]\ndW_hy = 0",  # the last step's loss has a last step
        "dy[T] = p[T] - target[T]\ndh[t] = W_hh.T @ (dh[t+1]*(1 - h[t+1]**2)) + dy[t+1] @ W_hy",
        "dW_hy = sum(outer(dy[k], h[k]), k, 2, T)",
        "dW_hy = sum(outer(dy[k], h[k]), k, 1, T-1)",
        "dW_hh = sum(outer(e[t], h[t-1]))\ne[t] = dh[t]*(1 - h[t]**2)\ne[T] = dh[T]",
        "dW_hh = sum(outer(e[t], h[t-1]))\ne[t] = dh[t]*(1 - h[t]**2)\ne[1] = 0",
        "dh[T+1] = dy[T]",
        "dh[T] = W_hy.T @ dy[T] + W_hh.T @ dh[T]",
        "dh0 = dh[1]",
        "s[t] = s[t+1] + dh[t]*(1 - h[t]**2)\ndb = s[0]",
    ],
)
def test_what_goes_wrong_only_at_the_ends_is_wrong(text):
    assert not derive.verify(text, "tanh_rnn").holds


def test_an_accumulated_gradient_is_right():
    v = derive.verify("s[t] = s[t+1] + dh[t]*(1 - h[t]**2)\ndb = s[1]", "tanh_rnn")
    assert v.holds
    assert v.decided


def test_a_prover_in_which_diagonals_commute_would_pass_a_wrong_line(monkeypatch):
    """The defect that the free algebra exists to rule out, planted: (W (f' d)) = f' (W d)."""
    wrong = "dh[t] = W_hy.T @ dy[t] + (1 - h[t+1]**2)*(W_hh.T @ dh[t+1])"
    monkeypatch.setattr(Bench, "is_right", lambda *arguments: True)  # the prover alone
    assert statuses(wrong) == ["wrong"]

    def commuting(ring, letter, x):
        return x * ring.atom(("lin", *letter))

    monkeypatch.setattr(Ring, "lin", commuting)
    assert statuses(wrong) == ["right"]


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dq[t] = dh[t]\ndW_hh = sum(outer(dqq[t], h[t-1]))", ("line 2", "unknown derivative", "found dqq", "near")),
        ("dW_hhh = sum(outer(dh[t], h[t-1]))", ("unknown derivative", "dW_hh")),
        ("dh[t] = W_hy.T @ dy[t]\ndh[t] = dy[t]", ("line 2", "defined twice", "line 1")),
        ("dh[t] = W_hh.T @ da[t+2]\nda[t] = dh[t]", ("one step", "da[t+1]")),
        ("dW_hh = sum(dh[t]*h[t-1])", ("matrix", "outer(a[t], b[t])")),
        ("dW_hh = sum(dh[t] @ h[t-1])", ("matrix", "outer(a[t], b[t])")),
        ("dW_hh += outer(dh[t], h[t-1])", ("'+='", "sum(...)")),
        ("δ[t] = dh[t]", ("GREEK SMALL LETTER DELTA", "delta")),
        ("dy[t] = mean(p[t] - target[t])", ("mean", "sum(...)/T")),
        ("dz[t] = concat(dh[t], dy[t])", ("concat", "one line a gate")),
        ("dh[t] = W_hh*h[t]", ("W @ v", "diag(v) @ W")),
        ("dh[t] = h[t]*W_hh", ("vector", "matrix")),
        ("target[t] = 0", ("the target is given",)),
        ("dh[t] = dc[t]", ("unknown derivative", "dc")),
        ("dh[t] = dh[t]", ("circle", "dh[t] needs dh[t]")),
        ("da[t] = e[t]\ne[t] = da[t]", ("circle",)),
        ("dy[0] = 0", ("only states",)),
        ("W_hh = dW_hh", ("a parameter has no equation", "dW_hh")),
        ("dW_hh[t] = dh[t]\ndW_hh = sum(dW_hh[t])", ("matrix",)),
        ("x: D\ndh[t] = dy[t]", ("declared with the cell",)),
        ("", ("no equation",)),
        ("dh_t = W_hh.T @ dy[t]", ("dh_t",)),
        ("dL/dW_hh = sum(outer(dh[t], h[t-1]))", ("left side", "dW")),
        ("dh[t] = W_hh.T @ dh_next", ("dh_next",)),
        ("db = sum(dh[t]*tanh'(h[t]))", ("primes",)),
        ("dh[t] = sum(dy[t])", ("over time", "dot(a, b)")),
        ("dh[t] = W_hy.T @ np.dot(dy[t])", ("dot is T",)),
    ],
)
def test_an_error_says_what_to_write(text, words):
    with pytest.raises(derive.CellError) as caught:
        derive.verify(text, "tanh_rnn")
    for word in words:
        assert word in str(caught.value)


def test_a_path_is_read_and_named(tmp_path):
    path = tmp_path / "my.backward"
    path.write_text("# mine\n" + TANH, encoding="utf-8")
    v = derive.verify(path, derive.load("tanh_rnn"))
    assert v.holds
    assert v.lines[0].number == 2
    assert str(path) in repr(v)
    path.write_text("dq[t] = e[t]", encoding="utf-8")
    with pytest.raises(derive.CellError, match=r"my\.backward:1:9"):
        derive.verify(str(path), "tanh_rnn")
    with pytest.raises(FileNotFoundError):
        derive.verify(tmp_path / "none.backward", "tanh_rnn")
    with pytest.raises(TypeError, match="a text or a path"):
        derive.verify(7, "tanh_rnn")


def test_own_lines_with_a_loss_are_right():
    for name in derive.cells():
        assert derive.verify("\n".join(own_lines(derive.load(name))), name).holds
