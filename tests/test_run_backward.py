"""A file of backward equations gives, at full size, what its lines say: the gradient where they are right, what a loop
with the same mistake gives where they are wrong."""

from __future__ import annotations

import time
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from odd_cells import ODD, cell_named
from problems import make_scene
from turns import crossed

import derive
import numeric
from derive.handwritten.wording import backward_file
from numeric.batches import WideError
from numeric.running import Running
from numeric.specification import Specification

U = 2.0**-53
CELLS = derive.cells()
LOSSES = ("softmax_cross_entropy", "squared_error", "linear")
OPTIONS = LOSSES, ("every", "last"), ("sum", "mean"), (False, True)
CHOICES = list(product(*OPTIONS))
EXAMPLES = sorted((Path(derive.__file__).parent / "examples").glob("*.backward"))

HEAD = """
dy[t] = p[t] - target[t]
dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]
da[t] = dh[t]*(1 - h[t]**2)
"""
TAIL = """
dW_hy = sum(outer(dy[t], h[t]))
dW_hh = sum(outer(da[t], h[t-1]))
dW_xh = sum(outer(da[t], x[t]))
db = sum(da[t])
dx[t] = W_xh.T @ da[t]
dh0 = W_hh.T @ da[1]
"""
FILE = HEAD + TAIL
LAST = FILE.replace("dy[t] = p[t] - target[t]", "dy[T] = p[T] - target[T]\ndy[t] = 0")


def scene_of(cell, seed=1, *, steps=6, batch=3, size=None, **options):
    """A scene whose loss reads outputs only, where there are any."""
    sizes = {letter: size or 2 + i for i, letter in enumerate(cell.dimensions)}
    scene = make_scene(cell, seed, steps=steps, batch=batch, sizes=sizes, **options)
    if scene.options["loss"] == "linear":
        seen = cell.outputs or cell.states
        scene.options["cotangents"] = {n: c for n, c in scene.options["cotangents"].items() if n in seen}
    return scene


def tanh_scene(**options):
    return scene_of(derive.load("tanh_rnn"), **{"loss": "softmax_cross_entropy", **options})


def run(text, scene, **more):
    return numeric.run_backward(
        text, scene.cell, scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options, **more
    )


def engine_result(scene, dtype="float64"):
    return scene.backward(numeric.Engine(scene.cell, dtype, plain=True))  # files run the same forward program


def magnitude(scene):
    """What every entry of a gradient would be if no two terms cancelled."""
    return scene.backward(Specification(scene.cell)).magnitude


def distance(found, right, scene):
    """The largest error of any gradient, in units of what its largest entry would be if no two terms cancelled."""
    return farthest(found, right, magnitude(scene))


def farthest(found, right, size):
    """The largest error of any gradient, in units of the largest entry of its ``size``."""
    pairs = [(found.grads[n], right.params[n], size[n]) for n in found.grads]
    pairs += [(found.inputs[n], right.inputs[n], size[n]) for n in found.inputs]
    pairs += [(found.initial[n], right.initial[n], size[f"{n}0"]) for n in found.initial]
    return max((np.abs(a - b).max() / (m.max() or 1.0) for a, b, m in pairs), default=0.0)


def agrees(text, scene):
    found, right = run(text, scene), engine_result(scene)
    assert found.loss == right.loss * found.scale
    assert distance(found, right, scene) < 64 * U
    return found


# ----------------------------------------------------------------------------------------------- right files are right


@pytest.mark.parametrize(("name", "loss", "at", "reduction", "ragged"), crossed(CELLS, *OPTIONS))
def test_the_projects_own_file_gives_the_engines_gradients(name, loss, at, reduction, ragged):
    cell = derive.load(name)
    scene = scene_of(cell, loss=loss, at=at, reduction=reduction, ragged=ragged)
    found = agrees(backward_file(derive.differentiate(cell)), scene)
    assert found.missing == ()
    assert set(found.grads) == set(cell.parameters)
    assert set(found.inputs) == set(cell.inputs)
    assert set(found.initial) == set(cell.states)


