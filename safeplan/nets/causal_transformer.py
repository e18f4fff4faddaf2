"""A transformer whose tokens see what came before them, for sequence models of control."""

from torch import Tensor, nn

from safeplan.errors import ConfigError


class CausalBlock(nn.Module):
    """Attention to earlier tokens and an MLP, each on normalised input, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, L, W = x.shape
        q, k, v = (t.reshape(B, L, self.heads, -1).transpose(1, 2) for t in self.to_qkv(self.norm1(x)).chunk(3, -1))
        rate = self.dropout if self.training else 0.0
        y = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + self.drop(self.out(y.transpose(1, 2).reshape(B, L, W)))
        return x + self.drop(self.mlp(self.norm2(x)))


class CausalTransformer(nn.Module):
    """`[B, L, width] -> [B, L, width]`: output i depends on inputs 0 .. i alone. Weights N(0, 0.02^2), zero biases.

    Dropout draws from the global generator, as torch's does.
    """

    def __init__(self, width: int, blocks: int = 3, heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"causal transformer: width {width} must be a multiple of its {heads} heads")
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(CausalBlock(width, heads, dropout) for _ in range(blocks))
        self.apply(small)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.norm_in(x))
        for block in self.blocks:
            h = block(h)
        return self.norm_out(h)


def small(module: nn.Module) -> None:
    """Weights N(0, 0.02^2) and zero biases of linear layers and embeddings, in place."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
