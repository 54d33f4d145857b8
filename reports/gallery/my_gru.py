"""A gated recurrent unit by hand, with one mistake in its backward pass: what `bptt judge` says of it is verdict.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from numeric.oracle import Case


def my_gru(case: Case) -> dict[str, Any]:
    """Loss and gradients of a case, as somebody would write them: a loop forward, a loop back."""
    kind = (case.loss, case.on, case.at)
    if kind != ("squared_error", "y", "every") or case.lengths is not None or case.truncate:
        raise NotImplementedError("squared error of y at every step only")
    w, x, h0 = case.params, case.inputs["x"], case.initial["h"]
    hs, gates = [h0], []
    for t in range(case.T):
        r, z = (_sigmoid(x[t] @ w[f"W_{k}"].T + hs[t] @ w[f"U_{k}"].T + w[f"b_{k}"]) for k in "rz")
        n = np.tanh(x[t] @ w["W_n"].T + (r * hs[t]) @ w["U_n"].T + w["b_n"])
        hs.append((1 - z) * n + z * hs[t])
        gates.append((r, z, n))
    errors = np.stack([h @ w["W_y"].T + w["b_y"] for h in hs[1:]]) - case.targets
    if case.reduction == "mean":
        errors = errors / (case.T * case.B)
    grads = {name: np.zeros_like(value) for name, value in w.items()}
    dx, carry = np.zeros_like(x), np.zeros_like(h0)
    for t in reversed(range(case.T)):
        r, z, n = gates[t]
        dh = errors[t] @ w["W_y"] + carry
        da_n = dh * (1 - z) * (1 - n**2)
        da_z = dh * (hs[t] - n) * z * (1 - z)
        reset = da_n @ w["U_n"]
        da_r = reset * hs[t] * r * (1 - r)
        for gate, da, v in (("n", da_n, r * hs[t]), ("z", da_z, hs[t]), ("r", da_r, hs[t])):
            grads[f"W_{gate}"] += da.T @ x[t]
            grads[f"U_{gate}"] += da.T @ v
            grads[f"b_{gate}"] += da.sum(axis=0)
            dx[t] += da @ w[f"W_{gate}"]
        grads["W_y"] += errors[t].T @ hs[t + 1]
        grads["b_y"] += errors[t].sum(axis=0)
        carry = dh * z + reset + da_z @ w["U_z"] + da_r @ w["U_r"]  # the mistake: reset * r belongs there
    return {"grads": grads | {"x": dx, "h0": carry}}


def _sigmoid(a: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * a))