@pytest.mark.parametrize("name", ODD)
def test_the_own_file_of_an_odd_cell_gives_the_engines_gradients(name):
    cell = cell_named(name)
    text = backward_file(derive.differentiate(cell))
    assert agrees(text, scene_of(cell)).missing == ()
    agrees(text, scene_of(cell, at="last", reduction="mean", ragged=True))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_file_gives_the_engines_gradients_under_its_own_loss(path):
    cell = derive.load(path.read_text(encoding="utf-8").split("--")[1].split(",")[0].strip())
    ran = 0
    for loss, at, reduction, ragged in CHOICES:
        scene = scene_of(cell, loss=loss, at=at, reduction=reduction, ragged=ragged)
        try:
            found = agrees(path, scene)
        except ValueError as error:
            if "the file" not in str(error) or "arguments say" not in str(error):
                raise
        else:
            ran += 1
            assert found.missing == ()
    assert ran >= 4


WHOLE = {
    "a range": "dW_hh = sum(outer(da[k], h[k-1]), k, 1, T)",
    "a range that falls": "dW_hh = sum(outer(da[k], h[k-1]), k, T, 1)",
    "moved by a step": "dW_hh = sum(outer(da[t+1], h[t])) + outer(da[1], h[0])",
    "a row": "dW_hh = sum(da[t] @ h[t-1].T)",
    "transposed": "dW_hh = sum(outer(h[t-1], da[t]).T)",
    "a gradient for each step": "G[t] = outer(da[t], h[t-1])\ndW_hh = sum(G[t])",
    "collected forward": "G[t] = G[t-1] + outer(da[t], h[t-1])\ndW_hh = G[T]",
    "collected backward": "G[t] = G[t+1] + da[t] @ h[t-1].T\ndW_hh = G[1]",
    "collected from a start": "G[0] = 0\nG[t] = G[t-1] + outer(da[t], h[t-1])\ndW_hh = G[T]",
    "a diagonal matrix": "dW_hh = sum(diag(1 - h[t]**2) @ outer(dh[t], h[t-1]))",
    "a diagonal matrix on the right": "dW_hh = sum(outer(h[t-1], dh[t]) @ diag(1 - h[t]**2)).T",
    "scaled rows": "dW_hh = sum((1 - h[t]**2)*outer(dh[t], h[t-1]))",
    "immediate": "dW_hh = sum(dh[t] @ immediate(h[t], W_hh))",
    "two sums": "dW_hh = sum(outer(dh[t], h[t-1])) - sum(outer(dh[t]*h[t]**2, h[t-1]))",
    "scaled": "dW_hh = 3*sum(outer(da[t], h[t-1])/3)",
    "what truncation keeps": (
        "dW_hh = sum(outer(da[t], h[t-1])) + sum(outer(truncated(dh[t], 1) - dl_dh[t], h[t]))"
        " + sum(outer(truncated(dh[t], 2) - dl_dh[t] - dl_dh[t+1] @ jacobian(h[t+1], h[t]), h[t]))"
    ),
    "a scalar of each step": "s[t] = dot(h[t], h[t]) + 1\ndW_hh = sum(outer(da[t]/s[t], h[t-1])*s[t])",
    "a sum of a sum": "dW_hh = sum(outer(da[t], h[t-1]))\nG = dW_hh + dW_hh",
    "dL_d": "dL_da[t] = da[t]\ndW_hh = sum(outer(dL_da[t], h[t-1]))",
}


@pytest.mark.parametrize("line", WHOLE.values(), ids=list(WHOLE))
def test_a_sum_over_time_means_the_same_however_it_is_written(line):
    text = FILE.replace("dW_hh = sum(outer(da[t], h[t-1]))", line)
    agrees(text, tanh_scene())
    agrees(text, tanh_scene(ragged=True, reduction="mean"))


BACK = {
    "a case for the last step": "dh[T] = W_hy.T @ dy[T]\ndh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]",
    "one step back": "dh[t-1] = W_hy.T @ dy[t-1] + W_hh.T @ da[t]",
    "the zero beyond the end stated": "da[T+1] = 0\ndh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]",
    "row layout": "dh[t] = dy[t] @ W_hy + da[t+1] @ W_hh",
    "a carry": "c[t] = W_hh.T @ da[t]\ndh[t] = W_hy.T @ dy[t] + c[t+1]",
    "two definitions in a circle": (
        "u[t] = W_hh.T @ (v[t]*(1 - h[t]**2))\nv[t] = W_hy.T @ dy[t] + u[t+1]\ndh[t] = v[t]"
    ),
    "the Jacobian of a step": "dh[t] = W_hy.T @ dy[t] + dh[t+1] @ jacobian(h[t+1], h[t])",
    "an own Jacobian": "J[t] = diag(1 - h[t]**2) @ W_hh\ndh[t] = dl_dh[t] + J[t+1].T @ dh[t+1]",
    "a term for each later loss": "dh[t] = sum(dl_dh[k] @ jacobian(h[k], h[t]), k, t, T)",
    "p said": "p[t] = softmax(y[t])\ndh[t] = W_hy.T @ (p[t] - target[t]) + W_hh.T @ da[t+1]",
    "forward lines restated": "h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t] + b)\ndh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]",
    "a local line": "dl_dh[t] = W_hy.T @ dy[t]\ndh[t] = dl_dh[t] + W_hh.T @ da[t+1]",
}


