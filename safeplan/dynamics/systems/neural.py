"""A neural network in the loop, with the divergence in closed form."""

from dataclasses import replace

from safeplan.dynamics.equations import Equations
from safeplan.dynamics.mlp import Mlp
from safeplan.dynamics.systems.case import close


def neural_loop(plant: Equations, network: Mlp, terms: tuple[tuple[int, int, float], ...]) -> Equations:
    """`plant` steered by `network`, on the domain of the network's training states.

    The loop is not periodic in any state, because the network is not: no state is an `angle`.

    Args:
        terms: `(i, j, c)` with div f = sum of c du_i / dx_j over them, for a plant that has no divergence of its own
            and whose controls enter linearly.
    """

    def divergence(t, x, u, theta, xp):
        slopes = {j: network.partial(x, j, xp) for j in {j for _, j, _ in terms}}
        return sum(c * slopes[j][i] for i, j, c in terms)

    box = zip(plant.states, network.domain_low.tolist(), network.domain_high.tolist(), strict=True)
    states = tuple(replace(q, low=low, high=high, angle=False) for q, low, high in box)
    return close(plant, network, states=states, divergence=divergence)
