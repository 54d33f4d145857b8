"""A few small cases of the tanh cell, one for each thing that a program of another language has to get right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import derive
import numeric
from numeric.oracle import Case

CELL = derive.load("tanh_rnn")


def _plain():
    random = np.random.default_rng(5)
    H, D, K, T, B = 4, 2, 3, 5, 3
    params = {"W_hh": (H, H), "W_xh": (H, D), "b": (H,), "W_hy": (K, H)}
    return Case(
        "plain", "separating", "tells the known mistakes apart", CELL.name, CELL.text,
        params={name: random.uniform(-0.8, 0.8, shape) for name, shape in params.items()},
        inputs={"x": random.standard_normal((T, B, D))},
        initial={"h": random.uniform(-0.5, 0.5, (B, H))},
        loss="softmax_cross_entropy", on="y", targets=random.integers(0, K, (T, B)),
    )  # fmt: skip


def small_cases():
    """Losses, ends, means, lengths with NaN beyond them, truncation, float32 and one sequence."""
    random, plain = np.random.default_rng(6), _plain()
    T, B, H, K = 5, 3, 4, 3
    padded = plain.inputs["x"].copy()
    padded[2:, 1] = np.nan
    single = {"params": {n: x.astype(np.float32) for n, x in plain.params.items()}}
    single |= {"inputs": {"x": padded.astype(np.float32)}, "initial": {"h": np.zeros((B, H), np.float32)}}
    spread = random.dirichlet(np.ones(K), (T, B))
    both = {"y": random.standard_normal((T, B, K)), "h": random.standard_normal((T, B, H))}
    ends = {"h": both["h"][0]}
    ragged = {"inputs": {"x": padded}, "lengths": np.array([5, 2, 4])}
    one = {"inputs": {"x": plain.inputs["x"][:1, :1]}, "initial": {"h": plain.initial["h"][:1]}}
    return (
        plain,
        replace(plain, id="mean", reduction="mean", targets=spread, **ragged),
        replace(plain, id="last", at="last", reduction="mean", targets=plain.targets[0], **ragged),
        replace(plain, id="squared", loss="squared_error", on="h", targets=both["h"]),
        replace(plain, id="linear", loss="linear", on=None, targets=None, cotangents=both, **ragged),
        replace(plain, id="linear/last", loss="linear", on=None, targets=None, at="last", cotangents=ends),
        replace(plain, id="one", targets=plain.targets[:1, :1], **one),
        replace(plain, id="truncated", truncate=(2, 3)),
        replace(plain, id="float32", dtype="float32", accumulate="float32", lengths=ragged["lengths"], **single),
    )  # fmt: skip


def right(case):
    """A right implementation."""
    engine = numeric.Engine(case.parsed)
    found = engine.backward(dict(case.params), dict(case.inputs), case.targets, **case.options)
    grads = {**found.params, **found.inputs, **{f"{name}0": x for name, x in found.initial.items()}}
    return {"grads": grads, "loss": found.loss, "outputs": found.outputs}
