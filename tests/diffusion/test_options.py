"""Options of samplers that cannot be honoured are refused, and those that can are."""

from typing import Any

import pytest
import torch

from safeplan.diffusion import Context, VPCosine, conditions, ddim, ddim_inversion, denoise
from safeplan.diffusion.analytic import ring
from safeplan.errors import CapabilityError, ConfigError

F64 = torch.float64
GRID = VPCosine(t_max=0.9).grid(4)


def start():
    return ring(), torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.mark.parametrize("cap", [0, -1])
def test_a_row_cap_is_at_least_one(cap):
    mix, z = start()
    for sampler in (ddim, ddim_inversion):
        with pytest.raises(ConfigError, match=rf"max_rows is {cap}, expected at least 1, or None"):
            sampler(mix, z, GRID, max_rows=cap)


def test_one_network_is_called_main():
    mix, z = start()
    half = torch.tensor(0.5**0.5, dtype=F64)
    ctx = Context(z, half, half, 1.0, 0, conditions(None))
    for call in (lambda n: ddim(n, z, GRID), lambda n: ddim_inversion(n, z, GRID), lambda n: denoise(n, ctx)):
        with pytest.raises(CapabilityError, match=r"networks \['unet', 'weak'\]: none is called 'main'"):
            call({"weak": mix, "unet": mix})


def test_inversion_honours_its_options_and_knows_no_others():
    mix, x = start()
    seen = []
    z = ddim_inversion(mix, x, GRID, max_rows=2, callback=lambda k, y: seen.append((k, y.clone())))
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    torch.testing.assert_close(seen[-1][1] / GRID.s[0], z, rtol=0, atol=0)
    refused: list[dict[str, Any]] = [{"max_row": 3}, {"origin": x}]
    for wrong in refused:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            ddim_inversion(mix, x, GRID, **wrong)
