"""BPTT written by hand, in its plainest form, one sequence at a time: a number that owes nothing to the derivation.

Each function takes parameters, x (T, D), the initial states and dy (T, O), the gradient of the loss by the outputs, and
returns the gradients by name, those of x as ``x`` and of initial states under the state's name plus ``0``.
"""

from __future__ import annotations

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def zeros_like(params):
    return {name: np.zeros_like(p) for name, p in params.items()}


def tanh_rnn(p, x, initial, dy):
    steps = len(x)
    hs = [initial["h"]]
    for t in range(steps):
        hs.append(np.tanh(p["W_hh"] @ hs[t] + p["W_xh"] @ x[t] + p["b"]))
    grads, dx = zeros_like(p), np.zeros_like(x)
    dh_next = np.zeros_like(hs[0])
    for t in reversed(range(steps)):
        grads["W_hy"] += np.outer(dy[t], hs[t + 1])
        dh = p["W_hy"].T @ dy[t] + dh_next
        dh_raw = dh * (1 - hs[t + 1] ** 2)
        grads["W_xh"] += np.outer(dh_raw, x[t])
        grads["W_hh"] += np.outer(dh_raw, hs[t])
        grads["b"] += dh_raw
        dx[t] = p["W_xh"].T @ dh_raw
        dh_next = p["W_hh"].T @ dh_raw
    return grads | {"x": dx, "h0": dh_next}


def lstm(p, x, initial, dy):
    steps = len(x)
    hs, cs, gates = [initial["h"]], [initial["c"]], []
    for t in range(steps):
        i = sigmoid(p["W_i"] @ x[t] + p["U_i"] @ hs[t] + p["b_i"])
        f = sigmoid(p["W_f"] @ x[t] + p["U_f"] @ hs[t] + p["b_f"])
        g = np.tanh(p["W_g"] @ x[t] + p["U_g"] @ hs[t] + p["b_g"])
        o = sigmoid(p["W_o"] @ x[t] + p["U_o"] @ hs[t] + p["b_o"])
        cs.append(f * cs[t] + i * g)
        hs.append(o * np.tanh(cs[t + 1]))
        gates.append((i, f, g, o))
    grads, dx = zeros_like(p), np.zeros_like(x)
    dh_next, dc_next = np.zeros_like(hs[0]), np.zeros_like(cs[0])
    for t in reversed(range(steps)):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(cs[t + 1])
        grads["W_y"] += np.outer(dy[t], hs[t + 1])
        grads["b_y"] += dy[t]
        dh = p["W_y"].T @ dy[t] + dh_next
        dc = dh * o * (1 - tanh_c**2) + dc_next
        raw = {
            "i": dc * g * i * (1 - i),
            "f": dc * cs[t] * f * (1 - f),
            "g": dc * i * (1 - g**2),
            "o": dh * tanh_c * o * (1 - o),
        }
        dh_next = np.zeros_like(dh)
        for gate, d in raw.items():
            grads[f"W_{gate}"] += np.outer(d, x[t])
            grads[f"U_{gate}"] += np.outer(d, hs[t])
            grads[f"b_{gate}"] += d
            dx[t] += p[f"W_{gate}"].T @ d
            dh_next += p[f"U_{gate}"].T @ d
        dc_next = dc * f
    return grads | {"x": dx, "h0": dh_next, "c0": dc_next}


def gru(p, x, initial, dy):
    steps = len(x)
    hs, gates = [initial["h"]], []
    for t in range(steps):
        r = sigmoid(p["W_r"] @ x[t] + p["U_r"] @ hs[t] + p["b_r"])
        z = sigmoid(p["W_z"] @ x[t] + p["U_z"] @ hs[t] + p["b_z"])
        n = np.tanh(p["W_n"] @ x[t] + p["U_n"] @ (r * hs[t]) + p["b_n"])
        hs.append((1 - z) * n + z * hs[t])
        gates.append((r, z, n))
    grads, dx = zeros_like(p), np.zeros_like(x)
    dh_next = np.zeros_like(hs[0])
    for t in reversed(range(steps)):
        r, z, n = gates[t]
        grads["W_y"] += np.outer(dy[t], hs[t + 1])
        grads["b_y"] += dy[t]
        dh = p["W_y"].T @ dy[t] + dh_next
        dn_raw = dh * (1 - z) * (1 - n**2)
        dz_raw = dh * (hs[t] - n) * z * (1 - z)
        d_rh = p["U_n"].T @ dn_raw
        dr_raw = d_rh * hs[t] * r * (1 - r)
        for gate, d, seen in (("r", dr_raw, hs[t]), ("z", dz_raw, hs[t]), ("n", dn_raw, r * hs[t])):
            grads[f"W_{gate}"] += np.outer(d, x[t])
            grads[f"U_{gate}"] += np.outer(d, seen)
            grads[f"b_{gate}"] += d
            dx[t] += p[f"W_{gate}"].T @ d
        dh_next = dh * z + d_rh * r + p["U_r"].T @ dr_raw + p["U_z"].T @ dz_raw
    return grads | {"x": dx, "h0": dh_next}


def gru_reset_after(p, x, initial, dy):
    steps = len(x)
    hs, gates = [initial["h"]], []
    for t in range(steps):
        r = sigmoid(p["W_r"] @ x[t] + p["U_r"] @ hs[t] + p["b_r"])
        z = sigmoid(p["W_z"] @ x[t] + p["U_z"] @ hs[t] + p["b_z"])
        m = p["U_n"] @ hs[t] + p["c_n"]
        n = np.tanh(p["W_n"] @ x[t] + p["b_n"] + r * m)
        hs.append((1 - z) * n + z * hs[t])
        gates.append((r, z, n, m))
    grads, dx = zeros_like(p), np.zeros_like(x)
    dh_next = np.zeros_like(hs[0])
    for t in reversed(range(steps)):
        r, z, n, m = gates[t]
        grads["W_y"] += np.outer(dy[t], hs[t + 1])
        grads["b_y"] += dy[t]
        dh = p["W_y"].T @ dy[t] + dh_next
        dn_raw = dh * (1 - z) * (1 - n**2)
        dz_raw = dh * (hs[t] - n) * z * (1 - z)
        dr_raw = dn_raw * m * r * (1 - r)
        dm = dn_raw * r
        for gate, d in (("r", dr_raw), ("z", dz_raw), ("n", dn_raw)):
            grads[f"W_{gate}"] += np.outer(d, x[t])
            grads[f"b_{gate}"] += d
            dx[t] += p[f"W_{gate}"].T @ d
        for gate, d in (("r", dr_raw), ("z", dz_raw), ("n", dm)):
            grads[f"U_{gate}"] += np.outer(d, hs[t])
        grads["c_n"] += dm
        dh_next = dh * z + sum(p[f"U_{gate}"].T @ d for gate, d in (("r", dr_raw), ("z", dz_raw), ("n", dm)))
    return grads | {"x": dx, "h0": dh_next}


LOOPS = {"tanh_rnn": tanh_rnn, "lstm": lstm, "gru": gru, "gru_reset_after": gru_reset_after}
