"""Logs on disk and as arrays: the DSRL layout, its rules, normalisation, trajectory windows, where logs come from."""

from safeplan.data.catalog import SOURCES, load_log, locate
from safeplan.data.describe import describe, reward_scale
from safeplan.data.hdf5 import Log, concatenate, read_log, read_raw, write_log
from safeplan.data.hints import hints
from safeplan.data.layout import KEYS
from safeplan.data.normalizer import Normalizer
from safeplan.data.rules import ACTION_SLACK, faults
from safeplan.data.sources import read_foreign
from safeplan.data.windows import gather, windows

__all__ = [
    "ACTION_SLACK",
    "KEYS",
    "SOURCES",
    "Log",
    "Normalizer",
    "concatenate",
    "describe",
    "faults",
    "gather",
    "hints",
    "load_log",
    "locate",
    "read_foreign",
    "read_log",
    "read_raw",
    "reward_scale",
    "windows",
    "write_log",
]
