"""BPTT loops written by hand in NumPy, as well as one person can: the generated engine must not be slower.

Memory is taken once and written to with ``out=``; gates are stacked, products with x and the readout's are taken for
all steps at once, a matrix's gradient is one product; sigmoid(a) = 1/2 + 1/2 tanh(a/2), with the halves in the
matrices, so that a step takes one tanh of all gates; the derivatives' factors are computed for chunks of steps that fit
into cache; and the better of two layouts is kept.  Nothing is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .contender import Contender, UnavailableError
from .floor import quickest
from .hand_layout import Layout, softmax_cross_entropy
from .problem_data import Data

__all__ = ["contender"]

CACHE = 1 << 19  # bytes of a chunk's factors: they and what they are made from stay in a usual second-level cache


class Loop:
    """What the three cells share: products before and after the loop, readout, loss, gradients of the matrices.

    ``order`` names the gates from top to bottom of the stack; ``of_h`` and ``of_x`` are those whose pre-activation
    takes U h and W x; ``half`` those that are sigmoids.
    """

    order: tuple[str, ...] = ("",)
    of_h = of_x = half = slice(0, 0)
    names = ("W_{}", "U_{}", "b_{}", "W_y", "b_y")

    def __init__(self, data: Data, *, rows: bool) -> None:
        p = data.problem
        self.data, self.H, self.G = data, p.H, len(self.order)
        self.at = at = Layout(rows, p.T, p.B, p.dtype)
        self.targets = data.targets.reshape(-1)
        self.h, self.dh, self.delta = at.slab(p.H, p.T + 1), at.slab(p.H), at.slab(self.G * p.H)
        self.y = np.empty((p.T * p.B, p.O), p.dtype)
        self.room = at.room(p.H), at.room(self.G * p.H)
        scale = np.ones((self.G, p.H, 1), p.dtype)  # 1/2 for the rows of a sigmoid
        scale[self.half] = 0.5
        self.half_x, self.half_h = scale[self.of_x].reshape(-1, 1), scale[self.of_h].reshape(-1, 1)
        self.chunk = max(1, min(p.T, CACHE // (self.G * p.H * p.B * self.h.itemsize)))

    def stack(self, kind: int, part: slice) -> Any:
        """The parameters of one kind of some gates."""
        parts = [self.data.params[name] for name in self.named(kind, part)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def run(self) -> tuple[float, dict[str, Any]]:
        """The loss and all gradients."""
        at, params = self.at, self.data.params
        W_y, b_y = params[self.names[3]], params.get(self.names[4])
        self.U = self.stack(1, self.of_h)
        self.forward()
        flat_h = at.flat(self.h[1:], self.room[0])
        np.matmul(flat_h, W_y.T, out=self.y)
        if b_y is not None:
            self.y += b_y
        loss = softmax_cross_entropy(self.y, self.targets)
        at.all_steps(at.matrix(W_y.T), self.y.reshape(at.T, at.B, -1), self.dh)
        self.backward(at.matrix(self.U.T))
        grads = {self.names[3]: self.y.T @ flat_h}
        if b_y is not None:
            grads[self.names[4]] = self.y.sum(0)
        return loss, grads | self.weights(at.flat(self.delta, self.room[1]), flat_h)

    def weights(self, delta: Any, h: Any) -> dict[str, Any]:
        """One product for all W, one for all U; the first step's previous state is zero."""
        H, B = self.H, self.at.B
        x = self.data.x.reshape(len(delta), -1)
        of_x, of_h = (delta[:, part.start * H : part.stop * H] for part in (self.of_x, self.of_h))
        dW, dU, db = of_x.T @ x, of_h[B:].T @ h[:-B], delta.sum(0)
        out: dict[str, Any] = {}
        for kind, part, grad in ((0, self.of_x, dW), (1, self.of_h, dU), (2, self.of_x, db[part_rows(self.of_x, H)])):
            for k, name in enumerate(self.named(kind, part)):
                out[name] = grad[k * H : (k + 1) * H]
        return out | self.more(db)

    def named(self, kind: int, part: slice) -> list[str]:
        """Names of the parameters of one kind."""
        return [self.names[kind].format(g) for g in self.order[part]]

    def inputs(self, out: Any) -> None:
        """W x + b at all steps, halved where a sigmoid follows."""
        at = self.at
        at.all_steps(at.matrix(self.stack(0, self.of_x) * self.half_x), self.data.x, out)
        out += at.column(self.stack(2, self.of_x) * self.half_x[:, 0])

    def chunks(self) -> list[tuple[int, int]]:
        """Steps in chunks, from the last to the first."""
        return [(max(0, end - self.chunk), end) for end in range(self.at.T, 0, -self.chunk)]

    def more(self, db: Any) -> dict[str, Any]:
        """Gradients of what only one cell has."""
        return {}

    def forward(self) -> None:
        raise NotImplementedError

    def backward(self, U_T: Any) -> None:
        raise NotImplementedError


