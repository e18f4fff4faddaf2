"""One clear error for what Hydra and OmegaConf raise: the setting, the value, the valid ones."""

import dataclasses
import re
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from safeplan.errors import ConfigError
from safeplan.schema import did_you_mean


def unknown(key: str, valid: list[str], where: str) -> str:
    """Message for a setting that does not exist."""
    return f"unknown setting {key!r}{where}.{did_you_mean(key, valid)} Valid here: {', '.join(valid)}"


def refuse_extras(node: Any, path: str = "") -> None:
    """Raise ConfigError for keys that a structured config does not have (`+key=value` slips past Hydra)."""
    if isinstance(node, ListConfig) or not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    cls = node._metadata.object_type
    if dataclasses.is_dataclass(cls):
        valid = [f.name for f in dataclasses.fields(cls)]
        for key in node:
            if key not in valid:
                raise ConfigError(unknown(str(key), valid, f" in {path.rstrip('.')!r}" if path else ""))
    for key in node:
        child = node._get_node(key)
        refuse_extras(child, f"{path}{key}.")


def explain(error: BaseException) -> str | None:
    """What went wrong in the settings, in one paragraph; None when the error is not about settings."""
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in chain:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__
    for e in chain:
        if isinstance(e, MissingConfigException) and e.missing_cfg_file:
            group, _, value = str(e.missing_cfg_file).rpartition("/")
            options = [str(o) for o in e.options or []]
            if group and options:
                return f"{group}={value} is unknown.{did_you_mean(value, options)} Choose one of: {', '.join(options)}"
        if isinstance(e, ConfigKeyError | ConfigAttributeError) and e.parent_node is not None:
            valid = [str(k) for k in e.parent_node if k not in ("hydra", "schema")]  # type: ignore[union-attr]
            path = str(e.full_key or e.key).rpartition(".")[0]
            return unknown(str(e.key), valid, f" in {path!r}" if path else "")
        if isinstance(e, MissingMandatoryValue):
            key = e.full_key or str(e).rpartition(":")[2].strip()
            return f"{key} must be given: {key}=..."
        if isinstance(e, ValidationError):
            key = e.full_key or e.key
            if "is not a ListConfig" in str(e):
                return f"{key} must be a list: {key}=[{e.value}], or several values separated by commas"
            return f"{key}={e.value}: {_first(e)}"
        group = re.match(r"Could not override '(\w+)'\. No match in the defaults list", str(e))
        if group:
            return f"{group[1]} is no group of choices here: set its parts, such as {group[1]}.KEY=...; see --help"
    return _first(error)


def _first(error: BaseException) -> str:
    lines = [x.strip() for x in str(error).splitlines() if x.strip()]
    kept = [x for x in lines if not re.match(r"See https?:|full_key:|object_type=|reference_type=|To append to", x)]
    return " ".join(kept) or type(error).__name__
