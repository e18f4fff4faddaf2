"""The guider for modular pipelines, inside diffusers' own denoising block."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("diffusers", reason="the extra safeplan[image] is not installed")

from diffusers import DPMSolverMultistepScheduler
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines.modular_pipeline import BlockState
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLLoopDenoiser

from safeplan.diffusion import Branch
from safeplan.errors import CapabilityError, ConfigError
from safeplan.guidance import CFG, AdaptiveGuidance, Energy
from safeplan.guidance.diffusers import Guest, chain_guider
from tests.tiny_diffusers import BETAS, STEPS, AimOnly, Momentum, Rows, ddim, draws, euler, loop, text_time_unet

# diffusers' schedulers hand torch tensors to NumPy functions
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

MAKERS = {"ddim": ddim, "euler": euler, "dpm": lambda: DPMSolverMultistepScheduler(**BETAS)}


def modular(net, scheduler, guider):
    """Stable Diffusion XL's denoising block in a loop, as a modular pipeline runs it."""
    latents, pos, neg = draws()
    g = torch.Generator().manual_seed(5)
    pooled, other = torch.randn(2, 2, 8, dtype=torch.float64, generator=g)
    ids = torch.ones(2, 6, dtype=torch.float64)
    state = BlockState(
        prompt_embeds=pos, negative_prompt_embeds=neg, pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=other,
        add_time_ids=ids, negative_add_time_ids=ids, timestep_cond=None, cross_attention_kwargs=None,
        num_inference_steps=STEPS,
    )  # fmt: skip
    components, block = SimpleNamespace(unet=net, guider=guider), StableDiffusionXLLoopDenoiser()
    scheduler.set_timesteps(STEPS)
    x = latents
    for i, t in enumerate(scheduler.timesteps):
        state.scaled_latents = scheduler.scale_model_input(x, t)
        block(components, state, i, t)
        x = scheduler.step(state.noise_pred, t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_cfg_is_that_of_diffusers(make):
    net, scheduler = text_time_unet(), make()
    want = modular(net, scheduler, ClassifierFreeGuidance(5.0))
    guider = chain_guider((CFG(5.0),), scheduler)
    for _ in range(2):  # and again: nothing is left over
        got = modular(net, scheduler, guider)
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-7)
    assert not net._forward_pre_hooks


def test_switched_off_it_leaves_the_conditional_prediction():
    net, scheduler = text_time_unet(), ddim()
    guider = chain_guider((CFG(5.0),), scheduler)
    on = modular(net, scheduler, guider)
    guider.disable()
    off = modular(net, scheduler, guider)
    torch.testing.assert_close(off, modular(net, scheduler, ClassifierFreeGuidance(1.0)), rtol=0, atol=0)
    assert (off - on).abs().max() > 0.1


def test_two_fields_state_and_interval():
    net, scheduler, neg = text_time_unet(), ddim(), draws()[2]
    g = torch.Generator().manual_seed(5)
    pooled, other = torch.randn(2, 2, 8, dtype=torch.float64, generator=g)
    ids = torch.ones(2, 6, dtype=torch.float64)
    null = {"encoder_hidden_states": neg, "added_cond_kwargs": {"text_embeds": other}}
    chain = (CFG(3.0, interval=(0.0, 5.0)), AimOnly(0.5))
    guest = Guest(net, scheduler, chain, null=null)
    want = loop(guest, scheduler, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids})
    torch.testing.assert_close(modular(net, scheduler, chain_guider(chain, scheduler)), want, rtol=1e-9, atol=1e-9)
    asked: list = []
    guider = chain_guider((Momentum(asked), CFG(2.0)), scheduler)
    first, second = (modular(net, scheduler, guider) for _ in range(2))
    assert torch.equal(first, second) and asked == ["init", *((i, STEPS) for i in range(STEPS))] * 2
    assert (first - modular(net, scheduler, chain_guider((CFG(2.0),), scheduler))).abs().max() > 0.1
    rows = Rows(net)
    modular(net, scheduler, chain_guider((CFG(3.0, interval=(0.0, 1.0)),), scheduler))
    assert rows.seen == [2] * 7  # the null branch in the first step (asked before the state exists) and in the last two


@pytest.mark.parametrize(("threshold", "calls"), [(-1.0, STEPS + 1), (1.1, 2 * STEPS)])
def test_adaptive_guidance_saves_the_null_branch_once_nobody_needs_it(threshold, calls):
    """-1 stops after one step, more than 1 never: the same samples as a guest's, which runs fewer rows."""
    net, scheduler = text_time_unet(), ddim()
    chain = (AdaptiveGuidance(CFG(3.0), threshold),)
    rows = Rows(net)
    got = modular(net, scheduler, chain_guider(chain, scheduler))
    assert rows.seen == [2] * calls
    other = torch.randn(2, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))[1]
    null = {"encoder_hidden_states": draws()[2], "added_cond_kwargs": {"text_embeds": other}}
    guest = Guest(net, scheduler, chain, null=null)
    torch.testing.assert_close(got, modular(guest, scheduler, ClassifierFreeGuidance(1.0)), rtol=1e-9, atol=1e-9)
    assert rows.seen[calls:] == ([4, 2, 2, 2] if threshold < 0 else [4] * STEPS)


def test_a_guest_takes_the_place_of_the_network_too():
    net, scheduler = text_time_unet(), ddim()
    want = modular(net, scheduler, ClassifierFreeGuidance(5.0))
    other = torch.randn(2, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))[1]
    null = {"encoder_hidden_states": draws()[2], "added_cond_kwargs": {"text_embeds": other}}
    guest, rows = Guest(net, scheduler, (CFG(5.0),), null=null), Rows(net)
    got = modular(guest, scheduler, ClassifierFreeGuidance(1.0))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert rows.seen == [4] * STEPS
    with pytest.raises(ConfigError, match="a guider with scale 1"):
        modular(guest, scheduler, ClassifierFreeGuidance(5.0))


def test_it_is_a_component_and_refuses_what_it_cannot_do():
    scheduler = ddim()
    guider = chain_guider((CFG(5.0),), scheduler)
    spec = ComponentSpec.from_component("guider", guider)
    assert spec.default_creation_method == "from_config" and "[cfg, eq. 6]" in str(guider.config["chain"])
    with pytest.raises(CapabilityError, match="Energy needs gradient"):
        chain_guider((Energy(lambda x: x.sum(1)),), scheduler)
    with pytest.raises(CapabilityError, match="CFG needs perturb:pag"):
        chain_guider((CFG(2.0, Branch(perturb=("pag", "mid"))),), scheduler)
    with pytest.raises(CapabilityError, match="DPMSolverMultistepScheduler takes another step"):
        other = DPMSolverMultistepScheduler(**BETAS)
        modular(text_time_unet(), other, chain_guider((AimOnly(),), other))
    with pytest.raises(ConfigError, match="call set_state"):
        guider.forward(draws()[0])
