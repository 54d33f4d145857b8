"""Right implementations of any cell, in several styles and libraries: what the oracle must never call wrong."""

from __future__ import annotations

import numpy as np
import sympy

import numeric
from derive.notation import at, lin, matrix_of, parameter
from numeric.specification import Specification

__all__ = ["engine", "jax_grad", "plain", "specification", "torch_autograd"]


def _answer(loss, params, inputs, initial, outputs):
    grads = {**params, **inputs, **{f"{n}0": s for n, s in initial.items()}}
    return {"grads": grads, "loss": loss, "outputs": outputs}


def _supported(case):
    if case.dtype not in ("float64", "float32"):
        raise NotImplementedError(f"{case.dtype} is not computed here")


def _narrow(case, name):
    """An option's arrays in the case's own type."""
    value = getattr(case, name)
    return None if value is None else dict(value) if hasattr(value, "items") else value


def engine(case, **settings):
    """The engine, in the case's own type."""
    _supported(case)
    options = case.options | {"initial": dict(case.initial)}
    if case.cotangents is not None:
        options["cotangents"] = dict(case.cotangents)
    own = numeric.Engine(case.parsed, dtype=case.dtype, **settings)
    inputs = dict(case.inputs) or None
    found = own.backward(dict(case.params), inputs, case.targets, **options)
    return _answer(found.loss, found.params, found.inputs, found.initial, found.outputs)


def plain(case):
    """The lambdified program."""
    if case.truncate is not None:
        raise NotImplementedError("no truncation")
    return engine(case, plain=True)


def specification(case):
    """The derivation run node by node, sequence by sequence."""
    _supported(case)
    if case.truncate is not None:
        raise NotImplementedError("no truncation")
    options = {n: v for n, v in case.options.items() if n != "truncate"} | {"initial": dict(case.initial)}
    if case.cotangents is not None:
        options["cotangents"] = dict(case.cotangents)
    own = Specification(case.parsed, case.dtype)
    found = own.backward(dict(case.params), dict(case.inputs) or None, case.targets, **options)
    return _answer(found.loss, found.params, found.inputs, found.initial, found.outputs)


# ----------------------------------------------------------------------------- by automatic differentiation of the text


def _value(e, values, library):
    """An equation over a library's arrays (B, size); a product is rows times the transposed matrix."""
    if isinstance(e, sympy.Symbol):
        return values[e]
    if e.is_number and not e.args:
        return float(e)
    if isinstance(e, lin):
        name, transposed = matrix_of(e)
        w, rows = values[parameter(name)], _value(e.args[1], values, library)
        rows = library.rows(rows, values)
        return rows @ (w if transposed else w.T)
    if e.is_number:
        return float(e)
    parts = [_value(a, values, library) for a in e.args]
    if e.is_Add or e.is_Mul:
        out = parts[0]
        for part in parts[1:]:
            out = out + part if e.is_Add else out * part
        return out
    if e.is_Pow:
        return parts[0] ** int(e.exp)
    return library.functions[type(e).__name__](parts[0])


def _unrolled(case, values, library):
    """Outputs and states at every step, and the loss, as the library's arrays."""
    cell, problem = case.parsed, case.problem
    ends = np.full(case.B, case.T) if case.lengths is None else case.lengths
    states = {n: values[at(n, -1)] for n in cell.states}
    seen = {n: [] for n in (*cell.outputs, *cell.states)}
    for t in range(case.T):
        here = dict(values) | {at(n, -1): s for n, s in states.items()}
        here |= {at(n): values[at(n)][t] for n in cell.inputs}
        for name in cell.order:
            shape = (case.B, case.sizes[cell.axes[name]])
            here[at(name)] = library.spread(_value(cell.equations[name], here, library), shape)
        alive = (ends > t)[:, None]
        states = {n: library.where(alive, here[at(n)], s) for n, s in states.items()}
        for n in seen:
            seen[n].append(states[n] if n in states else library.where(alive, here[at(n)], 0 * here[at(n)]))
    outputs = {n: library.stack(steps) for n, steps in seen.items()}
    return outputs, library.loss(problem.loss, outputs, case)