def part_rows(part: slice, H: int) -> slice:
    """The rows of some gates in the stack."""
    return slice(part.start * H, part.stop * H)


class TanhRNN(Loop):
    """h[t] = tanh(U h[t-1] + W x[t] + b)."""

    of_h = of_x = slice(0, 1)
    names = ("W_xh", "W_hh", "b", "W_hy", "")

    def __init__(self, data: Data, *, rows: bool) -> None:
        super().__init__(data, rows=rows)
        self.step_room, self.slope = np.empty_like(self.h[0]), np.empty_like(self.dh[: self.chunk])

    def forward(self) -> None:
        at, h, a, room = self.at, self.h, self.delta, self.step_room  # the pre-activations' memory serves twice
        self.inputs(a)
        U = at.matrix(self.U)
        for t in range(at.T):
            at.step(U, h[t], room)
            np.add(room, a[t], out=room)
            np.tanh(room, out=h[t + 1])

    def backward(self, U_T: Any) -> None:
        at, h, dh, delta, room = self.at, self.h, self.dh, self.delta, self.step_room
        for start, end in self.chunks():
            slope = self.slope[: end - start]
            np.multiply(h[start + 1 : end + 1], h[start + 1 : end + 1], out=slope)
            np.subtract(1, slope, out=slope)
            for t in range(end - 1, start - 1, -1):
                if t + 1 < at.T:
                    at.step(U_T, delta[t + 1], room)
                    dh[t] += room
                np.multiply(dh[t], slope[t - start], out=delta[t])


class LSTM(Loop):
    """Gates from top to bottom: o, i, f (sigmoids, one block), g; i, f, g act on c, one block too."""

    order = ("o", "i", "f", "g")
    of_h = of_x = slice(0, 4)
    half = slice(0, 3)

    def __init__(self, data: Data, *, rows: bool) -> None:
        super().__init__(data, rows=rows)
        at, H = self.at, self.H
        self.a, self.c, self.tanh_c = at.slab(4 * H), at.slab(H, at.T + 1), at.slab(H)
        self.z, self.step_room, self.dc = np.empty_like(self.a[0]), np.empty_like(self.h[0]), np.empty_like(self.h[0])
        self.factors = at.gates(at.slab(4 * H, self.chunk), 4)
        self.through_c = at.slab(H, self.chunk)

    def forward(self) -> None:
        at, a, h, c, tanh_c, z, room = self.at, self.a, self.h, self.c, self.tanh_c, self.z, self.step_room
        self.inputs(a)
        U = at.matrix(self.U * self.half_h)
        gates = at.gates(a, 4)
        o, i, f, g = gates
        for t in range(at.T):
            at.step(U, h[t], z)
            np.add(z, a[t], out=z)
            np.tanh(z, out=a[t])
            sigmoids = gates[:3, t]
            sigmoids *= 0.5
            sigmoids += 0.5
            np.multiply(f[t], c[t], out=c[t + 1])
            np.multiply(i[t], g[t], out=room)
            c[t + 1] += room
            np.tanh(c[t + 1], out=tanh_c[t])
            np.multiply(o[t], tanh_c[t], out=h[t + 1])

    def prepare(self, start: int, end: int) -> None:
        """The factors of dL/dh and dL/dc in each gate's delta, and of dL/dh in dL/dc."""
        gates, factors = self.at.gates(self.a, 4)[:, start:end], self.factors[:, : end - start]
        tanh_c, through_c = self.tanh_c[start:end], self.through_c[: end - start]
        np.subtract(1, gates[:3], out=factors[:3])
        factors[:3] *= gates[:3]
        np.multiply(gates[3], gates[3], out=factors[3])
        np.subtract(1, factors[3], out=factors[3])
        for k, other in enumerate((tanh_c, gates[3], self.c[start:end], gates[1])):
            factors[k] *= other
        np.multiply(tanh_c, tanh_c, out=through_c)
        np.subtract(1, through_c, out=through_c)
        through_c *= gates[0]

    def backward(self, U_T: Any) -> None:
        at, dh, dc, room = self.at, self.dh, self.dc, self.step_room
        delta, f, factors = at.gates(self.delta, 4), at.gates(self.a, 4)[2], self.factors
        dc[...] = 0
        for start, end in self.chunks():
            self.prepare(start, end)
            for t in range(end - 1, start - 1, -1):
                k = t - start
                if t + 1 < at.T:
                    at.step(U_T, self.delta[t + 1], room)
                    dh[t] += room
                np.multiply(dh[t], self.through_c[k], out=room)
                dc += room
                np.multiply(dh[t], factors[0, k], out=delta[0, t])
                np.multiply(dc, factors[1:, k], out=delta[1:, t])
                dc *= f[t]


