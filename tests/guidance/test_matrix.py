"""Every method on every shape of samples, dtype and mode: it runs, or its named error says what is missing."""

import math

import pytest
import torch

from safeplan.diffusion import Context, conditions, ddim, denoise, renoise
from safeplan.diffusion.executor import networks, offered
from safeplan.diffusion.paths import VPCosine
from safeplan.errors import CapabilityError
from safeplan.guidance import CFG, Rescale, capability_table, format_table
from tests.guidance.methods import SHAPES, Domain, domain, methods

F32, F64 = torch.float32, torch.float64
NAMES = list(methods())


def caps(d: Domain) -> frozenset[str]:
    return offered(networks(d.nets), conditions(d.cond, d.conds), d.noise, d.decode)


def run(d: Domain, chain, steps=5, **kw):
    if any(isinstance(m, Rescale) for m in chain):  # it tames what stands before it
        chain = (CFG(3.0), *chain)
    return ddim(d.nets, d.noise, VPCosine().grid(steps), d.cond, chain, conds=d.conds, decode=d.decode, **kw)


@pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs_or_is_refused_by_name(name, shape, dtype):
    d = domain(shape, dtype)
    method = methods()[name]
    missing = method.requires - caps(d)
    if missing:
        with pytest.raises(CapabilityError, match=type(method).__name__) as e:
            run(d, (method,))
        assert all(m in str(e.value) for m in missing)
        return
    x = run(d, (method,))
    assert x.dtype == dtype and x.shape == d.noise.shape and x.isfinite().all()
    assert torch.equal(x, run(d, (method,)))  # nothing is left over from the run before
    plain = run(d, ())
    assert not torch.allclose(x, plain, rtol=1e-4, atol=1e-6)  # it does something
    if dtype == F32:
        torch.testing.assert_close(x.double(), run(domain(shape, F64), (methods()[name],)), rtol=1e-2, atol=2e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_agrees(name, shape):
    d = domain(shape)
    if methods()[name].requires - caps(d):
        return  # refused by name: see above
    want = run(d, (methods()[name],))
    torch.testing.assert_close(run(d.to("cuda"), (methods()[name],)).cpu(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_see_each_other(name):
    """Two rows alone give what they give in the batch: no reduction runs over the batch."""
    d = domain("trajectory")
    method = methods()[name]
    whole = run(d, (method,))
    two = torch.arange(2)
    part = Domain(
        d.name,
        d.nets,
        d.noise[:2],
        {k: v[:2] for k, v in d.cond.items()},
        {k: conditions(v)["cond"].take(two) for k, v in d.conds.items()},
    )
    torch.testing.assert_close(run(part, (method,)), whole[:2], rtol=1e-9, atol=1e-9)


def compiled_step(d: Domain, method, sigma: float, step: int, backend: str):
    """(eager, compiled as one graph) x after one step in the middle of a run."""
    conds = conditions(d.cond, d.conds)
    a = (1 + sigma**2) ** -0.5
    levels = [torch.tensor(v, dtype=F64) for v in (a, a * sigma, 0.9, math.sqrt(1 - 0.81))]
    ctx = Context(d.noise, levels[0], levels[1], sigma, step, conds, d.decode, None, levels[3].item() / 0.9, 10)
    state = method.init(ctx)

    def go(x, a, s, a2, s2, state):
        guided, (state,) = denoise(d.nets, ctx._replace(x=x, a=a, s=s), (method,), (state,))
        return renoise(x, guided, a, s, a2, s2), state

    want, after = go(d.noise, *levels, state)
    torch._dynamo.reset()
    got, after2 = torch.compile(go, fullgraph=True, backend=backend)(d.noise, *levels, state)
    for u, v in zip(torch.utils._pytree.tree_leaves(after), torch.utils._pytree.tree_leaves(after2), strict=True):
        if isinstance(u, torch.Tensor) and u.is_floating_point():
            torch.testing.assert_close(u, v, rtol=1e-4, atol=1e-4)
    return want, got


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_compiles_as_one_graph(name, shape):
    d = domain(shape)
    method = methods()[name]
    if method.requires - caps(d):
        return  # refused by name: see above
    want, got = compiled_step(d, method, 1.3, 2, "eager")
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CFG", "APG", "PAG", "AdaptiveGuidance", "FA-CFG"])
def test_inductor_agrees(name):
    d = domain("trajectory", F32)
    want, got = compiled_step(d, methods()[name], 1.3, 2, "inductor")
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_capability_table(capsys):
    domains = {k: domain(k) for k in SHAPES}
    rows = capability_table(methods(), {k: caps(d) for k, d in domains.items()})
    with capsys.disabled():
        print("\n" + format_table(rows))
    by = {r.name: r for r in rows}
    assert by["PAG"].missing == {"action": ("perturb:pag",), "trajectory": (), "image": ()}
    assert by["FA-CFG"].missing["action"] == ("axis",) and by["CFG"].missing["action"] == ()
    assert by["Barrier"].network_gradient and not by["ConstrictingBarrier"].network_gradient
    assert all(r.citation for r in rows)
