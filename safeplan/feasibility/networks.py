"""FISOR's eight networks [fisor, app. D]."""

import math

import torch
from torch import nn

from safeplan.feasibility.config import FisorConfig
from safeplan.nets.ensemble import EnsembleMLP
from safeplan.nets.fisor_mlp import FisorMLP
from safeplan.nets.mlp import MLP
from safeplan.rng import fold

TARGETS = {"q_target": "q", "q_h_target": "q_h", "actor_ema": "actor"}
INFERENCE = ("v", "v_h", "q_target", "q_h_target", "actor_ema")


def build_networks(obs_size: int, act_size: int, config: FisorConfig, seed: int) -> nn.ModuleDict:
    """`v`, `v_h` (state), `q`, `q_h` (state and action, twins), `actor` (noise), and the targets of the last three.

    Initial weights depend on `seed` alone; targets start as copies, without gradients, in evaluation mode.
    """
    hidden, both = (config.hidden, config.hidden), obs_size + act_size
    with torch.random.fork_rng(devices=[]):
        set_seed(fold(seed, "fisor", "init"), torch.device("cpu"))
        nets = nn.ModuleDict({k: MLP(obs_size, 1, hidden) for k in ("v", "v_h")})
        nets.update({k: EnsembleMLP(both, 1, hidden) for k in ("q", "q_h", "q_target", "q_h_target")})
        for key in ("actor", "actor_ema"):
            nets[key] = FisorMLP(
                act_size,
                obs_size,
                width=config.actor_width,
                blocks=config.actor_blocks,
                dropout=config.dropout,
                returns=config.condition_dropout > 0,
            )
    if config.feasibility_loss == "cross_entropy":
        start_feasible(nets, config)
    for target, source in TARGETS.items():
        nets[target].load_state_dict(nets[source].state_dict())
        nets[target].requires_grad_(False).eval()
    return nets


def start_feasible(nets: nn.ModuleDict, config: FisorConfig) -> None:
    """V_h and Q_h start halfway from `satisfying` to 0; from the middle of their range most states need long back.

    The bias alone is set: observations far above 1 are to be normalised (`config.normalize`) for this to hold.
    """
    share = -0.5 * config.satisfying / (config.violating - config.satisfying)
    with torch.no_grad():
        for name in ("v_h", "q_h"):
            last = [p for key, p in nets[name].named_parameters() if "bias" in key][-1]
            last.fill_(math.log(share / (1.0 - share)))


def inference_networks(nets: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """Tensors that acting and scoring need, `net.parameter` -> value."""
    return {f"{n}.{k}": v for n in INFERENCE for k, v in nets[n].state_dict().items()}


def load_inference(nets: nn.ModuleDict, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `inference_networks`; sources are set to their targets. Raises RuntimeError on a misfit."""
    for name in INFERENCE:
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        nets[name].load_state_dict(own)
        if name in TARGETS:
            nets[TARGETS[name]].load_state_dict(own)


def set_seed(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and, if it is one, of this GPU; call inside `torch.random.fork_rng`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
