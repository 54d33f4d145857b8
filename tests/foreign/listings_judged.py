"""The listings of the document that this project started from, run as they are printed, and judged.

    python -m tests.foreign.listings_judged          prints what the oracle says about each; kept in listings.md

A listing is the text in ``listings/``, unchanged; what is here gives it a case's numbers and takes its gradients.
PyTorch is needed.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

import derive
from numeric.oracle import Case, judge

TOP = Path(__file__).parents[2]
LISTINGS = Path(__file__).parent / "listings"
CELL = derive.load("tanh_rnn")


def text_of(name):
    return (LISTINGS / f"{name}.py").read_text(encoding="utf-8")


@cache
def functions(name):
    """What a listing defines."""
    import torch

    space = {"torch": torch}
    exec(compile(text_of(name), f"{name}.py", "exec"), space)
    return SimpleNamespace(**{n: x for n, x in space.items() if callable(x)})


# ----------------------------------------------------------------------------------------------------------- the cases


def case(name, *, T, B, D, H, O, seed=0, initial=True, **loss):  # noqa: E741
    """A case of the sizes that a listing needs; no bias of the readout, as in the cell."""
    random = np.random.default_rng(seed)
    sizes = {"D": D, "H": H, "O": O}
    params = {
        n: random.uniform(-1, 1, [sizes[x] for x in shape]) / np.sqrt(sizes[shape[-1]])
        for n, shape in CELL.parameters.items()
    }
    inputs = loss.pop("inputs", None)
    x = random.standard_normal((T, B, D)) if inputs is None else inputs
    h = random.uniform(-0.5, 0.5, (B, H)) * initial
    return Case(name, name, "what a listing needs", CELL.name, CELL.text, params, {"x": x}, {"h": h}, **loss)


def _classes(T, B, O, seed=1):  # noqa: E741
    return np.random.default_rng(seed).integers(0, O, (T, B))


def manual_cases(loss):
    T, D, H, O = 6, 3, 4, 4  # noqa: E741
    if loss == "squared_error":
        targets = np.random.default_rng(2).standard_normal((T, 1, O))
        return [case("manual", T=T, B=1, D=D, H=H, O=O, loss=loss, targets=targets)]
    return [case("manual", T=T, B=1, D=D, H=H, O=O, loss=loss, targets=_classes(T, 1, O))]


def automatic_cases():
    T, B, D, H, O = 15, 32, 10, 20, 5  # noqa: E741
    targets = _classes(1, B, O)[0]
    how = {"loss": "softmax_cross_entropy", "at": "last", "reduction": "mean", "dtype": "float32"}
    one = case("automatic", T=T, B=B, D=D, H=H, O=O, initial=False, targets=targets, loss=how["loss"], at="last")
    return [_narrowed(one, how)]


def _narrowed(one, how):
    """The same case in float32."""
    params = {n: p.astype(np.float32) for n, p in one.params.items()}
    x = {"x": one.inputs["x"].astype(np.float32)}
    h = {"h": one.initial["h"].astype(np.float32)}
    same = one.id, one.family, one.purpose, one.cell, one.text
    return Case(*same, params, x, h, targets=one.targets, accumulate="float32", **how)


def truncated_cases(length, chunk):
    """A sequence that predicts itself one step on: T = length - 1."""
    D = H = 4
    sequence = np.random.default_rng(3).standard_normal((length, D))
    T = length - 1
    return [
        case(
            f"truncated-{length}-{chunk}", T=T, B=1, D=D, H=H, O=D, initial=False, inputs=sequence[:-1, None],
            loss="squared_error", targets=sequence[1:, None], truncate=(chunk, chunk),
        )
    ]  # fmt: skip


def flow_cases():
    T, D, H, O = 12, 3, 5, 4  # noqa: E741
    ones = np.zeros((T, 1, O))
    ones[-1] = 1
    return [case("flow", T=T, B=1, D=D, H=H, O=O, initial=False, loss="linear", cotangents={"y": ones})]


# ------------------------------------------------------------------------------------------------------ implementations


def _tensors(case):
    import torch

    return {n: torch.tensor(np.array(p)) for n, p in case.params.items()}


def manual(case, probabilities):
    """bptt_manual on one sequence; ``ys`` are softmax(logits), or what the document calls y, the logits."""
    import torch

    p, x = _tensors(case), torch.tensor(np.array(case.inputs["x"]))[:, 0]
    hs = [torch.tensor(np.array(case.initial["h"]))[0]]
    for t in range(case.T):
        hs.append(torch.tanh(p["W_hh"] @ hs[t] + p["W_xh"] @ x[t] + p["b"]))
    ys = [p["W_hy"] @ h for h in hs[1:]]
    if probabilities:
        ys = [torch.softmax(y, 0) for y in ys]
    targets = torch.tensor(np.array(case.targets))[:, 0]
    if case.loss == "softmax_cross_entropy":
        targets = torch.eye(len(ys[0]), dtype=ys[0].dtype)[targets]
    listing = functions("manual").bptt_manual
    found = listing(list(x), hs, ys, list(targets), p["W_xh"], p["W_hh"], p["W_hy"])
    return {"grads": dict(zip(("W_xh", "W_hh", "W_hy"), found, strict=True))}


def automatic(case):
    """The listing's own lines, with a case's numbers where it draws some."""
    import torch

    p, x = _tensors(case), torch.tensor(np.array(case.inputs["x"])).transpose(0, 1).requires_grad_()
    targets = torch.tensor(np.array(case.targets))
    space: dict = {}
    source = text_of("automatic")
    with (
        mock.patch.object(torch, "randn", return_value=x),
        mock.patch.object(torch, "randint", return_value=targets),
        mock.patch.object(torch.nn, "RNN", _with_weights(torch.nn.RNN, p)),
        mock.patch.object(torch.nn, "Linear", _with_readout(torch.nn.Linear, p)),
        mock.patch("builtins.print"),
    ):
        exec(compile(source, "automatic.py", "exec"), space)
    rnn, fc = space["rnn"], space["fc"]
    grads = {
        "W_xh": rnn.weight_ih_l0.grad, "W_hh": rnn.weight_hh_l0.grad, "b": rnn.bias_ih_l0.grad, "W_hy": fc.weight.grad,
        "x": x.grad.transpose(0, 1),
    }  # fmt: skip
    return {"grads": grads, "loss": space["loss"]}


def _with_weights(layer, p):
    import torch

    def made(*args, **how):
        rnn = layer(*args, **how)
        with torch.no_grad():
            rnn.weight_ih_l0.copy_(p["W_xh"])
            rnn.weight_hh_l0.copy_(p["W_hh"])
            rnn.bias_ih_l0.copy_(p["b"])
            rnn.bias_hh_l0.zero_()
        return rnn

    return made


def _with_readout(layer, p):
    import torch

    def made(*args, **how):
        fc = layer(*args, **how)
        with torch.no_grad():
            fc.weight.copy_(p["W_hy"])
            fc.bias.zero_()
        return fc

    return made


def _model(case):
    """A recurrent layer with its readout, batch first, in float64."""
    import torch

    p = _tensors(case)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            H, D = p["W_xh"].shape
            self.rnn = torch.nn.RNN(D, H, batch_first=True, dtype=torch.float64)
            self.out = torch.nn.Linear(H, p["W_hy"].shape[0], bias=False, dtype=torch.float64)

        def forward(self, x, hidden=None):
            h, hidden = self.rnn(x, hidden)
            return self.out(h), hidden

    model = Model()
    with torch.no_grad():
        model.rnn.weight_ih_l0.copy_(p["W_xh"])
        model.rnn.weight_hh_l0.copy_(p["W_hh"])
        model.rnn.bias_ih_l0.copy_(p["b"])
        model.rnn.bias_hh_l0.zero_()
        model.out.weight.copy_(p["W_hy"])
    return model


def truncated(case):
    """truncated_bptt with an optimizer that holds the weights still and adds up what it is handed."""
    import torch

    model, chunk = _model(case), case.truncate[0]
    sums = {}

    class Held:
        def zero_grad(self):
            model.zero_grad()

        def step(self):
            for name, x in model.named_parameters():
                sums[name] = sums.get(name, 0) + x.grad

    x, y = (np.array(a)[:, 0] for a in (case.inputs["x"], case.targets))
    sequence = torch.tensor(np.concatenate([x, y[-1:]]))

    def criterion(outputs, targets):
        return ((outputs - targets) ** 2).sum() / 2

    loss = functions("truncated").truncated_bptt(model, sequence, chunk, Held(), criterion)
    names = {"W_xh": "rnn.weight_ih_l0", "W_hh": "rnn.weight_hh_l0", "b": "rnn.bias_ih_l0", "W_hy": "out.weight"}
    return {"grads": {ours: sums[theirs] for ours, theirs in names.items()}, "loss": loss}


def flow_of(case, keep):
    """visualize_gradient_flow on a fresh input, or on one that is kept between calls."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch

    if "x" not in keep:
        keep["x"] = torch.tensor(np.array(case.inputs["x"])).transpose(0, 1)
        keep["model"] = _model(case)
    drawn = []
    with mock.patch.object(plt, "show"), mock.patch.object(plt, "plot", lambda x, y: drawn.append(y)):
        functions("flow").visualize_gradient_flow(keep["model"], keep["x"])
    plt.close("all")
    grad = keep["x"].grad.transpose(0, 1)
    assert np.allclose(drawn[0], grad.norm(dim=-1)[:, 0])  # what is drawn is the norm of this gradient
    return {"grads": {"x": grad.clone()}}


