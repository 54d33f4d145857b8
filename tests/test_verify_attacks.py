"""Texts that once fooled the verifier, or broke it: each is kept."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from odd_cells import ODD

import derive

B = "dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]\nda[t] = dh[t]*(1 - h[t]**2)\n"
TWO = "h[t] = tanh(W @ h[t-1] + V @ c[t] + U @ x[t])\nc[t] = tanh(P @ c[t-1] + Q @ x[t])\ny[t] = R @ h[t]"

WRONG = [
    # the general line at the last step of a loss of the last step
    "dy[T] = p[T] - target[T]\ndh[t] = W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))\ndW_hy = outer(dy[T], h[T])",
    "dy[T] = p[T] - target[T]\ndelta[t] = (W_hh.T @ delta[t+1])*(1 - h[t]**2)\ndb = sum(delta[t])",
    "dy[T] = p[T] - target[T]\ndy[t] = 0\ndh[t] = W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))",
    # exact up to three steps, or up to two entries
    B + "dW_hh = outer(da[1], h[0]) + outer(da[2], h[1]) + outer(da[3], h[2])",
    B + "truncated(dh[t], 4) = dh[t]",
    B + "truncated(dW_hh, 3) = sum(outer(da[t], h[t-1]))",
    "dh[t] = dl_dh[t] + truncated(dh[t+1], 2) @ jacobian(h[t+1], h[t])",
    B + "dW_hh = sum(outer(da[k], h[k-1]), k, T-2, T)",
    B + "dW_hh = sum(outer(da[k], h[k-1]), k, 1, 3)",
    # ends that overlap at T = 1
    B + "dW_hh = outer(da[1], h[0]) + sum(outer(da[k], h[k-1]), k, 2, T-1) + outer(da[T], h[T-1])",
    B + "db = da[1] + sum(da[k], k, 2, T-1) + da[T]",
    B + "db = sum(dh[k]*(1 - h[k]**2), k, 1, T-2) + dh[T-1]*(1 - h[T-1]**2) + dh[T]*(1 - h[T]**2)",
    # a variable of a sum that is not t
    B + "dW_hh = sum(outer(da[t], h[t-1])) + sum(sum(outer(da[t], h[k] - h[t]), k, 1, T))",
    "da[t] = dh[t]*(1 - h[t]**2)\ndh[t] = sum(h[k] - h[t], k, 1, T) + W_hy.T @ dy[t] + W_hh.T @ da[t+1]",
    # how many entries a vector has
    B + "db = sum(da[t]*dot(h[t]**0, h[t]**0)/dot(y[t]**0, y[t]**0))",
    B + "db = sum(da[t]*dot(h[t]**0, 1)/dot(y[t]**0, 1))",
    # undefined values that cancel
    "dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1] + h[t+1] - h[t+1]\nda[t] = dh[t]*(1 - h[t]**2)",
    "dh[t] = W_hy.T @ (y[t+1]/y[t+1]*dy[t]) + W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))",
    # a name says what it is the derivative by
    "dW_hh = sum(outer(dh[t], h[t-1]))",
]

RIGHT = [
    "dh[t] = W_hy.T @ (p[t] - target[t]) + W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))",
    "dh[t] = (y[t] - target[t]) @ W_hy + W_hh.T @ (dh[t+1]*dtanh(W_hh @ h[t] + W_xh @ x[t+1] + b))",
    "dh[T] = W_hy.T @ (p[T] - target[T])",
    "dh[t-1] = W_hy.T @ (p[t-1] - target[t-1]) + W_hh.T @ (dh[t]*(1 - h[t]**2))\ndy[t] = p[t] - target[t]",
    "dy[T] = p[T] - target[T]\ndy[t] = 0\n" + B + "dW_hy = sum(outer(dy[t], h[t]))",
    "e[t] = (p[t] - target[t])/T\n" + B + "dW_hy = sum(outer(e[t], h[t]))",
    "e[t] = y[t] - target[t]\ndW_hy = 2*sum(outer(e[t], h[t]))\ndl_dh[t] = 2*W_hy.T @ e[t]",
    "dh[t] = sum(dl_dh[k] @ prod(diag(1 - h[j]**2) @ W_hh, j, k, t+1), k, t, T)",
    "dy[t] = exp(y[t])/dot(exp(y[t]), 1) - target[t]",
    B + "db = da[1] + sum(da[k], k, 2, T)",
    B + "db = 2*sum(da[t])/2\ndW_hy = 1/2*sum(2*outer(dy[t], h[t]))",
    "delta[t] = (dl_dh[t] + carry[t])*(1 - h[t]**2)\ncarry[t] = W_hh.T @ delta[t+1]\ndb = sum(delta[t])",
    "w[t] = (W_hy.T @ dy[t] + v[t+1])*(1 - h[t]**2)\nv[t] = W_hh.T @ w[t]\ndW_hh = sum(outer(w[t], h[t-1]))",
    "dh[t] = truncated(dh[t], 1) + W_hh.T @ (dh[t+1]*(1 - h[t+1]**2))",
    B + "s = sum(da[t])\ndb = s",
    "J[t] = q[t] @ W_hh\nq[t] = diag(1 - h[t]**2)\njacobian(h[t], h[t-1]) = J[t]",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_false_for_some_network_is_wrong(text):
    v = derive.verify(text, "tanh_rnn")
    assert not v.holds, str(v)


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_true_is_right(text):
    v = derive.verify(text, "tanh_rnn")
    assert v.holds, str(v)
    assert v.decided, str(v)


def test_initial_values_are_no_values_of_a_step():
    state = "q[t] = tanh(b)\nh[t] = tanh(W @ h[t-1] + V @ q[t-1] + U @ x[t])\ny[t] = P @ q[t] + R @ h[t]"
    assert not derive.verify("dP = sum(outer(dy[t], q[T-1]))", derive.parse(state)).holds
    wrong = "dc0 = V.T @ (dh[0]*(1 - h[0]**2)) + P.T @ (dc[1]*(1 - c[1]**2))"
    assert not derive.verify(wrong, derive.parse(TWO)).holds
    assert not derive.verify(wrong.replace("dc0", "dc[0]"), derive.parse(TWO)).holds


@pytest.mark.parametrize("text", ["h[T+1] = 0", "y[T+1] = W_hy @ h[1]", "x[t] = 0", "h[0] = 0"])
def test_what_has_no_equation_is_refused(text):
    with pytest.raises(derive.CellError, match=r"no equation|there is no"):
        derive.verify(text, "tanh_rnn")


def wrong_texts(text, cell):
    return [line.text for line in derive.verify(text, cell).wrong]


def test_one_mistake_is_one_red_line_where_it_is_made():
    delta = "e[t] = p[t] - target[t]\ndelta[t] = (W_hy @ e[t] + W_hh.T @ delta[t+1])*(1 - h[t]**2)\n"
    uses = "dW_hh = sum(outer(delta[t], h[t-1]))\ndW_xh = sum(outer(delta[t], x[t]))\ndb = sum(delta[t])"
    assert wrong_texts(delta + uses, "tanh_rnn") == [delta.splitlines()[1]]
    term = "g[t] = outer(h[t-1], dh[t]*(1 - h[t]**2))\ndW_hh = sum(g[t])"
    assert wrong_texts(term, "tanh_rnn") == [term.splitlines()[0]]
    total = "G[t] = G[t+1] - outer(dh[t]*(1 - h[t]**2), h[t-1])\ndW_hh = G[1]"
    assert wrong_texts(total, "tanh_rnn") == [total.splitlines()[0]]
    gates = "\n".join(f"da_{g}[t] = d{g}[t]*{g}[t]*(1 - {g}[t])" for g in "ifo") + "\nda_g[t] = dg[t]*(1 - g[t]**2)\n"
    back = "\n".join(f"back_{g}[t] = U_{g}.T @ da_{g}[t]" for g in "ifgo") + "\n"
    here = " + ".join(f"back_{g}[t+1]" for g in "ifgo")
    first = " + ".join(f"back_{g}[1]" for g in "ifgo")
    text = gates + back + f"dh[t] = W_y.T @ dy[t] + {here}\ndh0 = {first}\n"
    assert derive.verify(text, "lstm").holds
    assert wrong_texts(text.replace("U_f.T", "U_f"), "lstm") == ["back_f[t] = U_f @ da_f[t]"]


@pytest.mark.parametrize(
    "line",
    [
        "dW_hy = 2*sum(outer(dy[t], h[t]))",
        "dW_xh = W_xh @ sum(outer(x[t], x[t]))",
        "db = W_hh.T @ sum(da[t])",
        "db = tanh(sum(da[t]))",
        "db = dot(sum(da[t]), h[1])*b",
        "dW_hh = diag(sum(da[t]))",
        "dW_hh = outer(sum(da[t]), h[1])",
        "dW_hh = sum(da[t])*W_hh",
        "db = sum(da[t])**2",
        "db = 1/sum(da[t])",
        "db = sum(outer(da[t], da[t])) @ b",
        "k = 3\ndb = k*sum(da[t])",
        "s = sum(da[t])\ndb = 2*s",
        "s = sum(outer(da[t], h[t-1]))\ndW_hh = s + W_hh",
        "dW_xh = sum(dh[t] @ immediate(h[T-1], W_xh))",
        "db = 1e308*1e308*b",
        "db = (10**64)**64*b",
    ],
)
def test_every_line_that_can_be_read_gets_a_verdict(line):
    v = derive.verify(B + line, "tanh_rnn")
    assert not v.holds
    assert str(v)


def test_cells_of_every_shape_are_judged():
    skew = "da_h[t] = dh[t]*(1 - h[t]**2)\ndV = sum(outer(h[t-1], da_h[t]))\n"
    skew += "dU = sum(outer(da_h[t], x[t]) + outer(h[t], dy[t]))"
    assert not derive.verify(skew, ODD["skew matrix, transposed readout, scalar leak"]).holds
    assert not derive.verify("dx[t] = dabs(x[t])", ODD["divisions and powers"]).holds
    own = derive.verify("da_h[t] = r[t]\ndB = sum(outer(2*da_h[t], x[t]))", ODD["scaled matrices"])
    assert not own.holds


def chain(step, count=150):
    return "\n".join(["q_0[t] = dh[t]", *(f"q_{i}[t] = {step.replace('q', f'q_{i - 1}')}" for i in range(1, count))])


@pytest.mark.parametrize(
    "text",
    [
        chain("tanh(q[t]) + q[t]"),
        chain("q[t+1]"),
        chain("q[t+1]", 35),
        chain("q[t+1] + q[t-1]", 11),
        chain("q[t]*q[t]", 29),
        B + "dW_hh = " + " @ ".join(["(W_hh + W_hh + W_hh)", "(W_hh + W_hh.T + W_hh)"] * 6),
        B + "dW_hh = " + " @ ".join(["(W_hh + W_hh.T + diag(h[1] + b))"] * 10),
        B + "db = sum((h[t] + x[t] + b)**40*da[t])",
        B + "db = sum(exp(exp(exp(h[t] + b)))*da[t])",
        B + "db = sum(sum(sum(sum(da[j], j, 1, T), k, 1, T), l, 1, T))",
        B + "db = sum((dh[t] + (h[t] + b)**64)**64)",
    ],
)
def test_a_hostile_text_is_judged_or_refused_in_time(text):
    start = time.process_time()
    with suppress(derive.CellError):
        derive.verify(text, "tanh_rnn")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "text",
    [
        "dh[t] = q[t+1]\nq[t] = dh[t-1]",
        "dh[t] = W_hy.T @ dy[t] + carry[t+1]\ncarry[t] = dh[t-1] - W_hy.T @ dy[t-1]",
        "dh[T] = dh[T]",
        "dh0 = dh[0]\ndh[0] = dh0",
        "a[T] = a[T]\na[t] = dh[t]*(1 - h[t]**2)\ndb = sum(a[t])",
        "dh[t] = sum(dh[k], k, t, T) - sum(dh[k], k, t+1, T)",
        "s = sum(da[t])\ndb = sum(da[t])\nda[t] = dh[t]*(1 - h[t]**2) + db - s",
    ],
)
def test_lines_that_only_go_round_in_a_circle_are_refused(text):
    with pytest.raises(derive.CellError, match="circle"):
        derive.verify(text, "tanh_rnn")


def test_nothing_compared_is_nothing_shown():
    assert derive.verify("e[t] = 3", "tanh_rnn").ran is None


def test_what_is_said_is_said_at_the_times_of_the_line():
    (line,) = derive.verify("dh[t] = W_hy.T @ dy[t] + W_hh.T @ (dh[t+1]*(1 - h[t]**2))", "tanh_rnn").wrong
    assert line.says == "1 - h[t]**2 should be 1 - h[t+1]**2"
    text = "dh[t] = W_hy.T @ dy[t] + back[t]\nback[t-1] = W_hh @ da[t]\nda[t] = dh[t]*(1 - h[t]**2)"
    (line,) = derive.verify(text, "tanh_rnn").wrong
    assert line.expected == "back[t-1] = W_hh.T @ da[t]"
    (line,) = derive.verify("dh[t-1] = W_hy.T @ dy[t] + W_hh.T @ ((1 - h[t]**2)*dh[t])", "tanh_rnn").wrong
    assert line.difference == "W_hy.T @ dy[t-1] - W_hy.T @ dy[t]"


@pytest.mark.parametrize("name", ["dh_prev", "rec", "dh_next", "carry"])
def test_what_is_handed_back_is_wrong_where_it_is_defined(name):
    text = f"dh[t] = W_hy.T @ dy[t] + {name}[t+1]\n{name}[t] = W_hh @ da[t]\nda[t] = dh[t]*(1 - h[t]**2)"
    (line,) = derive.verify(text, "tanh_rnn").wrong
    assert (line.number, line.mistake) == (2, "carry-not-transposed")


def test_accumulated_gradients_and_single_steps_have_a_right_line_too():
    text = "G[t] = G[t+1] + outer(da[t], h[t])\ndW_hh = G[1]\nda[t] = dh[t]*(1 - h[t]**2)"
    (line,) = derive.verify(text, "tanh_rnn").wrong
    assert line.expected == "G[t] = G[t+1] + outer(da[t], h[t-1])"
    (line,) = derive.verify("dh[T] = W_hy.T @ dy[T]*(1 - h[T]**2)", "tanh_rnn").wrong
    assert line.expected == "dh[T] = W_hy.T @ dy[T]"


def test_a_definition_that_was_left_at_zero_is_the_red_line():
    text = "da[t] = 0\ndh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]\ndb = sum(da[t])\ndW_hh = sum(outer(da[t], h[t-1]))"
    (line,) = derive.verify(text, "tanh_rnn").wrong
    assert line.number == 1
