"""The published recipe for a density network, kept as it is so that tables can be made side by side [density_corl].

One ReLU network for the whole horizon, `(x0, t) -> (log-gain / t, state)`, on trajectories of explicit Euler steps,
full batches, gradients normalised to one length. The loss needs the divergence, not a density label (its residual).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safeplan.dynamics.backends import NUMPY
from safeplan.dynamics.equations import Equations
from safeplan.errors import CapabilityError, CheckpointError, ConfigError
from safeplan.nets.flow_net import FlowNet
from safeplan.reach.learned.flow import LearnedFlow
from safeplan.rng import fold
from safeplan.schema import in_range
from safeplan.types import Array, Draw


@dataclass(frozen=True)
class PublishedFlowConfig:
    """Settings of the authors' code. Not taken over: their second run for vdp, their optional normalisation, and that
    a fifth of the trajectories is held out."""

    hidden: tuple[int, ...] = (32, 32)  # widths of the ReLU layers; 64, 64, 64 for the robot
    epochs: int = 500_000  # full batches in all
    first_stage: float = 0.4  # share of the epochs that fit the states alone
    beta: float = 0.5  # weight of the Liouville residual in the second stage
    state_weight: float = 0.25  # of the states in the second stage; 1 in the first
    step: tuple[float, float] = (
        5e-3,
        2e-3,
    )  # length of a step in weight space, by stage: lr 5000, 2000 times clip 1e-6

    def __post_init__(self) -> None:
        in_range(self, "published_flow", {"count": "epochs", "positive": "beta state_weight"})


class EulerRuns:
    """Trajectories of explicit Euler steps as one full batch: the published labels, and a `Source` for `train`."""

    def __init__(self, loop: Equations, draw: Draw, command: tuple[float, ...], steps: int) -> None:
        if loop.divergence is None:
            raise CapabilityError(f"system {loop.name!r} has no divergence formula, which the Liouville residual needs")
        theta = draw.theta[:, 0]
        u, th = tuple(np.full(len(theta), v) for v in command), tuple(theta.T)
        x, xs, div = draw.x.T, [], []
        with np.errstate(all="ignore"):
            for k in range(steps + 1):
                xs.append(x)
                d = loop.divergence(k * loop.dt, tuple(x), u, th, NUMPY)
                div.append(np.broadcast_to(d, x.shape[1:]))
                x = x + loop.dt * NUMPY.pack(loop.f(k * loop.dt, tuple(x), u, th, NUMPY))
        self.dt, self.states, self.divergence = loop.dt, np.array(xs), np.array(div)  # [T, n, N], [T, N]
        broken = int((~np.isfinite(self.states)).any(axis=(0, 1)).sum())
        if broken:
            raise CapabilityError(
                f"system {loop.name!r}: explicit Euler steps of {loop.dt:g} s lose {broken} of {len(theta)} runs "
                "to infinity, so the published labels do not exist"
            )
        self.theta = theta
        self._batch = self._pack()
        self.digest = hashlib.sha256(self.states.tobytes() + theta.tobytes()).hexdigest()

    def _pack(self) -> dict[str, Tensor]:
        T, _, N = self.states.shape

        def tensor(a: Array) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(a), dtype=torch.float32)

        start = np.concatenate([self.states[0].T, self.theta], 1)
        return {
            "start": tensor(np.tile(start, (T, 1))),
            "tau": tensor(np.repeat(np.arange(T) * self.dt, N)),
            "states": tensor(self.states.transpose(0, 2, 1)),
            "residual": tensor(self.divergence[:-1] * self.dt),
        }

    def batch(self, step: int, seed: int) -> dict[str, Tensor]:
        """The same full batch every time."""
        return self._batch


class PublishedFlowLearner:
    """Network and normalised gradient descent, behind the `Learner` protocol."""

    kind = "published_flow"

    def __init__(self, net: FlowNet, config: PublishedFlowConfig, facts: Mapping[str, Any]) -> None:
        self.net, self.settings, self.updates = net, config, 0
        self.config: dict[str, Any] = {"published_flow": asdict(config), "facts": dict(facts)}
        for key in ("hidden", "step"):
            self.config["published_flow"][key] = list(getattr(config, key))
        self.config |= {"n": net.n, "p": net.p, "horizon_s": net.segment_s}

    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """One epoch: a step of fixed length down the gradient of all data."""
        c, n = self.settings, self.net.n
        late = self.updates >= c.first_stage * c.epochs
        states, gain = self.net(batch["start"][:, :n], batch["start"][:, n:], batch["tau"])
        miss = (states.view_as(batch["states"]) - batch["states"]).square().mean()
        a = gain.view(batch["states"].shape[:2])
        liouville = ((a[1:] - a[:-1]).exp() + batch["residual"] - 1).square().mean()
        loss = c.state_weight * miss + c.beta * liouville if late else miss
        grads = torch.autograd.grad(loss, list(self.net.parameters()), allow_unused=not late)
        norm = torch.sqrt(sum(((g * g).sum() for g in grads if g is not None), torch.zeros(())))
        with torch.no_grad():
            for w, g in zip(self.net.parameters(), grads, strict=True):
                if g is not None:
                    w.sub_(g * (c.step[int(late)] / norm.clamp_min(1e-12)))
        self.updates += 1
        return {"loss": loss.detach(), "states": miss.detach(), "liouville": liouville.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.updates = state["updates"]

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {f"net.{k}": v for k, v in self.net.state_dict().items()}, self.config

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> LearnedFlow:
        """The flow on the tensors' device, ready for use."""
        try:
            net = published_net(meta["n"], meta["p"], meta["published_flow"]["hidden"], meta["horizon_s"])
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
        except (KeyError, TypeError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"checkpoint does not fit this version's published_flow ({e}). Train again") from e
        net.to(next(iter(tensors.values())).device).eval().requires_grad_(False)
        return LearnedFlow(net, facts=meta.get("facts"))


def published_net(n: int, p: int, hidden: Any, horizon_s: float) -> FlowNet:
    """ReLU layers, raw inputs, the state itself as output, the log-gain multiplied by t."""
    return FlowNet(n, p, tuple(hidden), horizon_s, activation="relu", residual=False)


def published_flow(
    loop: Equations,
    draw: Draw,
    command: tuple[float, ...],
    steps: int,
    config: PublishedFlowConfig | None = None,
    *,
    seed: int = 0,
) -> tuple[PublishedFlowLearner, EulerRuns]:
    """Learner and source for `train`, from the start states of `draw`.

    Raises:
        CapabilityError: no divergence formula, or parameters that change on the way, which this network cannot see.
    """
    config = config or PublishedFlowConfig()
    if draw.theta.shape[1] > 1:
        raise CapabilityError(f"system {loop.name!r}: its parameters change on the way; this network sees one value")
    source = EulerRuns(loop, draw, command, steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "published_flow", "init") % 2**63)
        net = published_net(loop.n, loop.p, config.hidden, steps * loop.dt)
    return PublishedFlowLearner(net, config, {"system": loop.name, "trajectories": len(draw.x)}), source
