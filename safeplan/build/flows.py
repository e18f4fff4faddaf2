"""Learned flows of the systems of the density work: how each is taught, and the ones that ship."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from safeplan.errors import CheckpointError

if TYPE_CHECKING:
    from safeplan.dynamics.systems import Case
    from safeplan.reach.learned.flow import LearnedFlow
    from safeplan.training.flow import FlowConfig

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "flows"
WIDER: Mapping[str, tuple[int, int]] = MappingProxyType(  # system -> width of the three layers, reach in grid steps
    {
        "robot": (96, 10),
        "quad": (96, 12),
        "hovercraft": (128, 4),
        "factest_car": (96, 20),  # in units of a spread that shrinks, the errors of the maps add up: fewer, longer ones
        "factest_hovercraft": (96, 20),
    }
)


def flow_config(name: str) -> "FlowConfig":
    """How the flow of a system is taught."""
    from safeplan.training.flow import FlowConfig

    width, reach = WIDER.get(name, (64, 10))
    return FlowConfig(hidden=(width,) * 3, reach=reach)


def teach_flow(case: "Case", trajectories: int, run: Path, *, seed: int = 0) -> Path:
    """Teach the flow of a case on so many simulated trajectories (Sobol starts); resumes. Returns the checkpoint."""
    from safeplan.reach.learned.trajectories import simulate
    from safeplan.reach.particles import sobol_draw, stretches
    from safeplan.training import train
    from safeplan.training.flow import flow_from_trajectories
    from safeplan.types import Draw

    count = stretches(case.horizon_s, case.start.stretch_s)
    d = sobol_draw(case.start, 1 << (trajectories - 1).bit_length(), count, seed + 1)
    draw = Draw(d.x[:trajectories], d.theta[:trajectories])
    data = simulate(case.loop, draw, case.reference, case.start.stretch_s)
    facts = {"system": case.name, "trajectories": trajectories}
    learner, source = flow_from_trajectories(data, flow_config(case.name), seed=seed, facts=facts)
    return train(learner, source, run, updates=learner.settings.updates, seed=seed)


def shipped_flows() -> tuple[str, ...]:
    """Names of the systems whose flows ship."""
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def shipped_flow(name: str, device: str = "cpu") -> "LearnedFlow":
    """The flow that ships with a system.

    Raises:
        CheckpointError: none ships.
    """
    from safeplan.training import load

    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no flow ships with system {name!r}, but with {', '.join(shipped_flows())}; make it with "
            f"scripts/make_flows.py {name}"
        )
    return load(path, device)
