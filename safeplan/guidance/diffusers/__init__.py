"""A guest in Hugging Face diffusers: a safeplan chain inside somebody else's pipeline.

The pipeline keeps its loop and its scheduler. In place of its network stands a `Guest`, which runs all branches of the
chain in one batch (`safeplan.diffusion.denoise`), on x0, and answers with one prediction of the network's own kind that
embodies the guided result. The pipeline's own guidance must be off, so that it asks for the conditional branch only:

    pos, neg = pipe.encode_prompt(prompt, device, 1, True, negative_prompt)
    with attach(pipe, (CFG(7.5),), null={"encoder_hidden_states": neg}):
        image = pipe(prompt_embeds=pos, guidance_scale=1.0).images[0]

A loop of one's own calls `Guest(net, scheduler, chain, ...)` where it called the network. Modular pipelines take either
of the two, or `chain_guider`.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from safeplan.diffusion import Guidance
from safeplan.errors import CapabilityError
from safeplan.guidance.diffusers.guest import Guest, Output

__all__ = ["Guest", "Output", "attach", "chain_guider"]


@contextmanager
def attach(pipe: Any, chain: Sequence[Guidance], *, component: str | None = None, **options: Any) -> Iterator[Guest]:
    """`pipe` with its network (`component`, default "unet" or "transformer") replaced by a guest inside `with`.

    Other arguments: see `Guest`. Afterwards network and scheduler are as before, also after an error. Besides what a
    `Guest` alone can see, it refuses the pipeline's own guidance and steps with fresh noise after two fields.

    Raises:
        CapabilityError: the pipeline has no such network, its own guidance is on, or eta > 0 with two fields.
    """
    names = [component] if component else ["unet", "transformer"]
    name = next((n for n in names if isinstance(getattr(pipe, n, None), nn.Module)), None)
    if name is None:
        raise CapabilityError(f"{type(pipe).__name__} has no network {' or '.join(names)}; name it with `component`")
    net, scheduler = getattr(pipe, name), pipe.scheduler
    if isinstance(net, Guest):
        raise CapabilityError(f"{type(pipe).__name__}.{name} is a guest already; put all methods into one chain")

    def check() -> None:
        if pipe.scheduler is not scheduler:
            raise CapabilityError(
                f"{type(pipe).__name__} changed its scheduler to {type(pipe.scheduler).__name__}; attach after that"
            )
        if getattr(pipe, "do_classifier_free_guidance", False):
            raise CapabilityError(f"{type(pipe).__name__} applies its own guidance; call it with guidance_scale=1")

    guest = Guest(net, scheduler, chain, **options)
    guest.check = check
    before = vars(scheduler).get("step")  # set where another network of the pipeline has a guest too
    scheduler.step = watched(scheduler, guest)
    setattr(pipe, name, guest)
    try:
        yield guest
    finally:
        del scheduler.step
        if before is not None:
            scheduler.step = before
        setattr(pipe, name, net)


def watched(scheduler: Any, guest: Guest) -> Callable[..., Any]:
    """The scheduler's `step`, which the pipeline tells what no network hears: that fresh noise is to be drawn."""
    step = scheduler.step

    @functools.wraps(step)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(step).bind(*args, **kwargs).arguments
        for knob in ("eta", "s_churn"):
            if guest.two_fields and given.get(knob):
                raise CapabilityError(
                    f"{type(scheduler).__name__} draws fresh noise ({knob}={given[knob]}), which two fields (CFG++) "
                    f"cannot steer through one prediction; use {knob}=0"
                )
        return step(*args, **kwargs)

    return checked


def chain_guider(chain: Sequence[Guidance], scheduler: Any) -> Any:
    """A guider for modular pipelines: `pipe.update_components(guider=chain_guider(chain, pipe.scheduler))`.

    The pipeline evaluates the conditional and the null branch one after the other, and the chain folds them; it may use
    nothing else (a `Guest` may). With two fields (CFG++) leave DDIM's eta at 0. See `guider.ChainGuider`.

    Raises:
        CapabilityError: diffusers is missing, or the chain needs more than these two branches.
    """
    from safeplan.guidance.diffusers.guider import ChainGuider

    return ChainGuider(chain, scheduler)
