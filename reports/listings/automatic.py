"""The script that lets PyTorch differentiate: as printed, with other sizes, with the layers that a reader tries next.

loss = mean over the batch of cross_entropy(W_hy h_T + b_y, class)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from numeric.oracle.case import Case
from reports.document import Code
from reports.listings.cases import BIASED, TWO_LAYERS, gradients_of, labels, make_case
from reports.listings.outcome import attempt, expected, judged, stopped
from reports.listings.patches import instead, unheard
from reports.listings.rows import WRONG, Group, Row
from reports.listings.source import Source

__all__ = ["GROUPS"]


def _case(T: int = 4, B: int = 3, O: int = 5, text: str = BIASED, **how: Any) -> Case:  # noqa: E741
    """One class for every sequence, at the last step, and the mean over the batch."""
    loss = {"loss": "softmax_cross_entropy", "at": "last", "reduction": "mean", "targets": labels(1, B, O)[0]} | how
    return make_case(text, T=T, B=B, O=O, start=0.0, **loss)


def run(source: Source, case: Case, **options: Any) -> dict[str, Any]:
    """Run the script with a case's numbers; every name that it has in the end."""
    import torch

    with instead(case, torch.tensor(np.array(case.targets)), **options):
        return source.run()


def gradients(source: Source, case: Case, **options: Any) -> dict[str, Any]:
    """The gradients and the loss that it leaves."""
    space = run(source, case, **options)
    grads = gradients_of(space["rnn"], space["fc"], case.params) | {"x": space["x"].grad.transpose(0, 1)}
    return {"grads": grads, "loss": space["loss"]}


# ----------------------------------------------------------------------------------------------------------- as printed


def as_printed(source: Source) -> Iterator[Row]:
    """With the random numbers that it draws."""
    import torch

    for seed in (0, 1):
        torch.manual_seed(seed)
        with unheard() as said:
            space = source.run()
        case, found = _afterwards(space)
        yield judged(f"its own random numbers, seed {seed}", source, partial(_as_found, found), case)
    shapes = [str(tuple(space[n].shape)) for n in ("x",)] + [str(tuple(space["rnn"].weight_ih_l0.shape))]
    right = [line.partition("torch.Size(")[2].rstrip(")").replace("[", "(").replace("]", ")") for line in said]
    told = ("prints the shapes of the input, ", Code(shapes[0]), ", and of the weight, ", Code(shapes[1]))
    yield expected("what it prints", right == shapes, told, ("prints ", Code(" ".join(said))))


def _as_found(found: dict[str, Any], case: Case) -> dict[str, Any]:
    return found


def _afterwards(space: dict[str, Any]) -> tuple[Case, dict[str, Any]]:
    """The case that the script made up, and its gradients by our names; PyTorch's two biases are one of ours."""
    rnn, fc, x = space["rnn"], space["fc"], space["x"]
    params = {"W_xh": rnn.weight_ih_l0, "W_hh": rnn.weight_hh_l0, "b": rnn.bias_ih_l0 + rnn.bias_hh_l0,
              "W_hy": fc.weight, "b_y": fc.bias}  # fmt: skip
    numbers = {n: p.detach().numpy() for n, p in params.items()}
    inputs = x.detach().transpose(0, 1).numpy()
    (T, B, D), H, O = inputs.shape, len(numbers["b"]), len(numbers["b_y"])  # noqa: E741
    case = _case(T, B, O, D=D, H=H, inputs=inputs, params=numbers, dtype="float32", targets=space["targets"].numpy())
    grads = gradients_of(rnn, fc, numbers) | {"x": x.grad.transpose(0, 1)}
    return case, {"grads": grads, "loss": space["loss"]}


def other_sizes(source: Source) -> Iterator[Row]:
    """With other numbers in it."""
    cases = {
        "B = 3, T = 4, D = 3, H = 4, O = 5, float64": _case(),
        "one step, T = 1": _case(T=1),
        "a batch of one, B = 1": _case(B=1),
        "D = H = 1, O = 2": _case(D=1, H=1, O=2),
        "T = B = D = H = 1, O = 2": _case(T=1, B=1, D=1, H=1, O=2),
        "float32": _case(dtype="float32"),
        "a long sequence, T = 60": _case(T=60, B=2),
        "weights three times as large": _case(scale=3.0),
        "targets that are distributions": _case(targets=np.full((3, 5), 0.2)),
    }
    for words, case in cases.items():
        yield judged(words, source, partial(gradients, source), case)


# ------------------------------------------------------------------------------------------------------------ its words


