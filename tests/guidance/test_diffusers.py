"""A guest in diffusers' pipelines: the same results as theirs and as ours, and refusals by name."""

import subprocess
import sys
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra safeplan[image] is not installed")

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPAGPipeline

from safeplan import diffusion
from safeplan.diffusion import Branch, Cond, Grid, Guidance, Trace
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.guidance import CFG, Energy
from safeplan.guidance.diffusers import Guest, attach
from tests.tiny_diffusers import (
    BETAS,
    STEPS,
    AimOnly,
    Momentum,
    Own,
    Rows,
    ddim,
    draws,
    euler,
    loop,
    pipeline,
    run,
    sd3,
    text_time_unet,
    unet,
)

# diffusers' schedulers hand torch tensors to NumPy functions
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

LATENTS, POS, NEG = draws()
NULL = {"encoder_hidden_states": NEG}


def close(got, want, tol=1e-5):
    torch.testing.assert_close(got, want, rtol=tol, atol=tol * float(want.abs().max()))


SCHEDULERS = {
    "DDIM": ddim,
    "DDIM v": lambda: ddim(prediction_type="v_prediction"),
    "DDIM zero SNR v": lambda: ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    "DDIM sample": lambda: ddim(prediction_type="sample"),
    "Euler": euler,
    "Euler v trailing": lambda: euler(prediction_type="v_prediction", timestep_spacing="trailing"),
    "DPM": lambda: diffusers.DPMSolverMultistepScheduler(**BETAS),
    "DPM v": lambda: diffusers.DPMSolverMultistepScheduler(**BETAS, prediction_type="v_prediction"),
    "UniPC flow": lambda: diffusers.UniPCMultistepScheduler(
        **BETAS, prediction_type="flow_prediction", use_flow_sigmas=True
    ),
    "DDPM": lambda: diffusers.DDPMScheduler(**BETAS, clip_sample=False),
    "Euler ancestral": lambda: diffusers.EulerAncestralDiscreteScheduler(**BETAS),
    "Heun": lambda: diffusers.HeunDiscreteScheduler(**BETAS),
    "KDPM2": lambda: diffusers.KDPM2DiscreteScheduler(**BETAS),
    "PNDM": lambda: diffusers.PNDMScheduler(**BETAS),
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_cfg_is_the_pipelines_own_with_every_scheduler(make):
    pipe = pipeline(make())
    # one seed for schedulers that draw
    want = run(pipe, guidance_scale=5.0, negative_prompt_embeds=NEG, generator=torch.Generator().manual_seed(3))
    with attach(pipe, (CFG(5.0),), null=NULL):
        got = run(pipe, generator=torch.Generator().manual_seed(3))
    plain = run(pipe, generator=torch.Generator().manual_seed(3))
    close(got, want, 1e-6)
    assert (plain - want).abs().max() > 0.01 * want.abs().max(), "guidance must matter here"


def test_cfg_in_a_transformer_with_flow_matching():
    pipe = sd3(FlowMatchEulerDiscreteScheduler(shift=3.0))
    g = torch.Generator().manual_seed(2)
    pooled, other = (torch.randn(2, 6, generator=g, dtype=torch.float64) for _ in range(2))
    want = run(pipe, pooled_prompt_embeds=pooled, guidance_scale=4.0, negative_prompt_embeds=NEG,
               negative_pooled_prompt_embeds=other)  # fmt: skip
    with attach(pipe, (CFG(4.0),), null={**NULL, "pooled_projections": other}) as guest:
        got = run(pipe, pooled_prompt_embeds=pooled)
        assert guest.config.joint_attention_dim == 8, "the network's attributes show through"
    close(got, want, 1e-6)
    close(run(pipe, pooled_prompt_embeds=pooled, guidance_scale=4.0, negative_prompt_embeds=NEG,
              negative_pooled_prompt_embeds=other), want, 0)  # fmt: skip


def own(net, s, chain, sampler):
    """The same run by a sampler of ours on the scheduler's levels."""
    s.set_timesteps(STEPS)
    start, kind = LATENTS, {"epsilon": "eps", "v_prediction": "v", None: "flow"}[s.config.get("prediction_type")]
    if isinstance(s, diffusers.DDIMScheduler):
        alphas = torch.cat([s.alphas_cumprod[s.timesteps], s.final_alpha_cumprod[None]])
        a, b = alphas.sqrt(), (1 - alphas).sqrt()
        start = start / b[0]  # our samplers start from s noise, DDIM from noise
    elif isinstance(s, FlowMatchEulerDiscreteScheduler):
        a, b = 1 - s.sigmas.double(), s.sigmas
    else:
        a = (1 + s.sigmas.double() ** 2).rsqrt()
        b, start = a * s.sigmas, start / s.sigmas[0]  # the loop below leaves out the factor init_noise_sigma
    grid = Grid(tuple(a.tolist()), tuple(b.tolist()))
    leaves = {"encoder_hidden_states": POS}
    return sampler(Own(net, kind, grid, s.timesteps), start, grid, leaves, chain, conds={"null": Cond(NULL)})


PAIRS = {
    "ddim": (ddim, diffusion.ddim, 1e-9),
    "ddim trailing": (lambda: ddim(timestep_spacing="trailing"), diffusion.ddim, 1e-9),
    "ddim v": (lambda: ddim(prediction_type="v_prediction"), diffusion.ddim, 1e-9),
    "euler": (euler, diffusion.euler, 1e-5),
    "euler v": (lambda: euler(prediction_type="v_prediction"), diffusion.euler, 1e-5),
    "flow": (lambda: FlowMatchEulerDiscreteScheduler(shift=3.0), diffusion.euler, 1e-5),
}
CHAINS = {
    "aim": (AimOnly(2.0),),
    "cfg and aim": (CFG(3.0), AimOnly(0.5)),
    "energy": (Energy(lambda x: x.square().sum((1, 2, 3)), 0.1),),
}


AGREE = [*product(PAIRS, ["aim"]), *product(["ddim v", "euler v", "flow"], ["energy"]), ("ddim", "cfg and aim")]


@pytest.mark.parametrize(("pair", "chain"), AGREE)
def test_our_samplers_agree(pair, chain):
    """Two fields collapse into the one prediction whose first-order step is the two-field step."""
    (make, sampler, tol), chain = PAIRS[pair], CHAINS[chain]
    net, scheduler = unet(), make()
    got = loop(Guest(net, scheduler, chain, null=NULL), scheduler)
    want = own(net, scheduler, chain, sampler)
    close(got, want, tol)
    assert (got - loop(net, scheduler)).abs().max() > 1e3 * tol * want.abs().max(), "guidance must matter here"


def test_each_run_starts_afresh():
    asked = []
    pipe = pipeline()
    plain = run(pipe)
    with attach(pipe, (Momentum(asked),)) as guest:
        first, second = run(pipe), run(pipe)

        def stop(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(pipe, callback_on_step_end=stop)
        third = run(pipe)
    assert torch.equal(first, second) and torch.equal(first, third)
    assert (first - plain).abs().max() > 0.1, "the state must matter here"
    whole = ["init", *((i, STEPS) for i in range(STEPS))]
    assert asked == [*whole, *whole, *whole[:2], *whole]
    assert pipe.unet is guest.net and "step" not in vars(pipe.scheduler)
    assert torch.equal(run(pipe), plain)


@pytest.mark.parametrize("make", [ddim, euler, SCHEDULERS["Heun"]], ids=["ddim", "euler", "heun"])
def test_a_run_may_start_later(make):
    pipe = pipeline(make(), kind=StableDiffusionImg2ImgPipeline)
    latents, pos, _ = draws()

    def late(**more):
        options = {"image": latents, "strength": 0.5, "prompt_embeds": pos, "num_inference_steps": STEPS}
        generator = torch.Generator().manual_seed(0)
        return pipe(**(options | {"guidance_scale": 1.0} | more), generator=generator, output_type="latent").images

    want, asked = late(guidance_scale=5.0, negative_prompt_embeds=NEG), []
    with attach(pipe, (CFG(5.0),), null=NULL):
        close(late(), want)
    with attach(pipe, (Momentum(asked, 0.0),)):
        run_twice = [late(), late()]
    assert torch.equal(*run_twice)
    order = pipe.scheduler.order
    assert asked[0] == "init" and asked.count("init") == 2 and {a for a in asked if a != "init"} == {(0, 2), (1, 2)}
    assert len(asked) == 2 * (1 + (2 if order == 1 else 3))  # Heun's last step has no corrector


def test_correctors_do_not_commit_state():
    """With Heun the second evaluation of a step sees the state of the first and forgets its own."""
    net, scheduler, seen, taken = unet(), SCHEDULERS["Heun"](), [], []

    class Counts(Guidance):
        def init(self, ctx):
            return 0

        def __call__(self, guided, predictions, ctx, state):
            seen.append((ctx.step, state))
            taken.append(ctx.taken)
            return guided, state + 1

    loop(Guest(net, scheduler, (Counts(),)), scheduler)
    assert seen == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)]
    levels = scheduler.sigmas.double().tolist()  # of steps: 0, 1, 3, ...; those between are the correctors'
    whole = [s**2 - t**2 for s, t in pairwise([levels[0], *levels[1::2]])]
    assert taken == pytest.approx([whole[k // 2] for k in range(7)], rel=1e-5)  # both see the whole step


def test_branches_ride_one_forward():
    pipe, trace = pipeline(), Trace()
    rows, same = Rows(pipe.unet), {"other": {"encoder_hidden_states": POS}}
    with attach(pipe, (CFG(5.0), CFG(2.0, Branch("other"))), null=NULL, conds=same, trace=trace):
        want = run(pipe)
    assert rows.seen == [6] * STEPS and trace.total_nfe().tolist() == [3 * STEPS] * 2
    rows.seen.clear()
    with attach(pipe, (CFG(5.0),), null=NULL, max_rows=3):
        close(run(pipe), want, 1e-9)
    assert rows.seen == [3, 1] * STEPS
    rows.seen.clear()
    with attach(pipe, (CFG(5.0, interval=(trace.sigma[2], trace.sigma[1])),), null=NULL):
        run(pipe)
    assert rows.seen == [2, 4, 4, 2]


def test_late_branches_other_networks_and_named_conditions():
    net, scheduler = unet(), ddim()
    want = loop(Guest(net, scheduler, (CFG(3.0),), null=NULL), scheduler)
    rows = Rows(net)
    late = Branch(lambda predictions, ctx: ctx.conds["null"])
    close(loop(Guest(net, scheduler, (CFG(3.0, late),), null=NULL), scheduler), want, 1e-9)
    assert rows.seen == [2, 2] * STEPS
    close(loop(Guest(net, scheduler, (CFG(3.0, Branch("neg")),), conds={"neg": NULL}), scheduler), want, 1e-9)
    weak = unet(seed=7)
    got = loop(Guest(net, scheduler, (CFG(3.0, Branch(net="weak")),), nets={"weak": weak}), scheduler)

    def mixed(z, t, **more):
        c, k = net(z, t, **more)[0], weak(z, t, **more)[0]
        return (c + 2 * (c - k),)

    close(got, loop(mixed, scheduler), 1e-9)


def once(net, x, null, **call):
    """One call of a guest with CFG(3): its answer, and the network's to the call and to the null branch's call."""
    scheduler = ddim()
    scheduler.set_timesteps(STEPS)
    t, call = scheduler.timesteps[0], {"encoder_hidden_states": POS.to(x.dtype)} | call
    with torch.no_grad():
        got = Guest(net, scheduler, (CFG(3.0),), null=null)(x, t, **call)
        return got, net(x, t, **call).sample, net(x, t, **(call | null)).sample


def test_variance_and_conditioning_channels():
    got, c, u = once(unet(out_channels=8), LATENTS, NULL)
    close(got.sample[:, :4], u[:, :4] + 3 * (c - u)[:, :4], 1e-9)
    close(got[0][:, 4:], c[:, 4:], 1e-12)  # the variance is the conditional branch's
    assert not torch.allclose(c[:, 4:], u[:, 4:], rtol=1e-6)
    got, c, u = once(unet(in_channels=9), torch.cat([LATENTS, LATENTS, LATENTS[:, :1]], 1), NULL)
    close(got.sample, u + 3 * (c - u), 1e-9)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-9), (torch.bfloat16, 0.1)], ids=str)
