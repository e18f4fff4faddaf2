"""Every error that safeplan raises on purpose. Each message names the thing, the value and the remedy."""


class SafeplanError(Exception):
    """Base of all deliberate errors; the command line prints it without a traceback and exits with 2."""


class ConfigError(SafeplanError):
    """A setting is unknown, of the wrong type, or out of range."""


class DataError(SafeplanError):
    """A log or a recording is missing, incomplete, of the wrong shape, or holds NaN."""


class ShapeError(SafeplanError):
    """A tensor does not have the shape that the function documents."""


class CheckpointError(SafeplanError):
    """A checkpoint is missing, corrupt, or made for something else."""


class CapabilityError(SafeplanError):
    """A method was asked to do what its network, system or belief cannot."""


class PlanError(SafeplanError):
    """A planner broke where it should have answered."""


class CertificateError(SafeplanError):
    """A certificate was asked for on samples or numbers that cannot support it."""
