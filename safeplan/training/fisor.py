"""FISOR as a learner of the training loop."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safeplan.data import Log, Normalizer
from safeplan.errors import CheckpointError, ConfigError
from safeplan.feasibility import Fisor, FisorConfig, FisorPolicy, columns, reward_scale
from safeplan.feasibility.config import restored, stored
from safeplan.feasibility.graphed import GraphedFisor, fisor_class
from safeplan.feasibility.networks import inference_networks, load_inference
from safeplan.training.sources import TransitionSource


class FisorLearner:
    """`feasibility.Fisor` behind the `Learner` protocol."""

    kind = "fisor"

    def __init__(self, agent: Fisor, reward_scale: float = 1.0):
        self.agent = agent
        facts = {"obs_size": agent.obs_size, "act_size": agent.act_size, "reward_scale": reward_scale}
        self.config: dict[str, Any] = {"fisor": stored(agent.config), **facts}

    def update(self, batch: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        return self.agent.update(batch, generator)

    def state_dict(self) -> dict[str, Any]:
        return self.agent.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state)

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = inference_networks(self.agent.nets)
        tensors |= {f"normalizer.{k}": torch.from_numpy(v) for k, v in self.agent.normalizer.to_dict().items()}
        return tensors, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> FisorPolicy:
        """The policy on the tensors' device, ready to act."""
        device = next(iter(tensors.values())).device if tensors else "cpu"
        stats = {k.split(".")[1]: v.cpu() for k, v in tensors.items() if k.startswith("normalizer.")}
        try:
            normalizer = Normalizer.from_dict(stats)
            config = restored({**meta["fisor"], "compile": False})
            policy = FisorPolicy(meta["obs_size"], meta["act_size"], config, normalizer=normalizer, device=device)
            policy.reward_scale = float(meta["reward_scale"])
            load_inference(policy.nets, tensors)
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's fisor ({e}). Train again") from e
        policy.nets.requires_grad_(False).eval()
        return policy


def fisor_from_log(
    log: Log, config: FisorConfig | None = None, *, seed: int = 0, device: str | torch.device = "cpu"
) -> tuple[FisorLearner, TransitionSource]:
    """Learner and source for `train`; see `feasibility.columns` for what is asked of the log.

    Raises:
        ConfigError: `config.graph` or `config.precision` asks for what the device does not have.
    """
    config = config or FisorConfig()
    kind = fisor_class(config, device)
    on_device = kind is GraphedFisor  # numbers from the CPU would make every update wait for the one before
    source = TransitionSource(columns(log, config), config.batch, log.digest(), device, draw_on_device=on_device)
    normalizer = Normalizer.fit(log.observations)
    if config.budget > 0:  # the share of the budget that is left: as it is
        normalizer = normalizer.extended(low=-1.0, high=1.0)
    sizes = len(normalizer.mean), log.actions.shape[1]
    agent = kind(*sizes, config, seed=seed, normalizer=normalizer, device=device)
    return FisorLearner(agent, reward_scale(log) if config.scale_rewards else 1.0), source
