"""The distilled policy as a learner of the training loop."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from safeplan.data import Log
from safeplan.errors import CheckpointError, ConfigError, ShapeError
from safeplan.feasibility import FisorPolicy
from safeplan.feasibility.budget import draw_shares
from safeplan.feasibility.config import stored
from safeplan.feasibility.networks import inference_networks
from safeplan.feasibility.one_step import OneStepConfig, OneStepPolicy
from safeplan.rng import fold
from safeplan.training.fisor import FisorLearner
from safeplan.training.sources import TransitionSource


class OneStepLearner:
    """`feasibility.OneStepPolicy` behind the `Learner` protocol; its teacher is not trained."""

    kind = "one_step"

    def __init__(self, policy: OneStepPolicy, teacher: Mapping[str, Any]) -> None:
        self.policy = policy
        policy.teacher.nets.requires_grad_(False).eval()
        self.config: dict[str, Any] = {"one_step": asdict(policy.config), "teacher": dict(teacher)}
        self.optimiser = torch.optim.Adam(policy.net.parameters(), lr=policy.config.lr, fused=True)

    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One step on `observations [B, S]`; noise, and budgets where the teacher has them, come from `generator`."""
        p, obs = self.policy, batch["observations"]
        if p.teacher.config.budget > 0:
            obs = torch.cat([obs, draw_shares(len(obs), generator).to(obs.device)[:, None]], -1)
        shape = len(obs), p.teacher.act_size
        noise = torch.randn(shape, generator=generator, device=generator.device).to(obs.device)
        imitation, preference = p.loss(p.teacher.encode(obs), noise)
        self.optimiser.zero_grad(set_to_none=True)
        (imitation + p.config.improve * preference).backward()
        self.optimiser.step()
        return {"loss": imitation.detach(), "preference": preference.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.policy.net.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        teacher = self.policy.teacher
        tensors = inference_networks(teacher.nets)
        tensors |= {f"normalizer.{k}": torch.from_numpy(v) for k, v in teacher.normalizer.to_dict().items()}
        return tensors | {f"net.{k}": v for k, v in self.policy.net.state_dict().items()}, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> OneStepPolicy:
        """The policy on the tensors' device, ready to act."""
        own = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
        try:
            policy = OneStepPolicy(FisorLearner.restore(tensors, meta["teacher"]), OneStepConfig(**meta["one_step"]))
            policy.net.load_state_dict(own)
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's one_step ({e}). Train again") from e
        policy.net.requires_grad_(False).eval()
        return policy


def one_step_from_log(
    log: Log, teacher: FisorPolicy, config: OneStepConfig | None = None, *, seed: int = 0, origin: str = ""
) -> tuple[OneStepLearner, TransitionSource]:
    """Learner and source for `train`, on the teacher's device; the log gives states alone.

    Args:
        origin: SHA-256 of the teacher's file; where it is given, a run goes on with no other teacher.

    Raises:
        ShapeError: the log's observations are not those that the teacher learned from.
    """
    config = config or OneStepConfig()
    extra = 1 if teacher.config.budget > 0 else 0
    if log.observations.shape[1] + extra != teacher.obs_size:
        raise ShapeError(
            f"one_step: the log has {log.observations.shape[1]} observations, the teacher {teacher.obs_size - extra}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold(seed, "one_step", "init"))
        policy = OneStepPolicy(teacher, config)
    facts = {"obs_size": teacher.obs_size, "act_size": teacher.act_size, "reward_scale": teacher.reward_scale}
    facts |= {"sha256": origin} if origin else {}
    source = TransitionSource({"observations": log.observations}, config.batch, log.digest(), teacher.device)
    return OneStepLearner(policy, {"fisor": stored(teacher.config), **facts}), source
