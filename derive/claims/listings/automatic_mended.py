"""Automatic differentiation through time, for a stack of layers."""

import torch
from torch import nn

sizes = {"input_size": 10, "hidden_size": 20}
# without batch_first the first axis of x would be time
rnn = nn.RNN(**sizes, num_layers=1, batch_first=True)
fc = nn.Linear(sizes["hidden_size"], 5)

x = torch.randn(32, 15, sizes["input_size"], requires_grad=True)
targets = torch.randint(0, 5, (32,))

outputs, h_n = rnn(x)
logits = fc(h_n[-1])  # the top layer's last state, outputs[:, -1]

loss = nn.CrossEntropyLoss()(logits, targets)  # a mean over the batch
loss.backward()

print(f"Input grad shape: {x.grad.shape}")
print(f"RNN weight grad: {rnn.weight_ih_l0.grad.shape}")
