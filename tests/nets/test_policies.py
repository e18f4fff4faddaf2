"""Policy networks: densities integrate to one, the divergence is the textbook one, attention looks back only."""

import pytest
import torch

from safeplan.errors import ConfigError
from safeplan.nets import CVAE, CausalTransformer, SquashedGaussian
from safeplan.nets.cvae import gaussian_kl
from safeplan.rng import torch_rng


def test_the_squashed_density_integrates_to_one_and_matches_torch():
    torch.manual_seed(0)
    net = SquashedGaussian(2, 1, 16)
    obs, a = torch.randn(1, 2), torch.linspace(-0.9999, 0.9999, 20001)[:, None]
    density = net.log_prob(obs.expand(len(a), 2), a).exp().detach()
    assert torch.trapezoid(density, a[:, 0]).item() == pytest.approx(1.0, abs=2e-3)
    mean, log_std = net(obs)
    normal = torch.distributions.Normal(mean, log_std.exp())
    theirs = torch.distributions.TransformedDistribution(normal, [torch.distributions.TanhTransform()])
    some = torch.tensor([[-0.7], [0.1], [0.95]])
    torch.testing.assert_close(net.log_prob(obs.expand(3, 2), some), theirs.log_prob(some)[:, 0])


def test_samples_follow_the_noise_they_are_given():
    torch.manual_seed(0)
    net, obs = SquashedGaussian(3, 2, 16), torch.randn(5, 3)
    torch.testing.assert_close(net.sample(obs, torch.zeros(5, 2)), net.mode(obs))
    many = net.sample(obs, torch.randn(4000, 5, 2, generator=torch_rng(0)))
    assert many.shape == (4000, 5, 2)
    u = torch.atanh(many.double()).mean(0)
    torch.testing.assert_close(u, net(obs)[0].double(), atol=0.06, rtol=0)


def test_the_divergence_is_the_textbook_one():
    mean, log_std = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2, -0.5]])
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(gaussian_kl(mean, log_std), theirs.mean(-1))
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_the_auto_encoder_learns_where_actions_are():
    torch.manual_seed(0)
    net = CVAE(1, 1, 32)
    optimiser = torch.optim.Adam(net.parameters(), 6e-3)
    for i in range(150):
        g = torch_rng(i)
        obs = 2 * torch.rand(128, 1, generator=g) - 1
        optimiser.zero_grad()
        net.loss(obs, 0.5 * obs, torch.randn(128, 2, generator=g), 0.1).backward()
        optimiser.step()
    obs = torch.linspace(-0.9, 0.9, 7)[:, None]
    torch.testing.assert_close(net.decode(obs, torch.zeros(7, 2)), 0.5 * obs, atol=0.08, rtol=0)
    assert (net.divergence(obs, -obs.sign()) > net.divergence(obs, 0.5 * obs)).float().mean() > 0.5


def test_outputs_do_not_look_ahead():
    torch.manual_seed(0)
    net = CausalTransformer(16, blocks=2, heads=4).eval()
    x = torch.randn(2, 7, 16)
    y = x.clone()
    y[:, 4:] += torch.randn(2, 3, 16)
    before, after = net(x), net(y)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().min(-1).values.max() > 1e-4
    torch.testing.assert_close(net(x[:, :3]), before[:, :3])
    with pytest.raises(ConfigError, match="multiple of its 3 heads"):
        CausalTransformer(16, heads=3)
