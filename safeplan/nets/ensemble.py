"""Several equal MLPs as one batched matrix product per layer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class EnsembleMLP(nn.Module):
    """`members` MLPs with ReLU: `[B, inputs] -> [members, B, outputs]`, xavier-uniform each; twin critics of [td3].

    Input `[members, B, inputs]` gives each member its own.
    """

    def __init__(self, inputs: int, outputs: int = 1, hidden: Sequence[int] = (256, 256), members: int = 2) -> None:
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.members = members
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in pairwise(sizes):
            w = torch.empty(members, a, b)
            for k in range(members):
                nn.init.xavier_uniform_(w[k])
            self.weights.append(nn.Parameter(w))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, b)))

    def forward(self, x: Tensor) -> Tensor:
        h = x.expand(self.members, *x.shape) if x.ndim == 2 else x
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(b, h, w)
            h = h.relu_() if i < last else h
        return h
