"""How much the last output depends on each input, drawn."""

import copy

import matplotlib.pyplot as plt
import torch


def visualize_gradient_flow(model, x):
    """Draw, and return, the norm of the Jacobian of y_T by each x_t.

    The model maps (batch, time, features) to outputs of that layout and a
    state; of the batch the first sequence is taken. A copy of the model in
    float64 is used: nothing underflows early, and the caller's gradients
    and mode stay as they are.
    """
    own = copy.deepcopy(model).double().train(False)
    inputs = x[:1].detach().double().requires_grad_()
    outputs, _ = own(inputs)
    rows = []
    for y in outputs[0, -1]:
        (row,) = torch.autograd.grad(y, inputs, retain_graph=True)
        rows.append(row[0])  # (time, features)
    norms = torch.cat(rows, dim=1).norm(dim=1)
    figure = plt.figure(figsize=(10, 4))
    plt.plot(range(1, len(norms) + 1), norms.numpy(), marker="o")
    if norms.any():  # a logarithmic axis has no place for zero
        plt.yscale("symlog", linthresh=norms[norms > 0].min().item())
    plt.xlabel("t")
    plt.ylabel("norm of the Jacobian of y_T by x_t")
    plt.show()
    plt.close(figure)
    return norms
