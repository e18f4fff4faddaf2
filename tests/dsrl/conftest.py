"""These tests need `make dsrl`; without it they are skipped, and those of MetaDrive where its wheel is missing."""

import os
from importlib import import_module
from importlib.util import find_spec

import pytest

NEEDED = ("dsrl", "bullet_safety_gym", "safety_gymnasium", "pybullet", "mujoco")


@pytest.fixture(scope="session")
def dsrl(tmp_path_factory):
    """`safeplan_envs.dsrl`, imported with a data folder of the tests' own (dsrl makes that folder when imported)."""
    lacking = [p for p in NEEDED if find_spec(p) is None]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)} (make dsrl)")
    before = os.environ.get("DSRL_DATASET_DIR")
    os.environ["DSRL_DATASET_DIR"] = str(tmp_path_factory.mktemp("dsrl"))
    try:
        return import_module("safeplan_envs.dsrl")
    finally:
        del os.environ["DSRL_DATASET_DIR"]
        if before is not None:
            os.environ["DSRL_DATASET_DIR"] = before


@pytest.fixture
def make(dsrl):
    """`dsrl.make`, which skips ids whose simulator is missing, and closes all that it made."""
    made = []

    def build(id, **kwargs):
        if id not in dsrl.available():
            pytest.skip(f"{id}: MetaDrive is not installed (make dsrl says why)")
        made.append(dsrl.make(id, **kwargs))
        return made[-1]

    yield build
    for env in made:
        env.close()