@pytest.mark.parametrize("lines", BACK.values(), ids=list(BACK))
def test_the_recursion_means_the_same_however_it_is_written(lines):
    text = FILE.replace("dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]", lines)
    assert text != FILE or lines in FILE
    agrees(text, tanh_scene())
    agrees(text, tanh_scene(ragged=True, reduction="mean"))


def test_a_matrix_of_many_products_is_the_sum_that_it_collects():
    line = "G[t] = G[t-1] + outer(da[t], h[t-1])\ndW_hh = G[T]"
    agrees(FILE.replace("dW_hh = sum(outer(da[t], h[t-1]))", line), tanh_scene(steps=150, batch=2))


def test_the_first_and_the_last_step_are_those_of_each_sequence():
    text = FILE.replace("dW_hy = sum(outer(dy[t], h[t]))", "dW_hy = sum(outer(dy[t], h[t])) + outer(dy[T]*T, h[1])")
    scene = tanh_scene(ragged=True, batch=4)
    lengths, found = scene.options.pop("lengths"), None
    for b, steps in enumerate(lengths):
        one = {"params": scene.params, "inputs": scene.inputs["x"][:steps, b : b + 1]}
        initial = {"h": scene.initial["h"][b : b + 1]}
        alone = numeric.run_backward(
            text, "tanh_rnn", **one, targets=scene.targets[:steps, b : b + 1], initial=initial
        ).grads["W_hy"]
        found = alone if found is None else found + alone
    scene.options["lengths"] = lengths
    together = run(text, scene).grads["W_hy"]
    assert np.abs(together - found).max() < 64 * U * np.abs(found).max()


# -------------------------------------------------------------------------------------------------- loss and reduction


def test_a_file_of_the_mean_over_the_steps_is_that_of_the_mean():
    text = FILE.replace("p[t] - target[t]", "(p[t] - target[t])/T")
    agrees(text, tanh_scene(reduction="mean"))
    agrees(text, tanh_scene(reduction="mean", ragged=True))
    with pytest.raises(ValueError, match=r"divides its loss by T.*reduction='mean'"):
        run(text, tanh_scene())


def test_a_file_of_the_whole_squared_error_says_that_it_is_twice_the_loss():
    scene = tanh_scene(loss="squared_error")
    once = run(FILE.replace("p[t] - target[t]", "y[t] - target[t]"), scene)
    twice = run(FILE.replace("p[t] - target[t]", "2*(y[t] - target[t])"), scene)
    assert (once.scale, twice.scale, twice.loss) == (1, 2, 2 * once.loss)
    assert np.array_equal(twice.grads["W_hh"], 2 * once.grads["W_hh"])


def test_distributions_are_targets_too():
    scene = tanh_scene()
    classes = scene.targets
    right = run(FILE, scene)
    scene.targets = np.eye(scene.params["W_hy"].shape[0])[classes]
    assert np.array_equal(run(FILE, scene).grads["W_hh"], right.grads["W_hh"])


def test_a_loss_of_the_last_step_may_say_zero_for_the_others():
    for reduction, ragged in product(("sum", "mean"), (False, True)):
        agrees(LAST, tanh_scene(at="last", reduction=reduction, ragged=ragged))


def test_cotangents_of_a_state_reach_a_file_that_has_its_local_derivative():
    cell = derive.load("tanh_rnn")
    text = FILE.replace("dy[t] = p[t] - target[t]\n", "").replace("W_hy.T @ dy[t]", "dl_dh[t]")
    agrees(text, make_scene(cell, 3, steps=4, batch=2, sizes={"H": 3, "D": 2, "O": 2}))


# ------------------------------------------------------------------------------------------------- values of the lines