def test_arguments_in_nested_places_and_low_precision(dtype, tol):
    net, g = text_time_unet().to(dtype), torch.Generator().manual_seed(1)
    shapes = ((8,), (8,), (6,), (16, 4, 4))
    one, two, ids, residual = (torch.randn(2, *shape, generator=g).to(dtype) for shape in shapes)
    added = {"text_embeds": one, "time_ids": ids}
    given = {"added_cond_kwargs": added, "mid_block_additional_residual": residual}
    null = {"added_cond_kwargs": added | {"text_embeds": two}}
    got, c, u = once(net, LATENTS.to(dtype), null, **given)
    assert got.sample.dtype == dtype and not torch.equal(c, u)
    close(got.sample, u + 3 * (c - u), tol)


class Toy(torch.nn.Module):
    """Takes ids that have as many entries as there are samples, but belong to none."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.sign, self.ids = sign, []

    def forward(self, hidden_states, timestep, encoder_hidden_states, ids=None):
        self.ids.append(None if ids is None else len(ids))
        return (self.sign * (hidden_states.tanh() + encoder_hidden_states.mean((1, 2))[:, None, None, None]),)


def test_shared_arguments_other_clocks_and_signs():
    net, scheduler, ids = Toy(), FlowMatchEulerDiscreteScheduler(), torch.zeros(2, 3)
    chain = (CFG(3.0), Energy(lambda x: x.square().sum((1, 2, 3)), 0.1))

    def ask(net, t, **options):
        scheduler.set_timesteps(STEPS)
        guest = Guest(net, scheduler, chain, null=NULL, **options)
        return guest(hidden_states=LATENTS, timestep=t, encoder_hidden_states=POS, ids=ids).sample

    scheduler.set_timesteps(STEPS)
    t = scheduler.timesteps[1]
    want = ask(net, t, shared=("ids",))
    assert net.ids == [2]
    ask(net, t)
    assert net.ids == [2, 4]
    for own in (t.expand(2) / 1000, (t / 1000).to(torch.bfloat16), float(t) / 1000):
        assert torch.equal(ask(net, own, time=lambda v: 1000 * v), want)
    close(ask(Toy(-1.0), t, sign=-1.0), -want, 1e-9)
    with pytest.raises(ConfigError, match=r"timestep 0\.667 is none of FlowMatch.*time=lambda"):
        ask(net, t / 1000)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "DDPMScheduler"])
def test_two_fields_are_refused_where_one_prediction_cannot_carry_them(name):
    pipe = pipeline(getattr(diffusers, name)(**BETAS, **({"clip_sample": False} if "DDPM" in name else {})))
    refused = pytest.raises(CapabilityError, match=rf"{name} takes another step; use DDIMScheduler, Euler")
    with attach(pipe, (AimOnly(),), null=NULL), refused:
        run(pipe)


def test_two_fields_want_no_clipping_and_no_fresh_noise():
    pipe = pipeline()
    with attach(pipe, (AimOnly(),), null=NULL):
        with pytest.raises(CapabilityError, match=r"DDIMScheduler draws fresh noise \(eta=0\.5\)"):
            run(pipe, eta=0.5, generator=torch.Generator().manual_seed(0))
        run(pipe)
    with attach(pipe, (CFG(2.0),), null=NULL):
        run(pipe, eta=0.5, generator=torch.Generator().manual_seed(0))
    drawing = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    for scheduler in (ddim(clip_sample=True), ddim(thresholding=True), drawing):
        with pytest.raises(CapabilityError, match=r"Scheduler has (clip_sample|thresholding|stochastic_sampling)=True"):
            loop(Guest(unet(), scheduler, (AimOnly(),), null=NULL), scheduler)


def test_the_pipelines_own_guidance_is_refused():
    pipe = pipeline()
    refused = pytest.raises(CapabilityError, match=r"StableDiffusionPipeline applies its own .*guidance_scale=1")
    with attach(pipe, (CFG(2.0),), null=NULL), refused:
        run(pipe, guidance_scale=5.0, negative_prompt_embeds=NEG)
    net, scheduler = unet(), ddim()
    scheduler.set_timesteps(STEPS)
    t, guest = scheduler.timesteps[0], Guest(net, scheduler, (CFG(2.0),), null=NULL)
    with pytest.raises(ShapeError, match=r"'encoder_hidden_states' is \(2, 5, 8\).*\(4, 5, 8\).*guidance_scale=1"):
        guest(torch.cat([LATENTS] * 2), t, encoder_hidden_states=torch.cat([NEG, POS]))
    guest(LATENTS, t, encoder_hidden_states=POS)
    with pytest.raises(ConfigError, match=r"step 0 of 4 after step 0.*guidance_scale=1.*DDIMScheduler.set_timesteps"):
        guest(LATENTS, t, encoder_hidden_states=NEG)


def test_two_networks_of_one_pipeline_may_have_guests():
    pipe = SimpleNamespace(unet=unet(), transformer=Toy(), scheduler=ddim())
    plain = pipe.scheduler.step
    with attach(pipe, (AimOnly(),), null=NULL) as outer:
        with attach(pipe, (), component="transformer") as inner:
            assert pipe.unet is outer and pipe.transformer is inner
        assert isinstance(pipe.transformer, Toy)
        pipe.scheduler.set_timesteps(STEPS)
        t = pipe.scheduler.timesteps[0]
        pred = outer(LATENTS, t, encoder_hidden_states=POS).sample
        with pytest.raises(CapabilityError, match="draws fresh noise"):
            pipe.scheduler.step(pred, t, LATENTS, eta=1.0)
    assert pipe.scheduler.step == plain


def test_errors_name_what_is_missing():
    pipe, net, scheduler = pipeline(), unet(), ddim()
    with pytest.raises(CapabilityError, match="CFG needs the null branch; give null="):
        Guest(net, scheduler, (CFG(2.0),))
    with pytest.raises(CapabilityError, match=r"EDMEulerScheduler \(prediction_type 'epsilon'\)"):
        Guest(net, diffusers.EDMEulerScheduler())
    with pytest.raises(CapabilityError, match="its noise levels are not known"):
        Guest(net, FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    with pytest.raises(CapabilityError, match="contradicts use_flow_sigmas=False"):
        Guest(net, ddim(prediction_type="flow_prediction"))
    with (
        pytest.raises(CapabilityError, match="has no network prior"),
        attach(pipe, (), component="prior"),
    ):
        pass
    with attach(pipe, ()), pytest.raises(CapabilityError, match="is a guest already"), attach(pipe, ()):
        pass
    with attach(pipe, (CFG(2.0, Branch(net="weak")),)), pytest.raises(CapabilityError, match="net:weak"):
        run(pipe)
    with attach(pipe, ()):
        pipe.scheduler = euler()
        with pytest.raises(CapabilityError, match="changed its scheduler to EulerDiscreteScheduler"):
            run(pipe)
    guest = Guest(net, scheduler, (CFG(2.0),), null={"encoder_hidden_state": NEG})
    scheduler.set_timesteps(STEPS)
    with pytest.raises(ConfigError, match=r"'encoder_hidden_state'.*\['encoder_hidden_states'\]"):
        guest(LATENTS, scheduler.timesteps[0], encoder_hidden_states=POS)
    with pytest.raises(AttributeError, match="no attribute 'wheels'"):
        guest.wheels  # noqa: B018


def test_pag_is_the_pipelines_own():
    layers = ["mid", "down_blocks.1"]
    pipe = pipeline(kind=lambda **parts: StableDiffusionPAGPipeline(**parts, pag_applied_layers=layers))
    want = run(pipe, guidance_scale=4.0, pag_scale=3.0, negative_prompt_embeds=NEG)
    ours, rows = pipeline(net=pipe.unet), Rows(pipe.unet)
    before = dict(pipe.unet.attn_processors)
    with attach(ours, (CFG(4.0), CFG(4.0, Branch(perturb=("pag", *layers)))), null=NULL):
        got = run(ours)
    close(got, want, 1e-9)
    assert rows.seen == [6] * STEPS and pipe.unet.attn_processors == before
    assert (got - run(pipe, guidance_scale=4.0, pag_scale=0.0, negative_prompt_embeds=NEG)).abs().max() > 1e-3


def test_diffusers_stays_optional():
    """Neither the guidance package nor this module imports it; where it is missing, what needs it says so."""
    code = """
import sys
import safeplan.guidance, safeplan.guidance.diffusers as d
print([m for m in ("diffusers", "transformers", "kornia") if m in sys.modules])
sys.modules["diffusers"] = None
from safeplan.nets.diffusers_pag import PAGRows
import torch
for f in (lambda: d.chain_guider((), None), lambda: PAGRows(torch.nn.Identity())):
    try:
        f()
    except Exception as e:
        print(type(e).__name__, str(e))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "[]" and len(out) == 3
    assert all(line.startswith("CapabilityError") and "pip install 'safeplan[image]'" in line for line in out[1:])
