"""Perturbations of the temporal transformer that would change nothing are refused."""

import math

import pytest
import torch

from safeplan.diffusion import Denoiser, VPCosine, ddim
from safeplan.errors import CapabilityError, ConfigError
from safeplan.guidance import Perturbed
from safeplan.nets import TemporalTransformer


def net() -> TemporalTransformer:
    made = TemporalTransformer(2, 8, width=8, blocks=2, heads=2, emb=8)
    g = torch.Generator().manual_seed(0)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3, generator=g)
    return made.requires_grad_(False).eval()


def out(p: tuple) -> torch.Tensor:
    x = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(1))
    return net()(x, torch.full((3,), 0.4), perturb={p: torch.tensor([True, False, True])} if p else None)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (("seg", 2, 9), "no layer 9; this network has layers 0 to 1"),
        (("swg", 2, 9), "no layer 9"),
        (("pag", 2), "no layer 2"),
        (("pag", -1), "no layer -1; this network has layers 0 to 1"),
        (("slg", 0, "mid"), "no layer 'mid'"),
        (("tpg", 1.5), "no layer 1.5"),
        (("seg",), r"another form here: \('seg', sigma, \*layers\)"),
        (("swg",), r"another form here: \('swg', width, \*layers\)"),
        (("time",), r"another form here: \('time', shift\)"),
        (("time", 0.1, 0), r"another form here: \('time', shift\)"),
        (("nag", 1), "unknown here; use one of pag, seg, swg, slg, tpg, time"),
    ],
)
def test_a_perturbation_that_would_change_nothing_is_refused(p, words):
    with pytest.raises(CapabilityError, match=words):
        out(p)


@pytest.mark.parametrize("p", [("seg", math.nan), ("seg", -1.0), ("swg", -1), ("swg", "2"), ("time", math.inf)])
def test_a_setting_out_of_range_is_refused(p):
    with pytest.raises(ConfigError, match=rf"{p[0]}.*expected a (finite )?number"):
        out(p)


@pytest.mark.parametrize(
    "p", [("pag",), ("pag", 0), ("seg", 2.0, 1), ("seg", math.inf), ("swg", 1), ("slg", 1), ("tpg",), ("time", -0.1)]
)
def test_every_other_one_changes_its_rows_alone(p):
    plain, moved = out(()), out(p)
    assert torch.equal(plain[1], moved[1])
    assert (plain - moved)[[0, 2]].flatten(1).abs().amax(1).min() > 1e-4


def test_a_run_hears_of_it():
    d = Denoiser(net(), VPCosine(), "x0")
    with pytest.raises(CapabilityError, match="no layer 9"):
        ddim(d, torch.zeros(2, 8, 2), VPCosine().grid(2), None, (Perturbed(2.0, ("seg", 2.0, 9)),))
