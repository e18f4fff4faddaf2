"""The executor: which forwards it runs, on which rows, and that nothing leaks."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from safeplan.diffusion import (
    COND,
    NULL,
    Branch,
    Cond,
    Context,
    Denoiser,
    Guidance,
    Guided,
    Pin,
    Prediction,
    Predictions,
    Trace,
    VPCosine,
    as_cond,
    conditions,
    ddim,
    denoise,
    heun,
    renoise,
)
from safeplan.diffusion.analytic import ring, smooth_process
from safeplan.diffusion.cond import concat
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.guidance import CFG, Energy

F64 = torch.float64


class Counted:
    """Forwards to a denoiser and remembers how many rows each call had."""

    def __init__(self, inner):
        self.inner, self.rows = inner, []

    def __call__(self, x, a, s, cond, perturb=None):
        self.rows.append(len(x))
        return self.inner(x, a, s, cond, perturb)


def scene(n=6, sigma=1.3, seed=0):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)
    a = torch.tensor((1 + sigma**2) ** -0.5, dtype=F64)
    cond = {"label": torch.arange(n) % 4}
    return Context(x, a, a * sigma, sigma, 0, conditions(cond, {"neg": {"label": (torch.arange(n) + 1) % 4}}))


def test_fields_that_are_one_tensor_stay_one():
    x = torch.ones(2, 3)
    one = Guided(x, x).shift(x)
    assert one.x0 is one.anchor and one.collapse(0.5) is one.x0
    two = one.aim(x).shift(x)
    assert torch.equal(two.x0, 4 * x) and torch.equal(two.anchor, 3 * x) and torch.equal(two.collapse(0.5), 5 * x)


def test_branches_of_a_network_ride_one_forward():
    net, ctx = Counted(ring()), scene()
    chain = (CFG(2.0), CFG(1.5, Branch("neg")), CFG(3.0))  # the null branch is asked for twice
    guided, _ = denoise(net, ctx, chain)
    assert net.rows == [18]
    c, u, n = (ring().x0(ctx.x, ctx.a, ctx.s, ctx.conds[k]) for k in ("cond", "null", "neg"))
    torch.testing.assert_close(guided.x0, c + 3 * (c - u) + 0.5 * (c - n), rtol=1e-12, atol=1e-12)


def test_row_cap_changes_nothing_but_the_calls():
    ctx = scene()
    whole, _ = denoise(ring(), ctx, (CFG(2.0),))
    net = Counted(ring())
    cut, _ = denoise(net, ctx, (CFG(2.0),), max_rows=5)
    assert net.rows == [5, 5, 2]
    torch.testing.assert_close(cut.x0, whole.x0, rtol=1e-13, atol=1e-13)


def test_several_networks_and_unknown_names():
    weak, ctx = Counted(ring(var=0.4)), scene()
    main = Counted(ring())
    denoise({"main": main, "weak": weak}, ctx, (CFG(2.0, Branch(net="weak")),))
    assert main.rows == [6] and weak.rows == [6]
    with pytest.raises(CapabilityError, match="weak"):
        denoise(main, ctx, (CFG(2.0, Branch(net="weak")),))
    with pytest.raises(CapabilityError, match="other"):
        denoise(main, ctx, (CFG(2.0, Branch("other")),))


@dataclass(frozen=True, eq=False)
class HalfTheRows(Guidance):
    """Asks for the null branch in even rows only; adds the difference and counts its calls."""

    log: list

    def init(self, ctx: Context) -> Any:
        return 0

    def needs(self, ctx, state):
        self.log.append(state)
        return (Branch("null", rows=torch.arange(len(ctx.x)) % 2 == 0),)

    def __call__(self, guided, predictions, ctx, state):
        return guided.shift(predictions.x0(COND) - predictions.x0(NULL)), state + 1


def test_rows_that_nobody_asks_for_have_the_main_gradient():
    """They hold the main prediction, so that is what their VJP must be of."""
    mix, ctx = ring(var=0.3), scene()
    rows = torch.arange(len(ctx.x)) % 2 == 0
    seen = {}

    class Look(Guidance):
        grad = True

        def needs(self, ctx, state):
            return (Branch("null", rows=rows),)

        def __call__(self, guided, predictions, ctx, state):
            v = torch.ones_like(ctx.x)
            seen.update(null=predictions.vjp(v, NULL), cond=predictions.vjp(v))
            return guided, state

    denoise(mix, ctx, (Look(),))
    whole = torch.func.vjp(lambda x: mix.x0(x, ctx.a, ctx.s, conditions(ctx.conds["cond"])["null"]), ctx.x)
    torch.testing.assert_close(seen["null"][rows], whole[1](torch.ones_like(ctx.x))[0][rows], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen["null"][~rows], seen["cond"][~rows], rtol=0, atol=0)


def test_rows_that_nobody_asks_for_are_not_run():
    ctx, trace, net = scene(), Trace(), Counted(ring())
    guided, _ = denoise(net, ctx, (HalfTheRows([]),), trace=trace)
    full, _ = denoise(ring(), ctx, (CFG(2.0),))
    plain = ring().x0(ctx.x, ctx.a, ctx.s, ctx.conds["cond"])
    assert net.rows == [9]
    torch.testing.assert_close(guided.x0[::2], full.x0[::2])
    torch.testing.assert_close(guided.x0[1::2], plain[1::2])
    assert trace.total_nfe().tolist() == [2, 1] * 3
    # another method wants all rows: the union runs
    net.rows.clear()
    both, _ = denoise(net, ctx, (HalfTheRows([]), CFG(2.0)))
    assert net.rows == [12]
    torch.testing.assert_close(both.x0, plain + 2 * (full.x0 - plain))


def test_late_branch_sees_the_early_predictions():
    seen = []

    def opposite(predictions, ctx):
        seen.append(predictions.x0(COND).shape)
        return Cond({"label": (ctx.conds["cond"].leaves["label"] + 2) % 4})

    net, ctx = Counted(ring()), scene()
    guided, _ = denoise(net, ctx, (CFG(2.0, Branch(opposite)),))
    c = ring().x0(ctx.x, ctx.a, ctx.s, ctx.conds["cond"])
    other = ring().x0(ctx.x, ctx.a, ctx.s, opposite(Predictions({COND: Prediction(c)}), ctx))
    assert net.rows == [6, 6] and seen[0] == (6, 2)
    torch.testing.assert_close(guided.x0, 2 * c - other)


@pytest.mark.parametrize("sampler", [ddim, heun])
def test_only_predictors_commit_and_nothing_leaks(sampler):
    log = []
    method, z = HalfTheRows(log), torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    label = {"label": torch.arange(4)}
    runs = [sampler(ring(), z, VPCosine().grid(4), label, (method,)) for _ in range(2)]
    assert torch.equal(*runs)  # the second run starts afresh
    want = [0, 1, 2, 3] if sampler is ddim else [0, 1, 1, 2, 2, 3, 3]
    assert log == want * 2


def test_capabilities_are_checked_before_the_first_forward():
    class Net:
        nullable = False

        def __call__(self, x, t, leaves, null):
            raise AssertionError("the network must not run")

    d = Denoiser(Net(), VPCosine(), "x0")
    z = torch.zeros(2, 2)
    cond = {"label": torch.zeros(2)}
    for method, lack in (
        (CFG(2.0), "null"),
        (CFG(2.0, Branch(perturb=("pag", 3))), "perturb:pag"),
        (CFG(2.0, Branch("neg")), "cond:neg"),
        (CFG(2.0, Branch(net="weak")), "net:weak"),
    ):
        with pytest.raises(CapabilityError, match=lack):
            ddim(d, z, VPCosine().grid(2), cond, (method,))
    with pytest.raises(CapabilityError, match="null"):
        ddim(ring(), z, VPCosine().grid(2), None, (CFG(2.0),))
    assert CFG(1.0).requires == frozenset()
    with pytest.raises(CapabilityError, match="perturbation"):
        d.raw(z, torch.tensor(0.6), torch.tensor(0.8), None, {("pag", 3): torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ConfigError, match="parametrisation"):
        Denoiser(Net(), VPCosine(), "score")


def test_clock_pre_and_aux_under_gradients():
    """The network's own clock and input hook; what it reports survives torch.func."""
    seen = {}

    def net(x, t, leaves, null):
        seen.update(t=t, x=x)
        return x, {"square": x**2, "nothing": None}

    d = Denoiser(net, VPCosine(), "x0", clock=lambda a, s: 1000 * s / a, pre=lambda x: x + 1)
    ctx = scene()

    class Look(Guidance):
        grad = True

        def __call__(self, guided, predictions, ctx, state):
            aux = predictions[COND].aux
            assert aux["nothing"] is None and len(predictions) == 1 and list(predictions) == [COND]
            torch.testing.assert_close(aux["square"], (ctx.x + 1) ** 2)
            return guided.shift(predictions.vjp(torch.ones_like(ctx.x))), state

    guided, _ = denoise(d, ctx, (Look(),))
    torch.testing.assert_close(guided.x0, ctx.x + 2)
    torch.testing.assert_close(seen["t"], torch.full((6,), 1300.0, dtype=F64))
    assert "gradient" in d.capabilities and Look().citation() == "Look: safeplan"