def test_values_are_those_of_each_line_under_its_own_name_before_the_reduction():
    scene = tanh_scene(ragged=True, steps=5)
    found = run(FILE.replace("dx[t]", "dL_dx[t]"), scene)
    assert set(found.values) == {"dy", "dh", "da", "dL_dx"}
    right = engine_result(scene)
    assert np.abs(found.values["dh"] - right.states["h"]).max() < 64 * U * np.abs(right.states["h"]).max()
    padding = np.arange(5)[:, None] >= scene.options["lengths"]
    assert padding.any()
    for name, x in found.values.items():
        assert not x[padding].any(), name
    scene.options["reduction"] = "mean"
    assert np.array_equal(run(FILE, scene).values["dh"], found.values["dh"])
    assert np.array_equal(found.outputs["y"], right.outputs["y"])


def test_a_line_without_a_value_at_a_step_is_nan_there():
    found = run(FILE + "s[t] = dot(h[t+1], h[t])\nu[t] = h[t-1] + x0[t]\nx0[1] = 0", tanh_scene())
    assert found.values["s"].shape == (6, 3, 1)
    assert np.isnan(found.values["s"][-1]).all()
    assert np.isfinite(found.values["s"][:-1]).all()
    assert np.isfinite(found.values["u"]).all()


def test_parameters_without_a_line_are_missing():
    found = run(HEAD + "db = sum(da[t])", tanh_scene())
    assert (tuple(found.grads), set(found.missing), found.inputs, found.initial) == (
        ("b",), {"W_hh", "W_xh", "W_hy"}, {}, {},
    )  # fmt: skip


@pytest.mark.parametrize(("dtype", "unit"), [("float32", 2.0**-24), ("complex128", U)])
def test_a_file_runs_in_every_dtype(dtype, unit):
    scene = tanh_scene()
    right = engine_result(scene)
    scene.params = {n: p.astype(dtype) for n, p in scene.params.items()}
    scene.inputs = {n: p.astype(dtype) for n, p in scene.inputs.items()}
    scene.initial = {n: p.astype(dtype) for n, p in scene.initial.items()}
    found = run(FILE, scene, dtype=dtype)
    for name, gradient in found.grads.items():
        assert gradient.dtype == dtype
        assert np.abs(gradient - right.params[name]).max() < 64 * unit * np.abs(right.params[name]).max()
    assert {x.dtype for x in (*found.values.values(), *found.inputs.values())} == {np.dtype(dtype)}


# -------------------------------------------------------------------------------------------------------- wrong files


WRONG = FILE.replace("W_hh.T @ da[t+1]", "W_hh @ da[t+1]")


def wrong_loop(p, x, h0, targets):
    """Backpropagation through time of one sequence with W_hh where its transpose belongs."""
    hs, ps = [h0], []
    for t in range(len(x)):
        hs.append(np.tanh(p["W_hh"] @ hs[t] + p["W_xh"] @ x[t] + p["b"]))
        e = np.exp(p["W_hy"] @ hs[t + 1])
        ps.append(e / e.sum())
    grads = {name: np.zeros_like(w) for name, w in p.items()}
    carried = np.zeros_like(h0)
    for t in reversed(range(len(x))):
        dy = ps[t] - np.eye(len(ps[t]))[targets[t]]
        da = (p["W_hy"].T @ dy + carried) * (1 - hs[t + 1] ** 2)
        carried = p["W_hh"] @ da  # the mistake
        grads["W_hy"] += np.outer(dy, hs[t + 1])
        grads["W_hh"] += np.outer(da, hs[t])
        grads["W_xh"] += np.outer(da, x[t])
        grads["b"] += da
    return grads


def test_a_wrong_file_gives_what_the_same_mistake_gives_in_a_loop_and_not_the_gradient():
    scene = tanh_scene(batch=2)
    found, right = run(WRONG, scene), engine_result(scene)
    loops = [
        wrong_loop(scene.params, scene.inputs["x"][:, b], scene.initial["h"][b], scene.targets[:, b]) for b in range(2)
    ]
    for name, gradient in found.grads.items():
        wrong = sum(loop[name] for loop in loops)
        assert np.abs(gradient - wrong).max() < 64 * U * np.abs(wrong).max(), name
    for name in ("W_hh", "W_xh", "b"):
        assert np.abs(found.grads[name] - right.params[name]).max() > 1e-3 * np.abs(right.params[name]).max()
    assert np.abs(found.grads["W_hy"] - right.params["W_hy"]).max() < 64 * U * np.abs(right.params["W_hy"]).max()