class GRU(Loop):
    """Reset after the product; from top to bottom q, the product U_n h + c_n that r scales, then r, z, n.

    dL/dq, dL/dr, dL/dz go back to h, dL/dr, dL/dz, dL/dn to x: each three are one block.
    """

    order = ("n", "r", "z", "n")
    of_h, of_x, half = slice(0, 3), slice(1, 4), slice(1, 3)

    def __init__(self, data: Data, *, rows: bool) -> None:
        super().__init__(data, rows=rows)
        at, H = self.at, self.H
        self.a, self.q, self.distance = at.slab(3 * H), at.slab(H), at.slab(H)
        self.z, self.step_room = np.empty_like(self.a[0]), np.empty_like(self.h[0])
        self.factors = at.gates(at.slab(4 * H, self.chunk), 4)

    def forward(self) -> None:
        at, h, room = self.at, self.h, self.step_room
        self.inputs(self.a)
        U = at.matrix(self.U * self.half_h)
        gates, product = at.gates(self.a, 3), at.gates(self.z[None], 3)[:, 0]
        n, c_n = gates[2], at.column(self.data.params["c_n"])
        for t in range(at.T):
            at.step(U, h[t], self.z)
            np.add(product[0], c_n, out=self.q[t])
            sigmoids = gates[:2, t]
            sigmoids += product[1:]
            np.tanh(sigmoids, out=sigmoids)
            sigmoids *= 0.5
            sigmoids += 0.5
            np.multiply(sigmoids[0], self.q[t], out=room)
            room += n[t]
            np.tanh(room, out=n[t])
            np.subtract(h[t], n[t], out=self.distance[t])
            np.multiply(sigmoids[1], self.distance[t], out=room)
            np.add(room, n[t], out=h[t + 1])

    def prepare(self, start: int, end: int) -> None:
        """The factors of dL/dh in dL/dq, dL/dr, dL/dz and dL/dn."""
        r, z, n = self.at.gates(self.a, 3)[:, start:end]
        of_q, of_r, of_z, of_n = factors = self.factors[:, : end - start]
        np.subtract(1, z, out=of_z)
        np.multiply(n, n, out=of_n)
        np.subtract(1, of_n, out=of_n)
        of_n *= of_z
        of_z *= z
        of_z *= self.distance[start:end]
        np.multiply(of_n, r, out=of_q)
        np.subtract(1, r, out=of_r)
        factors[1] *= of_q  # (1 - z) (1 - n^2) r (1 - r)
        of_r *= self.q[start:end]

    def backward(self, U_T: Any) -> None:
        at, dh, room, H3 = self.at, self.dh, self.step_room, 3 * self.H
        delta, z = at.gates(self.delta, 4), at.gates(self.a, 3)[1]
        to_h = self.delta[:, :, :H3] if at.rows else self.delta[:, :H3]
        for start, end in self.chunks():
            self.prepare(start, end)
            for t in range(end - 1, start - 1, -1):
                if t + 1 < at.T:
                    at.step(U_T, to_h[t + 1], room)
                    dh[t] += room
                    np.multiply(dh[t + 1], z[t + 1], out=room)
                    dh[t] += room
                np.multiply(dh[t], self.factors[:, t - start], out=delta[:, t])

    def more(self, db: Any) -> dict[str, Any]:
        return {"c_n": db[: self.H]}


LOOPS: dict[str, type[Loop]] = {"tanh_rnn": TanhRNN, "lstm": LSTM, "gru_reset_after": GRU}


def contender(data: Data) -> Contender:
    """The loop in the better layout; for B = 1 both are the same memory."""
    if data.lengths is not None:
        raise UnavailableError("hand: only for batches of one length")
    made = [LOOPS[data.problem.cell](data, rows=rows) for rows in ((True, False) if data.problem.B > 1 else (True,))]
    runs = [loop.run for loop in made]
    return Contender("hand", quickest(runs, 2) if len(runs) > 1 else runs[0], lambda result: result[1])
