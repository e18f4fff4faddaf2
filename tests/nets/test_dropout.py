"""Dropout keeps what it should, as often as it should, and as evenly."""

import pytest
import torch

from safeplan.errors import ConfigError
from safeplan.nets.dropout import Dropout


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_share_and_scale(p):
    layer, x = Dropout(p), torch.full((1001, 257), 2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = layer(x)
        other = layer(x)
    kept = y != 0
    n = x.numel()
    assert abs(float(kept.float().mean()) - (1 - p)) <= 4 * (p * (1 - p) / n) ** 0.5
    torch.testing.assert_close(y[kept].unique(), torch.tensor([2.0 / (1 - p)]), rtol=1e-4, atol=0.0)
    assert torch.equal(layer.eval()(x), x)
    if p == 0.5:  # neighbours that share a number, and two masks, are independent
        flat = kept.view(-1).float()
        pairs = [(flat[k::4][: n // 4], flat[k + 1 :: 4][: n // 4]) for k in range(3)]
        for a, b in [*pairs, (flat, (other != 0).view(-1).float())]:
            m = min(len(a), len(b))
            assert abs(float(torch.corrcoef(torch.stack([a[:m], b[:m]]))[0, 1])) < 4 / m**0.5


@pytest.mark.parametrize("backend", [None, "aot_eager"], ids=["eager", "graph"])
def test_gradients_pass_where_values_do_and_the_global_generator_decides(backend):
    """Also compiled: the eager masks, and the same one on the way back."""
    layer, x = Dropout(0.3), torch.ones(50, 3, requires_grad=True)
    again = torch.compile(layer, backend=backend, fullgraph=True) if backend else layer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        want = layer(x)
        torch.manual_seed(1)
        y = again(x)
    assert torch.equal(y, want)
    (g,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(g, y.detach())


def test_rows_of_vmap_have_masks_of_their_own():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = torch.func.vmap(Dropout(0.5), randomness="different")(torch.ones(2, 200))
    assert not torch.equal(*rows)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ConfigError, match="expected a probability"):
        Dropout(p)
