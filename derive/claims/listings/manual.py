def bptt_manual(xs, hs, ys, targets, W_xh, W_hh, W_hy):
    """
    Manual BPTT computation.
    
    Args:
        xs: List of inputs [x_1, ..., x_T]
        hs: List of hidden states [h_0, h_1, ..., h_T]
        ys: List of outputs [y_1, ..., y_T]
        targets: List of targets
        W_xh, W_hh, W_hy: Weight matrices
    
    Returns:
        Gradients for all parameters
    """
    T = len(xs)
    
    dW_xh = torch.zeros_like(W_xh)
    dW_hh = torch.zeros_like(W_hh)
    dW_hy = torch.zeros_like(W_hy)
    
    # Backward pass through time
    dh_next = torch.zeros_like(hs[0])
    
    for t in reversed(range(T)):
        # Gradient from output loss
        dy = ys[t] - targets[t]  # Softmax + cross-entropy derivative
        
        # Output weight gradient
        dW_hy += torch.outer(dy, hs[t + 1])
        
        # Gradient flowing into hidden state
        dh = W_hy.T @ dy + dh_next
        
        # Gradient through tanh nonlinearity
        dh_raw = dh * (1 - hs[t + 1] ** 2)
        
        # Input and recurrent weight gradients
        dW_xh += torch.outer(dh_raw, xs[t])
        dW_hh += torch.outer(dh_raw, hs[t])
        
        # Propagate to previous timestep
        dh_next = W_hh.T @ dh_raw
    
    return dW_xh, dW_hh, dW_hy
