"""Fast resets of safety_gymnasium: a plain sky instead of 24 MB of stars.

safety_gymnasium builds its MuJoCo model anew at every reset, and the model's sky is six large PNG files: decoding them
takes half a second or more, the rest about ten milliseconds. A sky of 16 x 16 pixels that MuJoCo makes itself changes
pictures only: the physics, and so every observation, reward and cost, stays the same bit for bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import SimpleNamespace
from typing import Any

_FAST: ContextVar[bool] = ContextVar("fast_reset", default=True)
PLAIN_SKY = {
    "@type": "skybox",
    "@builtin": "gradient",
    "@rgb1": "0.3 0.5 0.7",
    "@rgb2": "0 0 0",
    "@width": "16",
    "@height": "16",
}


@contextmanager
def fast_resets(on: bool) -> Iterator[None]:
    """Inside the block, worlds are built with the plain sky (`on`, the default outside) or with the stars."""
    token = _FAST.set(on)
    try:
        yield
    finally:
        _FAST.reset(token)


def make_sky_optional() -> None:
    """`World.build` reads the sky from its asset file; the reader that it sees takes the plain one when asked to."""
    world: Any = import_module("safety_gymnasium.world")
    yaml = world.yaml

    def load(file: Any, Loader: Any) -> Any:
        assets = yaml.load(file, Loader=Loader)
        if _FAST.get():
            assets["textures"]["skybox"] = dict(PLAIN_SKY)
        return assets

    world.yaml = SimpleNamespace(load=load, FullLoader=yaml.FullLoader)
