"""A guider for the modular pipelines of diffusers: it folds a safeplan chain over the branches that they evaluate.

The pipeline runs its network once per branch and hands the outputs over, in whatever parametrisation; a guider is never
told x. So the guider looks at the network's input while a branch runs, and reads the noise level off the scheduler.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from safeplan.diffusion import NULL, Cond, Guidance, Prediction, denoise, from_x0, to_x0
from safeplan.diffusion.driver import context
from safeplan.diffusion.guidance import check_capabilities
from safeplan.errors import CapabilityError, ConfigError, ShapeError
from safeplan.guidance.diffusers.call import Call
from safeplan.guidance.diffusers.scheduler import Reading, SchedulerReader

try:
    from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
except ImportError as e:
    raise CapabilityError(
        "a guider needs the package diffusers with its guiders, which cannot be imported here; "
        "pip install 'safeplan[image]'"
    ) from e


class Given:
    """A "denoiser" that was evaluated before: each condition carries its own x0."""

    capabilities = frozenset({"null"})

    def __call__(self, x: Tensor, a: Tensor, s: Tensor, cond: Cond, perturb: Any = None) -> Prediction:
        return Prediction(cond.leaves["x0"])


class ChainGuider(BaseGuidance):
    """Runs a chain over the conditional and the null prediction; fewer branches where the chain asks for fewer.

    Args:
        chain: methods that need these two branches only; scheduler: the pipeline's.

    Raises:
        CapabilityError: another need (gradients, perturbations, networks), or two fields with a scheduler whose step
            one prediction cannot steer. For DDIM eta must be 0, which pipelines do not tell a guider: with eta > 0 and
            two fields (CFG++) samples are wrong without an error, where `attach` would refuse.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]

    def __init__(self, chain: Sequence[Guidance], scheduler: Any):
        super().__init__()
        self.chain, self.reader = tuple(chain), SchedulerReader(scheduler)
        check_capabilities(self.chain, frozenset({"null", "axis"}))
        self.states: tuple[Any, ...] | None = None
        self.reading: Reading | None = None
        self.x: Tensor | None = None
        self._hook: Any = None
        self.register_to_config(chain=[m.citation() for m in self.chain])

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        super().set_state(step, num_inference_steps, timestep)
        self.reading, self.x = self.reader.read(timestep), None
        if self.reading.fresh:
            self.states = None

    @property
    def num_conditions(self) -> int:
        if not self._enabled or self.reading is None:
            return 1
        if self.states is None:  # `needs` wants a state, which wants x: in the first step the null branch always runs
            asked = any("null" in m.requires for m in self.chain)
        else:
            ctx = self._context(torch.empty(0), {})
            branches = [b for m, st in zip(self.chain, self.states, strict=True) for b in m.needs(ctx, st)]
            # a branch of no rows is one that nobody needs any more
            asked = any(b == NULL and (b.rows is None or bool(b.rows.any())) for b in branches)
        return 2 if asked else 1

    @property
    def is_conditional(self) -> bool:
        return self._count_prepared == 1

    def prepare_inputs(self, data: Any) -> list[Any]:
        names = self._input_predictions[: self.num_conditions]
        return [self._prepare_batch(data, i, name) for i, name in enumerate(names)]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        names = self._input_predictions[: self.num_conditions]
        return [self._prepare_batch_from_block_state(input_fields, data, i, name) for i, name in enumerate(names)]

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        super().prepare_models(denoiser)

        def look(net: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            self.x = Call.of(net, args, kwargs).x

        self._hook = denoiser.register_forward_pre_hook(look, with_kwargs=True)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        self._hook.remove()

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> GuiderOutput:
        """Guided prediction from those of the branches, all `[B, ...]` in the network's parametrisation."""
        if self.reading is None or self.x is None:
            raise ConfigError("ChainGuider: no step or no network call seen; call set_state and prepare_models first")
        x, kind = self.x, self.reader.kind
        if x.shape != pred_cond.shape:
            raise ShapeError(
                f"ChainGuider: prediction {tuple(pred_cond.shape)} for an input {tuple(x.shape)}; use a Guest"
            )
        pred = pred_cond
        if self._enabled:
            ctx = self._context(x, {})
            given = {"cond": pred_cond} | ({} if pred_uncond is None else {"null": pred_uncond})
            conds = {k: Cond({"x0": to_x0(kind, v, x, ctx.a, ctx.s)}) for k, v in given.items()}
            guided, after = denoise(Given(), ctx._replace(conds=conds), self.chain, self.states)
            if self.reading.commit:
                self.states = after
            pred = from_x0(kind, self.reader.carry(guided, self.reading), x, ctx.a, ctx.s).to(pred_cond.dtype)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _context(self, x: Tensor, conds: dict[str, Cond]):
        assert self.reading is not None
        r = self.reading
        return context(x, r.a, r.s, r.a2, r.s2, r.step, r.steps, conds, begin=r.begin)
