"""The one place where the patches are applied, in the order that they need."""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from safeplan.errors import CapabilityError
from safeplan_envs.dsrl import compat, metadrive, reset, seeding

NEEDED = ("dsrl", "bullet_safety_gym", "pybullet", "safety_gymnasium", "mujoco", "h5py")
SILENT = "DSRL_SUPPRESS_IMPORT_ERROR"  # dsrl's own switch: it prints a warning where MetaDrive is not installed


@cache
def prepare() -> None:
    """Patch, import and register everything that is installed; once per process.

    Raises:
        CapabilityError: what the bullet and safety_gymnasium tasks need is not installed.
    """
    lacking = [p for p in NEEDED if find_spec(p) is None]
    if lacking:
        raise CapabilityError(f"DSRL's simulators are not installed ({', '.join(lacking)}): run `make dsrl`")
    compat.add_lost_gymnasium_modules()
    compat.make_colors_hashable()
    compat.replace_safety_make()
    compat.accept_array_joint_ids()
    compat.mend_redirection()
    reset.make_sky_optional()
    seeding.seed_bullet()
    seeding.seed_safety()
    before = os.environ.get(SILENT)
    os.environ[SILENT] = "1"
    try:
        with metadrive.gymnasium_as_gym():
            metadrive.import_metadrive()
            if not metadrive.missing():
                import_module("dsrl")
        import_module("dsrl")  # without gym it registers the tasks of the other two suites alone
    finally:
        del os.environ[SILENT]
        if before is not None:
            os.environ[SILENT] = before
    if not metadrive.missing():
        metadrive.seed_metadrive()
        metadrive.register_quietly()
    compat.point_to_new_address()
