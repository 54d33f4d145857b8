"""The backward pass of the tanh network by hand, from its outputs."""

import torch


def bptt_manual(xs, hs, ys, targets, W_xh, W_hh, W_hy):
    """Gradients by W_xh, W_hh, W_hy and b.

    The loss is the sum over t of the cross-entropy of softmax(ys[t]) with
    targets[t], where ys[t] is W_hy @ hs[t + 1]. xs, ys and targets hold T
    vectors, hs holds T + 1, the first of them h_0.
    """
    by_W_xh, by_W_hh = torch.zeros_like(W_xh), torch.zeros_like(W_hh)
    by_W_hy, by_b = torch.zeros_like(W_hy), torch.zeros_like(hs[0])
    from_later = torch.zeros_like(hs[0])
    for t in range(len(xs) - 1, -1, -1):
        p = torch.softmax(ys[t], dim=0)
        dL_dy = targets[t].sum() * p - targets[t]
        dL_dh = W_hy.T @ dL_dy + from_later
        dL_da = (1 - hs[t + 1] ** 2) * dL_dh
        by_W_hy += torch.outer(dL_dy, hs[t + 1])
        by_W_xh += torch.outer(dL_da, xs[t])
        by_W_hh += torch.outer(dL_da, hs[t])
        by_b += dL_da
        from_later = W_hh.T @ dL_da
    return by_W_xh, by_W_hh, by_W_hy, by_b