def _loss(loss, picked, array, log_softmax):
    """The loss of what it reads, at the steps that count."""
    total = 0
    for root, given in loss.given.items():
        y = picked[root]
        if loss.name == "linear":
            total = total + (array(given) * y).sum()
        elif loss.name == "squared_error":
            total = total + ((y - array(given)) ** 2).sum() / 2
        else:
            target = np.eye(y.shape[-1])[given] if given.dtype.kind in "iu" else given
            total = total - (array(target) * log_softmax(y, -1)).sum()
    return total / loss.count


class _Torch:
    def __init__(self, dtype):
        import torch

        self.torch, self.dtype = torch, getattr(torch, dtype)
        f = torch.nn.functional
        names = ("tanh", "sigmoid", "relu", "exp", "log", "sin", "cos", "sqrt", "abs", "erf")
        self.functions = {n: getattr(torch, n) for n in names} | {"softplus": f.softplus, "softsign": f.softsign}

    def array(self, x):
        return self.torch.tensor(np.array(x), dtype=self.dtype)

    def rows(self, x, values):
        return x

    def spread(self, x, shape):
        return self.torch.broadcast_to(x if hasattr(x, "dtype") else self.array(x), shape)

    def where(self, mask, x, other):
        return self.torch.where(self.torch.tensor(mask), x, other)

    def stack(self, steps):
        return self.torch.stack(steps)

    def loss(self, loss, outputs, case):
        where = loss.where if loss.where is ... else tuple(map(self.torch.as_tensor, loss.where))
        return _loss(loss, {n: y[where] for n, y in outputs.items()}, self.array, self.torch.log_softmax)


def torch_autograd(case):
    """The cell's text in PyTorch, differentiated by autograd."""
    _supported(case)
    if case.truncate is not None:
        raise NotImplementedError("no truncation")
    library = _Torch(case.dtype)
    leaves = {n: library.array(x) for n, x in {**case.params, **case.inputs}.items()}
    leaves |= {f"{n}0": library.array(s) for n, s in case.initial.items()}
    for x in leaves.values():
        x.requires_grad_()
    values = {parameter(n): leaves[n] for n in case.params} | {at(n): leaves[n] for n in case.inputs}
    values |= {at(n, -1): leaves[f"{n}0"] for n in case.initial}
    outputs, loss = _unrolled(case, values, library)
    loss.backward()
    grads = {n: x.grad if x.grad is not None else library.torch.zeros_like(x) for n, x in leaves.items()}
    return {"grads": grads, "loss": loss, "outputs": outputs}


class _Jax:
    def __init__(self, dtype):
        import jax
        import jax.numpy as jnp

        self.jax, self.np, self.dtype = jax, jnp, dtype
        names = ("tanh", "exp", "log", "sin", "cos", "sqrt", "abs")
        self.functions = {n: getattr(jnp, n) for n in names} | {
            "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "softplus": jax.nn.softplus,
            "softsign": jax.nn.soft_sign, "erf": jax.scipy.special.erf,
        }  # fmt: skip

    def array(self, x):
        return self.np.asarray(np.array(x), self.dtype)

    def rows(self, x, values):
        return x

    def spread(self, x, shape):
        return self.np.broadcast_to(x, shape)

    def where(self, mask, x, other):
        return self.np.where(mask, x, other)

    def stack(self, steps):
        return self.np.stack(steps)

    def loss(self, loss, outputs, case):
        return _loss(loss, {n: y[loss.where] for n, y in outputs.items()}, self.array, self.jax.nn.log_softmax)


def jax_grad(case):
    """The cell's text in JAX, differentiated by grad; float64 needs JAX's own switch."""
    _supported(case)
    if case.truncate is not None:
        raise NotImplementedError("no truncation")
    import jax

    with jax.enable_x64(True):
        library = _Jax(case.dtype)
        leaves = {n: library.array(x) for n, x in {**case.params, **case.inputs}.items()}
        leaves |= {f"{n}0": library.array(s) for n, s in case.initial.items()}

        def loss_of(leaves):
            values = {parameter(n): leaves[n] for n in case.params} | {at(n): leaves[n] for n in case.inputs}
            values |= {at(n, -1): leaves[f"{n}0"] for n in case.initial}
            outputs, loss = _unrolled(case, values, library)
            return loss, outputs

        (loss, outputs), grads = jax.value_and_grad(loss_of, has_aux=True)(leaves)
        return {
            "grads": {n: np.asarray(g) for n, g in grads.items()},
            "loss": np.asarray(loss),
            "outputs": {n: np.asarray(y) for n, y in outputs.items()},
        }
