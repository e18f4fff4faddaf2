"""The guest itself: a network of diffusers that answers with what a guidance chain makes of its predictions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safeplan.diffusion import COND, Branch, Context, Guidance, Predictions, Trace, denoise, from_x0
from safeplan.diffusion.driver import context
from safeplan.diffusion.executor import offered
from safeplan.diffusion.guidance import check_capabilities
from safeplan.errors import CapabilityError
from safeplan.guidance.diffusers.call import Call, CallDenoiser
from safeplan.guidance.diffusers.scheduler import SchedulerReader, one_field
from safeplan.nets.diffusers_pag import PAGRows


class Output(NamedTuple):
    """What pipelines expect of a network: `[0]` or `.sample`."""

    sample: Tensor


class Guest(nn.Module):
    """A network of diffusers with a guidance chain inside; it is called as the network is, and has its attributes.

    All methods of the chain work on x0; conversions follow the scheduler's noise levels and prediction type. State is
    fresh in each run, and a run begins with `scheduler.set_timesteps`, wherever its first timestep lies.

    Args:
        net: `net(sample, timestep, ...)`: a UNet or transformer of diffusers.
        scheduler: the one that the pipeline steps with.
        chain: guidance methods.
        null: what the null branch is called with instead, as in the network's call: `{"encoder_hidden_states": neg}`,
            `{"class_labels": ...}`, `{"added_cond_kwargs": {"text_embeds": ...}}`; `[B, ...]`, one row per image.
        conds: further conditions by name, given alike. nets: further networks by name, called as `net` is.
        decode: x0 -> physical units, differentiable, for instance through the VAE.
        generators: one per image, for methods that draw. max_rows: row cap of one forward. trace: filled in place.
        time: turns the network's timestep into the scheduler's: `lambda t: 1000 * t` where a pipeline divides by 1000.
        sign: -1 where the pipeline turns the sign of the network's output (Lumina 2, Z-Image).
        shared: dotted names of arguments that have no row per image although their first dimension looks so.

    Raises:
        CapabilityError: the scheduler cannot be read, or network and run lack what a method needs; two fields (CFG++)
            with a scheduler whose step one prediction cannot steer. For DDIM eta must be 0, which `attach` watches.
        ConfigError, ShapeError: conditions that do not match the call, a timestep that the run cannot be at.
    """

    def __init__(
        self,
        net: nn.Module,
        scheduler: Any,
        chain: Sequence[Guidance] = (),
        *,
        null: Mapping[str, Any] | None = None,
        conds: Mapping[str, Mapping[str, Any]] | None = None,
        nets: Mapping[str, nn.Module] | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        max_rows: int | None = None,
        trace: Trace | None = None,
        time: Callable[[float], float] | None = None,
        sign: float = 1.0,
        shared: Sequence[str] = (),
    ):
        super().__init__()
        self.nets = nn.ModuleDict({"main": net, **(nets or {})})
        self.chain, self.reader, self.sign, self.shared = tuple(chain), SchedulerReader(scheduler, time), sign, shared
        self.conds = {**({} if null is None else {"null": null}), **(conds or {})}
        self.decode, self.generators, self.max_rows, self.trace = decode, generators, max_rows, trace
        for m in self.chain:
            if "null" in m.requires and "null" not in self.conds:
                raise CapabilityError(
                    f"{type(m).__name__} needs the null branch; give null={{'encoder_hidden_states': "
                    "negative_prompt_embeds}, with all arguments that differ there"
                )
        self.layers = PAGRows(net) if any(r.startswith("perturb:") for m in chain for r in m.requires) else None
        self.states: tuple[Any, ...] | None = None
        self.two_fields = False  # whether the last answer stands for two fields
        self.check: Callable[[], None] = lambda: None  # what `attach` wants to know before each call

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("nets", "net"):  # not built yet
                raise
            return getattr(self.net, name)

    @property
    def net(self) -> nn.Module:
        """The network without guidance."""
        return self.nets.get_submodule("main")

    def forward(self, *args: Any, **kwargs: Any) -> Output:
        """The guided prediction `[B, ...]` in the network's own parametrisation; arguments as the network's."""
        self.check()
        call = Call.of(self.net, args, kwargs, self.shared)
        conds = {"cond": call.cond(), **{k: call.other(k, v) for k, v in self.conds.items()}}
        r = self.reader.read(call.timestep)
        nets = {
            k: CallDenoiser(n, call, self.reader.kind, self.sign, "null" in conds, self.layers if k == "main" else None)
            for k, n in self.nets.named_children()
        }
        if r.fresh:
            check_capabilities(self.chain, offered(nets, conds, call.x, self.decode))
            self.states = None
        ctx = context(call.x, r.a, r.s, r.a2, r.s2, r.step, r.steps, conds, self.decode, self.generators, r.begin)
        seen = Seen(self.trace) if call.variance else None
        trace = self.trace if seen is None else seen
        guided, after = denoise(nets, ctx, self.chain, self.states, max_rows=self.max_rows, trace=trace)
        if r.commit:
            self.states = after
        self.two_fields = not one_field(guided)
        x0 = self.reader.carry(guided, r)
        out = self.sign * from_x0(self.reader.kind, x0, call.x, ctx.a, ctx.s)
        return Output((out if seen is None else torch.cat([out, seen.variance], 1)).to(call.x.dtype))


class Seen(Trace):
    """Keeps the variance channels of the conditional branch, and passes the record on."""

    def __init__(self, then: Trace | None):
        super().__init__()
        self.then, self.variance = then, torch.empty(0)

    def record(self, ctx: Context, preds: Predictions, branches: Sequence[Branch], moves: dict[str, Tensor]) -> None:
        self.variance = preds[COND].aux
        if self.then is not None:
            self.then.record(ctx, preds, branches, moves)
