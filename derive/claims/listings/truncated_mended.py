"""Backpropagation through time in chunks, for every length and state."""


def truncated_bptt(model, sequence, chunk_size, optimizer, criterion):
    """Train on predicting each element; returns the chunks' losses, summed.

    A chunk has up to chunk_size steps. The model maps (1, steps, features)
    and a state, None at first, to outputs of that layout and a new state.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected 1 or more")
    steps = len(sequence) - 1  # the last element is only a target
    state, total = None, 0.0
    for start in range(0, steps, chunk_size):
        end = min(start + chunk_size, steps)
        inputs = sequence[start:end].unsqueeze(0)
        outputs, state = model(inputs, cut(state))
        targets = sequence[start + 1 : end + 1]
        loss = criterion(outputs.squeeze(0), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def cut(state):
    """A state without its history: a tensor, a tuple of them, or None."""
    if isinstance(state, tuple):
        return tuple(cut(part) for part in state)
    return None if state is None else state.detach()
