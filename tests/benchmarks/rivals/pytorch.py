"""PyTorch as a contender: nn.RNN, nn.GRU or nn.LSTM, a linear readout, cross-entropy, backward: what a user runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .contender import Contender, UnavailableError
from .problem_data import Data
from .stacked import STACKED

__all__ = ["packed", "plain", "set_threads", "version"]

LAYERS = {"tanh_rnn": "RNN", "lstm": "LSTM", "gru_reset_after": "GRU"}
IGNORED = -100  # the class that torch's cross-entropy leaves out: padding


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UnavailableError(f"torch: {error}") from error
    return torch


def version() -> str:
    """Its version, or a dash."""
    try:
        return str(_torch().__version__)
    except UnavailableError:
        return "-"


def set_threads(count: int) -> None:
    """As many threads as everybody else has."""
    try:
        _torch().set_num_threads(count)
    except UnavailableError:
        return


def _modules(data: Data) -> tuple[Any, Any]:
    """The layer and the readout with our parameters; the second of torch's two biases is zero or c."""
    torch, p, names = _torch(), data.problem, STACKED[data.problem.cell]
    dtype = getattr(torch, p.dtype)
    layer = getattr(torch.nn, LAYERS[p.cell])(p.D, p.H).to(dtype)
    readout = torch.nn.Linear(p.H, p.O, bias=bool(names.b_y)).to(dtype)
    ours = names.stack(data.params)
    theirs = _theirs(layer, readout)
    with torch.no_grad():
        for key, value in ours.items():
            theirs[key].copy_(torch.from_numpy(value))
    return layer, readout


def _theirs(layer: Any, readout: Any) -> dict[str, Any]:
    """Torch's parameters under the names of :class:`stacked.Stacked`."""
    out = {"W": layer.weight_ih_l0, "U": layer.weight_hh_l0, "b": layer.bias_ih_l0, "c": layer.bias_hh_l0}
    out["W_y"] = readout.weight
    return out | ({"b_y": readout.bias} if readout.bias is not None else {})


def _contender(data: Data, name: str, outputs: Callable[[Any], Any], targets: Any, scale: float = 1.0) -> Contender:
    """A contender whose layer's outputs, one row a step and sequence, are what ``outputs`` makes of the layer."""
    torch = _torch()
    layer, readout = _modules(data)
    parameters = [*layer.parameters(), *readout.parameters()]

    def run() -> Any:
        for parameter in parameters:
            parameter.grad = None
        logits = readout(outputs(layer))
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
        loss.backward()
        return loss

    def gradients(_: Any) -> dict[str, Any]:
        return STACKED[data.problem.cell].unstack({k: v.grad.numpy() for k, v in _theirs(layer, readout).items()})

    return Contender(name, run, gradients, scale)


def plain(data: Data) -> Contender:
    """The padded batch; its time is scaled by the share that is not padding, as if padding cost nothing."""
    torch = _torch()
    x, targets = torch.from_numpy(data.x), torch.from_numpy(data.targets.copy())
    if data.lengths is not None:
        steps = torch.arange(len(targets))[:, None]
        targets[steps >= torch.from_numpy(data.lengths)] = IGNORED
    return _contender(data, "torch", lambda layer: layer(x)[0].flatten(0, 1), targets.flatten(), data.share)


def packed(data: Data) -> Contender:
    """The ragged batch as a PackedSequence."""
    torch, rnn = _torch(), _torch().nn.utils.rnn
    lengths = torch.from_numpy(data.lengths)
    x = rnn.pack_padded_sequence(torch.from_numpy(data.x), lengths, enforce_sorted=False)
    targets = rnn.pack_padded_sequence(torch.from_numpy(data.targets), lengths, enforce_sorted=False).data
    return _contender(data, "packed", lambda layer: layer(x)[0].data, targets)
