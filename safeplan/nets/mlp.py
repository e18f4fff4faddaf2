"""Plain multilayer perceptron."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn


def xavier(layer: nn.Linear) -> nn.Linear:
    """Xavier-uniform weights, zero bias, in place."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class MLP(nn.Module):
    """`[..., inputs] -> [..., outputs]`, hidden layers with `activation`; `init` sets the weights of each layer, by
    default xavier-uniform ones with zero biases [iql]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (256, 256),
        activation: type[nn.Module] = nn.ReLU,
        init: Callable[[nn.Linear], nn.Linear] = xavier,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip([inputs, *hidden], hidden, strict=False):
            layers += [init(nn.Linear(a, b)), activation()]
        self.layers = nn.Sequential(*layers, init(nn.Linear([inputs, *hidden][-1], outputs)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
