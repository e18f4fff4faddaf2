"""Logs on disk and as arrays: the DSRL layout, normalisation, trajectory windows, and where logs come from."""

from safeplan.data.catalog import SOURCES, load_log, locate
from safeplan.data.hdf5 import KEYS, Log, concatenate, read_log, write_log
from safeplan.data.normalizer import Normalizer
from safeplan.data.windows import gather, windows

__all__ = [
    "KEYS",
    "SOURCES",
    "Log",
    "Normalizer",
    "concatenate",
    "gather",
    "load_log",
    "locate",
    "read_log",
    "windows",
    "write_log",
]