def test_perturbation_reaches_the_network_as_a_row_mask_with_aux():
    class Net:
        perturbations = ("pag",)

        def __call__(self, x, t, leaves, null, perturb=None):
            mask = perturb[("pag", 3)] if perturb else torch.zeros(len(x), dtype=torch.bool)
            return torch.where(mask[:, None], 0.0, x), {"map": mask.float(), "pair": (mask, None)}

    d, ctx = Denoiser(Net(), VPCosine(), "x0"), scene()
    ref = Branch(perturb=("pag", 3))
    for cap in (None, 4):
        guided, _ = denoise(d, ctx, (CFG(3.0, ref),), max_rows=cap)
        torch.testing.assert_close(guided.x0, 3 * ctx.x)


@pytest.mark.parametrize("sampler", [ddim, heun])
def test_pinned_start_is_exact_on_a_gaussian_process(sampler):
    """With the denoiser that knows the pin, samples follow the conditioned process; the pinned entry never moves."""
    gp, n = smooth_process(), 3000
    value = torch.zeros(n, 16, 1, dtype=F64)
    value[:, 0] = 1.5
    mask = torch.zeros(1, 16, 1, dtype=torch.bool)
    mask[:, 0] = True
    cond = Cond(pin=Pin(mask, value))
    mean, cov = gp.conditioned(cond)
    z = torch.randn(n, 16, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    x = sampler(gp, z, VPCosine().grid(400 if sampler is ddim else 60), cond)[..., 0]
    assert (x[:, 0] == 1.5).all()
    assert (x.mean(0) - mean[0]).square().mean().sqrt() < 0.03
    assert (torch.cov(x.T) - cov).square().mean().sqrt() < 0.03
    # a method cannot move it either
    push = Energy(lambda v: v.flatten(1).sum(1), metric="identity", proximal=False)
    y = sampler(gp, z[:8], VPCosine().grid(5), cond.take(torch.arange(8)), (push,))
    assert (y[:, 0] == 1.5).all() and (y[:, 1:] != x[:8, 1:, None]).all()


def test_pin_is_written_in_the_networks_frame():
    seen = []

    def net(z, t, leaves, null):
        seen.append(z.clone())
        return torch.zeros_like(z)

    pin = Pin(torch.tensor([[True, False]]), torch.full((3, 2), 0.25))
    d = Denoiser(net, VPCosine(), "eps")
    out = d(torch.ones(3, 2), torch.tensor(1.0), torch.tensor(4.0), Cond(pin=pin))  # a VE frame
    assert (seen[0][:, 0] == 0.25).all() and (out.x0[:, 0] == 0.25).all()
    torch.testing.assert_close(seen[0][:, 1], torch.full((3,), 17**-0.5))


def test_conditions_drop_take_and_concatenate():
    c = as_cond({"goal": torch.arange(4.0)[:, None], "walls": torch.ones(4, 4)})
    rows = torch.tensor([True, False, True, False])
    d = c.drop(rows, ["goal"]).drop(~rows, ["goal"])
    assert d.null["goal"].all() and "walls" not in d.null
    both = concat([c, c.drop(rows)])
    assert both.null["goal"].tolist() == [False] * 4 + rows.tolist()
    pin = Pin(torch.ones(4, 1, dtype=torch.bool), torch.arange(4.0)[:, None])
    assert c._replace(pin=pin).take(torch.tensor([2])).pin.value.item() == 2.0
    with pytest.raises(ShapeError, match="must agree"):
        concat([c, as_cond({"goal": torch.ones(4, 1)})])


def test_zero_null_reaches_networks_without_their_own():
    seen = []
    d = Denoiser(lambda x, t, leaves, null: (seen.append(leaves["goal"]), x)[1], VPCosine(), "x0")
    ctx = scene()._replace(conds=conditions({"goal": torch.ones(6, 2, dtype=F64)}))
    denoise(d, ctx, (CFG(2.0),))
    assert seen[0][:6].eq(1).all() and seen[0][6:].eq(0).all()


@pytest.mark.parametrize("metric", ["posterior", "scalar"])
def test_one_step_compiles_as_a_whole(metric):
    """CFG and an energy with one VJP, fold and DDIM step, as one graph."""
    mix, ctx = ring(), scene()
    chain = (CFG(2.0, interval=(0.1, 5.0)), Energy(lambda v: (v - 1.0).square().sum(1), metric=metric))

    def step(x, a, s, a2, s2):
        guided, _ = denoise(mix, ctx._replace(x=x, a=a, s=s), chain)
        return renoise(x, guided, a, s, a2, s2)

    levels = [torch.tensor(v, dtype=F64) for v in (0.6, 0.8, 0.8, 0.6)]
    want = step(ctx.x, *levels)
    torch._dynamo.reset()
    got = torch.compile(step, fullgraph=True, backend="eager")(ctx.x, *levels)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_trace_records_moves_and_cosines():
    trace, ctx = Trace(), scene()
    denoise(ring(), ctx, (CFG(2.0),), trace=trace)
    assert trace.sigma == [1.3] and trace.nfe[0].tolist() == [2] * 6
    assert list(trace.rms[0]) == ["0:CFG"] and trace.rms[0]["0:CFG"].gt(0).all()
    assert trace.cosine[0]["null/main"].shape == (6,)


def test_what_is_stacked_once_is_never_stale():
    """Leaves written to, exchanged, or asked for gradients after a step without them."""
    goal = torch.zeros(3, 2, requires_grad=True)
    conds = conditions({"goal": goal})
    names = ("cond", "null")
    with torch.no_grad():
        first = conds.stacked(names)
        assert conds.stacked(names) is first
        goal.add_(1.0)
        assert torch.equal(conds.stacked(names).leaves["goal"], torch.ones(6, 2))
    assert conds.stacked(names).leaves["goal"].requires_grad
    conds["cond"] = as_cond({"goal": torch.full((3, 2), 7.0)})
    assert torch.equal(conds.stacked(names).leaves["goal"][:3], conds["cond"].leaves["goal"])
    with torch.inference_mode():
        assert conditions({"goal": torch.ones(3, 2)}).stacked(names).leaves["goal"].shape == (6, 2)
        conds.stacked(names)
    assert not conds.stacked(names).leaves["goal"].is_inference()
