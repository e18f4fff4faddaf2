"""Double integrator under a neural controller that imitates an MPC."""

from safeplan.dynamics.equations import Equations, Quantity
from safeplan.dynamics.mlp import load_mlp
from safeplan.dynamics.mpc import Mpc
from safeplan.dynamics.start import uniform
from safeplan.dynamics.systems.case import Case
from safeplan.dynamics.systems.neural import neural_loop

START = ((-0.5, -1.0), (4.0, 1.0))


def double_integrator_plant() -> Equations:
    """p' = v + u / 2, v' = u with |u| <= 1, the equations of the published benchmark; no units."""

    def f(t, x, u, theta, xp):
        _, v = x
        (a,) = u
        return v + 0.5 * a, a

    return Equations(
        "dint",
        (Quantity("p", "1"), Quantity("v", "1")),
        (Quantity("u", "1", -1.0, 1.0),),
        (),
        f,
        dt=1.0,
        substeps=40,
        divergence=lambda t, x, u, theta, xp: 0.0 * x[1],
    )


def double_integrator_mpc() -> Mpc:
    """To the origin, |v| kept below 1 by a penalty."""

    def stage(x, u, xp):
        p, v = x
        (a,) = u
        return p * p + 0.5 * v * v + a * a + 50 * xp.square(xp.maximum(xp.abs(v) - 1.0, 0.0))

    return Mpc(double_integrator_plant(), stage, lambda x, xp: 5 * (x[0] * x[0] + x[1] * x[1]), dt=0.25, steps=20)


def double_integrator() -> Case:
    """Case `dint` [density_corl]: from the box [-0.5, 4] x [-1, 1], for 9 in all, the network evaluated continuously.

    The published benchmark takes Euler steps of 1: with these equations that is the textbook double integrator
    p'' = u under a control held for 1, another system than the flow that its divergence describes. This is the flow.
    """
    chosen = (
        "neural controller: trained here, tanh instead of ReLU and clip",
        "RK4 on a fine step, not Euler steps of 1",
    )
    network = load_mlp("dint")
    return Case(
        neural_loop(double_integrator_plant(), network, ((0, 0, 0.5), (0, 1, 1.0))),
        uniform(*START),
        9,
        "density_corl",
        plant=double_integrator_plant(),
        controller=network,
        chosen=chosen,
    )
