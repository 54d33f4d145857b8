"""Other numbers, sizes and layers for a script that makes its own: PyTorch's constructors hand them out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from numeric.oracle.case import Case
from reports.listings.cases import copy_weights, tensors

__all__ = ["instead", "unheard"]


@contextlib.contextmanager
def instead(case: Case, targets: Any, *, kind: str = "RNN", **options: Any) -> Iterator[None]:
    """PyTorch as a script of a case finds it, with the case's numbers, sizes and weights.

    ``torch.randn`` gives the inputs, batch first, ``torch.randint`` the targets.
    ``kind`` is the recurrent layer in place of nn.RNN; what the script says of it counts, except for ``options``.
    """
    import torch

    p = tensors(case.params)
    x = torch.tensor(np.array(case.inputs["x"])).transpose(0, 1).contiguous()
    layer, linear, made = getattr(torch.nn, kind), torch.nn.Linear, []

    def recurrent(*sizes: Any, **said: Any) -> Any:
        said |= {"input_size": x.shape[-1], "hidden_size": case.initial["h"].shape[-1], "dtype": x.dtype} | options
        made.append(layer(**said))
        return made[-1]

    def readout(*sizes: Any, **said: Any) -> Any:
        weight = p["W_y" if "W_y" in p else "W_hy"]
        out = linear(weight.shape[1], weight.shape[0], dtype=x.dtype)
        copy_weights(made[-1], out, p)
        return out

    with (
        mock.patch.object(torch, "randn", lambda *shape, **said: x.requires_grad_(said.get("requires_grad", False))),
        mock.patch.object(torch, "randint", return_value=targets),
        mock.patch.object(torch.nn, "RNN", recurrent),
        mock.patch.object(torch.nn, "Linear", readout),
        unheard(),
    ):
        yield


@contextlib.contextmanager
def unheard() -> Iterator[list[str]]:
    """What is printed is kept."""
    said: list[str] = []
    with mock.patch("builtins.print", lambda *words: said.append(" ".join(map(str, words)))):
        yield said
