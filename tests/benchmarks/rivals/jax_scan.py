"""JAX as a contender: jit(value_and_grad) of lax.scan, with readout and loss.

The gates are stacked and the products with x taken before the scan, as one who knows JAX writes it.
"""

from __future__ import annotations

from typing import Any

from .contender import Contender, UnavailableError
from .problem_data import Data
from .stacked import STACKED

__all__ = ["contender", "version"]


def _jax() -> Any:
    """JAX with float64; to be called only after the process is pinned, since JAX counts the CPUs it may use."""
    try:
        import jax
    except ImportError as error:
        raise UnavailableError(f"jax: {error}") from error
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    return jax


def version() -> str:
    """Its version, or a dash."""
    try:
        return str(_jax().__version__)
    except UnavailableError:
        return "-"


def _tanh_rnn(jax: Any, p: dict[str, Any]) -> Any:
    def step(h: Any, a: Any) -> tuple[Any, Any]:
        h = jax.numpy.tanh(a + h @ p["U"].T)
        return h, h

    return step, lambda zero: zero


def _lstm(jax: Any, p: dict[str, Any]) -> Any:
    def step(state: tuple[Any, Any], a: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = jax.numpy.split(a + h @ p["U"].T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
        h = jax.nn.sigmoid(o) * jax.numpy.tanh(c)
        return (h, c), h

    return step, lambda zero: (zero, zero)


def _gru_reset_after(jax: Any, p: dict[str, Any]) -> Any:
    def step(h: Any, a: Any) -> tuple[Any, Any]:
        a_r, a_z, a_n = jax.numpy.split(a, 3, axis=-1)
        q_r, q_z, q_n = jax.numpy.split(h @ p["U"].T + p["c"], 3, axis=-1)
        r, z = jax.nn.sigmoid(a_r + q_r), jax.nn.sigmoid(a_z + q_z)
        n = jax.numpy.tanh(a_n + r * q_n)
        h = (1 - z) * n + z * h
        return h, h

    return step, lambda zero: zero


STEPS = {"tanh_rnn": _tanh_rnn, "lstm": _lstm, "gru_reset_after": _gru_reset_after}


def contender(data: Data) -> Contender:
    """JAX on this problem; not for ragged batches."""
    jax, p, names = _jax(), data.problem, STACKED[data.problem.cell]
    if data.lengths is not None:
        raise UnavailableError("jax: a scan has one length")
    jnp = jax.numpy

    def loss(params: dict[str, Any], x: Any, targets: Any) -> Any:
        step, start = STEPS[p.cell](jax, params)
        zero = jnp.zeros((p.B, p.H), p.dtype)
        _, h = jax.lax.scan(step, start(zero), x @ params["W"].T + params["b"])
        y = h @ params["W_y"].T + params.get("b_y", 0)
        return -jnp.take_along_axis(jax.nn.log_softmax(y), targets[..., None], axis=-1).sum()

    compiled = jax.jit(jax.value_and_grad(loss))
    params = jax.device_put(names.stack(data.params))
    x, targets = jax.device_put(data.x), jax.device_put(data.targets.astype("int32"))

    def run() -> Any:
        return jax.block_until_ready(compiled(params, x, targets))

    return Contender("jax", run, lambda result: names.unstack(result[1]), compiles=True)
