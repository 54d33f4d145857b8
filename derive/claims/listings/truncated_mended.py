"""Truncated backpropagation through time: chunks of up to chunk_size steps, for every length and every kind of state."""


def truncated_bptt(model, sequence, chunk_size, optimizer, criterion):
    """Train on the prediction of each element from those before; returns the sum of the chunks' losses."""
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; expected 1 or more")
    steps = len(sequence) - 1  # the last element is a target only
    state, total = None, 0.0
    for start in range(0, steps, chunk_size):
        end = min(start + chunk_size, steps)
        outputs, state = model(sequence[start:end].unsqueeze(0), cut(state))
        loss = criterion(outputs.squeeze(0), sequence[start + 1 : end + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def cut(state):
    """The state's value without its history: a tensor, a tuple of them such as an LSTM's, or None at the beginning."""
    if isinstance(state, tuple):
        return tuple(cut(part) for part in state)
    return None if state is None else state.detach()
