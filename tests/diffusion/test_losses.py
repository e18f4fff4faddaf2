import pytest
import torch

from safeplan.diffusion import (
    EDM,
    Cond,
    Denoiser,
    FisorVP,
    Flow,
    Pin,
    VPCosine,
    as_cond,
    denoising_errors,
    denoising_loss,
)
from safeplan.diffusion.analytic import ring
from safeplan.errors import ConfigError, ShapeError

F64 = torch.float64
KINDS = [
    (VPCosine(), "x0"),
    (VPCosine(), "eps"),
    (VPCosine(), "v"),
    (FisorVP(), "eps"),
    (Flow(), "flow"),
    (EDM(), "edm"),
]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("path", "kind"), KINDS, ids=lambda v: getattr(v, "name", v))
def test_the_exact_network_has_the_lowest_loss(path, kind):
    """The regression target of every parametrisation is met best by the conditional expectation."""
    mix = ring(var=0.3)
    x0, label = mix.sample(4000, gen())
    exact = mix.net(path, kind)

    def worse(x, t, leaves, null):
        return 0.9 * exact(x, t, leaves, null) + 0.1

    losses = [
        denoising_loss(Denoiser(n, path, kind), x0, {"label": label}, None, gen(1)).item() for n in (exact, worse)
    ]
    assert losses[0] < losses[1]


@pytest.mark.parametrize(("path", "kind"), KINDS, ids=lambda v: getattr(v, "name", v))
def test_error_is_that_of_the_native_target(path, kind):
    """A point mass at c: the exact network knows c, so the loss is 0; a network off by d pays d^2."""
    mix = ring(1, var=1e-12)
    x0 = mix.means.expand(32, 2).clone()
    exact = mix.net(path, kind)
    t = path.draw(32, gen()).double()
    d = Denoiser(lambda *a: exact(*a) + 0.5, path, kind)
    errors = denoising_errors(d, x0, None, gen(), t=t)
    torch.testing.assert_close(errors, torch.full((32,), 0.25, dtype=F64), rtol=1e-3, atol=1e-3)
    total = denoising_errors(d, x0, None, gen(), t=t, reduce="sum")
    torch.testing.assert_close(total, 2 * errors)


def test_weights_are_per_sample_and_not_normalised():
    d = Denoiser(lambda x, t, leaves, null: torch.zeros_like(x), VPCosine(), "x0")
    x0 = torch.tensor([[1.0], [2.0], [3.0]])
    w = torch.tensor([0.0, 2.0, 1.0])
    assert denoising_loss(d, x0, None, w, gen()).item() == pytest.approx((2 * 4 + 9) / 3)
    with pytest.raises(ShapeError, match="weights"):
        denoising_loss(d, x0, None, w[:2], gen())
    with pytest.raises(ShapeError, match="noise"):
        denoising_loss(d, x0, None, None, gen(), noise=torch.zeros(2, 1))
    with pytest.raises(ConfigError, match="reduce"):
        denoising_errors(d, x0, reduce="max")


def test_pinned_entries_get_no_noise_and_no_loss():
    seen = []

    def net(x, t, leaves, null):
        seen.append(x)
        return torch.zeros_like(x)

    value = torch.full((5, 4, 1), 7.0)
    mask = torch.zeros(1, 4, 1, dtype=torch.bool)
    mask[:, 0] = True
    x0 = torch.ones(5, 4, 1)
    x0[:, 0] = 7.0
    errors = denoising_errors(Denoiser(net, VPCosine(), "x0"), x0, Cond(pin=Pin(mask, value)), gen())
    assert (seen[0][:, 0] == 7).all() and (seen[0][:, 1:] != 1).all()
    torch.testing.assert_close(errors, torch.ones(5))  # the 7s do not count, nor enter the mean
    pad = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    x0[:, 3] = 100.0
    errors = denoising_errors(Denoiser(net, VPCosine(), "x0"), x0, Cond(pin=Pin(mask, value)), gen(), entry_weights=pad)
    torch.testing.assert_close(errors, torch.ones(5))


def test_dropout_switches_off_the_named_leaves_at_the_asked_rate():
    seen = {}

    class Net:
        learned_null = True

        def __call__(self, x, t, leaves, null):
            seen.update(null)
            return x

    cond = as_cond({"goal": torch.ones(4000, 2), "walls": torch.ones(4000, 4)})
    d, x0 = Denoiser(Net(), VPCosine(), "x0"), torch.zeros(4000, 2)
    denoising_errors(d, x0, cond, gen(), drop=0.2, drop_names=["goal"])
    assert set(seen) == {"goal"} and abs(seen["goal"].float().mean().item() - 0.2) < 0.03
    denoising_errors(d, x0, cond, gen(), drop=0.2)
    assert torch.equal(seen["goal"], seen["walls"])


def test_same_generator_same_loss():
    d = Denoiser(ring(dtype=torch.float32).net(VPCosine(), "v"), VPCosine(), "v")
    x0 = torch.randn(16, 2, generator=gen())
    assert torch.equal(denoising_loss(d, x0, None, None, gen(3)), denoising_loss(d, x0, None, None, gen(3)))
    assert not torch.equal(denoising_loss(d, x0, None, None, gen(3)), denoising_loss(d, x0, None, None, gen(4)))
