"""Gaussian process of the flow map, through which many particles are pushed without simulating them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from safeplan.errors import CapabilityError, ConfigError
from safeplan.reach.rivals.fitted import no_density, shares
from safeplan.reach.rivals.kernel import sklearn_of
from safeplan.reach.rivals.runs import Runs, draw
from safeplan.reach.sets import Region
from safeplan.types import Array

MOST = 20  # inputs of the flow map; beyond, a few hundred trajectories say nothing about it


@dataclass(frozen=True)
class Emulated:
    """Particles `x [P, n]` at time `t`, moved by the process's mean; `length`: length scales `[d]` that it learnt, in
    standard deviations of the inputs."""

    t: float
    x: Array
    length: Array

    def probability(self, regions: Sequence[Region]) -> Array:
        return shares(self.x, regions, self.t)

    def log_density(self, x: Array) -> NoReturn:
        no_density("gaussian_process", "kde on runs, or the exact density along characteristics")


def gaussian_process(runs: Runs, push: int = 1 << 14, seed: int = 0) -> Emulated:
    """Fit x(t) as a function of start state and parameters, a squared exponential with a length scale per input, then
    move `push` Sobol particles by its mean. All states share the scales; cost grows with the cube of the runs.

    Raises:
        CapabilityError: scikit-learn is missing, or the flow map has more than 20 inputs.
        ConfigError: push is no power of two.
    """
    inputs = runs.inputs
    if inputs.shape[1] > MOST:
        raise CapabilityError(
            f"gaussian_process: the flow map of {runs.case.name} has {inputs.shape[1]} inputs, more than {MOST}; use "
            "`count`, whose error does not depend on their number"
        )
    if push < 1 or push & (push - 1):
        raise ConfigError(f"gaussian_process: push = {push}, expected a power of two")
    process = sklearn_of("gaussian_process", "gaussian_process")
    mid, sd = inputs.mean(0), inputs.std(0)
    center, scale = runs.x.mean(0), np.maximum(runs.x.std(0), 1e-300)
    kernels: Any = process.kernels
    kernel = kernels.ConstantKernel(10.0, (1e-2, 1e6)) * kernels.RBF(np.full(len(mid), 2.0), (1e-2, 1e3))
    model = process.GaussianProcessRegressor(kernel, alpha=1e-8)
    with warnings.catch_warnings():  # a scale at its bound: an input that the motion does not depend on
        warnings.simplefilter("ignore", sklearn_of("gaussian_process", "exceptions").ConvergenceWarning)
        model.fit((inputs - mid) / sd, (runs.x - center) / scale)
    start = draw(runs.case, push, seed)
    fresh = Runs(runs.case, runs.t, start.x, start.theta, start.x).inputs
    moved = np.concatenate([model.predict((part - mid) / sd) for part in np.array_split(fresh, max(1, push // 2048))])
    length = np.atleast_1d(np.exp(model.kernel_.theta[1:]))
    return Emulated(runs.t, moved.reshape(push, -1) * scale + center, length)
