"""The fixed scene of FISOR's toy task, with a random start."""

import numpy as np

from safeplan.types import Array, Goal, Obstacle, Scene

SCENE = Scene((Obstacle(0.4, -1.2, 0.8), Obstacle(-0.4, 1.2, 0.8)), Goal(2.2, 2.2, 0.3), (-3.0, -3.0, 3.0, 3.0))


def draw(rng: np.random.Generator, difficulty: float) -> tuple[Scene, Array]:
    """The fixed scene and a start `[4]`; the difficulty sets the top speed at the start, 1 m/s per unit."""
    while True:
        p = rng.uniform(-2.8, 2.8, 2)
        clear = min(np.hypot(p[0] - o.x, p[1] - o.y) - o.r for o in SCENE.obstacles)
        if clear > 0.15 and np.hypot(p[0] - SCENE.goal.x, p[1] - SCENE.goal.y) > SCENE.goal.radius + 0.2:
            break
    return SCENE, np.array([*p, rng.uniform(0.0, 1.0) * difficulty, rng.uniform(-np.pi, np.pi)])