def test_a_line_for_p_is_followed_even_where_it_is_wrong():
    scene = tanh_scene()
    text = "p[t] = sigmoid(y[t])\ndW_hy = sum(outer(p[t] - target[t], h[t]))"
    out = numeric.Engine("tanh_rnn").forward(scene.params, scene.inputs, scene.initial)
    slope = 1 / (1 + np.exp(-out["y"])) - np.eye(out["y"].shape[-1])[scene.targets]
    wrong = np.einsum("tbo,tbh->oh", slope, out["h"])
    assert np.abs(run(text, scene).grads["W_hy"] - wrong).max() < 64 * U * np.abs(wrong).max()


def trained(text, seed, *, steps=60, rate=0.2, T=8, B=16, H=8):
    """The loss after training a network to recall the first of T bits, W_hh a rotation at first."""
    rng = np.random.default_rng(seed)
    engine = numeric.Engine("tanh_rnn")
    params = engine.init(seed=seed, D=2, H=H, O=2)
    params["W_hh"] = np.linalg.qr(rng.normal(size=(H, H)))[0]
    for _ in range(steps):
        bits = rng.integers(0, 2, (T, B))
        grads = numeric.run_backward(
            text, "tanh_rnn", params, np.eye(2)[bits], bits[0], at="last", reduction="mean"
        ).grads
        params = {name: p - rate * grads[name] for name, p in params.items()}
    bits = rng.integers(0, 2, (T, 256))
    return engine.value_and_grad(params, np.eye(2)[bits], bits[0], at="last")[0] / 256


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_what_is_wrong_in_a_file_trains_worse(seed):
    right = trained(LAST, seed)
    assert right < 0.05
    for mistake in (("W_hh.T @ da[t+1]", "W_hh @ da[t+1]"), (" + W_hh.T @ da[t+1]", "")):
        assert trained(LAST.replace(*mistake), seed) > 8 * right, mistake


# ----------------------------------------------------------------------------------------------------- time and memory


LONG = {
    "as it is": FILE,
    "recursions both ways": FILE + "n[t] = n[t-1] + h[t]\nm[t] = 0.5*m[t+1] + da[t]",
    "a matrix collected forward": FILE.replace("dW_hh = sum(", "G[t] = G[t-1] + (") + "dW_hh = G[T]",
    "the Jacobian from the end": FILE + "z[t] = dh[T] @ jacobian(h[T], h[t])",
}


@cache
def long_scene():
    """Thousands of steps, their gradient, and its size."""
    scene = tanh_scene(steps=3000, batch=2, size=5)
    return scene, engine_result(scene), magnitude(scene)


@pytest.mark.parametrize("text", LONG.values(), ids=list(LONG))
def test_thousands_of_steps_are_no_recursion_and_take_a_moment(text):
    scene, right, size = long_scene()
    start = time.perf_counter()
    found = run(text, scene)
    assert time.perf_counter() - start < 15  # about one second on a quiet machine
    assert farthest(found, right, size) < 64 * U
    if "n" in found.values:
        h = np.cumsum(found.outputs["h"], axis=0)
        assert np.abs(found.values["n"] - h).max() < 3000 * U * np.abs(found.outputs["h"]).sum(0).max()


@pytest.mark.parametrize("name", ["tanh_rnn", "gru", "lstm_peephole"])
def test_a_sum_at_once_is_the_sum_of_its_steps(name, monkeypatch):
    cell = derive.load(name)
    text, scene = backward_file(derive.differentiate(cell)), scene_of(derive.load(name), steps=40, ragged=True)
    done = []
    at_once = Running.at_once
    monkeypatch.setattr(Running, "at_once", lambda self, body, env: done.append(1) or at_once(self, body, env))
    fast = run(text, scene)
    assert len(done) >= len(cell.parameters)

    def never(self, body, env):
        raise WideError

    monkeypatch.setattr(Running, "at_once", never)
    slow = run(text, scene)
    scale = Specification(cell).backward(scene.params, scene.inputs, initial=scene.initial, **scene.options).magnitude
    for parameter, gradient in fast.grads.items():
        assert np.abs(gradient - slow.grads[parameter]).max() < 64 * U * scale[parameter].max(), parameter


# ------------------------------------------------------------------------------------------------------------- errors