def of_the_graph(source: Source) -> Iterator[Row]:
    """What is there before and after ``loss.backward()``."""
    import torch

    before: dict[str, Any] = {}
    backward = torch.Tensor.backward

    def watched(loss: Any, *args: Any, **how: Any) -> None:
        before.update(grads=[leaf.grad is None for leaf in _leaves(loss)])
        backward(loss, *args, **how)

    for T in (1, 4, 8):
        with mock.patch.object(torch.Tensor, "backward", watched):
            space = run(source, _case(T=T))
        empty = bool(before["grads"]) and all(before["grads"])
        said = f"{len(before['grads'])} leaves of the graph, none with a gradient"
        yield expected(f"before `backward()`, T = {T}", empty, (said,), ("gradients are there already",))
        filled = [*space["rnn"].parameters(), *space["fc"].parameters(), space["x"]]
        there = all(leaf.grad is not None for leaf in filled)
        yield expected(f"after `backward()`, T = {T}", there, (f"each of the {len(filled)} has one",),
                       ("some have none",))  # fmt: skip
    with torch.no_grad():
        made = attempt(source, lambda: run(source, _case()))
    refused = made.error is not None and made.line > 0
    told = (f"no graph is built, and `backward()` stops at line {made.line}",)
    yield expected("the forward pass within `torch.no_grad()`", refused, told, ("there are gradients all the same",))


def _leaves(loss: Any) -> list[Any]:
    """The tensors at the ends of the graph behind a loss."""
    seen: list[Any] = []
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.append(node)
            todo += [follower for follower, _ in node.next_functions]
    return [node.variable for node in seen if hasattr(node, "variable")]


def of_the_last_state(source: Source) -> Iterator[Row]:
    """``h_n.squeeze(0)`` beside the layer's output at the last step."""
    for T, B in ((4, 3), (1, 1)):
        space = run(source, _case(T=T, B=B))
        same = space["h_n"].squeeze(0).equal(space["outputs"][:, -1])
        said = ("`h_n.squeeze(0)` is `outputs[:, -1]`, bit by bit",)
        yield expected(f"T = {T}, B = {B}", same, said, ("the two are different",))


# --------------------------------------------------------------------------------------------------------- other layers


def of_layers(source: Source) -> Iterator[Row]:
    """A stack of layers."""
    two = _case(text=TWO_LAYERS)
    run_two = partial(gradients, source, num_layers=2)
    why = "`h_n` holds a state for every layer, and `squeeze(0)` leaves it as it is"
    smallest = _case(T=1, B=1, D=1, H=1, O=2, text=TWO_LAYERS)
    yield judged("`num_layers=2`, T = B = D = H = 1, O = 2", source, run_two, smallest, why=why)
    yield judged("`num_layers=2`, a batch of one", source, run_two, _case(B=1, text=TWO_LAYERS), why=why)
    yield judged("`num_layers=2`, a batch of three", source, run_two, two, why=why)


def of_other_layers(source: Source) -> Iterator[Row]:
    """What a reader tries next."""
    stops: dict[str, tuple[Case, dict[str, Any], str]] = {
        "`bidirectional=True`": (_case(), {"bidirectional": True}, "`h_n` holds a state for each direction"),
        "an LSTM in place of the RNN": (
            _case(text="lstm"),
            {"kind": "LSTM"},
            "its second result is a pair, `(h_n, c_n)`",
        ),
        "`batch_first` left out, B = 3, T = 4": (
            _case(),
            {"batch_first": False},
            "x is read as 4 sequences of 3 steps",
        ),
    }
    for words, (case, options, why) in stops.items():
        made = attempt(source, partial(run, source, case, **options))
        yield stopped(words, made, why)
    square = _case(T=4, B=4)
    yield judged("`batch_first` left out, B = T = 4", source, partial(gradients, source, batch_first=False), square,
                 why="batch and time are taken for each other")  # fmt: skip
    yield from _twice(source)


def _twice(source: Source) -> Iterator[Row]:
    """What a second call finds."""
    import torch

    space = run(source, _case())
    again = attempt(source, space["loss"].backward)
    yield stopped("`loss.backward()` called again afterwards", again, "the graph is freed by the first call")
    once = space["x"].grad.clone()
    _, h_n = space["rnn"](space["x"])
    torch.nn.functional.cross_entropy(space["fc"](h_n[-1]), space["targets"]).backward()
    twice = bool(torch.allclose(space["x"].grad, 2 * once))
    said = "the gradients are twice as large: the second pass adds to them" if twice else "the gradients are others"
    yield Row("forward and backward again, the gradients not cleared", (said,), WRONG)


GROUPS = (
    Group("printed", "run as it stands, it leaves the gradients of the loss", as_printed, 19),
    Group("sizes", "with other sizes and numbers, it leaves the gradients of the loss", other_sizes, 19),
    Group("graph", "the forward pass builds the graph, and only `backward()` makes gradients", of_the_graph, 13),
    Group("last-state", "`h_n.squeeze(0)` is the state at the last step", of_the_last_state, 14),
    Group("layers", "for a stack of layers it leaves the gradients of the loss, too", of_layers, 14),
    Group("other", "other layers and calls", of_other_layers, forms=("printed",)),
)