def flow(case):
    return flow_of(case, {})


def verdicts():
    """(name, verdict) of every listing, in each reading of it."""
    weights = ("W_xh", "W_hh", "W_hy")
    kept: dict = {}
    rows = [
        ("manual, ys probabilities", lambda c: manual(c, True), manual_cases("softmax_cross_entropy"), weights),
        ("manual, ys the outputs y", lambda c: manual(c, False), manual_cases("softmax_cross_entropy"), weights),
        ("manual, ys outputs, squared error", lambda c: manual(c, False), manual_cases("squared_error"), weights),
        ("automatic", automatic, automatic_cases(), None),
        ("truncated, whole chunks", truncated, truncated_cases(9, 4), None),
        ("truncated, a shorter last chunk", truncated, truncated_cases(8, 4), None),
        ("truncated, a last chunk of one step", truncated, truncated_cases(6, 4), None),
        ("flow", flow, flow_cases(), ("x",)),
        ("flow, the same input twice", lambda c: flow_of(c, kept), flow_cases(), ("x",)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, implementation, cases, only in rows:
            yield name, judge(implementation, CELL, cases=cases, only=only, name=name)


def report():
    """What the oracle says about each listing, as Markdown."""
    parts = ["# The listings that this project started from, judged\n", _HEAD]
    for name, verdict in verdicts():
        parts.append(f"## {name}\n\n```text\n{verdict}\n```\n".replace(f"{TOP}/", ""))
    return "\n".join(parts)


_HEAD = """Each is run as it is printed (`listings/`), with a case's numbers. What the oracle does not confirm:

- `bptt_manual` takes `ys` for probabilities where it calls its derivative that of softmax and cross-entropy; for the
  outputs y of the same document it is the derivative of half the squared error.
- `truncated_bptt` takes one input more than targets in a last, shorter chunk: it fails, or, where the last chunk has
  one target, broadcasts it and gives another gradient without a word.
- `visualize_gradient_flow` adds to the gradient that its input has from a call before.

Made by `python -m tests.foreign.listings_judged > tests/foreign/listings.md`.
"""


def main():
    print(report(), end="")


if __name__ == "__main__":
    main()
