"""What a diffusers scheduler says: the noise level of each call, where a run begins, what one prediction can carry."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeplan.diffusion import Guided
from safeplan.errors import CapabilityError, ConfigError

KINDS = {"epsilon": "eps", "sample": "x0", "original_sample": "x0", "v_prediction": "v", "flow_prediction": "flow"}
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
FIRST_ORDER = ("DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler")

Level = tuple[float, float]


def one_field(guided: Guided) -> bool:
    """Whether aim and anchor are the same; CFG++ and projections part them."""
    return guided.x0 is guided.anchor or torch.equal(guided.x0, guided.anchor)


class Reading(NamedTuple):
    """One call of the network: the levels (a, s) of its input and (a2, s2) of the step's end, and its place in the run.

    fresh: the first call of a run. commit: a predictor; second-order schedulers also call as correctors. begin: sigma
    where a corrector's step began; None for predictors.
    """

    a: float
    s: float
    a2: float
    s2: float
    step: int
    steps: int
    fresh: bool
    commit: bool
    begin: float | None

    @property
    def rho(self) -> float:
        """sigma' / sigma, 0 from sigma = inf and at the last step."""
        return self.s2 * self.a / (self.a2 * self.s)


class SchedulerReader:
    """Reads a scheduler that somebody else drives; a new `timesteps` tensor (from `set_timesteps`) is a new run.

    Args:
        scheduler: one with `alphas_cumprod` (the network sees a variance-preserving input) or a flow-matching one.
        time: turns the network's own timestep into the scheduler's, where a pipeline hands over another.

    Raises:
        CapabilityError: its noise levels cannot be read.
    """

    def __init__(self, scheduler: Any, time: Callable[[float], float] | None = None):
        self.scheduler, self.time = scheduler, time
        self.name = type(scheduler).__name__
        self.flow = self.name in FLOW or bool(self.config.get("use_flow_sigmas"))
        predicts = "flow_prediction" if self.name in FLOW else self.config.get("prediction_type")
        frame = self.flow or hasattr(scheduler, "alphas_cumprod")
        if not frame or predicts not in KINDS or self.config.get("invert_sigmas"):
            raise CapabilityError(
                f"{self.name} (prediction_type {predicts!r}): its noise levels are not known here; use a scheduler "
                "with `alphas_cumprod`, such as DDIMScheduler, or FlowMatchEulerDiscreteScheduler"
            )
        if predicts == ("v_prediction" if self.flow else "flow_prediction"):
            raise CapabilityError(
                f"{self.name}: prediction_type={predicts!r} contradicts use_flow_sigmas={self.flow}; set both alike"
            )
        self.kind = KINDS[predicts]
        self._timesteps: Any = None
        self._begin, self._last = 0, -1
        self._sigma_begin = math.inf

    @property
    def config(self) -> Any:
        """The scheduler's settings, which pipelines may correct."""
        return self.scheduler.config

    def read(self, timestep: Tensor | float | None) -> Reading:
        """The call that the network receives at `timestep` (number or tensor).

        Raises:
            ConfigError: the timestep is none of the scheduler's, or the run has been there already.
        """
        sched = self.scheduler
        fresh = sched.timesteps is not self._timesteps
        if fresh:
            self._timesteps, self._last = sched.timesteps, -1
        i = self._index(timestep)
        if not self._last < i < len(sched.timesteps):
            raise ConfigError(
                f"the network was called at step {i} of {len(sched.timesteps)} after step {self._last}: switch the "
                "pipeline's own guidance off (guidance_scale=1, or a guider with scale 1), and start each run with "
                f"{self.name}.set_timesteps"
            )
        if fresh:
            self._begin = i
        self._last = i
        order, count = getattr(sched, "order", 1), len(sched.timesteps)
        (a, s), (a2, s2) = self._level(i), self._next(i)
        sigma = s / a if a > 0 else math.inf
        self._check_input(sigma)
        commit = getattr(sched, "state_in_first_order", True)
        if commit:
            self._sigma_begin = sigma
        step, steps = (i - self._begin) // order, -(-(count - self._begin) // order)
        return Reading(a, s, a2, s2, step, steps, fresh, commit, None if commit else self._sigma_begin)

    def carry(self, guided: Guided, r: Reading) -> Tensor:
        """The one x0 whose step is that of `guided`; two fields need a first-order step without fresh noise.

        Raises:
            CapabilityError: two fields, and this scheduler's step is another one.
        """
        if one_field(guided):
            return guided.x0
        why = None
        if self.name not in FIRST_ORDER:
            why = f"{self.name} takes another step"
        for key in ("clip_sample", "thresholding", "stochastic_sampling"):
            if self.config.get(key):
                why = f"{self.name} has {key}={self.config.get(key)}"
        if why:
            raise CapabilityError(
                f"this chain aims at one prediction and keeps the noise of another (two fields, as CFG++ does), which "
                f"one prediction can carry only through a plain first-order step, and {why}; use "
                f"{', '.join(FIRST_ORDER)} without clipping or fresh noise, or drop the method that moves the aim only"
            )
        return guided.collapse(r.rho)

    def _index(self, timestep: Tensor | float | None) -> int:
        sched = self.scheduler
        for counted in ("step_index", "begin_index"):  # set where the scheduler itself counts
            if getattr(sched, counted, None) is not None:
                return getattr(sched, counted)
        if timestep is None:
            raise ConfigError(f"{self.name} does not count its steps, and the network was called without a timestep")
        given = torch.as_tensor(timestep).max()
        own = float(given)
        t = own if self.time is None else self.time(own)
        far = (sched.timesteps.double() - t).abs()
        best = float(far.min())
        dtype = given.dtype if given.is_floating_point() else torch.float32  # half precision rounds timesteps
        if best > abs(t) * torch.finfo(dtype).eps:
            raise ConfigError(
                f"timestep {own:g} is none of {self.name}.timesteps ({float(sched.timesteps[0]):g} to "
                f"{float(sched.timesteps[-1]):g}); if the pipeline rescales the network's time, give `time`, for "
                "example time=lambda t: 1000 * t"
            )
        hits = (far == best).nonzero()[:, 0].tolist()
        if hasattr(sched, "index_for_timestep"):  # it has its own rule for repeated timesteps
            return sched.index_for_timestep(sched.timesteps[hits[0]])
        return next((i for i in hits if i > self._last), hits[-1])

    def _level(self, i: int) -> Level:
        sched = self.scheduler
        if not hasattr(sched, "sigmas"):
            return self._alpha(sched.alphas_cumprod[int(sched.timesteps[i])])
        midway = not getattr(sched, "state_in_first_order", True) and hasattr(sched, "sigmas_interpol")
        return self._sigma((sched.sigmas_interpol if midway else sched.sigmas)[i])

    def _next(self, i: int) -> Level:
        sched = self.scheduler
        if hasattr(sched, "sigmas"):
            return self._sigma(sched.sigmas[i + 1])
        if self.name == "DDIMScheduler":  # its step goes back by a fixed stride, whatever comes next in `timesteps`
            back = int(sched.timesteps[i]) - self.config["num_train_timesteps"] // sched.num_inference_steps
            return self._alpha(sched.alphas_cumprod[back] if back >= 0 else sched.final_alpha_cumprod)
        return self._level(i + 1) if i + 1 < len(sched.timesteps) else (1.0, 0.0)

    def _alpha(self, cumulative: Any) -> Level:
        v = float(cumulative)
        return math.sqrt(v), math.sqrt(1 - v)

    def _sigma(self, sigma: Any) -> Level:
        v = float(sigma)
        return (1 - v, v) if self.flow else (1 / math.hypot(1, v), v / math.hypot(1, v))

    def _check_input(self, sigma: float) -> None:
        """The input is x / sqrt(1 + sigma^2) where the scheduler's own frame has a = 1, else x itself."""
        sched = self.scheduler
        if not (hasattr(sched, "sigmas") and hasattr(sched, "scale_model_input")) or sched.step_index is None:
            return
        scale = float(sched.scale_model_input(torch.ones(()), sched.timesteps[self._last]))
        if scale != 1 and abs(scale * math.hypot(1, sigma) - 1) > 1e-4:
            raise CapabilityError(
                f"{self.name} scales the network's input by {scale:g} where sigma = {sigma:g} means "
                f"{1 / math.hypot(1, sigma):g}; use another scheduler, such as EulerDiscreteScheduler"
            )
