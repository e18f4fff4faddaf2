"""The names of the 38 DSRL tasks in gymnasium."""

from safeplan.errors import ConfigError

SUITES = ("bullet", "safety", "metadrive")
_BULLET = tuple(f"Offline{a}{t}-v0" for a in ("Ant", "Ball", "Car", "Drone") for t in ("Circle", "Run"))
_SAFETY = tuple(
    f"Offline{a}{t}{level}Gymnasium-v0"
    for a in ("Car", "Point")
    for t in ("Button", "Circle", "Goal", "Push")
    for level in (1, 2)
) + tuple(f"Offline{a}VelocityGymnasium-v1" for a in ("Ant", "HalfCheetah", "Hopper", "Swimmer", "Walker2d"))
_METADRIVE = tuple(
    f"OfflineMetadrive-{road}{traffic}-v0"
    for road in ("easy", "medium", "hard")
    for traffic in ("sparse", "mean", "dense")
)
_IDS = {"bullet": _BULLET, "safety": _SAFETY, "metadrive": _METADRIVE}


def ids(suite: str | None = None) -> tuple[str, ...]:
    """All 38 ids, or the 8 of "bullet", the 21 of "safety", the 9 of "metadrive"; installed or not.

    Raises:
        ConfigError: an unknown suite.
    """
    if suite is None:
        return _BULLET + _SAFETY + _METADRIVE
    if suite not in _IDS:
        raise ConfigError(f"suite={suite!r} is unknown: use one of {', '.join(SUITES)}")
    return _IDS[suite]
