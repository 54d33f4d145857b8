"""Small cells of every shape that the language allows: where a name stands decides when and how it is computed."""

from __future__ import annotations

import derive

__all__ = ["ODD", "cell_named"]

TEXTS = {
    # roles
    "several inputs, outputs and states": """
        u: E
        c: K
        h[t] = tanh(W @ x[t] + V @ u[t] + U @ h[t-1] + b)
        c[t] = sigmoid(P @ h[t-1] + Q @ c[t-1])
        y[t] = R @ h[t] + S @ c[t]
        z[t] = Z @ c[t-1] + Y @ x[t]""",
    "no inputs": """
        h[t] = tanh(W @ h[t-1] + b)
        y[t] = V @ h[t]""",
    "no outputs": "h[t] = tanh(W @ h[t-1] + V @ x[t])",
    "neither": "h[t] = tanh(W @ h[t-1])",
    "no parameters": """
        a[t] = x[t] + a[t-1]
        b[t] = x[t] + a[t-1] + b[t-1]
        y[t] = a[t]*b[t]""",
    # what depends on what
    "delay line of an input": """
        d[t] = x[t]
        h[t] = tanh(W @ h[t-1] + V @ d[t-1] + U @ x[t])
        y[t] = R @ h[t]""",
    "delay line of a state": """
        d[t] = h[t-1]
        h[t] = tanh(W @ h[t-1] + V @ d[t-1] + U @ x[t])
        y[t] = R @ h[t]""",
    "two delays, nothing recurrent": """
        d[t] = x[t]
        e[t] = d[t-1]
        y[t] = V @ e[t-1] + W @ x[t]""",
    "outputs of everything": """
        h[t] = tanh(W @ h[t-1] + V @ x[t])
        y[t] = R @ h[t-1] + Q @ x[t]
        z[t] = h[t-1]
        w[t] = x[t]
        q[t] = tanh(b)*h[t]""",
    "output of parameters": """
        b: O
        h[t] = tanh(W @ h[t-1] + V @ x[t])
        y[t] = tanh(b)""",
    "outputs that are copies": """
        h[t] = tanh(W @ h[t-1] + x[t])
        y[t] = h[t]
        z[t] = x[t]""",
    "intermediates of inputs and of parameters": """
        m[t] = tanh(M @ x[t])
        n[t] = sigmoid(a)
        h[t] = n[t]*tanh(W @ h[t-1] + V @ m[t])
        y[t] = R @ (h[t]*n[t]) + Q @ m[t]""",
    "state of inputs": """
        s[t] = tanh(W @ x[t] + b)
        y[t] = V @ s[t-1]""",
    "state that is constant": """
        s: K
        s[t] = 3
        h[t] = tanh(W @ h[t-1] + V @ s[t-1] + U @ x[t])""",
    "state of parameters": """
        s[t] = tanh(b)
        h[t] = tanh(W @ h[t-1] + V @ s[t-1] + U @ x[t])
        y[t] = s[t]*h[t]""",
    "states of inputs and of parameters that others read at once": """
        s[t] = cos(V @ x[t])
        q[t] = tanh(b)
        h[t] = tanh(W @ s[t] + U @ (q[t-1]*s[t-1]) + 0.5*h[t-1])
        y[t] = R @ s[t] + Q @ (h[t]*q[t]) + P @ q[t]
        z[t] = R @ x[t]""",
    "states in a chain": """
        a: A
        b: E
        c: K
        a[t] = tanh(W @ a[t-1] + V @ x[t])
        b[t] = tanh(U @ b[t-1] + P @ a[t])
        c[t] = tanh(Q @ c[t-1] + R @ b[t-1])
        y[t] = Y @ c[t]""",
    "states that change places": """
        a[t] = b[t-1]
        b[t] = tanh(W @ a[t-1] + x[t])
        y[t] = a[t] + b[t]""",
    "state that copies a state": """
        h[t] = tanh(W @ h[t-1] + V @ x[t])
        d[t] = h[t]
        y[t] = R @ d[t-1] + Q @ d[t]""",
    "products of states": """
        h[t] = tanh(W @ h[t-1])*c[t-1] + x[t]
        c[t] = 0.5*c[t-1]*h[t-1]
        y[t] = h[t]*c[t]""",
    "readout in several layers": """
        h[t] = tanh(W @ h[t-1] + x[t])
        p[t] = tanh(A @ h[t] + a)
        q[t] = tanh(B @ p[t] + C @ h[t-1] + D @ x[t])
        y[t] = E @ q[t] + F @ p[t]
        z[t] = G @ q[t]""",
    "product read inside and outside of the loop": """
        m[t] = W @ x[t]
        q[t] = U @ h[t-1]
        h[t] = tanh(q[t] + m[t])
        y[t] = V @ (q[t]*h[t]) + V @ q[t]
        z[t] = m[t]*h[t-1]""",
    "parts that no loss reaches": """
        h[t] = tanh(W @ h[t-1] + V @ x[t])
        k[t] = tanh(U @ k[t-1] + P @ x[t])
        y[t] = R @ h[t]
        z[t] = Q @ h[t] + e""",
    # parameters
    "linear": """
        h[t] = W @ h[t-1] + x[t]
        y[t] = h[t]""",
    "tied weights": """
        h[t] = tanh(W @ h[t-1] + W.T @ tanh(W @ x[t]) + b)
        y[t] = W.T @ h[t] + b""",
    "one matrix many times": """
        h[t] = tanh(W @ h[t-1] + W @ (W @ h[t-1]) + W @ x[t])
        y[t] = W @ h[t] + W @ x[t]""",
    "skew matrix, transposed readout, scalar leak": """
        g: scalar
        h[t] = tanh((V - V.T) @ h[t-1] + U @ x[t] - g*h[t-1])
        y[t] = U.T @ h[t]""",
    "product of matrices": """
        h[t] = tanh((U @ W) @ h[t-1] + (U @ W).T @ x[t])
        y[t] = (U @ W) @ x[t]""",
    "scaled matrices": """
        a: scalar
        r[t] = sigmoid(A @ x[t])
        h[t] = tanh((r[t]*V) @ h[t-1] + (2*B) @ x[t] + (r[t]*V).T @ h[t-1] + (a*V) @ h[t-1])
        y[t] = (-C) @ h[t]""",
    "vectors only": """
        h[t] = tanh(v*h[t-1] + w*x[t])
        y[t] = v*w*h[t] + tanh(v + w)""",
    "scalars everywhere": """
        a: scalar
        b: scalar
        g: scalar
        h[t] = (1 - sigmoid(a))*h[t-1] + sigmoid(a)*tanh(W @ h[t-1] + V @ x[t] + exp(b)) + g
        y[t] = a*b*(R @ h[t])/(1 + g**2) + b""",
    "matrices applied to parameters": """
        h[t] = tanh(W @ h[t-1] + V @ b + x[t])
        y[t] = R @ tanh(c) + c
        z[t] = R @ h[t]*(V @ (2*b))""",
    "matrices applied to scaled parameters": """
        s: scalar
        h[t] = tanh(W @ (s*h[t-1]) + V @ (s*b) + x[t]*s)
        y[t] = R @ (s*h[t])""",
    "parameters that cancel": """
        h[t] = tanh(W @ h[t-1] + V @ x[t] + b - b)
        y[t] = R @ h[t] + c - c + 0*e
        z[t] = sigmoid(b)*softsign(b - b) + h[t-1]""",
    # expressions
    "constants": """
        h[t] = tanh(pi*(W @ h[t-1]) + sqrt(2)*(V @ x[t]) + 1e-3 + exp(0.1)/3 + sin(1)*b)
        y[t] = 0.1*(R @ h[t]) + 1/3 + h[t]*0""",
    "kinks": """
        h[t] = relu(W @ h[t-1] + V @ x[t]) - 0.3*abs(h[t-1])
        y[t] = R @ abs(h[t])""",
    "divisions and powers": """
        h[t] = (W @ h[t-1] + V @ x[t])/(2 + abs(x[t])) + 1/(3 + h[t-1]**2)
        y[t] = h[t]**3/(1 + h[t-1]**2)**2 + (1 + x[t]**2)**-2""",
    "functions": """
        h[t] = softplus(W @ h[t-1]) - softsign(V @ x[t]) + erf(h[t-1]) + cos(b)*sin(h[t-1])
        y[t] = log(1 + h[t]**2) + sqrt(1 + x[t]**2)""",
    "functions of scalars": """
        a: scalar
        h[t] = tanh(a)*sigmoid(a)*h[t-1] + relu(a)*abs(a)*softplus(a)*x[t]
        y[t] = erf(a)*softsign(a) + log(1 + a**2)*sqrt(1 + a**2)*cos(a)*sin(a)*exp(a)*h[t]""",
}

ODD = {name: derive.parse("\n".join(map(str.strip, text.strip().splitlines())), name) for name, text in TEXTS.items()}


def cell_named(name):
    """An odd or a shipped cell."""
    return ODD[name] if name in ODD else derive.load(name)