REFUSED = {
    "a derivative without a line": (
        "da[t] = dh[t]*(1 - h[t]**2)\ndb = sum(da[t])", {}, r"line 1.*uses dh\[t\], and no line says what it is",
    ),
    "a derivative without a line for this step": (
        "dh[T] = W_hy.T @ dy[T]\ndb = sum(dh[t])\ndW_hy = sum(outer(dy[t], h[t]))", {}, r"uses dh\[5\], and no line",
    ),
    "a gradient without a line": ("G = dW_hh\ndW_hh2 = 2*G", {}, "unknown derivative"),
    "a gradient that another one uses": ("db = dW_hh @ b", {}, "uses dW_hh, and no line says"),
    "an initial state's without a line": ("db = dh0", {}, r"uses dh\[0\], and no line"),
    "a circle": ("dh[t] = da[t]\nda[t] = dh[t]*h[t]", {}, r"needs itself"),
    "a circle at one step": (
        "dh[T] = da[T]\ndh[t] = W_hh.T @ da[t+1]\nda[t] = dh[t]*h[t]", {}, r"line \d.*d[ah]\[6\] needs itself",
    ),
    "no value": ("dW_hh = sum(outer(h[t+1], h[t]))", {}, r"this has no value: it uses one from outside"),
    "no value for an input": ("dx[t] = W_xh.T @ h[t+1]", {}, "this has no value"),
    "sizes": ("dh[t] = W_hy @ dy[t]", {}, "cannot be computed at these sizes: a matrix and a vector of sizes 2 and 4"),
    "sizes of vectors": ("dh[t] = dy[t]", {}, r"4 entries for dh\[\d\], which has 2"),
    "the shape of a gradient": ("dW_hy = sum(outer(h[t], dy[t]))", {}, r"this has shape \(2, 4\).*expected \(4, 2\)"),
    "a constant": ("db = 1e-320*b", {}, "no number that float64 can hold"),
    "a text": ("dW_hh = sum(outer(da[t], h[t-1]))", {}, "da"),
    "the other loss": (FILE, {"loss": "squared_error"}, "speaks of softmax_cross_entropy.*loss='squared_error'"),
    "no target": (FILE, {"loss": "linear"}, "speaks of softmax_cross_entropy.*loss='linear'"),
    "the other loss, squared": (
        FILE.replace("p[t]", "y[t]"), {}, "speaks of squared_error.*loss='softmax_cross_entropy'",
    ),
    "the last step": (FILE, {"at": "last"}, "is that of every step; the arguments say at='last', the last step only"),
    "every step": (LAST, {}, "is that of the last step only; the arguments say at='every', every step"),
    "the last step over T": (
        LAST.replace("p[T] - target[T]", "(p[T] - target[T])/T"), {"at": "last", "reduction": "mean"},
        "divides its loss by T.*take the division by T out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), REFUSED.values(), ids=list(REFUSED))
def test_an_error_names_the_line_and_what_is_wrong(text, options, message):
    scene = tanh_scene(**options)
    with pytest.raises(ValueError, match=message):
        run(text, scene)


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "mine.backward"
    path.write_text("da[t] = dh[t]*h[t]", encoding="utf-8")
    with pytest.raises(derive.CellError, match=r"mine\.backward:1:1: this uses dh\[t\]"):
        run(path, tanh_scene())
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "none.backward", tanh_scene())
    with pytest.raises(TypeError, match="a text or a path; found int"):
        run(3, tanh_scene())


def test_the_loss_of_another_output_or_of_a_state_is_refused():
    scene = tanh_scene()
    scene.options["on"], scene.targets = "h", np.zeros((6, 3), int)
    with pytest.raises(ValueError, match=r"belongs to y; the arguments say on='h'"):
        run(FILE, scene)
    with pytest.raises(ValueError, match=r"reads the state h, and the file has no term dl_dh\[t\]"):
        run("dW_hy = sum(outer(dy[t], h[t]))", scene)


def test_the_arguments_are_checked_as_the_engine_checks_them():
    scene = tanh_scene()
    with pytest.raises(TypeError, match=r"unknown option 'lenghts'.*did you mean lengths"):
        run(FILE, scene, lenghts=[1])
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        run(FILE, scene, dtype="int8")
    del scene.params["b"]
    with pytest.raises(ValueError, match="missing parameter b"):
        run(FILE, scene)
