"""A drawing of how much the last output depends on each input, which leaves its arguments as they are."""

import copy

import matplotlib.pyplot as plt
import torch


def visualize_gradient_flow(model, x):
    """Draw the norm of the Jacobian of the last output by each input of the first sequence, and return the norms.

    model maps (batch, time, features) to outputs of the same layout and a state; a copy of it is used, in float64,
    so that nothing underflows early and neither gradients nor the mode of the caller's change.
    """
    own = copy.deepcopy(model).double().train(False)
    inputs = x[:1].detach().double().requires_grad_()
    outputs, _ = own(inputs)
    rows = [torch.autograd.grad(y, inputs, retain_graph=True)[0][0] for y in outputs[0, -1]]  # (time, features) each
    norms = torch.stack(rows).permute(1, 0, 2).flatten(1).norm(dim=1)
    figure = plt.figure(figsize=(10, 4))
    plt.plot(range(1, len(norms) + 1), norms.numpy(), marker="o")
    if norms.any():  # zero, which a logarithmic axis has no place for, stands at the foot of this one
        plt.yscale("symlog", linthresh=norms[norms > 0].min().item())
    plt.xlabel("t")
    plt.ylabel("norm of the Jacobian of y_T by x_t")
    plt.show()
    plt.close(figure)
    return norms
