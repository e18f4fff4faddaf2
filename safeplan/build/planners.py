"""Planners with their proposals, the rivals, and the policies that drive by themselves."""

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeplan import schema
from safeplan.build.chains import Place, chain
from safeplan.build.tasks import Task, digest
from safeplan.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from safeplan.dynamics import System
    from safeplan.feasibility import FisorPolicy
    from safeplan.planning import Planner, PlannerConfig, Proposer


_UNLEARNED = "no learned model fits env=point_robot: use weights=none fisor_weights=none"


def shipped_weights(kind: str, model: str) -> Path:
    """Where the weights of an env that come with the package lie; they need not exist."""
    return Path(__file__).parents[1] / "weights" / kind / f"{model}.safetensors"


def planner_config(shared: Any, changes: dict[str, Any] | None = None) -> "PlannerConfig":
    """Frozen planner settings from the read ones (a thawed twin or a dict), with `changes` on top.

    Raises:
        ConfigError: a change that no setting is called.
    """
    from safeplan.planning import PlannerConfig

    base = dict(shared) if isinstance(shared, dict) else dataclasses.asdict(shared)
    known = [f.name for f in dataclasses.fields(PlannerConfig)]
    for key in changes or {}:
        if key not in known:
            raise ConfigError(f"tuned: {key!r} is no planner setting.{schema.did_you_mean(key, known)}")
    return PlannerConfig(**{**base, **(changes or {})})


def proposer(
    system: "System",
    horizon: int,
    weights: str,
    fisor_weights: str,
    guidance: schema.GuidanceConfig,
    kind: str | None,
    device: str = "cpu",
    *,
    steps: int = 8,
) -> "Proposer":
    """The source of proposals: a trajectory model with its guidance chain and a FISOR that ranks, or a fan of detours.

    Raises:
        CheckpointError: the weights are missing, corrupt, or no trajectory model of this system.
    """
    from safeplan.planning import FanProposer, LearnedProposer
    from safeplan.training.trajectory_model import TrajectoryModel

    if weights == "none" or (weights == "auto" and kind is None):
        speeds = [abs(q.high) for q in system.states if q.unit == "m/s" and abs(q.high) < float("inf")]
        return FanProposer(system, horizon, 0.6 * max(speeds, default=1.0))
    path = shipped_weights(kind or "", "trajectory") if weights == "auto" else Path(weights)
    if weights == "auto" and not path.is_file():
        if kind == "point_robot":
            raise CheckpointError(_UNLEARNED)
        raise CheckpointError(
            f"no weights come with env={kind} ({path}). Train some (safeplan train policy=trajectory data={kind}) and "
            "give weights=RUN_FOLDER, or use weights=none: a fan of detours instead of learned proposals"
        )
    model = loaded(str(path), device)
    if not isinstance(model, TrajectoryModel):
        raise CheckpointError(f"weights={path}: holds a {type(model).__name__}, expected a trajectory model")
    layout = model.codec.layout
    if (layout.n, layout.m) != (system.n, system.m):
        raise CheckpointError(
            f"weights={path}: made for {layout.n} states and {layout.m} controls, "
            f"system {system.name!r} has {system.n} and {system.m}"
        )
    critic = None if fisor_weights == "none" else policy(system, fisor_weights, kind, device)
    steer = lambda obs: chain(guidance, Place(system, obs, grid=model.path.grid, steps=steps))  # noqa: E731
    return LearnedProposer(system, model, horizon, critic, guidance.energy.margin, chain=steer, steps=steps)


def planner(
    task: Task,
    cfg: schema.PilotConfig,
    device: str = "cpu",
    *,
    rival: str = "safeplan",
    changes: dict[str, Any] | None = None,
) -> "Planner":
    """The planner of a task. Rivals share the optimiser and differ in what it gets.

    `mpc`: no uncertainty, and a straight line to start from. `density_mpc`: the same line, risks as in safeplan.
    `fan`: risks as in safeplan, a fan of detours made by hand instead of learned proposals.
    """
    from safeplan.planning import FanProposer, Planner

    if rival not in ("safeplan", "mpc", "density_mpc", "fan"):
        raise ConfigError(f"planner {rival!r}: not one that plans with the optimiser")
    settings = planner_config(cfg.planner, {"uncertainty": rival != "mpc", **(changes or {})})
    source = None
    if rival == "safeplan":
        weights = cfg.weights, cfg.fisor_weights
        source = proposer(
            task.system, settings.horizon, *weights, cfg.guidance, task.kind, device, steps=settings.steps
        )
    planner = Planner(task.system, settings, source)
    if rival == "fan":
        return Planner(task.system, settings, FanProposer(task.system, settings.horizon, planner.straight.speed))
    return planner


def weight_digests(kind: str, weights: str, fisor_weights: str) -> dict[str, str]:
    """SHA-256 of the weights that settings stand for, by role; "none" where there are none."""
    from safeplan.training.checkpoint import model_file

    out = {}
    for role, given in (("trajectory", weights), ("fisor", fisor_weights)):
        path = model_file(shipped_weights(kind, role) if given == "auto" else given)
        out[role] = digest(path) if path.is_file() else "none"
    return out


@lru_cache(maxsize=4)
def loaded(path: str, device: str) -> Any:
    """What a file of weights holds; read once per process."""
    from safeplan.training import load

    return load(path, device)


def policy(system: "System", weights: str, kind: str | None, device: str = "cpu") -> "FisorPolicy":
    """The FISOR agent of a vehicle, which ranks proposals or drives by itself.

    Raises:
        CheckpointError: the weights are missing, corrupt, or no FISOR agent for this vehicle.
    """
    from safeplan.dynamics.observe import observation_size
    from safeplan.feasibility import FisorPolicy

    path = shipped_weights(kind or "", "fisor") if weights == "auto" else Path(weights)
    if weights == "auto" and not path.is_file():
        if kind == "point_robot":
            raise CheckpointError(f"{_UNLEARNED}, and no `fisor` in planners")
        raise CheckpointError(
            f"no FISOR comes with env={kind} ({path}). Train one (safeplan train policy=fisor data={kind}) and give "
            "fisor_weights=RUN_FOLDER, or do without: fisor_weights=none, and no `fisor` in planners"
        )
    agent = loaded(str(path), device)
    sizes = (observation_size(system), system.m)
    if not isinstance(agent, FisorPolicy) or (agent.obs_size, agent.act_size) != sizes:
        raise CheckpointError(
            f"fisor_weights={path}: holds a {type(agent).__name__}, "
            f"expected a FISOR agent with {sizes[0]} observations and {sizes[1]} actions"
        )
    return agent
